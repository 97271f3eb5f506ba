//! `logs`, and the printing of output that `run` shares with it.

use std::io;

use super::{
    Error,
    console::Console,
    parsers::{self, Tail},
};
use crate::api::{
    client::{Client, LogQuery},
    types::LogLine,
};

/// `logs`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf logs -f --tail 10 tomcat01")]
pub struct Logs {
    /// Name or ID
    container: String,
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Only so many lines from the end
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all", value_parser = parsers::tail)]
    tail: Tail,
    /// Begin each line with its time
    #[arg(short, long)]
    timestamps: bool,
    /// Only from this time on: 2026-01-31T12:00:00Z, seconds since the epoch, or 10m
    #[arg(long, value_name = "TIME", value_parser = parsers::since)]
    since: Option<jiff::Timestamp>,
}

impl Logs {
    /// Does it.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let query = LogQuery { follow: self.follow, tail: self.tail.0, since: self.since };
        let mut lines = client.logs(&self.container, &query).await?;
        while let Some(line) = lines.next().await? {
            print(console, &line, self.timestamps)?;
        }
        Ok(0)
    }
}

/// Prints a line to where the container wrote it, at once.
pub fn print(console: &mut Console, line: &LogLine, timestamp: bool) -> io::Result<()> {
    let out = if line.stream == "stderr" { console.err.raw() } else { console.out.raw() };
    if timestamp {
        write!(out, "{} ", line.time)?;
    }
    out.write_all(line.log.as_bytes())?;
    out.flush()
}
