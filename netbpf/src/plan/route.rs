//! Chooses the networks that a container's default routes lead to.

use std::{
    cmp::Reverse,
    net::{Ipv4Addr, Ipv6Addr},
};

use crate::model::{Attachment, Bridge, Container, Endpoint, EndpointRequest, Id, Network};

/// A container's default route of one family.
#[derive(Clone, Copy, Debug)]
pub struct Gateway<'a, Address> {
    /// The gateway's address.
    pub address: Address,
    /// The network.
    pub network: &'a Network,
    /// The container's endpoint in it, where ports are published.
    pub endpoint: &'a Endpoint,
}

/// The gateways of a container's default routes. The families are independent: if a network lacks one,
/// another network provides it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gateways {
    /// None for no route.
    pub ipv4: Option<Ipv4Addr>,
    /// None for no route.
    pub ipv6: Option<Ipv6Addr>,
}

impl Gateways {
    /// The routes that differ, as they are in `self` and in `after`.
    pub fn changes(self, after: Self) -> impl Iterator<Item = (DefaultRoute, DefaultRoute)> {
        let ipv4 = (DefaultRoute::Ipv4(self.ipv4), DefaultRoute::Ipv4(after.ipv4));
        let ipv6 = (DefaultRoute::Ipv6(self.ipv6), DefaultRoute::Ipv6(after.ipv6));
        [ipv4, ipv6].into_iter().filter(|(before, after)| before != after)
    }
}

/// A container's default route of one family, by its gateway. None for no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum DefaultRoute {
    Ipv4(Option<Ipv4Addr>),
    Ipv6(Option<Ipv6Addr>),
}

impl DefaultRoute {
    /// Whether there is a route.
    pub fn has_gateway(self) -> bool {
        match self {
            Self::Ipv4(gateway) => gateway.is_some(),
            Self::Ipv6(gateway) => gateway.is_some(),
        }
    }
}

/// The order of networks for a container's default routes, by Docker's rule; the first one wins: highest
/// `--gw-priority`, then networks that are not internal, then those with both families, then by name.
pub fn rank(request: &EndpointRequest, network: &Network) -> impl Ord + use<> {
    let families = network.bridge().map_or(0, |bridge| bridge.nets().count());
    (Reverse(request.gateway_priority), network.internal, Reverse(families), network.name.clone())
}

/// The container's IPv4 default route: the first network by [`rank`] that has IPv4. Internal networks never
/// provide one.
pub fn default_gateway<'a>(
    container: &'a Container,
    network: impl Fn(&Id) -> Option<&'a Network>,
) -> Option<Gateway<'a, Ipv4Addr>> {
    first(container, network, |bridge| bridge.ipv4.as_ref()?.default_gateway())
}

/// The same for IPv6.
pub fn default_gateway_ipv6<'a>(
    container: &'a Container,
    network: impl Fn(&Id) -> Option<&'a Network>,
) -> Option<Gateway<'a, Ipv6Addr>> {
    first(container, network, |bridge| bridge.ipv6.as_ref()?.default_gateway())
}

/// The gateways of both default routes.
pub fn default_gateways<'a>(
    container: &'a Container,
    network: impl Fn(&Id) -> Option<&'a Network>,
) -> Gateways {
    let ipv4 = default_gateway(container, &network).map(|gateway| gateway.address);
    let ipv6 = default_gateway_ipv6(container, &network).map(|gateway| gateway.address);
    Gateways { ipv4, ipv6 }
}

fn first<'a, Address>(
    container: &'a Container,
    network: impl Fn(&Id) -> Option<&'a Network>,
    address: impl Fn(&Bridge) -> Option<Address>,
) -> Option<Gateway<'a, Address>> {
    let gateway = |attachment: &'a Attachment| {
        let network = network(&attachment.network).filter(|network| !network.internal)?;
        let gateway = Gateway {
            address: address(network.bridge()?)?,
            network,
            endpoint: attachment.endpoint.as_ref()?,
        };
        Some((rank(&attachment.request, network), gateway))
    };
    let gateways = container.attachments.iter().filter_map(gateway);
    gateways.min_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, gateway)| gateway)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::PathBuf};

    use super::*;
    use crate::model::{Block, Driver, Namespace, Options, State, Subject, Subnet};

    fn subnet<Net: Block>(net: &str) -> Option<Subnet<Net>> {
        let net = net.parse::<Net>().ok()?;
        let gateway = Net::address(Net::number(net.first()) + 1);
        Some(Subnet { net, range: None, gateway, auxiliary: BTreeMap::new() })
    }

    /// An empty text means that the network does not have the family.
    fn network(name: &str, ipv4: &str, ipv6: &str) -> Network {
        let bridge = Bridge {
            number: 0,
            device: "nb".parse().unwrap(),
            peer: "nbp".parse().unwrap(),
            ipv4: subnet(ipv4),
            ipv6: subnet(ipv6),
            options: Options::default(),
        };
        Network {
            id: Id::random(),
            name: name.into(),
            created: Default::default(),
            driver: Driver::Bridge(bridge),
            internal: false,
            attachable: false,
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            origin: Default::default(),
        }
    }

    /// The gateways of a container in these networks, each with a priority.
    fn gateways(networks: &[(&Network, i64)]) -> [String; 2] {
        let request = |gateway_priority| EndpointRequest { gateway_priority, ..EndpointRequest::default() };
        let attachments = networks.iter().map(|(network, priority)| Attachment {
            endpoint: Some(Endpoint {
                id: Id::random(),
                number: 0,
                ipv4: None,
                ipv6: None,
                mac: "02:42:0a:00:00:02".parse().unwrap(),
                host_interface: "veth".parse().unwrap(),
                interface: "eth0".parse().unwrap(),
                sysctls: Vec::new(),
            }),
            ..Attachment::new(network, request(*priority))
        });
        let container = Container {
            id: Id::random(),
            name: "c".into(),
            created: Default::default(),
            subject: Subject::Namespace(Namespace::Path(PathBuf::new())),
            state: State::Created { error: String::new() },
            attachments: attachments.collect(),
            mappings: Vec::new(),
            labels: BTreeMap::new(),
        };
        let find = |id: &Id| networks.iter().map(|(network, _)| *network).find(|network| network.id == *id);
        let Gateways { ipv4, ipv6 } = default_gateways(&container, find);
        [ipv4.map_or(String::new(), |ip| ip.to_string()), ipv6.map_or(String::new(), |ip| ip.to_string())]
    }

    #[test]
    fn each_family_uses_the_first_network_that_has_it() {
        let (a, b) = (network("a", "10.1.0.0/24", ""), network("b", "10.2.0.0/24", ""));
        let (both, six) = (network("x", "10.3.0.0/24", "fd03::/64"), network("y", "", "fd04::/64"));
        assert_eq!(gateways(&[(&b, 0), (&a, 0)]), ["10.1.0.1", ""]);
        assert_eq!(gateways(&[(&b, 1), (&a, 0)]), ["10.2.0.1", ""]);
        assert_eq!(gateways(&[(&a, 0), (&six, 0)]), ["10.1.0.1", "fd04::1"]);
        assert_eq!(gateways(&[(&a, 0), (&both, 0)]), ["10.3.0.1", "fd03::1"], "both families come first");
        assert_eq!(gateways(&[(&a, 1), (&both, 0)]), ["10.1.0.1", "fd03::1"], "a priority comes before that");
        assert_eq!(gateways(&[(&both, 0), (&six, 1)]), ["10.3.0.1", "fd04::1"]);
        let internal = Network { internal: true, ..both };
        assert_eq!(gateways(&[(&internal, 9), (&six, 0)]), ["", "fd04::1"]);
    }

    #[test]
    fn each_family_changes_by_an_action_of_its_own() {
        let [one, other] = [1, 2].map(|last| Ipv4Addr::new(10, 1, 0, last));
        let six = Ipv6Addr::LOCALHOST;
        let routes = |ipv4, ipv6| Gateways { ipv4, ipv6 };
        let changes = |before: Gateways, after| before.changes(after).collect::<Vec<_>>();
        let (from, to) = (routes(Some(one), None), routes(Some(other), Some(six)));
        let ipv4 = (DefaultRoute::Ipv4(Some(one)), DefaultRoute::Ipv4(Some(other)));
        let ipv6 = (DefaultRoute::Ipv6(None), DefaultRoute::Ipv6(Some(six)));
        assert_eq!(changes(from, to), [ipv4, ipv6]);
        assert_eq!(changes(to, to), []);
        assert_eq!(changes(from, routes(Some(one), Some(six))), [ipv6]);
    }
}
