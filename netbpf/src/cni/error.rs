//! Errors of the protocol: a code and a message, which the runtime shows.

use std::io;

use serde_json::{Value, json};

use super::VERSIONS;
use crate::api::blocking;

/// The code of an error (CNI specification, "Error").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A version that the plugin does not speak.
    Version = 1,
    /// An environment variable is missing or invalid.
    Environment = 4,
    /// Standard input or output failed.
    Io = 5,
    /// The configuration cannot be decoded.
    Decoding = 6,
    /// The configuration is invalid.
    Configuration = 7,
    /// The runtime may try again later.
    TryAgain = 11,
    /// No container can be attached now.
    NotAvailable = 50,
    /// The daemon refuses the request, or fails.
    Failed = 999,
}

/// An error of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Its code.
    pub code: Code,
    /// Its message.
    pub message: String,
    /// Further text.
    pub details: String,
}

impl Error {
    /// An error without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: String::new() }
    }

    /// The text that the runtime reads; `version` is that of the configuration.
    pub fn message(&self, version: Option<String>) -> Value {
        let known = version.filter(|version| VERSIONS.contains(&version.as_str()));
        let mut message = json!({
            "cniVersion": known.unwrap_or_else(|| "1.0.0".to_owned()),
            "code": self.code as u32,
            "msg": self.message,
        });
        if !self.details.is_empty() {
            message["details"] = self.details.clone().into();
        }
        message
    }
}

impl From<io::Error> for Error {
    /// A note for the daemon that cannot be written.
    fn from(error: io::Error) -> Self {
        Self::new(Code::TryAgain, format!("note that a container was detached: {error}"))
    }
}

impl From<blocking::Error> for Error {
    fn from(error: blocking::Error) -> Self {
        let code = match &error {
            blocking::Error::Unreachable { .. } | blocking::Error::Lost { .. } => Code::TryAgain,
            blocking::Error::Message { .. } | blocking::Error::Refused { .. } => Code::Failed,
        };
        Self::new(code, error.to_string())
    }
}

/// The answer to `STATUS` if containers cannot be attached.
pub fn of_status(error: &blocking::Error) -> Error {
    Error::new(Code::NotAvailable, error.to_string())
}
