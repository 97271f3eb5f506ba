//! The errors of commands, and their exit codes.

use std::{io, net::SocketAddr, path::PathBuf};

use super::{subnet::Mismatch, template};
use crate::{api::client, sandbox};

/// Why a command failed. The text is printed for the user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon did not carry out the request.
    #[error(transparent)]
    Daemon(#[from] client::Error),
    /// The same for `run`, whose message also points to its help.
    #[error("{}", run_failed(.0))]
    Run(client::Error),
    /// Options of `run` exclude each other.
    #[error("netbpf: conflicting options: {0}\n\nRun 'netbpf run --help' for more information")]
    Conflict(&'static str),
    /// `run -i` or `run -t`.
    #[error(
        "netbpf: run has no -i and no -t: a container's first command has no input. Start it with -d, then type \
         into another one: netbpf exec -it NAME COMMAND\n\nRun 'netbpf run --help' for more information"
    )]
    NoTerminal,
    /// The template of `--format` is invalid, or names a missing field.
    #[error(transparent)]
    Template(#[from] template::Error),
    /// The same for `inspect`.
    #[error(transparent)]
    InspectTemplate(template::Error),
    /// Neither a container nor a network has this name.
    #[error("Error: No such object: {0}")]
    NoObject(String),
    /// `port` of a port that is not published.
    #[error("no public port '{port}' published for {container}")]
    NoPublicPort {
        /// The port as typed.
        port: String,
        /// The container as typed.
        container: String,
    },
    /// `port` with an invalid number.
    #[error("invalid port ({0}): expected a number up to 65535")]
    BadPort(String),
    /// Options for subnets do not fit together.
    #[error(transparent)]
    Subnet(#[from] Mismatch),
    /// `exec` in a container of an engine, or in a namespace.
    #[error(
        "Error response from daemon: container {0} was not started by netbpf: it can only be connected, \
         disconnected and inspected"
    )]
    NotASandbox(String),
    /// `exec` in a container that is not running.
    #[error("Error response from daemon: container {0} is not running")]
    NotRunning(String),
    /// `exec` could not run the command.
    #[error(transparent)]
    Exec(#[from] sandbox::Error),
    /// A message cannot be written as JSON.
    #[error("print JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The output cannot be written.
    #[error("write output: {0}")]
    Output(io::Error),
    /// `metrics --listen` at an address that cannot be used.
    #[error("listen at {address}: {error}")]
    Listen {
        /// As typed.
        address: SocketAddr,
        /// The cause.
        error: io::Error,
    },
    /// A network's name that a CNI configuration cannot have.
    #[error("network {0}: a CNI configuration has a name of a-z, A-Z, 0-9, '_', '.' and '-' only")]
    NoCniName(String),
    /// A network that no container can join.
    #[error("network {0} has no endpoints")]
    NoEndpoints(String),
    /// `cni disable` of a network that is not enabled.
    #[error("network {network} is not enabled: there is no {}", file.display())]
    NotEnabled {
        /// As typed.
        network: String,
        /// The file of its configuration.
        file: PathBuf,
    },
    /// An operation on a file failed.
    #[error("{operation} {}: {error}", path.display())]
    File {
        /// `write`, `create`, …
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// The tokio runtime cannot be started.
    #[error("start the runtime: {0}")]
    Runtime(io::Error),
    /// Signal handlers cannot be installed.
    #[error("catch signals: {0}")]
    Signals(io::Error),
}

impl Error {
    /// The exit code, which is Docker's.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Run(client::Error::Refused { exit_code, .. }) => exit_code.unwrap_or(125),
            Self::Run(_) | Self::Conflict(_) | Self::NoTerminal => 125,
            Self::Exec(sandbox::Error::Start { exit_code, .. }) => *exit_code,
            Self::InspectTemplate(_) => 64,
            _ => 1,
        }
    }

    /// Whether the reader of the output is gone, as in `netbpf ps | head -1`.
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
