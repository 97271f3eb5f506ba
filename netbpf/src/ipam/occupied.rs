//! Chooses free subnets from Docker's default pools in Docker's order.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use sha2::{Digest, Sha256};

use super::Error;
use crate::model::Block;

/// Docker's default pools: a block, and the prefix length of its subnets. They make 31 subnets.
const POOLS: [(Ipv4Net, u8); 7] = [
    pool([172, 17, 0, 0], 16, 16),
    pool([172, 18, 0, 0], 16, 16),
    pool([172, 19, 0, 0], 16, 16),
    pool([172, 20, 0, 0], 14, 16),
    pool([172, 24, 0, 0], 14, 16),
    pool([172, 28, 0, 0], 14, 16),
    pool([192, 168, 0, 0], 16, 20),
];

const fn pool([a, b, c, d]: [u8; 4], prefix_len: u8, subnets: u8) -> (Ipv4Net, u8) {
    (Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix_len), subnets)
}

/// The prefix length of the IPv6 subnets.
const IPV6_SUBNETS: u8 = 64;

/// Docker's default IPv4 pools: blocks, with the prefix length of their subnets.
pub fn ipv4_pools() -> Vec<(Ipv4Net, u8)> {
    POOLS.to_vec()
}

/// The default IPv6 pool: the host's own block of unique local addresses (RFC 4193), made as Docker does: `fd` and
/// bytes 4 to 8 of the SHA-256 hash of the host's ID.
pub fn ipv6_pools(host_id: &str) -> Vec<(Ipv6Net, u8)> {
    let hash: [u8; 32] = Sha256::digest(host_id).into();
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&hash[3..8]);
    vec![(Ipv6Net::new_assert(Ipv6Addr::from_octets(octets), 48), IPV6_SUBNETS)]
}

/// The pools to choose a subnet from, and what a subnet must not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupied<Net: Block> {
    /// Subnets of networks. They never overlap.
    pub networks: Vec<Net>,
    /// Routes of the host, netbpf's own left out. A subnet never overlaps one, except a default route.
    pub routes: Vec<Net>,
    /// The host's name servers. No subnet around one is chosen, but a user may request it.
    pub resolvers: Vec<Net::Address>,
    /// Blocks to choose from, with the prefix length of their subnets.
    pub pools: Vec<(Net, u8)>,
}

impl<Net: Block> Occupied<Net> {
    /// Chooses the first free subnet, with this prefix length or with that of the pool.
    ///
    /// # Errors
    /// [`Error::NoSubnetLeft`].
    pub fn choose(&self, prefix_len: Option<u8>) -> Result<Net, Error> {
        let resolvers = self.resolvers.iter().filter_map(|address| Net::around(*address, Net::BITS));
        let occupied: Vec<_> = self.subnets().copied().chain(resolvers).collect();
        self.pools
            .iter()
            .find_map(|&(block, usual)| first_gap(block, prefix_len.unwrap_or(usual), &occupied))
            .ok_or(Error::NoSubnetLeft)
    }

    /// Checks that a requested subnet is free.
    ///
    /// # Errors
    /// [`Error::Overlap`].
    pub fn check(&self, net: Net) -> Result<(), Error> {
        if self.subnets().any(|other| net.overlaps(*other)) { Err(Error::Overlap) } else { Ok(()) }
    }

    fn subnets(&self) -> impl Iterator<Item = &Net> {
        self.networks.iter().chain(self.routes.iter().filter(|route| route.prefix_len() > 0))
    }
}

/// The first subnet of this length in the block that overlaps nothing. Skips whatever it overlaps as a whole, because a
/// search in steps of a /32 through a full pool would take long.
fn first_gap<Net: Block>(block: Net, prefix_len: u8, occupied: &[Net]) -> Option<Net> {
    if prefix_len < block.prefix_len() {
        return None;
    }
    let mut address = block.first();
    while block.holds(address) {
        let net = Net::around(address, prefix_len)?;
        let Some(other) = occupied.iter().find(|other| net.overlaps(**other)) else { return Some(net) };
        let last = net.last().max(other.last());
        address = Net::address(Net::number(last).checked_add(1)?)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<Ipv4Net> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Nothing occupied, with the IPv4 pools.
    fn nothing() -> Occupied<Ipv4Net> {
        let pools = POOLS.to_vec();
        Occupied { networks: vec![], routes: vec![], resolvers: vec![], pools }
    }

    fn choose_all(mut occupied: Occupied<Ipv4Net>, prefix_len: Option<u8>) -> Vec<String> {
        let mut chosen = Vec::new();
        loop {
            match occupied.choose(prefix_len) {
                Ok(net) => {
                    occupied.networks.push(net);
                    chosen.push(net.to_string());
                }
                Err(error) => {
                    assert_eq!(error.to_string(), "all predefined address pools have been fully subnetted");
                    return chosen;
                }
            }
        }
    }

    #[test]
    fn there_are_31_subnets_in_docker_s_order() {
        let expected: Vec<_> = (17..32)
            .map(|b| format!("172.{b}.0.0/16"))
            .chain((0..16).map(|c| format!("192.168.{}.0/20", c * 16)))
            .collect();
        assert_eq!(choose_all(nothing(), None), expected);
    }

    #[test]
    fn beside_docker0_the_first_subnet_is_172_18() {
        let occupied = Occupied { routes: nets(&["0.0.0.0/0", "172.17.0.0/16"]), ..nothing() };
        assert_eq!(occupied.choose(None), Ok("172.18.0.0/16".parse().unwrap()));
    }

    #[test]
    fn a_freed_subnet_is_chosen_next() {
        let occupied = Occupied { networks: nets(&["172.17.0.0/16", "172.19.0.0/16"]), ..nothing() };
        assert_eq!(occupied.choose(None), Ok("172.18.0.0/16".parse().unwrap()));
    }

    #[test]
    fn no_subnet_around_a_name_server_is_chosen_but_it_may_be_requested() {
        let occupied = Occupied { resolvers: vec![[172, 17, 3, 4].into()], ..nothing() };
        assert_eq!(occupied.choose(None), Ok("172.18.0.0/16".parse().unwrap()));
        assert_eq!(occupied.check("172.17.0.0/16".parse().unwrap()), Ok(()));
    }

    #[test]
    fn every_subnet_that_overlaps_a_route_is_skipped() {
        let occupied = Occupied { routes: nets(&["172.17.255.255/32", "172.18.0.0/15"]), ..nothing() };
        assert_eq!(occupied.choose(None), Ok("172.20.0.0/16".parse().unwrap()));
        let all = Occupied { routes: nets(&["172.16.0.0/12", "192.168.0.0/17"]), ..nothing() };
        assert_eq!(all.choose(None), Ok("192.168.128.0/20".parse().unwrap()));
    }

    #[test]
    fn a_prefix_length_may_be_requested() {
        let occupied = Occupied { networks: nets(&["172.17.0.0/24"]), ..nothing() };
        assert_eq!(occupied.choose(Some(24)), Ok("172.17.1.0/24".parse().unwrap()));
        assert_eq!(occupied.choose(Some(14)), Ok("172.20.0.0/14".parse().unwrap()));
        assert_eq!(occupied.choose(Some(13)), Err(Error::NoSubnetLeft));
        assert_eq!(choose_all(nothing(), Some(14)).len(), 3);
    }

    #[test]
    fn a_requested_subnet_may_neither_contain_nor_be_part_of_another() {
        let occupied = Occupied {
            networks: nets(&["10.1.0.0/16"]),
            routes: nets(&["0.0.0.0/0", "10.9.0.0/24"]),
            ..nothing()
        };
        for taken in ["10.1.0.0/16", "10.1.2.0/24", "10.0.0.0/8", "10.9.0.0/25", "0.0.0.0/0"] {
            assert_eq!(occupied.check(taken.parse().unwrap()), Err(Error::Overlap), "{taken}");
        }
        assert_eq!(occupied.check("10.2.0.0/16".parse().unwrap()), Ok(()));
    }

    #[test]
    fn ipv6_subnets_come_from_the_host_s_own_block() {
        // sha256("netbpf") begins with c4dce7a32dc21560.
        let block: Ipv6Net = "fda3:2dc2:1560::/48".parse().unwrap();
        let pools = ipv6_pools("netbpf");
        assert_eq!(pools, [(block, 64)]);
        let occupied =
            |networks| Occupied { networks, routes: vec![], resolvers: vec![], pools: pools.clone() };
        let first = occupied(vec![]).choose(None).unwrap();
        assert_eq!(first.to_string(), "fda3:2dc2:1560::/64");
        assert_eq!(occupied(vec![first]).choose(None).unwrap().to_string(), "fda3:2dc2:1560:1::/64");
        assert_eq!(occupied(vec![block]).choose(None), Err(Error::NoSubnetLeft));
        assert_eq!(occupied(vec![]).choose(Some(80)).unwrap().prefix_len(), 80);
    }

    proptest! {
        #[test]
        fn the_chosen_subnet_is_the_lowest_free_one(
            routes in prop::collection::vec((0u32..=0x000f_ffff, 12u8..=32), 0..40),
        ) {
            let routes: Vec<_> = routes
                .into_iter()
                .map(|(host, len)| Ipv4Net::new((0xac10_0000 | host).into(), len).unwrap().trunc())
                .collect();
            let occupied = Occupied { routes, ..nothing() };
            let free = |net: &Ipv4Net| occupied.check(*net).is_ok();
            let expected = (17..32)
                .map(|b| Ipv4Net::new([172, b, 0, 0].into(), 16).unwrap())
                .chain((0..16).map(|c| Ipv4Net::new([192, 168, c * 16, 0].into(), 20).unwrap()))
                .find(free);
            prop_assert_eq!(occupied.choose(None).ok(), expected);
        }
    }
}
