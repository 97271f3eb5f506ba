//! The map entries of a network's host device or of an endpoint. Pure.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use netbpf_common::{
    access::{PLAIN, UNGUARDED},
    endpoint::{Endpoint, FdbKey, Neighbour, NeighbourKey, OwnedKey, Station},
    network::Network,
};

use crate::model::Mac;

/// The entries of one station of a network in `FDB`, `NEIGHBOURS` and `OWNED`: its MAC and its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries {
    /// Key in `FDB`; none of an endpoint without guard, whose MACs are learnt.
    pub mac: Option<FdbKey>,
    /// Its value.
    pub station: Station,
    /// Keys in `NEIGHBOURS`.
    pub addresses: Vec<NeighbourKey>,
    /// Their value.
    pub neighbour: Neighbour,
    /// Keys in `OWNED`: addresses that the container may use at its other endpoints too.
    pub owned: Vec<OwnedKey>,
}

impl Entries {
    fn new(network: u32, mac: [u8; 6], ifindex: u32, addresses: Vec<NeighbourKey>) -> Self {
        Self {
            mac: Some(FdbKey { network, mac, reserved: [0; 2] }),
            station: Station { ifindex, access: 0, reserved: [0; 3] },
            addresses,
            neighbour: Neighbour { mac, reserved: [0; 2] },
            owned: Vec::new(),
        }
    }

    /// The entries of a network's host device.
    pub fn of_network(number: u32, network: &Network) -> Self {
        let mut addresses = keys(number, network.gateway, [network.gateway_ipv6, network.ipv6_link_local]);
        addresses.extend(keys(number, network.default_gateway, [network.default_gateway_ipv6, [0; 16]]));
        Self::new(number, network.mac, network.ifindex, addresses)
    }

    /// The entries of an endpoint.
    pub fn of_endpoint(endpoint: &Endpoint) -> Self {
        let addresses = keys(endpoint.network, endpoint.ipv4, [endpoint.ipv6, endpoint.ipv6_link_local]);
        let owned = keys(endpoint.network, endpoint.ipv4, [endpoint.ipv6, [0; 16]]);
        let owned = owned.into_iter().map(|key| OwnedKey { owner: endpoint.owner, address: key.address });
        let mut entries = Self::new(endpoint.network, endpoint.mac, endpoint.ifindex, addresses);
        entries.owned = owned.filter(|key| key.owner != 0).collect();
        entries.station.access = endpoint.access & PLAIN;
        // Where members must not talk to each other, nobody could ask an endpoint without guard for its MAC.
        if endpoint.access & UNGUARDED != 0 && endpoint.icc_off == 0 {
            entries.mac = None;
            entries.addresses.clear();
        }
        entries
    }

    /// The MAC and addresses that no other station of the network may have.
    pub fn claims(&self) -> impl Iterator<Item = Claim> {
        self.mac.map(Claim::Mac).into_iter().chain(self.addresses.iter().copied().map(Claim::Address))
    }
}

/// A MAC or address that only one station of a network may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    use netbpf_common::endpoint::ifindex_of;

    use super::*;
    use crate::model::OwnerNumber;

    fn endpoint(last: u8) -> Endpoint {
        let ipv4 = [172, 17, 0, last];
        Endpoint {
            ifindex: ifindex_of(7),
            network: 3,
            mac: Mac::of(ipv4.into()).octets(),
            ipv4,
            ..Endpoint::default()
        }
    }

    #[test]
    fn an_endpoint_is_found_by_its_mac_and_each_of_its_addresses() {
        let owner = OwnerNumber::of(&"somebody").number();
        let address = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        let value =
            Endpoint { ipv6: address("2001:db8::2"), ipv6_link_local: address("fe80::2"), ..endpoint(2) };
        assert_eq!(Entries::of_endpoint(&value).owned, []);
        let entries = Entries::of_endpoint(&Endpoint { owner, ..value });
        assert!(entries.owned.iter().all(|key| key.owner == owner));
        let owned: Vec<_> = entries.owned.iter().map(|key| key.address).collect();
        assert_eq!(owned, entries.addresses[..2].iter().map(|key| key.address).collect::<Vec<_>>());
        assert_eq!(entries.station.ifindex, ifindex_of(7));
        let addresses: Vec<_> = entries.addresses.iter().map(|key| key.ip().to_string()).collect();
        assert_eq!(addresses, ["172.17.0.2", "2001:db8::2", "fe80::2"]);
    }

    #[test]
    fn two_endpoints_of_a_network_claim_different_macs_and_addresses() {
        let claims = |value: Endpoint| Entries::of_endpoint(&value).claims().collect::<Vec<_>>();
        let shown: Vec<_> = claims(endpoint(2)).iter().map(Claim::to_string).collect();
        assert_eq!(shown, ["MAC 02:42:ac:11:00:02", "address 172.17.0.2"]);
        let shared = |one, other| {
            let other = claims(other);
            claims(one).iter().filter(|claim| other.contains(claim)).map(Claim::to_string).collect::<Vec<_>>()
        };
        assert_eq!(shared(endpoint(2), endpoint(3)), [""; 0]);
        let other_mac = Endpoint { mac: [2, 0, 0, 0, 0, 1], ..endpoint(2) };
        assert_eq!(shared(endpoint(2), other_mac), ["address 172.17.0.2"]);
        assert_eq!(shared(endpoint(2), Endpoint { network: 4, ..endpoint(2) }), [""; 0]);
    }
}
