//! What can go wrong in the datapath.

use std::path::PathBuf;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// A failed operation on programs, maps or their pins.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel, or the library that talks to it, refused.
    #[error("{operation} {object}: {source}")]
    Failed {
        /// A verb: `attach tcx to`, `write endpoint`, …
        operation: &'static str,
        /// What it was done to.
        object: String,
        /// Why not.
        source: Source,
    },
    /// The machine lacks something that netbpf cannot do without.
    #[error("{lack}; {remedy}")]
    Missing {
        /// What.
        lack: String,
        /// What to do about it.
        remedy: String,
    },
    /// A folder that others can change.
    #[error(transparent)]
    Folder(#[from] crate::private::Error),
    /// A pinned map that is not as this version of netbpf makes it.
    #[error("{} is not a map that this netbpf made ({difference}); remove {} when no netbpf uses it", path.display(), folder.display())]
    Foreign {
        /// The map's pin.
        path: PathBuf,
        /// What is different.
        difference: String,
        /// The folder that has to go.
        folder: PathBuf,
    },
    /// A number that the maps have no room for.
    #[error("{what} {number} does not exist: there are {most} at most")]
    OutOfRange {
        /// `network` or `endpoint`.
        what: &'static str,
        /// The number.
        number: u32,
        /// The size of the map.
        most: u32,
    },
    /// An endpoint of a network that was not written.
    #[error("network {0} is not in the datapath")]
    UnknownNetwork(u32),
    /// A network that still has endpoints.
    #[error("network {0} still has endpoints in the datapath")]
    NetworkInUse(u32),
    /// A MAC or address that another station of the network has.
    #[error("{address} is already taken in network {network}")]
    Taken {
        /// The MAC or address.
        address: String,
        /// The network's number.
        network: u32,
    },
    /// An interface with an ifindex from which the programs would conclude that it is something else.
    #[error("interface {interface} has ifindex {found} and not {expected}")]
    WrongInterface {
        /// Its name.
        interface: String,
        /// What it has.
        found: u32,
        /// What its number demands.
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
