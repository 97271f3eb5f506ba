//! Errors of operations on links: the operation, its object and the kernel's message. Must not know the
//! caller's purpose.

use std::{fmt, io};

use nix::errno::Errno;

/// A failed operation on a link, an address, a route, a namespace or a setting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error("{operation} {object}: {source}")]
    Failed {
        /// A verb: `create`, `set up`, `delete`, …
        operation: &'static str,
        /// The object of the operation.
        object: String,
        /// The kernel's error.
        source: Refusal,
    },
    /// An interface of this name exists.
    #[error("interface name {name} is already taken in {place}")]
    NameTaken {
        /// The name.
        name: String,
        /// The namespace.
        place: String,
    },
    /// An interface of this number exists.
    #[error(
        "interface number {ifindex} is already taken by {name} of link group {group}: another netbpf daemon probably \
         uses this network namespace, or has left interfaces here (ip link show group {group})"
    )]
    NumberTaken {
        /// The number.
        ifindex: u32,
        /// The name of the interface that has it.
        name: String,
        /// Its link group, which tells the interfaces of several daemons apart.
        group: u32,
    },
    /// The file is no network namespace.
    #[error("{0} is not a network namespace")]
    NotANamespace(String),
    /// Work in a namespace ended without an answer.
    #[error("work in {0} panicked")]
    Panicked(String),
}

impl Error {
    pub(super) fn failed(
        operation: &'static str,
        object: impl Into<String>,
        source: impl Into<Refusal>,
    ) -> Self {
        Self::Failed { operation, object: object.into(), source: source.into() }
    }

    /// Whether the object exists already: a name, an ifindex, an address.
    pub fn is_exists(&self) -> bool {
        matches!(self, Self::NameTaken { .. } | Self::NumberTaken { .. })
            || matches!(self.errno(), Some(Errno::EEXIST | Errno::EBUSY))
    }

    /// Whether the object does not exist (any more): a link, a route, a process, a file.
    pub fn is_missing(&self) -> bool {
        matches!(self.errno(), Some(Errno::ENODEV | Errno::ENXIO | Errno::ESRCH | Errno::ENOENT))
    }

    /// Whether the kernel does not have what was asked for; not whether it is short of something.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.errno(), Some(Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EINVAL))
    }

    /// Whether the kernel refuses a request as invalid (`EINVAL`).
    pub fn is_invalid(&self) -> bool {
        self.errno() == Some(Errno::EINVAL)
    }

    pub(super) fn errno(&self) -> Option<Errno> {
        match self {
            Self::Failed { source, .. } => source.errno.raw_os_error().map(Errno::from_raw),
            _ => None,
        }
    }
}

/// The kernel's error.
#[derive(Debug)]
pub struct Refusal {
    errno: io::Error,
    explanation: Option<String>,
}

impl Refusal {
    pub(super) fn explained(errno: io::Error, explanation: Option<String>) -> Self {
        Self { errno, explanation }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.errno)?;
        self.explanation.as_ref().map_or(Ok(()), |text| write!(f, ": {text}"))
    }
}

impl std::error::Error for Refusal {}

impl From<io::Error> for Refusal {
    fn from(errno: io::Error) -> Self {
        Self { errno, explanation: None }
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        io::Error::from(errno).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_operation_object_and_source() {
        let error = Error::failed("delete", "link 7", Errno::ENODEV);
        assert_eq!(error.to_string(), "delete link 7: No such device (os error 19)");
        assert!(error.is_missing() && !error.is_exists());
        let explained =
            Refusal::explained(io::Error::from_raw_os_error(22), Some("mtu less than device minimum".into()));
        assert_eq!(
            Error::failed("create", "veth0123456", explained).to_string(),
            "create veth0123456: Invalid argument (os error 22): mtu less than device minimum"
        );
    }
}
