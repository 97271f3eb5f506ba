//! Finds closed subnets: the packet filter drops everything that other hosts send directly to their
//! addresses, so XDP at an uplink may drop it before. Pure.
//!
//! A subnet is not closed if other hosts may send some packets to its addresses, and the filter must decide
//! about each: a gateway mode that opens ports or all of them; trusted neighbours; containers that keep their
//! address outside (replies are sent to it); a chosen source address that is itself in the subnet.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::rules::{Inbound, NetworkRules, Source, Way};
use crate::model::{Block, Network, Subnet};

/// The closed subnets of a network. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Its IPv4 subnet.
    pub ipv4: Option<Ipv4Net>,
    /// Its IPv6 subnet.
    pub ipv6: Option<Ipv6Net>,
    /// Whether it is an internal network, whose members cannot reach other hosts either.
    pub internal: bool,
}

impl Closed {
    /// The closed subnets by a network's rules.
    pub fn of(network: &Network) -> Self {
        let (Some(bridge), Some(rules)) = (network.bridge(), NetworkRules::of(network)) else {
            return Self::default();
        };
        Self {
            ipv4: subnet(&rules, &rules.ipv4, bridge.ipv4.as_ref()),
            ipv6: subnet(&rules, &rules.ipv6, bridge.ipv6.as_ref()),
            internal: rules.internal,
        }
    }

    /// The closed subnets.
    pub fn subnets(&self) -> impl Iterator<Item = IpNet> + use<> {
        let ipv4 = self.ipv4.map(IpNet::V4);
        ipv4.into_iter().chain(self.ipv6.map(IpNet::V6))
    }
}

fn subnet<Net: Block>(
    rules: &NetworkRules,
    way: &Way<Net::Address>,
    subnet: Option<&Subnet<Net>>,
) -> Option<Net> {
    let net = subnet?.net;
    // Whether replies to a container are never sent to an address of its network.
    let answers_go_elsewhere = match way.source {
        Source::Own => false,
        Source::Interface => true,
        Source::Chosen(address) => !net.holds(address),
    };
    // The filter drops everything to an internal network before any other check.
    let is_closed = rules.internal
        || (way.inbound == Inbound::Published && rules.trusted.is_empty() && answers_go_elsewhere);
    is_closed.then_some(net)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{Bridge, Driver, Id, InterfaceName, Options, Origin};

    fn network(internal: bool, options: &[(&str, &str)]) -> Network {
        let options: BTreeMap<_, _> = options
            .iter()
            .map(|(key, value)| (format!("com.docker.network.{key}"), (*value).to_owned()))
            .collect();
        fn subnet<Net: Block>(net: Net, gateway: Net::Address) -> Option<Subnet<Net>> {
            Some(Subnet { net, range: None, gateway: Some(gateway), auxiliary: BTreeMap::new() })
        }
        let bridge = Bridge {
            number: 3,
            device: InterfaceName::made_of("nb-", "0123456789ab"),
            peer: InterfaceName::made_of("nbp", "0123456789ab"),
            ipv4: subnet("10.1.0.0/16".parse().unwrap(), "10.1.0.1".parse().unwrap()),
            ipv6: subnet("fd00:1::/64".parse().unwrap(), "fd00:1::1".parse().unwrap()),
            options: Options::parse(&options, internal).unwrap(),
        };
        Network {
            id: Id::random(),
            name: "mynet".into(),
            created: jiff::Timestamp::UNIX_EPOCH,
            driver: Driver::Bridge(bridge),
            internal,
            attachable: false,
            options,
            labels: BTreeMap::new(),
            origin: Origin::Netbpf,
        }
    }

    fn closed(internal: bool, options: &[(&str, &str)]) -> Vec<String> {
        Closed::of(&network(internal, options)).subnets().map(|net| net.to_string()).collect()
    }

    #[test]
    fn a_network_of_the_default_kind_is_closed_in_both_families() {
        assert_eq!(closed(false, &[]), ["10.1.0.0/16", "fd00:1::/64"]);
        assert!(!Closed::of(&network(false, &[])).internal);
    }

    #[test]
    fn the_gateway_mode_of_a_family_opens_that_family_only() {
        for mode in ["routed", "nat-unprotected"] {
            assert_eq!(closed(false, &[("bridge.gateway_mode_ipv4", mode)]), ["fd00:1::/64"], "{mode}");
            assert_eq!(closed(false, &[("bridge.gateway_mode_ipv6", mode)]), ["10.1.0.0/16"], "{mode}");
        }
    }

    #[test]
    fn a_network_is_open_if_replies_go_to_its_addresses() {
        assert_eq!(closed(false, &[("bridge.enable_ip_masquerade", "false")]), [""; 0]);
        assert_eq!(closed(false, &[("host_ipv4", "192.0.2.7")]), ["10.1.0.0/16", "fd00:1::/64"]);
        assert_eq!(closed(false, &[("host_ipv4", "10.1.0.1")]), ["fd00:1::/64"]);
    }

    #[test]
    fn trusted_neighbours_open_a_network() {
        assert_eq!(closed(false, &[("bridge.trusted_host_interfaces", "eth1")]), [""; 0]);
    }

    #[test]
    fn an_internal_network_is_always_closed() {
        let all = ["10.1.0.0/16", "fd00:1::/64"];
        for (key, value) in [
            ("bridge.enable_icc", "true"),
            ("bridge.enable_ip_masquerade", "false"),
            ("bridge.trusted_host_interfaces", "eth1"),
            ("bridge.gateway_mode_ipv4", "routed"),
            ("bridge.gateway_mode_ipv4", "nat-unprotected"),
            ("bridge.gateway_mode_ipv4", "isolated"),
        ] {
            assert_eq!(closed(true, &[(key, value)]), all, "{key}={value}");
            assert!(Closed::of(&network(true, &[(key, value)])).internal);
        }
    }

    #[test]
    fn the_hosts_own_network_has_nothing_to_close() {
        let host = Network { driver: Driver::Host, ..network(false, &[]) };
        assert_eq!(Closed::of(&host), Closed::default());
    }
}
