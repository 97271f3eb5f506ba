//! Endpoints (`ENDPOINTS`) and the tables of their addresses: where a MAC is (`FDB`), the MAC of an IP
//! address (`NEIGHBOURS`), the endpoint of a container's address (`OWNED`). Must not know how the maps are
//! accessed.

use core::net::{IpAddr, Ipv6Addr};

use crate::network::{MAX_NETWORKS, USUAL_NETWORKS};

/// Maximum number of endpoints in all networks of a daemon.
pub const MAX_ENDPOINTS: u32 = 65_536;

/// The endpoints for which the maps have room at first.
pub const USUAL_ENDPOINTS: u32 = 8192;

/// Maximum number of members of a network: a broadcast reaches so many. A kernel bridge has at most 1,023.
pub const MAX_MEMBERS: u32 = 8192;

/// Size of `FDB` and `OWNED` for so many endpoints: a MAC of each endpoint and network; two addresses of each endpoint.
pub const fn stations(endpoints: u32) -> u32 {
    2 * endpoints
}
const _: () = assert!(USUAL_ENDPOINTS + USUAL_NETWORKS <= stations(USUAL_ENDPOINTS));
const _: () = assert!(MAX_ENDPOINTS + MAX_NETWORKS <= stations(MAX_ENDPOINTS));

/// Size of `NEIGHBOURS` for so many networks and endpoints: three addresses of each endpoint, five of each network (two
/// gateways for each family and a link-local address), and those that others add to host devices.
pub const fn neighbours(networks: u32, endpoints: u32) -> u32 {
    3 * endpoints + 8 * networks
}

/// Size of `FDB_SLOTS`: endpoints of one network with consecutive addresses have different slots.
pub const FDB_SLOTS: u32 = 1 << 16;

/// The host side of endpoint `n` is created with ifindex `ENDPOINT_IFINDEX + n`. So a frame's ifindex is an
/// index into `ENDPOINTS`, without a hash lookup.
pub const ENDPOINT_IFINDEX: u32 = 1_000_000;

/// Stands for no endpoint in [`Endpoint::next`] and [`Network::first`](crate::network::Network::first).
pub const NO_ENDPOINT: u32 = u32::MAX;

/// The ifindex of an endpoint's host side.
#[inline(always)]
pub const fn ifindex_of(number: u32) -> u32 {
    ENDPOINT_IFINDEX + number
}

/// The endpoint number of an ifindex, if it is in the range of endpoints.
#[inline(always)]
pub const fn number_of(ifindex: u32) -> Option<u32> {
    let number = ifindex.wrapping_sub(ENDPOINT_IFINDEX);
    if number < MAX_ENDPOINTS { Some(number) } else { None }
}

/// A container's place in a network, as value of the array `ENDPOINTS` (key: endpoint number). All zero is a vacant entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Host side of the veth pair; 0 in a vacant entry.
    pub ifindex: u32,
    /// Network number ([`crate::network`]).
    pub network: u32,
    /// The next member of the same network, in the list that broadcasts walk; [`NO_ENDPOINT`] ends it. It starts at
    /// [`Network::first`](crate::network::Network::first).
    pub next: u32,
    /// The MAC that the endpoint owns.
    pub mac: [u8; 6],
    /// 1 if it may talk to the host only, with the exceptions in [`crate::allowed`].
    pub icc_off: u8,
    /// What it may send besides its own addresses, and how frames reach it: bits of [`crate::access`].
    pub access: u8,
    /// The IPv4 address that the endpoint owns, network order; zero for none.
    pub ipv4: [u8; 4],
    /// The global IPv6 address that the endpoint owns; zero for none.
    pub ipv6: [u8; 16],
    /// The link-local IPv6 address that the endpoint owns; zero for none.
    pub ipv6_link_local: [u8; 16],
    /// The container; 0 for none. Endpoints of one container may send from each other's addresses.
    pub owner: u64,
}
const _: () = assert!(size_of::<Endpoint>() == 64);

/// Key of the hash `FDB`: a MAC within a network.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FdbKey {
    /// Network number.
    pub network: u32,
    /// Destination MAC.
    pub mac: [u8; 6],
    /// Always zero.
    pub reserved: [u8; 2],
}
const _: () = assert!(size_of::<FdbKey>() == 12);

/// Value of `FDB` and of `FDB_SLOTS`: the interface for frames to the MAC. It is an endpoint's host side if
/// [`number_of`] knows its ifindex, otherwise the network's host device.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Station {
    /// Host side of the container's veth pair, or the host device; 0 in a vacant slot.
    pub ifindex: u32,
    /// [`PLAIN`](crate::access::PLAIN) if frames go through the veth pair; 0 otherwise.
    pub access: u8,
    /// Always zero.
    pub reserved: [u8; 3],
}
const _: () = assert!(size_of::<Station>() == 8);

impl FdbKey {
    /// The index in `FDB_SLOTS` for a MAC. A MAC ends with the end of the IPv4 address that it is made from,
    /// and networks start at distant slots. Different MACs may have the same slot: the entry must be
    /// compared, and if it is for another MAC, look in `FDB`.
    #[inline(always)]
    pub const fn slot(network: u32, mac: [u8; 6]) -> u32 {
        let [.., high, low] = mac;
        let host = u16::from_be_bytes([high, low]) as u32;
        host.wrapping_add(network.wrapping_mul(0x9e37)) % FDB_SLOTS
    }
}

/// Key of the hash `NEIGHBOURS`: an address within a network.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeighbourKey {
    /// Network number.
    pub network: u32,
    /// IPv6 address, or IPv4 address as v4-mapped IPv6 (`::ffff:a.b.c.d`), network order.
    pub address: [u8; 16],
}
const _: () = assert!(size_of::<NeighbourKey>() == 20);

impl NeighbourKey {
    /// The key of an IPv4 address.
    #[inline(always)]
    pub const fn ipv4(network: u32, address: [u8; 4]) -> Self {
        // As one number: the ten zeros of an array would become a call of memset in the programs.
        let mapped = 0xffff_0000_0000 | u32::from_be_bytes(address) as u128;
        Self { network, address: mapped.to_be_bytes() }
    }

    /// The address.
    pub const fn ip(&self) -> IpAddr {
        Ipv6Addr::from_octets(self.address).to_canonical()
    }
}

/// Value of `NEIGHBOURS`: the MAC that answers for the address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Neighbour {
    /// The owner's MAC.
    pub mac: [u8; 6],
    /// Always zero.
    pub reserved: [u8; 2],
}
const _: () = assert!(size_of::<Neighbour>() == 8);

/// Key of the hash `OWNED`: an address of a container that is not link-local. Two containers may have the
/// same address, in two networks.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OwnedKey {
    /// As in [`Endpoint::owner`].
    pub owner: u64,
    /// As in [`NeighbourKey::address`].
    pub address: [u8; 16],
}
const _: () = assert!(size_of::<OwnedKey>() == 24);

/// Value of `OWNED`: the container's endpoint that has the address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    /// Endpoint number.
    pub endpoint: u32,
}
const _: () = assert!(size_of::<Owned>() == 4);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_ipv4_address_is_a_key_as_v4_mapped_ipv6() {
        let address = Ipv4Addr::new(172, 17, 0, 2);
        let key = NeighbourKey::ipv4(3, address.octets());
        assert_eq!((key.network, key.address), (3, address.to_ipv6_mapped().octets()));
    }

    #[test]
    fn consecutive_addresses_have_different_slots() {
        let slots: std::collections::BTreeSet<_> = (0..=u16::MAX)
            .map(|host| {
                let [high, low] = host.to_be_bytes();
                FdbKey::slot(7, [0x02, 0x42, 10, 0, high, low])
            })
            .collect();
        assert_eq!(slots.len(), FDB_SLOTS as usize);
        assert!(slots.iter().all(|slot| *slot < FDB_SLOTS));
    }

    #[test]
    fn an_endpoint_number_and_its_ifindex_convert_into_each_other() {
        for number in [0, 1, MAX_ENDPOINTS - 1] {
            assert_eq!(number_of(ifindex_of(number)), Some(number));
        }
        for other in [0, 1, ENDPOINT_IFINDEX - 1, ENDPOINT_IFINDEX + MAX_ENDPOINTS, u32::MAX] {
            assert_eq!(number_of(other), None);
        }
    }
}
