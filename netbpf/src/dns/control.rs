//! The messages between the daemon's feed and the name responder. Must not know what either side does with them.

use std::{net::SocketAddr, os::fd::OwnedFd};

use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::{confined::Kind, model::Id};

/// The name responder.
pub(super) const KIND: Kind = Kind { name: "name responder", command: "responder", protocol: 3, rank: 0 };

/// A request of the feed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// The full state follows.
    Begin,
    /// Adds or replaces a container. It keeps its sockets.
    Upsert(Record),
    /// The next two descriptors are this container's query sockets from now on, UDP first.
    Serve(Id),
    /// The next two descriptors are unconnected sockets of this container's network namespace, UDP first, from which
    /// its own servers are asked. [`Request::Serve`] closes earlier ones.
    Lend(Id),
    /// Removes a container.
    Remove(Id),
    /// Sets the host's resolvers.
    HostServers(Vec<SocketAddr>),
    /// The full state is complete: containers that it did not name are removed.
    End,
    /// Ends the responder. No request follows.
    Stop,
}

/// The sockets that a running responder reports to a new daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Greeting {
    /// The next two descriptors are this container's query sockets, UDP first.
    Held(Id),
    /// The next two descriptors are lent sockets of this container, which a [`Greeting::Held`] has named before.
    Lent(Id),
}

/// Two sockets of a container, UDP first.
pub type Pair = [OwnedFd; 2];

/// All sockets of a container.
pub(super) struct Held {
    /// Its query sockets.
    pub(super) serve: Pair,
    /// Its lent sockets, from which servers are asked.
    pub(super) lent: Vec<Pair>,
}
