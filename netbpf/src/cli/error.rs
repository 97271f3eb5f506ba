//! What can go wrong in a command, and what it then exits with.

use std::{io, path::PathBuf};

use super::{subnet::Mismatch, template};
use crate::{api::client, sandbox};

/// A command that failed. Its text is what the user reads.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon did not do it.
    #[error(transparent)]
    Daemon(#[from] client::Error),
    /// As above, of `run`: who wrote the command may want to read how.
    #[error("{}", run_failed(.0))]
    Run(client::Error),
    /// Options of `run` that exclude each other.
    #[error("netbpf: conflicting options: {0}\n\nRun 'netbpf run --help' for more information")]
    Conflict(&'static str),
    /// `run -it`.
    #[error(
        "netbpf: run has no -i and no -t: a container's first command has no input. Start it with -d, then type \
         into another one: netbpf exec -it NAME COMMAND\n\nRun 'netbpf run --help' for more information"
    )]
    NoTerminal,
    /// `--format` is no template, or names what is not there.
    #[error(transparent)]
    Template(#[from] template::Error),
    /// As above, of `inspect`.
    #[error(transparent)]
    InspectTemplate(template::Error),
    /// Neither container nor network.
    #[error("Error: No such object: {0}")]
    NoObject(String),
    /// `port` of what is not published.
    #[error("no public port '{port}' published for {container}")]
    NoPublicPort {
        /// As typed.
        port: String,
        /// As typed.
        container: String,
    },
    /// `port` of what is no port.
    #[error("invalid port ({0}): expected a number up to 65535")]
    BadPort(String),
    /// Subnets that do not belong together.
    #[error(transparent)]
    Subnet(#[from] Mismatch),
    /// `exec` in a container that has no process.
    #[error("Error response from daemon: container {0} is not running")]
    NotRunning(String),
    /// `exec` could not run the command.
    #[error(transparent)]
    Exec(#[from] sandbox::Error),
    /// A message cannot be written as JSON.
    #[error("print JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Nobody reads what is printed, or the disk is full.
    #[error("write output: {0}")]
    Output(io::Error),
    /// A manual page cannot be written.
    #[error("write {}: {error}", path.display())]
    Page {
        /// Where.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The asynchronous part did not start.
    #[error("start the runtime: {0}")]
    Runtime(io::Error),
    /// Signals cannot be caught.
    #[error("catch signals: {0}")]
    Signals(io::Error),
}

impl Error {
    /// Docker's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Run(client::Error::Refused { exit_code, .. }) => exit_code.unwrap_or(125),
            Self::Run(_) | Self::Conflict(_) | Self::NoTerminal => 125,
            Self::Exec(sandbox::Error::Start { exit_code, .. }) => *exit_code,
            Self::InspectTemplate(_) => 64,
            _ => 1,
        }
    }

    /// Whether the reader went away, as in `netbpf ps | head -1`.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn run_failed(error: &client::Error) -> String {
    match error {
        client::Error::Refused { .. } => {
            format!("netbpf: {error}\n\nRun 'netbpf run --help' for more information")
        }
        _ => error.to_string(),
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
