//! What shall be published of a running container, and where; and the change from what is published to that.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use super::{Action, default_gateway, default_gateway_ipv6};
use crate::model::{
    Container, ContainerPort, Endpoint, GatewayMode, Id, Mapping, Network, PortRange, Publish, Subject,
};

/// A port that cannot be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot publish {port} on {host}: the container has no {} address", if .host.is_ipv4() { "IPv4" } else { "IPv6" })]
pub struct NoAddress {
    host: IpAddr,
    port: ContainerPort,
}

/// One port that shall be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The endpoint's ID.
    pub endpoint: Id,
    /// The container's port.
    pub port: ContainerPort,
    /// The host's address and the container's, of one family each: the port of the host is the same on all.
    pub addresses: Vec<(IpAddr, IpAddr)>,
    /// Which port of the host.
    pub host_port: HostPort,
}

/// Which port of the host something shall have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPort {
    /// This one. It comes first, so that no search takes it.
    Exact(u16),
    /// The first free one.
    Range(PortRange),
    /// Any free one.
    Any,
    /// None: the network is routed.
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

    /// The ports to search; none means the ephemeral ones.
    pub fn range(self) -> Option<PortRange> {
        match self {
            Self::Exact(port) => PortRange::new(port, port),
            Self::Range(range) => Some(range),
            Self::Any | Self::Routed => None,
        }
    }

    /// Whether a port that was given before will do.
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

/// What shall be published of a container with the endpoints that it has: at the endpoint of its default gateway, and
/// at each one in a routed network (Docker's rule). Nothing is published in internal networks.
pub fn wanted<'a>(
    container: &'a Container,
    network: impl Fn(&Id) -> Option<&'a Network>,
) -> Result<Vec<Wanted>, NoAddress> {
    let Subject::Sandbox(sandbox) = &container.subject else { return Ok(Vec::new()) };
    let mut requests: Vec<Publish> = sandbox.publish.clone();
    if sandbox.publish_all {
        let published: BTreeSet<ContainerPort> = requests.iter().map(|publish| publish.container).collect();
        requests.extend(
            sandbox.exposed.iter().filter(|port| !published.contains(port)).map(|port| Publish {
                container: *port,
                host: None,
                host_ports: None,
            }),
        );
    }
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let mut wanted = Vec::new();
    let of_ipv4 = default_gateway(container, &network).map(|gateway| (gateway.network, gateway.endpoint));
    let gateway = of_ipv4.or_else(|| {
        default_gateway_ipv6(container, &network).map(|gateway| (gateway.network, gateway.endpoint))
    });
    if let Some((network, endpoint)) = gateway.filter(|(network, _)| !is_routed(network)) {
        for request in &requests {
            wanted.push(translated(request, network, endpoint)?);
        }
    }
    for attachment in &container.attachments {
        let found = network(&attachment.network).filter(|network| !network.internal && is_routed(network));
        if let (Some(_), Some(endpoint)) = (found, &attachment.endpoint) {
            let ports: BTreeSet<ContainerPort> = requests.iter().map(|publish| publish.container).collect();
            wanted.extend(ports.into_iter().map(|port| routed(port, endpoint)));
        }
    }
    wanted.sort_by_key(|wanted| (wanted.host_port, wanted.port));
    Ok(wanted)
}

fn is_routed(network: &Network) -> bool {
    network.bridge().is_some_and(|bridge| bridge.options.gateway_mode_ipv4 == GatewayMode::Routed)
}

/// On the host's ports.
fn translated(request: &Publish, network: &Network, endpoint: &Endpoint) -> Result<Wanted, NoAddress> {
    let own = addresses_of(endpoint);
    let host = request.host.or_else(|| network.bridge()?.options.host_binding);
    let addresses: Vec<_> = match host {
        Some(host) => {
            own.into_iter().filter(|own| own.is_ipv4() == host.is_ipv4()).map(|own| (host, own)).collect()
        }
        None => own.into_iter().map(|own| (unspecified(own), own)).collect(),
    };
    if addresses.is_empty() {
        let host = host.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        return Err(NoAddress { host, port: request.container });
    }
    Ok(Wanted {
        endpoint: endpoint.id,
        port: request.container,
        addresses,
        host_port: HostPort::of(request.host_ports),
    })
}

/// At the container's own addresses.
fn routed(port: ContainerPort, endpoint: &Endpoint) -> Wanted {
    Wanted {
        endpoint: endpoint.id,
        port,
        addresses: addresses_of(endpoint).into_iter().map(|own| (unspecified(own), own)).collect(),
        host_port: HostPort::Routed,
    }
}

/// One of each family that the network has.
fn addresses_of(endpoint: &Endpoint) -> Vec<IpAddr> {
    endpoint.addresses().collect()
}

/// All addresses of the host, of the family of `own`.
fn unspecified(own: IpAddr) -> IpAddr {
    match own {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Which ports of the host what is wanted has already: for each, its port or none. A port stays with the container's
/// port that it was published for, also on another address: users know it by its number.
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

/// From what is published to what shall be: what goes comes first, so that its ports are free.
pub fn port_changes(before: &[Mapping], after: &[Mapping]) -> Vec<Action> {
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), after.iter().collect());
    let only = |these: &BTreeSet<&Mapping>, others: &BTreeSet<&Mapping>| -> Vec<Mapping> {
        these.difference(others).map(|mapping| **mapping).collect()
    };
    let (gone, come) = (only(&old, &new), only(&new, &old));
    let withdraw = (!gone.is_empty()).then_some(Action::Withdraw(gone));
    let publish = (!come.is_empty()).then_some(Action::Publish(come));
    withdraw.into_iter().chain(publish).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap as Map;

    use super::*;
    use crate::model::{
        Attachment, Bridge, Driver, EndpointRequest, Mac, Mode, Options, Protocol, Sandbox, State, Subnet,
        parse_expose, parse_publish,
    };

    fn network(name: &str, internal: bool, options: Options) -> Network {
        let subnet = Subnet {
            net: "10.0.0.0/24".parse().unwrap(),
            range: None,
            gateway: "10.0.0.1".parse().unwrap(),
            auxiliary: Map::new(),
        };
        Network {
            id: Id::random(),
            name: name.into(),
            created: Default::default(),
            driver: Driver::Bridge(Bridge {
                number: 0,
                device: "nb".into(),
                peer: "nbp".into(),
                ipv4: Some(subnet),
                ipv6: None,
                options,
            }),
            internal,
            attachable: false,
            options: Map::new(),
            labels: Map::new(),
        }
    }

    /// In `networks`, with 10.0.0.2 in the first, 10.0.0.3 in the second, …
    fn container(networks: &[&Network], publish: &[&str], expose: &[&str]) -> Container {
        let attachment = |(last, network): (u8, &&Network)| Attachment {
            network: network.id,
            request: EndpointRequest::default(),
            endpoint: Some(Endpoint {
                id: Id::random(),
                port: last.into(),
                ipv4: Some([10, 0, 0, last].into()),
                ipv6: None,
                mac: Mac::of([10, 0, 0, last].into()),
                host_interface: format!("veth{last}"),
                interface: "eth0".into(),
                sysctls: Vec::new(),
            }),
        };
        Container {
            id: Id::random(),
            name: "web".into(),
            created: Default::default(),
            subject: Subject::Sandbox(Box::new(Sandbox {
                command: vec!["sh".into()],
                env: Vec::new(),
                working_dir: "/".into(),
                hostname: "web".into(),
                rootfs: None,
                auto_remove: false,
                mode: Mode::Networks,
                extra_hosts: Vec::new(),
                dns: Vec::new(),
                dns_search: Vec::new(),
                dns_options: Vec::new(),
                publish: publish.iter().flat_map(|text| parse_publish(text).unwrap()).collect(),
                exposed: expose.iter().flat_map(|text| parse_expose(text).unwrap()).collect(),
                publish_all: !expose.is_empty(),
                restart: Default::default(),
            })),
            state: State::Created { error: String::new() },
            attachments: (2..).zip(networks).map(attachment).collect(),
            labels: Map::new(),
            mappings: Vec::new(),
        }
    }

    fn shown(container: &Container, networks: &[&Network]) -> Result<Vec<String>, String> {
        let find = |id: &Id| networks.iter().find(|network| network.id == *id).copied();
        let line = |Wanted { port, addresses, host_port, .. }: Wanted| {
            let at: Vec<_> = addresses.iter().map(|(host, own)| format!("{host}->{own}")).collect();
            format!("{port} {host_port:?} {}", at.join(" "))
        };
        Ok(wanted(container, find).map_err(|error| error.to_string())?.into_iter().map(line).collect())
    }

    fn of(network: &Network, publish: &[&str], expose: &[&str]) -> Result<Vec<String>, String> {
        shown(&container(&[network], publish, expose), &[network])
    }

    #[test]
    fn ports_are_published_on_all_addresses_or_the_networks_own() {
        let plain = network("plain", false, Options::default());
        assert_eq!(of(&plain, &["8080:80"], &[]), Ok(vec!["80/tcp Exact(8080) 0.0.0.0->10.0.0.2".into()]));
        assert_eq!(of(&plain, &["127.0.0.1::80"], &[]), Ok(vec!["80/tcp Any 127.0.0.1->10.0.0.2".into()]));
        let host_binding = Some("192.0.2.1".parse().unwrap());
        let bound = network("bound", false, Options { host_binding, ..Options::default() });
        assert_eq!(of(&bound, &["80"], &[]), Ok(vec!["80/tcp Any 192.0.2.1->10.0.0.2".into()]));
        assert_eq!(of(&bound, &["0.0.0.0::80"], &[]), Ok(vec!["80/tcp Any 0.0.0.0->10.0.0.2".into()]));
        assert_eq!(
            of(&plain, &["[::1]:8080:80"], &[]).unwrap_err(),
            "cannot publish 80/tcp on ::1: the container has no IPv6 address"
        );
    }

    #[test]
    fn all_that_is_exposed_is_published_once() {
        let plain = network("plain", false, Options::default());
        assert_eq!(
            of(&plain, &["8080:80"], &["80-81", "53/udp"]),
            Ok(vec![
                "80/tcp Exact(8080) 0.0.0.0->10.0.0.2".into(),
                "53/udp Any 0.0.0.0->10.0.0.2".into(),
                "81/tcp Any 0.0.0.0->10.0.0.2".into(),
            ])
        );
    }

    #[test]
    fn a_certain_port_is_taken_before_a_search_can_take_it() {
        let plain = network("plain", false, Options::default());
        let ports = of(&plain, &["80", "8000-8001:81", "8000:82"], &[]).unwrap();
        let order: Vec<_> = ports.iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(order, ["82/tcp", "81/tcp", "80/tcp"]);
    }

    #[test]
    fn the_default_gateways_endpoint_has_the_ports() {
        let [a, b] = ["a", "b"].map(|name| network(name, false, Options::default()));
        let internal = network("0", true, Options::default());
        let networks = [&internal, &b, &a];
        let container = container(&networks, &["8080:80"], &[]);
        assert_eq!(shown(&container, &networks), Ok(vec!["80/tcp Exact(8080) 0.0.0.0->10.0.0.4".into()]));
        assert_eq!(of(&internal, &["8080:80"], &[]), Ok(vec![]), "nothing is published in internal networks");
    }

    #[test]
    fn a_routed_network_opens_ports_at_the_containers_address() {
        let gateway_mode_ipv4 = GatewayMode::Routed;
        let routed = network("routed", false, Options { gateway_mode_ipv4, ..Options::default() });
        let plain = network("plain", false, Options::default());
        let own = "80/tcp Routed 0.0.0.0->10.0.0.2".to_owned();
        assert_eq!(of(&routed, &["8080:80", "8081:80"], &[]), Ok(vec![own.clone()]));
        // Its name comes behind the other's, so the gateway is the other network's.
        let networks = [&routed, &plain];
        let both = shown(&container(&networks, &["8080:80"], &[]), &networks);
        assert_eq!(both, Ok(vec!["80/tcp Exact(8080) 0.0.0.0->10.0.0.3".into(), own]));
    }

    fn mapping(host: &str, host_port: u16, container: &str, container_port: u16) -> Mapping {
        let [host, container] = [host, container].map(|address| address.parse().unwrap());
        Mapping { protocol: Protocol::Tcp, host, host_port, container, container_port }
    }

    #[test]
    fn a_port_keeps_its_number_when_it_moves() {
        let plain = network("plain", false, Options::default());
        let find = |id: &Id| (*id == plain.id).then_some(&plain);
        let container = container(&[&plain], &["80", "8000-8001:81", "8080:82", "127.0.0.1::83"], &[]);
        let wanted = wanted(&container, find).unwrap();
        let order: Vec<_> = wanted.iter().map(|wanted| wanted.port.number).collect();
        assert_eq!(order, [82, 81, 80, 83]);
        let before = [
            mapping("0.0.0.0", 32768, "172.17.0.2", 80),
            mapping("0.0.0.0", 8001, "172.17.0.2", 81),
            mapping("0.0.0.0", 9999, "172.17.0.2", 82),
            mapping("192.0.2.1", 32769, "172.17.0.2", 83),
        ];
        assert_eq!(ports_to_keep(&wanted, &before), [None, Some(8001), Some(32768), Some(32769)]);
        assert_eq!(ports_to_keep(&wanted, &[]), [None; 4]);
    }

    #[test]
    fn one_containers_port_on_several_ports_keeps_all_of_them() {
        let plain = network("plain", false, Options::default());
        let find = |id: &Id| (*id == plain.id).then_some(&plain);
        let container = container(&[&plain], &["80", "127.0.0.1::80"], &[]);
        let wanted = wanted(&container, find).unwrap();
        let before =
            [mapping("0.0.0.0", 32769, "172.17.0.2", 80), mapping("127.0.0.1", 32768, "172.17.0.2", 80)];
        assert_eq!(ports_to_keep(&wanted, &before), [Some(32769), Some(32768)]);
    }

    #[test]
    fn only_what_differs_is_withdrawn_and_published() {
        let [a, b, c] = [1, 2, 3].map(|port| mapping("0.0.0.0", port, "10.0.0.2", port));
        assert_eq!(port_changes(&[a, b], &[b, c]), [Action::Withdraw(vec![a]), Action::Publish(vec![c])]);
        assert_eq!(port_changes(&[a, b], &[b, a]), []);
        assert_eq!(Action::Publish(vec![a]).undo(), Some(Action::Withdraw(vec![a])));
    }
}
