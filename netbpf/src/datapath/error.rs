//! Errors of the datapath.

use std::path::PathBuf;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// A failed operation on programs, maps or their pins.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call, or the library, failed.
    #[error("{operation} {object}: {source}")]
    Failed {
        /// A verb: `attach tcx to`, `write endpoint`, …
        operation: &'static str,
        /// The object of the operation.
        object: String,
        /// The cause.
        source: Source,
    },
    /// The host lacks something that netbpf needs.
    #[error("{lack}; {remedy}")]
    Missing {
        /// What is missing.
        lack: String,
        /// How to fix it.
        remedy: String,
    },
    /// Others can change the directory.
    #[error(transparent)]
    Folder(#[from] crate::private::Error),
    /// A pinned map differs from that of this version of netbpf.
    #[error("{} is not a map that this netbpf made ({difference}); remove {} when no netbpf uses it", path.display(), folder.display())]
    Foreign {
        /// The map's pin.
        path: PathBuf,
        /// The difference.
        difference: String,
        /// The directory to remove.
        folder: PathBuf,
    },
    /// A map has no free entry.
    #[error("no room for another {what}: netbpf is built for {most} of them")]
    Full {
        /// What its entries are.
        what: &'static str,
        /// The size of the map.
        most: u32,
    },
    /// A number beyond the size of the maps.
    #[error("{what} {number} does not exist: there are {most} at most")]
    OutOfRange {
        /// `network` or `endpoint`.
        what: &'static str,
        /// The number.
        number: u32,
        /// The size of the map.
        most: u32,
    },
    /// The endpoint's network was not written before.
    #[error("network {0} is not in the datapath")]
    UnknownNetwork(u32),
    /// The network still has endpoints.
    #[error("network {0} still has endpoints in the datapath")]
    NetworkInUse(u32),
    /// Another station of the network has the MAC or address.
    #[error("{address} is already taken in network {network}")]
    Taken {
        /// The MAC or address.
        address: String,
        /// The network's number.
        network: u32,
    },
    /// The interface has a wrong ifindex: the programs derive the network or endpoint from it.
    #[error("interface {interface} has ifindex {found} and not {expected}")]
    WrongInterface {
        /// Its name.
        interface: String,
        /// Its ifindex.
        found: u32,
        /// The ifindex that follows from the number.
        expected: u32,
    },
}

impl Error {
    pub(super) fn failed(operation: &'static str, object: impl ToString, source: impl Into<Source>) -> Self {
        Self::Failed { operation, object: object.to_string(), source: source.into() }
    }

    pub(super) fn missing(lack: impl ToString, remedy: impl ToString) -> Self {
        Self::Missing { lack: lack.to_string(), remedy: remedy.to_string() }
    }
}
