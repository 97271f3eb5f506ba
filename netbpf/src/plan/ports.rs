//! The ports of a running container to publish, where to publish them, and the changes from the published
//! ports to these.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{Action, default_gateway, default_gateway_ipv6};
use crate::model::{
    Container, ContainerPort, Endpoint, GatewayMode, Id, Mapping, Network, PortRange, Protocol, Publish,
};

/// A port that cannot be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot publish {port} on {host}: the container has no {} address", if .host.is_ipv4() { "IPv4" } else { "IPv6" })]
pub struct NoAddress {
    host: IpAddr,
    port: ContainerPort,
}

/// A port to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The endpoint's ID.
    pub endpoint: Id,
    /// The container's port.
    pub port: ContainerPort,
    /// The host's address and the container's, which may differ in family. The host port is the same for all.
    pub addresses: Vec<(IpAddr, IpAddr)>,
    /// The host port to use.
    pub host_port: HostPort,
}

/// A requested host port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPort {
    /// This port. Sorted first, so that no search takes it.
    Exact(u16),
    /// The first free port of the range.
    Range(PortRange),
    /// Any free port.
    Any,
    /// None, because the network is routed.
    Routed,
}

impl HostPort {
    fn of(range: Option<PortRange>) -> Self {
        match range {
            None => Self::Any,
            Some(range) if range.count() == 1 => Self::Exact(range.first()),
            Some(range) => Self::Range(range),
        }
    }

    /// The range to search; none means ephemeral ports.
    pub fn range(self) -> Option<PortRange> {
        match self {
            Self::Exact(port) => PortRange::new(port, port),
            Self::Range(range) => Some(range),
            Self::Any | Self::Routed => None,
        }
    }

    /// Whether a port that was used before satisfies the request.
    pub fn accepts(self, port: u16) -> bool {
        match self {
            Self::Any => port != 0,
            Self::Routed => port == 0,
            Self::Exact(_) | Self::Range(_) => {
                self.range().is_some_and(|range| (range.first()..=range.last()).contains(&port))
            }
        }
    }
}

/// The ports to publish of a container with its present endpoints, and those that cannot be published. Ports
/// are published at the endpoint with the default route of a family, and at each endpoint whose network
/// routes the family (Docker's rule). Nothing is published in internal networks.
///
/// If the host has IPv6 (`has_ipv6`, called only if it matters), the ports of a container without IPv6 are
/// also published at the host's IPv6 addresses, with the container's IPv4 address as target, like Docker's
/// proxy; unless the container's owner forbids that.
pub fn wanted<'a>(
    container: &'a Container,
    network: impl Fn(&Id) -> Option<&'a Network>,
    has_ipv6: impl FnOnce() -> bool,
) -> (Vec<Wanted>, Vec<NoAddress>) {
    let (mut wanted, mut missing) = (Vec::new(), Vec::new());
    let requests = container.owner().publishes();
    if requests.is_empty() {
        return (wanted, missing);
    }
    let places = gateways(container, &network, || container.owner().may_be_relayed() && has_ipv6());
    for request in &requests {
        match translated(request, &places) {
            Ok(port) => wanted.extend(port),
            Err(error) => missing.push(error),
        }
    }
    for attachment in &container.attachments {
        let network = network(&attachment.network).filter(|network| !network.internal);
        if let (Some(network), Some(endpoint)) = (network, &attachment.endpoint) {
            wanted.extend(routed(&requests, network, endpoint));
        }
    }
    wanted.sort_by_key(|wanted| (wanted.host_port, wanted.port));
    (wanted, missing)
}

/// Where ports are published at addresses of one family of the host.
struct Place<'a> {
    family: Family,
    network: &'a Network,
    endpoint: Id,
    /// The container's address there. It may be of the other family.
    own: IpAddr,
}

/// Address family of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    /// All addresses of the host.
    fn unspecified(self) -> IpAddr {
        match self {
            Self::Ipv4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::Ipv6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// Whether a port may be published at addresses of this family.
    fn is_asked_by(self, request: &Publish) -> bool {
        request.host.is_none_or(|host| Self::of(host) == self)
    }
}

/// The endpoint with the default route of each family: they may be in different networks.
fn gateways<'a>(
    container: &'a Container,
    network: impl Fn(&Id) -> Option<&'a Network>,
    has_ipv6: impl FnOnce() -> bool,
) -> Vec<Place<'a>> {
    let place = |network, endpoint: &Endpoint, own: Option<IpAddr>| {
        own.map(|own| Place { family: Family::of(own), network, endpoint: endpoint.id, own })
    };
    let ipv4 = default_gateway(container, &network)
        .and_then(|gateway| place(gateway.network, gateway.endpoint, gateway.endpoint.ipv4.map(IpAddr::V4)));
    let ipv6 = default_gateway_ipv6(container, &network)
        .and_then(|gateway| place(gateway.network, gateway.endpoint, gateway.endpoint.ipv6.map(IpAddr::V6)));
    let across = || {
        let of_ipv4 = ipv4.as_ref().filter(|place| !place.is_routed() && has_ipv6())?;
        Some(Place { family: Family::Ipv6, ..*of_ipv4 })
    };
    let ipv6 = ipv6.or_else(across);
    ipv4.into_iter().chain(ipv6).collect()
}

impl Place<'_> {
    /// The host address where a port is published; none if the request, or the network's binding, has an
    /// address of the other family.
    fn host(&self, request: &Publish) -> Option<IpAddr> {
        let is_across = Family::of(self.own) != self.family;
        if is_across && request.container.protocol == Protocol::Sctp {
            // There is no relay for SCTP.
            return None;
        }
        let chosen = request.host.or_else(|| self.binding()).unwrap_or(self.family.unspecified());
        (Family::of(chosen) == self.family).then_some(chosen)
    }

    /// The network's binding, for requests without an address. Docker's default, 0.0.0.0, means all addresses
    /// of both families.
    fn binding(&self) -> Option<IpAddr> {
        let binding = self.network.bridge()?.options.host_binding;
        binding.filter(|binding| *binding != IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    fn is_routed(&self) -> bool {
        is_routed(self.network, self.own)
    }
}

/// Whether a network routes the family of `own`, an address of one of its containers, without translation.
fn is_routed(network: &Network, own: IpAddr) -> bool {
    network.bridge().is_some_and(|bridge| {
        let options = &bridge.options;
        let mode = if own.is_ipv4() { options.gateway_mode_ipv4 } else { options.gateway_mode_ipv6 };
        mode == GatewayMode::Routed
    })
}

/// Publishes at host ports, in each family that is not routed.
fn translated(request: &Publish, places: &[Place]) -> Result<Option<Wanted>, NoAddress> {
    let on_host = || places.iter().filter(|place| !place.is_routed());
    let addresses: Vec<_> = on_host().filter_map(|place| Some((place.host(request)?, place.own))).collect();
    let Some(first) = on_host().next() else { return Ok(None) };
    if addresses.is_empty() {
        if places.iter().any(|place| place.is_routed() && place.family.is_asked_by(request)) {
            return Ok(None);
        }
        let host = request.host.or_else(|| first.binding()).unwrap_or(first.family.unspecified());
        return Err(NoAddress { host, port: request.container });
    }
    Ok(Some(Wanted {
        endpoint: first.endpoint,
        port: request.container,
        addresses,
        host_port: HostPort::of(request.host_ports),
    }))
}

/// Opens ports at the container's own addresses, in each family that is routed.
fn routed(requests: &[Publish], network: &Network, endpoint: &Endpoint) -> Vec<Wanted> {
    let mut ports: BTreeMap<ContainerPort, BTreeSet<IpAddr>> = BTreeMap::new();
    for own in endpoint.addresses().filter(|own| is_routed(network, *own)) {
        for request in requests.iter().filter(|request| Family::of(own).is_asked_by(request)) {
            ports.entry(request.container).or_default().insert(own);
        }
    }
    let wanted = |(port, addresses): (ContainerPort, BTreeSet<IpAddr>)| Wanted {
        endpoint: endpoint.id,
        port,
        addresses: addresses.into_iter().map(|own| (Family::of(own).unspecified(), own)).collect(),
        host_port: HostPort::Routed,
    };
    ports.into_iter().map(wanted).collect()
}

/// For each wanted port, the host port that it has already, or none. A host port stays with its container
/// port even on another address, because users know it by its number.
pub fn ports_to_keep(wanted: &[Wanted], before: &[Mapping]) -> Vec<Option<u16>> {
    let mut left: BTreeMap<ContainerPort, Vec<&Mapping>> = BTreeMap::new();
    for mapping in before.iter().filter(|mapping| mapping.host_port != 0) {
        left.entry(mapping.container_port()).or_default().push(mapping);
    }
    let mut kept = vec![None; wanted.len()];
    for same_address in [true, false] {
        for (wanted, kept) in wanted.iter().zip(&mut kept).filter(|(_, kept)| kept.is_none()) {
            let Some(left) = left.get_mut(&wanted.port) else { continue };
            let hosts: Vec<IpAddr> = wanted.addresses.iter().map(|(host, _)| *host).collect();
            let found = left.iter().find(|mapping| {
                wanted.host_port.accepts(mapping.host_port)
                    && (!same_address || hosts.contains(&mapping.host))
            });
            if let Some(port) = found.map(|mapping| mapping.host_port) {
                *kept = Some(port);
                left.retain(|mapping| {
                    mapping.host_port != port || (same_address && !hosts.contains(&mapping.host))
                });
            }
        }
    }
    kept
}

/// The changes from published ports to others. Withdrawals come first, so that their ports are free. `leaving` are addresses
/// that the container loses.
pub fn port_changes(before: &[Mapping], after: &[Mapping], leaving: &[IpAddr]) -> Vec<Action> {
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), after.iter().collect());
    let only = |these: &BTreeSet<&Mapping>, others: &BTreeSet<&Mapping>| -> Vec<Mapping> {
        these.difference(others).map(|mapping| **mapping).collect()
    };
    let (gone, come) = (only(&old, &new), only(&new, &old));
    let leaving = leaving.to_vec();
    let withdraw = (!gone.is_empty()).then_some(Action::Withdraw { mappings: gone, leaving });
    let publish = (!come.is_empty()).then_some(Action::Publish(come));
    withdraw.into_iter().chain(publish).collect()
}

#[cfg(test)]
#[path = "ports_tests.rs"]
mod tests;
