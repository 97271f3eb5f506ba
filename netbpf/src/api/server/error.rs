//! Errors of requests, and Docker's status codes for them: of texts that cannot be parsed, and of the daemon.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};

use crate::{
    api::{filters, types},
    daemon, ipam,
    model::{self, Refusal},
};

/// A request that is refused or fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A text that cannot be parsed; Docker's message.
    #[error("{0}")]
    Invalid(String),
    /// A driver of networks or addresses that is not netbpf's.
    #[error("could not find plugin {0} in v1 plugin registry: plugin not found")]
    NoPlugin(String),
    /// A name, host name, alias, domain or resolver option.
    #[error(transparent)]
    Name(#[from] model::BadName),
    /// An option of a network.
    #[error(transparent)]
    Option(#[from] model::BadOption),
    /// `--mac-address`.
    #[error(transparent)]
    Mac(#[from] model::NotAMac),
    /// `--link`.
    #[error(transparent)]
    Link(#[from] model::BadLink),
    /// `-p` or `--expose`.
    #[error(transparent)]
    Publish(#[from] model::BadPublish),
    /// `--restart`.
    #[error(transparent)]
    RestartPolicy(#[from] model::BadRestartPolicy),
    /// `--subnet` and others about addresses of a network.
    #[error(transparent)]
    Ipam(#[from] ipam::Error),
    /// `--filter`.
    #[error(transparent)]
    Filter(#[from] filters::Error),
    /// Something that Docker has and netbpf does not.
    #[error("{0}")]
    Unsupported(&'static str),
    /// No program of this ID that `exec` starts.
    #[error("No such exec instance: {0}")]
    NoExec(String),
    /// A program that cannot be started or changed now; Docker's message.
    #[error("{0}")]
    ExecConflict(String),
    /// `/metrics`.
    #[error("write metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// `ps`, for `top`.
    #[error("ps: {0}")]
    Ps(String),
    /// The daemon refuses the request, or cannot carry it out.
    #[error(transparent)]
    Daemon(#[from] daemon::Error),
}

impl Error {
    /// Docker's status code.
    fn status(&self) -> StatusCode {
        let refusal = match self {
            Self::Invalid(_)
            | Self::Name(_)
            | Self::Option(_)
            | Self::Mac(_)
            | Self::Link(_)
            | Self::Publish(_)
            | Self::RestartPolicy(_)
            | Self::Filter(_) => Some(Refusal::Invalid),
            Self::NoPlugin(_) | Self::NoExec(_) => Some(Refusal::NotFound),
            Self::ExecConflict(_) => Some(Refusal::Conflict),
            Self::Ipam(error) => Some(error.refusal()),
            Self::Daemon(error) => error.refusal(),
            Self::Unsupported(_) => return StatusCode::NOT_IMPLEMENTED,
            Self::Ps(_) | Self::Metrics(_) => None,
        };
        match refusal {
            Some(Refusal::Unchanged) => StatusCode::NOT_MODIFIED,
            Some(Refusal::Invalid) => StatusCode::BAD_REQUEST,
            Some(Refusal::Forbidden) => StatusCode::FORBIDDEN,
            Some(Refusal::NotFound) => StatusCode::NOT_FOUND,
            Some(Refusal::Conflict) => StatusCode::CONFLICT,
            None => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let exit_code = match &self {
            Self::Daemon(error) => error.exit_code(),
            _ => None,
        };
        match self.status() {
            unchanged @ StatusCode::NOT_MODIFIED => unchanged.into_response(),
            status => refuse(status, self.to_string(), exit_code),
        }
    }
}

/// A response with an error.
pub fn refuse(status: StatusCode, message: String, exit_code: Option<u8>) -> Response {
    (status, Json(types::Error { message, exit_code })).into_response()
}
