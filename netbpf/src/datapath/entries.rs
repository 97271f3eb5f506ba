//! What the control plane says of a network or a port, and the map entries that say it to the programs. Pure.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{Ipv4Net, Ipv6Net};
use netbpf_common::{
    endpoint::{self, FdbKey, NO_PORT, Neighbour, NeighbourKey, OwnedKey, Port, Station},
    network::{self, Network},
};

use crate::{
    model::{Mac, Owner},
    plan::Closed,
};

/// A network, as far as the programs are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkEntry {
    /// The host device's MAC.
    pub mac: Mac,
    /// The IPv4 address that the host device carries, with the subnet's prefix length.
    pub gateway: Option<Ipv4Net>,
    /// The global IPv6 address that it carries, with the subnet's prefix length.
    pub gateway_ipv6: Option<Ipv6Net>,
    /// Its link-local IPv6 address.
    pub ipv6_link_local: Option<Ipv6Addr>,
    /// Another address that it answers for.
    pub default_gateway: Option<Ipv4Addr>,
    /// Another IPv6 address that it answers for.
    pub default_gateway_ipv6: Option<Ipv6Addr>,
    /// Whether members talk to each other.
    pub icc: bool,
    /// How many copies a second of its frames to all a member may have made; 0 for any number.
    pub flood_copies: u32,
    /// What other hosts may not send to.
    pub closed: Closed,
}

/// A port, as far as the programs are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortEntry {
    /// The number of its network.
    pub network: u32,
    /// The endpoint's MAC.
    pub mac: Mac,
    /// The endpoint's IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// The endpoint's global IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// The endpoint's link-local IPv6 address.
    pub ipv6_link_local: Option<Ipv6Addr>,
    /// Whether it talks to other members.
    pub icc: bool,
    /// The container; none if it has no addresses but this port's.
    pub owner: Option<Owner>,
}

/// A MAC and the addresses that it answers for, within a network: what `FDB` and `NEIGHBOURS` say of one station.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries {
    /// Key of the FDB.
    pub mac: FdbKey,
    /// Its value.
    pub station: Station,
    /// Keys of the neighbours.
    pub addresses: Vec<NeighbourKey>,
    /// Their value.
    pub neighbour: Neighbour,
    /// What is its container's at other ports too.
    pub owned: Vec<OwnedKey>,
}

impl Entries {
    fn new(network: u32, mac: [u8; 6], ifindex: u32, addresses: Vec<NeighbourKey>) -> Self {
        Self {
            mac: FdbKey { network, mac, reserved: [0; 2] },
            station: Station { ifindex },
            addresses,
            neighbour: Neighbour { mac, reserved: [0; 2] },
            owned: Vec::new(),
        }
    }

    /// Of a network's host device.
    pub fn of_network(number: u32, network: &Network) -> Self {
        let mut addresses = keys(number, network.gateway, [network.gateway_ipv6, network.ipv6_link_local]);
        addresses.extend(keys(number, network.default_gateway, [network.default_gateway_ipv6, [0; 16]]));
        Self::new(number, network.mac, network.ifindex, addresses)
    }

    /// Of a port's endpoint.
    pub fn of_port(port: &Port) -> Self {
        let addresses = keys(port.network, port.ipv4, [port.ipv6, port.ipv6_link_local]);
        let owned = keys(port.network, port.ipv4, [port.ipv6, [0; 16]]);
        let owned = owned.into_iter().map(|key| OwnedKey { owner: port.owner, address: key.address });
        Self {
            owned: owned.filter(|key| key.owner != 0).collect(),
            ..Self::new(port.network, port.mac, port.ifindex, addresses)
        }
    }

    /// What one station of a network has and no other may have.
    pub fn claims(&self) -> impl Iterator<Item = Claim> {
        [Claim::Mac(self.mac)].into_iter().chain(self.addresses.iter().copied().map(Claim::Address))
    }
}

/// What only one station of a network may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// A MAC.
    Mac(FdbKey),
    /// An address.
    Address(NeighbourKey),
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(key) => write!(f, "MAC {}", Mac::from_octets(key.mac)),
            Self::Address(key) => write!(f, "address {}", key.ip()),
        }
    }
}

impl NetworkEntry {
    /// The value of `NETWORKS`, without members.
    pub fn network(&self, number: u32) -> Network {
        Network {
            ifindex: network::ifindex_of(number),
            first: NO_PORT,
            mac: self.mac.octets(),
            icc_off: u8::from(!self.icc),
            prefix: self.gateway.map_or(0, |net| net.prefix_len()),
            gateway: self.gateway.map_or([0; 4], |net| net.addr().octets()),
            gateway_ipv6: self.gateway_ipv6.map_or([0; 16], |net| net.addr().octets()),
            ipv6_link_local: self.ipv6_link_local.map_or([0; 16], |address| address.octets()),
            default_gateway: self.default_gateway.map_or([0; 4], |address| address.octets()),
            default_gateway_ipv6: self.default_gateway_ipv6.map_or([0; 16], |address| address.octets()),
            prefix_ipv6: self.gateway_ipv6.map_or(0, |net| net.prefix_len()),
            reserved: [0; 3],
            flood_copies: self.flood_copies,
        }
    }
}

impl PortEntry {
    /// The value of `PORTS`, as the last member of its network.
    pub fn port(&self, number: u32) -> Port {
        Port {
            ifindex: endpoint::ifindex_of(number),
            network: self.network,
            next: NO_PORT,
            mac: self.mac.octets(),
            icc_off: u8::from(!self.icc),
            reserved: 0,
            ipv4: self.ipv4.map_or([0; 4], |address| address.octets()),
            ipv6: self.ipv6.map_or([0; 16], |address| address.octets()),
            ipv6_link_local: self.ipv6_link_local.map_or([0; 16], |address| address.octets()),
            owner: self.owner.map_or(0, Owner::number),
        }
    }
}

impl NetworkEntry {
    /// What the maps say.
    pub fn of(network: &Network, closed: Closed) -> Self {
        Self {
            mac: Mac::from_octets(network.mac),
            gateway: ipv4(network.gateway).and_then(|address| Ipv4Net::new(address, network.prefix).ok()),
            gateway_ipv6: ipv6(network.gateway_ipv6)
                .and_then(|address| Ipv6Net::new(address, network.prefix_ipv6).ok()),
            ipv6_link_local: ipv6(network.ipv6_link_local),
            default_gateway: ipv4(network.default_gateway),
            default_gateway_ipv6: ipv6(network.default_gateway_ipv6),
            icc: network.icc_off == 0,
            flood_copies: network.flood_copies,
            closed,
        }
    }
}

impl From<&Port> for PortEntry {
    fn from(port: &Port) -> Self {
        Self {
            network: port.network,
            mac: Mac::from_octets(port.mac),
            ipv4: ipv4(port.ipv4),
            ipv6: ipv6(port.ipv6),
            ipv6_link_local: ipv6(port.ipv6_link_local),
            icc: port.icc_off == 0,
            owner: Owner::of_number(port.owner),
        }
    }
}

/// The keys of a station's addresses.
fn keys(network: u32, of_ipv4: [u8; 4], of_ipv6: [[u8; 16]; 2]) -> Vec<NeighbourKey> {
    let of_ipv4 = ipv4(of_ipv4).map(IpAddr::V4);
    let of_ipv6 = of_ipv6.into_iter().filter_map(ipv6).map(IpAddr::V6);
    of_ipv4.into_iter().chain(of_ipv6).map(|address| key(network, address)).collect()
}

fn key(network: u32, address: IpAddr) -> NeighbourKey {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    NeighbourKey { network, address: address.octets() }
}

fn ipv4(octets: [u8; 4]) -> Option<Ipv4Addr> {
    (octets != [0; 4]).then(|| octets.into())
}

fn ipv6(octets: [u8; 16]) -> Option<Ipv6Addr> {
    (octets != [0; 16]).then(|| octets.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(last: u8) -> PortEntry {
        let address = Ipv4Addr::new(172, 17, 0, last);
        PortEntry {
            network: 3,
            mac: Mac::of(address),
            ipv4: Some(address),
            ipv6: None,
            ipv6_link_local: None,
            icc: true,
            owner: None,
        }
    }

    #[test]
    fn what_is_written_is_what_is_read_back() {
        let owner = Some(Owner::of(&"somebody"));
        let link_local = Some("fe80::2".parse().unwrap());
        let entry = PortEntry { ipv6_link_local: link_local, icc: false, owner, ..port(2) };
        assert_eq!(PortEntry::from(&entry.port(7)), entry);
        let network = NetworkEntry {
            mac: Mac::of(Ipv4Addr::new(172, 17, 0, 1)),
            gateway: None,
            gateway_ipv6: Some("fd00::1/64".parse().unwrap()),
            ipv6_link_local: None,
            default_gateway: Some([172, 17, 0, 254].into()),
            default_gateway_ipv6: Some("fd00::fe".parse().unwrap()),
            icc: false,
            flood_copies: 7,
            closed: Closed { ipv4: None, ipv6: Some("fd00::/64".parse().unwrap()), internal: true },
        };
        assert_eq!(NetworkEntry::of(&network.network(3), network.closed), network);
    }

    #[test]
    fn a_port_is_found_by_its_mac_and_each_of_its_addresses() {
        let owner = Owner::of(&"somebody");
        let entry = PortEntry {
            ipv6: Some("2001:db8::2".parse().unwrap()),
            ipv6_link_local: Some("fe80::2".parse().unwrap()),
            ..port(2)
        };
        assert_eq!(Entries::of_port(&entry.port(7)).owned, []);
        let entries = Entries::of_port(&PortEntry { owner: Some(owner), ..entry }.port(7));
        assert!(entries.owned.iter().all(|key| key.owner == owner.number()));
        let owned: Vec<_> = entries.owned.iter().map(|key| key.address).collect();
        assert_eq!(owned, entries.addresses[..2].iter().map(|key| key.address).collect::<Vec<_>>());
        assert_eq!(entries.station.ifindex, endpoint::ifindex_of(7));
        let addresses: Vec<_> = entries.addresses.iter().map(|key| key.ip().to_string()).collect();
        assert_eq!(addresses, ["172.17.0.2", "2001:db8::2", "fe80::2"]);
    }

    #[test]
    fn two_ports_of_a_network_claim_different_macs_and_addresses() {
        let claims = |port: PortEntry| Entries::of_port(&port.port(1)).claims().collect::<Vec<_>>();
        let shown: Vec<_> = claims(port(2)).iter().map(Claim::to_string).collect();
        assert_eq!(shown, ["MAC 02:42:ac:11:00:02", "address 172.17.0.2"]);
        let shared = |one, other| {
            let other = claims(other);
            claims(one).iter().filter(|claim| other.contains(claim)).map(Claim::to_string).collect::<Vec<_>>()
        };
        assert_eq!(shared(port(2), port(3)), [""; 0]);
        let other_mac = PortEntry { mac: Mac::of(Ipv4Addr::new(10, 0, 0, 1)), ..port(2) };
        assert_eq!(shared(port(2), other_mac), ["address 172.17.0.2"]);
        assert_eq!(shared(port(2), PortEntry { network: 4, ..port(2) }), [""; 0]);
    }
}
