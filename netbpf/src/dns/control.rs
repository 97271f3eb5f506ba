//! The messages between the daemon's feed and the name responder. It must not know what either side does with them.

use std::{net::SocketAddr, os::fd::OwnedFd};

use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::{confined::Kind, model::Id};

/// The name responder.
pub(super) const KIND: Kind = Kind { name: "name responder", command: "responder", protocol: 3, rank: 0 };

/// From the feed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// A full state follows.
    Begin,
    /// A container, new or changed. It keeps the sockets that it has.
    Upsert(Record),
    /// The next two descriptors are this container's sockets from now on, UDP first.
    Serve(Id),
    /// The next two descriptors are unconnected ones of this container's network namespace, UDP first: servers that only
    /// it reaches are asked through them. [`Request::Serve`] takes earlier ones back.
    Lend(Id),
    /// A container is gone.
    Remove(Id),
    /// The host's resolvers.
    HostServers(Vec<SocketAddr>),
    /// The full state ends: what it did not name is gone.
    End,
    /// The last request.
    Stop,
}

/// What the responder says of the sockets that it has.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Greeting {
    /// The next two descriptors are this container's sockets, UDP first.
    Held(Id),
    /// The next two descriptors are lent ones of this container, which [`Greeting::Held`] has named.
    Lent(Id),
}

/// Two sockets of a container, UDP first.
pub type Pair = [OwnedFd; 2];

/// All sockets of a container.
pub(super) struct Held {
    /// Its queries come in on these.
    pub(super) serve: Pair,
    /// Those that servers are asked through.
    pub(super) lent: Vec<Pair>,
}
