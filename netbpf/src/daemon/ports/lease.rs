//! Leases of published ports: taken together with endpoints, held while the container runs, moved if another
//! network gets the default route.

use std::{
    cell::LazyCell,
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr, TcpListener},
};

use crate::{
    daemon::{
        Error,
        ports::{
            Ports,
            held::{HeldPorts, Holder},
        },
        state::{State, locks::Held, world::World},
    },
    ipam::Ephemeral,
    link::sysctl,
    model::{self, Container, Id, Mapping, Protocol},
    plan::{HostPort, Wanted, default_gateway, default_gateway_ipv6, ports_to_keep, wanted},
};

/// Host ports that were leased for a change of a container, until it can no longer be undone.
pub struct PortLease {
    owner: Id,
    /// Whether the container's owner has sockets at its host ports.
    is_reserved: bool,
    taken: Vec<OnHost>,
    /// Ports of before that were released first, because `after` could need the same address and port.
    dropped: Vec<Mapping>,
}

/// What to do with a port if the container has no address of the family any more.
#[derive(Clone, Copy)]
pub enum WithoutAddress {
    /// Fail, unless other ports can be published.
    Refuse,
    /// Publish the other ports.
    LeaveOut,
}

impl Ports {
    /// Lease the host ports that `after` needs for its endpoints and `before` does not have, all or none, and
    /// set the mappings of `after`. Ports that only `before` has stay held until [`Ports::release`],
    /// unless `after` could need the same address and port.
    pub async fn lease(
        &self,
        state: &State,
        before: &Container,
        after: &mut Container,
        without_address: WithoutAddress,
    ) -> Result<PortLease, Error> {
        let mut lease = PortLease {
            owner: after.id,
            is_reserved: after.owner().reserves_host_ports(),
            taken: Vec::new(),
            dropped: Vec::new(),
        };
        let (wanted, missing) = {
            let has_ipv6 = LazyCell::new(has_ipv6);
            let world = state.world();
            let (_, known) = wanted(before, |id| world.network(id), || *has_ipv6);
            let (wanted, mut missing) = wanted(after, |id| world.network(id), || *has_ipv6);
            missing.retain(|error| !known.contains(error));
            (wanted, missing)
        };
        for error in missing {
            match without_address {
                WithoutAddress::Refuse if wanted.is_empty() => {
                    return Err(cannot_publish(&state.world(), after, None, error.into()));
                }
                WithoutAddress::Refuse | WithoutAddress::LeaveOut => {
                    tracing::warn!(container = after.name, %error, "leave out a published port");
                }
            }
        }
        let ephemeral = match wanted.is_empty() {
            true => {
                after.mappings.clear();
                return Ok(lease);
            }
            false => ephemeral(),
        };
        let had = ports_to_keep(&wanted, &before.mappings);
        let on_host_before: BTreeSet<OnHost> = held_of(before).collect();
        let stays = |wanted: &Wanted, port| {
            mappings_of(wanted, port).all(|mapping| on_host_before.contains(&on_host(&mapping)))
        };
        let mut mappings = Vec::new();
        let mut missing = Vec::new();
        for (wanted, had) in wanted.iter().zip(had) {
            match had {
                Some(port) if stays(wanted, port) => mappings.extend(mappings_of(wanted, port)),
                _ => missing.push((wanted, had)),
            }
        }
        if !missing.is_empty() {
            let kept: BTreeSet<OnHost> = mappings.iter().map(on_host).collect();
            let is_dropped = |mapping: &&Mapping| mapping.host_port != 0 && !kept.contains(&on_host(mapping));
            lease.dropped = before.mappings.iter().filter(is_dropped).copied().collect();
            // The relay has copies of their sockets, which must be closed.
            self.unrelay(&lease.dropped).await;
        }
        let mut failed = None;
        {
            let mut held = self.held();
            for (protocol, host, port) in lease.dropped.iter().map(on_host) {
                held.set_aside(after.id, protocol, host, port);
            }
            for (wanted, had) in missing {
                match lease.take(&mut held, wanted, had, &ephemeral) {
                    Ok(port) => mappings.extend(mappings_of(wanted, port)),
                    Err(error) => {
                        failed = Some((wanted.endpoint, error));
                        break;
                    }
                }
            }
            if failed.is_none() {
                held.resumed();
            }
        }
        if let Some((endpoint, error)) = failed {
            self.undo(lease).await;
            return Err(cannot_publish(&state.world(), after, Some(endpoint), error));
        }
        mappings.sort_unstable();
        after.mappings = mappings;
        Ok(lease)
    }

    /// Undo a lease.
    pub async fn undo(&self, lease: PortLease) {
        {
            let mut held = self.held();
            lease.undo(&mut held);
            held.resumed();
        }
        if let Err(error) = self.relay(&lease.dropped).await {
            tracing::error!(%error, "relay a published port again");
        }
    }

    /// Release the host ports that `before` has and `after` has not.
    pub fn release(&self, before: &Container, after: &Container) {
        let mut held = self.held();
        let kept: BTreeSet<OnHost> = held_of(after).collect();
        for (protocol, host, port) in held_of(before).filter(|port| !kept.contains(port)) {
            held.release(before.id, protocol, host, port);
        }
    }

    /// Hold the ports of running containers again: the sockets of an earlier daemon were closed at its end.
    pub fn resume(&self, containers: &[Container]) {
        let running =
            containers.iter().filter(|container| matches!(container.state, model::State::Running { .. }));
        let mut held = self.held();
        for container in running {
            for (protocol, host, port) in held_of(container) {
                let holder =
                    Holder { container: container.id, has_sockets: container.owner().reserves_host_ports() };
                if let Err(error) = held.resume(holder, protocol, host, port) {
                    tracing::warn!(container = container.name, %error, "hold a published port again");
                }
            }
        }
        held.resumed();
    }

    pub(super) fn held(&self) -> Held<'_, HeldPorts> {
        self.held.lock()
    }
}

/// Docker's error around the cause. `endpoint` is absent if none could be chosen.
fn cannot_publish(world: &World, container: &Container, endpoint: Option<Id>, error: Error) -> Error {
    let endpoint = endpoint.or_else(|| {
        let ipv4 = default_gateway(container, |id| world.network(id)).map(|gateway| gateway.endpoint.id);
        ipv4.or_else(|| {
            default_gateway_ipv6(container, |id| world.network(id)).map(|gateway| gateway.endpoint.id)
        })
    });
    Error::Publish {
        container: container.name.clone(),
        endpoint: endpoint.unwrap_or(container.id),
        source: Box::new(error),
    }
}

impl PortLease {
    /// Lease a host port for a wanted port: the one that it had, if that is free.
    fn take(
        &mut self,
        held: &mut HeldPorts,
        wanted: &Wanted,
        had: Option<u16>,
        ephemeral: &Ephemeral,
    ) -> Result<u16, Error> {
        if wanted.host_port == HostPort::Routed {
            return Ok(0);
        }
        let hosts: Vec<IpAddr> = wanted.addresses.iter().map(|(host, _)| *host).collect();
        let mut lease =
            |port: HostPort| held.lease(self.holder(), wanted.port.protocol, &hosts, port.range(), ephemeral);
        let again = had.and_then(|port| lease(HostPort::Exact(port)).ok());
        let port = match again {
            Some(port) => port,
            None => lease(wanted.host_port)?,
        };
        self.taken.extend(mappings_of(wanted, port).map(|mapping| on_host(&mapping)));
        Ok(port)
    }

    fn holder(&self) -> Holder {
        Holder { container: self.owner, has_sockets: self.is_reserved }
    }

    fn undo(&self, held: &mut HeldPorts) {
        for (protocol, host, port) in &self.taken {
            held.release(self.owner, *protocol, *host, *port);
        }
        for (protocol, host, port) in self.dropped.iter().map(on_host) {
            if let Err(error) = held.resume(self.holder(), protocol, host, port) {
                tracing::error!(%error, "hold a published port again");
            }
        }
    }
}

/// A host port, independent of the endpoint: a move to another endpoint does not affect it.
type OnHost = (Protocol, IpAddr, u16);

fn on_host(mapping: &Mapping) -> OnHost {
    (mapping.protocol, mapping.host, mapping.host_port)
}

/// The host ports of a container. Ports of a routed network have none.
fn held_of(container: &Container) -> impl Iterator<Item = OnHost> {
    container.mappings.iter().map(on_host).filter(|(_, _, port)| *port != 0)
}

fn mappings_of(wanted: &Wanted, host_port: u16) -> impl Iterator<Item = Mapping> {
    wanted.addresses.iter().map(move |(host, container)| Mapping {
        protocol: wanted.port.protocol,
        host: *host,
        host_port,
        container: *container,
        container_port: wanted.port.number,
    })
}

/// Whether the host has IPv6: a socket can listen at `::1`, as Docker checks it.
pub fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// The range for host ports that the user does not choose.
fn ephemeral() -> Ephemeral {
    let [range, reserved] = ["net/ipv4/ip_local_port_range", "net/ipv4/ip_local_reserved_ports"]
        .map(|setting| sysctl::read(setting).unwrap_or_default());
    Ephemeral::parse(&range, &reserved)
}
