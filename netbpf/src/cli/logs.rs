//! `logs`, and the function that prints a log line, which `run` uses, too.

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
    /// Continue until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Print only this many lines from the end
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all", value_parser = parsers::tail)]
    tail: Tail,
    /// Print the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Print only lines since this time: 2026-01-31T12:00:00Z, seconds since the epoch, or 10m
    #[arg(long, value_name = "TIME", value_parser = parsers::since)]
    since: Option<jiff::Timestamp>,
}

impl Logs {
    /// Runs the command.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let query = LogQuery { follow: self.follow, tail: self.tail.0, since: self.since };
        let mut lines = client.logs(&self.container, &query).await?;
        while let Some(line) = lines.next().await? {
            print(console, &line, self.timestamps)?;
        }
        Ok(0)
    }
}

/// Prints a line at once, to the stream that the container wrote it to.
pub fn print(console: &mut Console, line: &LogLine, timestamp: bool) -> io::Result<()> {
    let out = if line.stream == "stderr" { console.err.raw() } else { console.out.raw() };
    if timestamp {
        write!(out, "{} ", line.time)?;
    }
    out.write_all(line.log.as_bytes())?;
    out.flush()
}
