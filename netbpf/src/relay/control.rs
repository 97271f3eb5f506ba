//! The messages between the daemon and the relay. It must not know what either side does with them.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{confined::Kind, model::Protocol};

/// The relay.
pub(super) const KIND: Kind = Kind { name: "relay", command: "relay", protocol: 1, rank: 1 };

/// A port of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where clients come to.
    pub address: SocketAddr,
}

/// A port of the host that is relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The host's.
    pub at: Place,
    /// The container's.
    pub to: SocketAddr,
}

/// From the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// The next descriptor is this port's socket. A port that goes to the same place already is left as it is.
    Serve(Port),
    /// A port is not relayed any more, and its clients neither.
    Close(Place),
    /// The last request.
    Stop,
}
