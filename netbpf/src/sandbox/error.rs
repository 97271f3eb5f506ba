//! What can fail in a sandbox, in words for its user.

use std::{fmt::Display, io};

/// A failure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call of the kernel's.
    #[error("{op} {object}: {source}")]
    Call {
        /// What was tried.
        op: &'static str,
        /// On what.
        object: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A file of a sandbox has another shape than this version's.
    #[error("read {object}: {source}")]
    Json {
        /// The file.
        object: String,
        /// Where it differs.
        source: serde_json::Error,
    },
    /// The supervisor could not build the sandbox.
    #[error("{0}")]
    Setup(String),
    /// The command cannot be started, or nothing runs that it could be started in.
    #[error("{message}")]
    Start {
        /// 127 not found, 126 not executable, 1 not running.
        exit_code: u8,
        /// Docker's words.
        message: String,
    },
    /// The supervisor has ended.
    #[error("the supervisor is gone")]
    Gone,
    /// An answer that this version does not know.
    #[error("unexpected answer from the supervisor: {0}")]
    Protocol(String),
    /// `exec -it` without a terminal.
    #[error("the input device is not a TTY")]
    NoTerminal,
}

/// For `map_err`: names the operation and its object.
pub(super) fn call<E: Into<io::Error>>(op: &'static str, object: impl Display) -> impl FnOnce(E) -> Error {
    let object = object.to_string();
    move |source| Error::Call { op, object, source: source.into() }
}
