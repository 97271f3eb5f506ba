//! The messages between the daemon and the relay. Must not know what either side does with them.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{confined::Kind, model::Protocol};

/// The relay.
pub(super) const KIND: Kind = Kind { name: "relay", command: "relay", protocol: 1, rank: 1 };

/// A host port, with its address and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The host's address and port.
    pub address: SocketAddr,
}

/// A relayed port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The host's side.
    pub at: Place,
    /// The container's address and port.
    pub to: SocketAddr,
}

/// A request of the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// The next descriptor is the socket of this port. A port that is relayed to the same target already stays as it
    /// is.
    Serve(Port),
    /// Stops relaying a port and ends its clients' flows.
    Close(Place),
    /// Ends the relay. No request follows.
    Stop,
}
