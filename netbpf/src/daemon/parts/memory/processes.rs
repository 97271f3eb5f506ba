//! The name responder and the relay in memory, with the methods of the handles on the real ones.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
    path::Path,
};

use nix::sys::socket::AddressFamily;

use super::{Machine, Namespace, links::refused};
use crate::{
    daemon,
    dns::{self, Record, Sockets},
    model::Id,
    relay::{self, Place, Port},
};

/// See [`crate::dns::Feed`].
#[derive(Default)]
pub struct Feed {
    pub machine: Machine,
}

/// See [`crate::relay::Relay`].
#[derive(Default)]
pub struct Relay {
    pub machine: Machine,
}

fn too_large(record: &Record) -> dns::Error {
    dns::Error::TooLarge { container: record.container.short(), size: 0 }
}

impl Feed {
    pub async fn start(_: &Path, _: &Path) -> Result<Self, dns::Error> {
        Ok(Self::default())
    }

    pub async fn held_port(&self, record: &Record, wanted: Option<u16>) -> Result<Option<u16>, dns::Error> {
        let is_held = self.machine.state().records.contains_key(&record.container);
        Ok(is_held.then_some(wanted.unwrap_or(40_000)))
    }

    pub async fn upsert(&self, record: Record, _: Option<Sockets>) -> Result<(), dns::Error> {
        // The feed keeps it for the next responder, even if this one did not take it.
        self.machine.change(|state| drop(state.records.insert(record.container, record.clone())));
        self.machine.call("send a record", |_| ()).map_err(|_| too_large(&record))
    }

    pub async fn remove(&self, container: Id) -> Result<(), dns::Error> {
        self.machine.change(|state| drop(state.records.remove(&container)));
        Ok(())
    }

    pub async fn set_host_servers(&self, _: Vec<SocketAddr>) -> Result<(), dns::Error> {
        Ok(())
    }

    pub async fn settle(&self) -> Result<(), dns::Error> {
        Ok(())
    }

    pub async fn stop(&self) -> Result<(), dns::Error> {
        self.machine.change(|state| state.records.clear());
        Ok(())
    }
}

impl Relay {
    pub async fn start(_: &Path, _: &Path) -> (Self, Vec<(Place, OwnedFd)>) {
        (Self::default(), Vec::new())
    }

    pub async fn serve(&self, ports: Vec<(Port, OwnedFd)>) -> Result<(), relay::Error> {
        let places: Vec<Place> = ports.iter().map(|(port, _)| port.at).collect();
        let served = self.machine.call("relay ports", |state| state.relayed.extend(&places));
        served.map_err(|source| relay::Error::Socket { address: places[0].address, source })
    }

    pub async fn close(&self, places: Vec<Place>) -> Result<(), relay::Error> {
        self.machine.change(|state| state.relayed.retain(|place| !places.contains(place)));
        Ok(())
    }

    pub async fn keep(&self, places: Vec<Place>) -> Result<(), relay::Error> {
        self.machine.change(|state| state.relayed.retain(|place| places.contains(place)));
        Ok(())
    }

    pub async fn stop(&self) -> Result<(), relay::Error> {
        self.machine.change(|state| state.relayed.clear());
        Ok(())
    }
}

/// Its sockets are none of a namespace.
pub fn held_namespace(feed: &Feed, _: Id) -> Result<Option<Namespace>, daemon::Error> {
    let found = feed.machine.ask("find a namespace").map(|()| None);
    found.map_err(|error| refused("find", "the namespace of a socket")(error).into())
}

/// Sockets of this process: nobody asks them.
pub async fn resolver_sockets(
    _: &Namespace,
    address: Ipv4Addr,
    _: Option<u16>,
    _: Option<AddressFamily>,
) -> Result<Sockets, daemon::Error> {
    let opened = || {
        let any = (Ipv4Addr::LOCALHOST, 0);
        Ok(Sockets { udp: UdpSocket::bind(any)?, tcp: TcpListener::bind(any)?, lent: Vec::new() })
    };
    opened().map_err(|source| daemon::Error::Resolver { address: (address, 53).into(), source })
}
