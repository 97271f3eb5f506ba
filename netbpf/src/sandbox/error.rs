//! The errors of sandboxes.

use std::{fmt::Display, io};

/// Why an operation on a sandbox failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{op} {object}: {source}")]
    Call {
        /// The operation.
        op: &'static str,
        /// The object of the operation.
        object: String,
        /// The cause.
        source: io::Error,
    },
    /// A file of a sandbox is not valid JSON of this version.
    #[error("read {object}: {source}")]
    Json {
        /// The path of the file.
        object: String,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// The supervisor could not build the sandbox.
    #[error("{0}")]
    Setup(String),
    /// The command cannot be started.
    #[error("{message}")]
    Start {
        /// 127: not found; 126: not executable; 1: anything else.
        exit_code: u8,
        /// Docker's message.
        message: String,
    },
    /// The container's command was not started or has ended, perhaps with the supervisor.
    #[error("the container is not running")]
    Gone,
    /// The supervisor sent an answer that this version does not know.
    #[error("unexpected answer from the supervisor: {0}")]
    Protocol(String),
    /// `exec -it` without a terminal.
    #[error("the input device is not a TTY")]
    NoTerminal,
}

/// Adds the operation and its object to an error; for `map_err`.
pub(super) fn call<E: Into<io::Error>>(op: &'static str, object: impl Display) -> impl FnOnce(E) -> Error {
    let object = object.to_string();
    move |source| Error::Call { op, object, source: source.into() }
}
