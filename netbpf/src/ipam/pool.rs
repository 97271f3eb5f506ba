//! The addresses of one network and family: who may have which, lowest free first.

use std::collections::BTreeMap;

use super::Error;
use crate::model::{Block, Subnet};

/// The addresses of one network and family.
#[derive(Clone, Debug)]
pub struct Pool<Net: Block> {
    net: Net,
    /// Where addresses that nobody asked for come from.
    range: Net,
    reserved: Vec<Net::Address>,
    taken: Intervals,
    /// Addresses that somebody wants to have when it starts, and how many do.
    wished: BTreeMap<u128, usize>,
    /// What is taken or wished: an address that nobody asked for is none of these, as long as there are others.
    avoided: Intervals,
}

impl<Net: Block> Pool<Net> {
    /// All addresses are free but the gateway, the auxiliary ones, and [those at the ends](Block::ends).
    pub fn new(subnet: &Subnet<Net>) -> Self {
        let reserved = subnet
            .net
            .ends()
            .into_iter()
            .chain([subnet.gateway])
            .chain(subnet.auxiliary.values().copied())
            .collect();
        let mut pool = Self {
            net: subnet.net,
            range: subnet.range.unwrap_or(subnet.net),
            reserved,
            taken: Intervals::default(),
            wished: BTreeMap::new(),
            avoided: Intervals::default(),
        };
        for address in &pool.reserved {
            pool.taken.insert(Net::number(*address));
            pool.avoided.insert(Net::number(*address));
        }
        pool
    }

    /// Somebody wants this address later: it is given last to those who did not ask for it.
    pub fn wish(&mut self, address: Net::Address) {
        let number = Net::number(address);
        *self.wished.entry(number).or_default() += 1;
        self.avoided.insert(number);
    }

    /// Takes a [wish](Self::wish) back.
    pub fn unwish(&mut self, address: Net::Address) {
        let number = Net::number(address);
        match self.wished.get_mut(&number) {
            Some(wishes @ 2..) => *wishes -= 1,
            Some(_) => {
                self.wished.remove(&number);
                if !self.taken.contains(number) {
                    self.avoided.remove(number);
                }
            }
            None => {}
        }
    }

    /// Takes this address, anywhere in the subnet, or the lowest free one of the range, those that nobody
    /// [wishes](Self::wish) for first.
    pub fn lease(&mut self, wanted: Option<Net::Address>) -> Result<Net::Address, Error> {
        let address = match wanted {
            Some(address) if !self.net.holds(address) => return Err(Error::Outside(address.into())),
            Some(address) if self.taken.contains(Net::number(address)) => return Err(Error::InUse),
            Some(address) => address,
            None => [&self.avoided, &self.taken]
                .into_iter()
                .find_map(|used| self.lowest_outside(used))
                .ok_or(Error::NoAddressLeft(Net::FAMILY))?,
        };
        self.taken.insert(Net::number(address));
        self.avoided.insert(Net::number(address));
        Ok(address)
    }

    /// Takes the highest free address of the subnet: where somebody else gives away the lowest. Those that nobody
    /// [wishes](Self::wish) for come first.
    pub fn lease_highest(&mut self) -> Result<Net::Address, Error> {
        let highest = |used: &Intervals| {
            let last = used.last_gap(Net::number(self.net.last()));
            last.and_then(Net::address).filter(|address| self.net.holds(*address))
        };
        let address = highest(&self.avoided).or_else(|| highest(&self.taken));
        self.lease(Some(address.ok_or(Error::NoAddressLeft(Net::FAMILY))?))
    }

    /// Gives a leased address back. What is reserved stays so.
    pub fn release(&mut self, address: Net::Address) {
        let number = Net::number(address);
        if !self.reserved.contains(&address) {
            self.taken.remove(number);
            if !self.wished.contains_key(&number) {
                self.avoided.remove(number);
            }
        }
    }

    fn lowest_outside(&self, used: &Intervals) -> Option<Net::Address> {
        let address = Net::address(used.first_gap(Net::number(self.range.first()))?)?;
        self.range.holds(address).then_some(address)
    }
}

/// A set of numbers as disjoint intervals that do not touch, first to last: addresses are leased in sequence, so that
/// a /8 or a /64 costs nothing until it is used, and the next free number is one look-up.
#[derive(Clone, Debug, Default)]
struct Intervals(BTreeMap<u128, u128>);

impl Intervals {
    /// The interval that holds the number.
    fn around(&self, number: u128) -> Option<(u128, u128)> {
        let (first, last) = self.0.range(..=number).next_back()?;
        (*last >= number).then_some((*first, *last))
    }

    fn contains(&self, number: u128) -> bool {
        self.around(number).is_some()
    }

    /// The lowest number not below this one that is not in the set.
    fn first_gap(&self, from: u128) -> Option<u128> {
        match self.around(from) {
            Some((_, last)) => last.checked_add(1),
            None => Some(from),
        }
    }

    /// The highest number not above this one that is not in the set.
    fn last_gap(&self, from: u128) -> Option<u128> {
        match self.around(from) {
            Some((first, _)) => first.checked_sub(1),
            None => Some(from),
        }
    }

    fn insert(&mut self, number: u128) {
        if self.contains(number) {
            return;
        }
        let below = number.checked_sub(1).and_then(|below| self.around(below));
        let above = number.checked_add(1).and_then(|above| self.around(above));
        if let Some((first, _)) = above {
            self.0.remove(&first);
        }
        let first = below.map_or(number, |(first, _)| first);
        let last = above.map_or(number, |(_, last)| last);
        self.0.insert(first, last);
    }

    fn remove(&mut self, number: u128) {
        let Some((first, last)) = self.around(number) else { return };
        self.0.remove(&first);
        if first < number {
            self.0.insert(first, number - 1);
        }
        if number < last {
            self.0.insert(number + 1, last);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::Ipv4Addr};

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;

    fn subnet(net: &str, range: Option<&str>, gateway: &str, auxiliary: &[&str]) -> Subnet<Ipv4Net> {
        of_family(net, range, gateway, auxiliary)
    }

    fn of_family<Net: Block>(net: &str, range: Option<&str>, gateway: &str, auxiliary: &[&str]) -> Subnet<Net>
    where
        <Net as std::str::FromStr>::Err: std::fmt::Debug,
        <Net::Address as std::str::FromStr>::Err: std::fmt::Debug,
    {
        Subnet {
            net: net.parse().unwrap(),
            range: range.map(|range| range.parse().unwrap()),
            gateway: gateway.parse().unwrap(),
            auxiliary: auxiliary.iter().map(|a| (format!("host-{a}"), a.parse().unwrap())).collect(),
        }
    }

    fn lease_all(pool: &mut Pool<Ipv4Net>) -> Vec<String> {
        std::iter::from_fn(|| pool.lease(None).ok()).map(|address| address.to_string()).collect()
    }

    #[test]
    fn the_highest_free_address_is_as_far_from_the_lowest_as_can_be() {
        let mut pool = Pool::new(&subnet("10.0.0.0/29", None, "10.0.0.1", &["10.0.0.5"]));
        let highest: Vec<_> =
            std::iter::from_fn(|| pool.lease_highest().ok()).map(|address| address.octets()[3]).collect();
        assert_eq!(highest, [6, 4, 3, 2]);
        assert_eq!(pool.lease_highest(), Err(Error::NoAddressLeft("IPv4")));
    }

    #[test]
    fn the_lowest_free_address_comes_first_and_a_freed_one_at_once_again() {
        let mut pool = Pool::new(&subnet("172.17.0.0/16", None, "172.17.0.1", &[]));
        let mut next = || pool.lease(None).unwrap().to_string();
        assert_eq!([next(), next(), next()], ["172.17.0.2", "172.17.0.3", "172.17.0.4"]);
        pool.release([172, 17, 0, 3].into());
        assert_eq!(pool.lease(None), Ok([172, 17, 0, 3].into()));
        assert_eq!(pool.lease(None), Ok([172, 17, 0, 5].into()));
    }

    #[test]
    fn an_address_that_somebody_wishes_for_is_given_to_others_last() {
        let mut pool = Pool::new(&subnet("10.0.0.0/29", None, "10.0.0.1", &[]));
        let address = |last| Ipv4Addr::new(10, 0, 0, last);
        // Two wish for the first; a reserved one stays reserved whoever wishes for it.
        for last in [2, 2, 3, 7] {
            pool.wish(address(last));
        }
        pool.unwish(address(2));
        pool.unwish(address(7));
        assert_eq!(pool.lease_highest(), Ok(address(6)));
        assert_eq!(pool.lease(Some(address(3))), Ok(address(3)));
        assert_eq!(pool.lease(None), Ok(address(4)));
        assert_eq!(pool.lease(None), Ok(address(5)));
        assert_eq!(pool.lease(None), Ok(address(2)), "before nobody gets any");
        assert_eq!(pool.lease(None), Err(Error::NoAddressLeft("IPv4")));
        for last in [2, 3, 4] {
            pool.release(address(last));
        }
        assert_eq!(pool.lease(None), Ok(address(4)), "the others are wished for still");
        pool.unwish(address(3));
        assert_eq!(pool.lease(None), Ok(address(3)));
    }

    #[test]
    fn a_30_has_one_address_for_a_container() {
        let mut pool = Pool::new(&subnet("10.0.0.0/30", None, "10.0.0.1", &[]));
        assert_eq!(lease_all(&mut pool), ["10.0.0.2"]);
        assert_eq!(pool.lease(None), Err(Error::NoAddressLeft("IPv4")));
    }

    #[test]
    fn a_31_has_no_network_address_and_a_32_nothing_but_the_gateway() {
        let mut pool = Pool::new(&subnet("10.0.0.0/31", None, "10.0.0.0", &[]));
        assert_eq!(lease_all(&mut pool), ["10.0.0.1"]);
        let mut pool = Pool::new(&subnet("10.0.0.0/32", None, "10.0.0.0", &[]));
        assert_eq!(lease_all(&mut pool), [""; 0]);
    }

    #[test]
    fn the_gateway_auxiliary_and_end_addresses_are_never_given_away() {
        let mut pool = Pool::new(&subnet("10.0.0.0/29", None, "10.0.0.3", &["10.0.0.1", "10.0.0.5"]));
        for reserved in ["10.0.0.0", "10.0.0.1", "10.0.0.3", "10.0.0.5", "10.0.0.7"] {
            let address = reserved.parse().unwrap();
            assert_eq!(pool.lease(Some(address)), Err(Error::InUse));
            pool.release(address);
        }
        assert_eq!(lease_all(&mut pool), ["10.0.0.2", "10.0.0.4", "10.0.0.6"]);
    }

    #[test]
    fn automatic_addresses_come_from_the_range_and_asked_ones_from_anywhere() {
        let mut pool = Pool::new(&subnet("10.0.0.0/24", Some("10.0.0.128/30"), "10.0.0.128", &[]));
        assert_eq!(pool.lease(Some([10, 0, 0, 200].into())), Ok([10, 0, 0, 200].into()));
        assert_eq!(lease_all(&mut pool), ["10.0.0.129", "10.0.0.130", "10.0.0.131"]);
        assert_eq!(pool.lease(Some([10, 0, 0, 7].into())), Ok([10, 0, 0, 7].into()));
        assert_eq!(pool.lease(Some([10, 0, 0, 7].into())).unwrap_err().to_string(), "Address already in use");
        assert_eq!(
            pool.lease(Some([10, 0, 1, 7].into())).unwrap_err().to_string(),
            "no configured subnet contains IP address 10.0.1.7"
        );
    }

    #[test]
    fn the_last_address_of_all_is_reserved_without_overflow() {
        let mut pool = Pool::new(&subnet("255.255.255.252/30", None, "255.255.255.253", &[]));
        assert_eq!(lease_all(&mut pool), ["255.255.255.254"]);
    }

    #[test]
    fn a_16_is_leased_to_its_end() {
        let mut pool = Pool::new(&subnet("172.17.0.0/16", None, "172.17.0.1", &[]));
        assert_eq!(lease_all(&mut pool).len(), 65_533);
        pool.release([172, 17, 200, 200].into());
        assert_eq!(pool.lease(None), Ok([172, 17, 200, 200].into()));
    }

    #[test]
    fn ipv6_reserves_the_first_address_and_gives_the_last_one_away() {
        let mut pool = Pool::new(&of_family::<Ipv6Net>("fd00::/64", None, "fd00::1", &["fd00::3"]));
        let mut next = || pool.lease(None).unwrap().to_string();
        assert_eq!([next(), next(), next()], ["fd00::2", "fd00::4", "fd00::5"]);
        let asked = |text: &str| Some(text.parse().unwrap());
        assert_eq!(pool.lease(asked("fd00::")), Err(Error::InUse));
        let last = "fd00::ffff:ffff:ffff:ffff";
        assert_eq!(pool.lease(asked(last)).unwrap().to_string(), last);
        pool.release("fd00::2".parse().unwrap());
        assert_eq!(pool.lease(None).unwrap().to_string(), "fd00::2");
        let error = pool.lease(asked("fd01::2")).unwrap_err();
        assert_eq!(error.to_string(), "no configured subnet contains IP address fd01::2");
        let mut small = Pool::new(&of_family::<Ipv6Net>("fd00::/126", None, "fd00::1", &[]));
        assert_eq!([small.lease(None).is_ok(), small.lease(None).is_ok()], [true; 2]);
        assert_eq!(
            small.lease(None).unwrap_err().to_string(),
            "no available IPv6 addresses on this network's address pools"
        );
    }

    #[derive(Clone, Debug)]
    enum Step {
        Lease,
        LeaseThis(u8),
        Release(u8),
        Wish(u8),
        Unwish(u8),
    }

    proptest! {
        #[test]
        fn a_pool_does_as_a_plain_set_does(
            prefix_len in 24u8..=32,
            range in prop::option::of((any::<u8>(), 24u8..=32)),
            gateway in any::<u8>(),
            auxiliary in prop::collection::vec(any::<u8>(), 0..4),
            steps in prop::collection::vec(
                prop_oneof![
                    3 => Just(Step::Lease),
                    1 => any::<u8>().prop_map(Step::LeaseThis),
                    2 => any::<u8>().prop_map(Step::Release),
                    1 => any::<u8>().prop_map(Step::Wish),
                    1 => any::<u8>().prop_map(Step::Unwish),
                ],
                0..400,
            ),
        ) {
            let net: Ipv4Net = format!("10.0.0.0/{prefix_len}").parse().unwrap();
            let size = 1u32 << (32 - prefix_len);
            let host = |n: u8| Ipv4Addr::from(0x0a00_0000 | (u32::from(n) % size));
            let range = range.map(|(n, len)| Ipv4Net::new(host(n), len.max(prefix_len)).unwrap().trunc());
            let subnet = Subnet {
                net,
                range,
                gateway: host(gateway),
                auxiliary: auxiliary.iter().map(|n| (n.to_string(), host(*n))).collect(),
            };
            let mut pool = Pool::new(&subnet);
            let mut reserved: BTreeSet<_> = subnet.auxiliary.values().copied().collect();
            reserved.insert(subnet.gateway);
            if prefix_len < 31 {
                reserved.extend([net.network(), net.broadcast()]);
            }
            let mut leased = BTreeSet::new();
            let mut wished: Vec<Ipv4Addr> = Vec::new();
            for step in steps {
                match step {
                    Step::Lease => {
                        let range = range.unwrap_or(net);
                        let free = || {
                            (u32::from(range.network())..=range.broadcast().into())
                                .map(Ipv4Addr::from)
                                .filter(|address| !reserved.contains(address) && !leased.contains(address))
                        };
                        let expected = free().find(|address| !wished.contains(address)).or(free().next());
                        prop_assert_eq!(pool.lease(None), expected.ok_or(Error::NoAddressLeft("IPv4")));
                        leased.extend(expected);
                    }
                    Step::LeaseThis(n) => {
                        let address = Ipv4Addr::new(10, 0, 0, n);
                        let expected = if !net.contains(&address) {
                            Err(Error::Outside(address.into()))
                        } else if reserved.contains(&address) || !leased.insert(address) {
                            Err(Error::InUse)
                        } else {
                            Ok(address)
                        };
                        prop_assert_eq!(pool.lease(Some(address)), expected);
                    }
                    Step::Release(n) => {
                        let address = Ipv4Addr::new(10, 0, 0, n);
                        pool.release(address);
                        leased.remove(&address);
                    }
                    Step::Wish(n) => {
                        pool.wish(host(n));
                        wished.push(host(n));
                    }
                    Step::Unwish(n) => {
                        pool.unwish(host(n));
                        if let Some(at) = wished.iter().position(|address| *address == host(n)) {
                            wished.remove(at);
                        }
                    }
                }
            }
        }
    }
}
