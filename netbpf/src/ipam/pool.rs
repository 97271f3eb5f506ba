//! The addresses of one network and family: leases the lowest free one.

use std::{collections::BTreeMap, ops::RangeInclusive};

use rangemap::RangeInclusiveSet;

use super::Error;
use crate::model::{Block, Subnet};

/// The free and leased addresses of one network and family.
#[derive(Clone, Debug)]
pub struct Pool<Net: Block> {
    net: Net,
    /// The range for leases without a requested address.
    range: Net,
    reserved: Vec<Net::Address>,
    /// The leased and the reserved addresses.
    taken: Numbers,
    /// Addresses that absent owners want back (a stopped container with `--ip`, for example).
    wished: Counts,
    /// Addresses that are in use without a lease (`netbpf.addresses`).
    held: Counts,
    /// The addresses that are taken or held: nobody gets them.
    refused: Numbers,
    /// The addresses that are refused or wished for. A lease without a requested address avoids them while there are
    /// others.
    avoided: Numbers,
}

impl<Net: Block> Pool<Net> {
    /// A pool where all addresses are free except the gateway, the auxiliary addresses, and [those at the
    /// ends](Block::ends).
    pub fn new(subnet: &Subnet<Net>) -> Self {
        let reserved = subnet
            .net
            .ends()
            .into_iter()
            .chain(subnet.gateway)
            .chain(subnet.auxiliary.values().copied())
            .collect();
        let mut pool = Self {
            net: subnet.net,
            range: subnet.range.unwrap_or(subnet.net),
            reserved,
            taken: Numbers::default(),
            wished: Counts::default(),
            held: Counts::default(),
            refused: Numbers::default(),
            avoided: Numbers::default(),
        };
        for address in pool.reserved.clone() {
            pool.take(Net::number(address));
        }
        pool
    }

    /// Notes that somebody will request this address later. Leases without a requested address get it last.
    pub fn wish(&mut self, address: Net::Address) {
        self.wished.add(Net::number(address));
        self.settle(Net::number(address));
    }

    /// Withdraws one [wish](Self::wish).
    pub fn unwish(&mut self, address: Net::Address) {
        self.wished.subtract(Net::number(address));
        self.settle(Net::number(address));
    }

    /// Notes that somebody uses this address without a lease. Nobody gets it meanwhile.
    pub fn hold(&mut self, address: Net::Address) {
        self.held.add(Net::number(address));
        self.settle(Net::number(address));
    }

    /// Withdraws one [hold](Self::hold).
    pub fn unhold(&mut self, address: Net::Address) {
        self.held.subtract(Net::number(address));
        self.settle(Net::number(address));
    }

    /// Whether somebody [holds](Self::hold) an address.
    pub fn is_held(&self, address: Net::Address) -> bool {
        self.held.has(Net::number(address))
    }

    /// Whether an address is leased; reserved ones are not.
    pub fn is_leased(&self, address: Net::Address) -> bool {
        self.taken.contains(&Net::number(address)) && !self.reserved.contains(&address)
    }

    /// Leases the requested address, which may be anywhere in the subnet, or the lowest free one of the range.
    /// Addresses that somebody [wishes](Self::wish) for come last.
    ///
    /// # Errors
    /// [`Error::Outside`], [`Error::InUse`] or [`Error::NoAddressLeft`].
    pub fn lease(&mut self, wanted: Option<Net::Address>) -> Result<Net::Address, Error> {
        let address = match wanted {
            Some(address) if !self.net.holds(address) => return Err(Error::Outside(address.into())),
            Some(address) if self.refused.contains(&Net::number(address)) => return Err(Error::InUse),
            Some(address) => address,
            None => self.free()?,
        };
        self.take(Net::number(address));
        Ok(address)
    }

    /// The lowest free address of the range.
    ///
    /// # Errors
    /// [`Error::NoAddressLeft`].
    pub fn free(&self) -> Result<Net::Address, Error> {
        let mut sets = [&self.avoided, &self.refused].into_iter();
        let lowest = sets.find_map(|used| self.lowest_outside(used));
        lowest.ok_or(Error::NoAddressLeft(Net::FAMILY))
    }

    /// Leases the highest free address of the subnet, for networks where another allocator starts at the lowest.
    /// Addresses that somebody [wishes](Self::wish) for come last.
    ///
    /// # Errors
    /// [`Error::NoAddressLeft`] if all addresses are leased or reserved.
    pub fn lease_highest(&mut self) -> Result<Net::Address, Error> {
        let highest = |used: &Numbers| {
            let last = last_gap(used, Net::number(self.net.last()));
            last.and_then(Net::address).filter(|address| self.net.holds(*address))
        };
        let address = highest(&self.avoided).or_else(|| highest(&self.refused));
        self.lease(Some(address.ok_or(Error::NoAddressLeft(Net::FAMILY))?))
    }

    /// Frees a leased address. Reserved addresses stay reserved.
    pub fn release(&mut self, address: Net::Address) {
        if !self.reserved.contains(&address) {
            self.taken.remove(only(Net::number(address)));
            self.settle(Net::number(address));
        }
    }

    fn take(&mut self, number: u128) {
        self.taken.insert(only(number));
        self.settle(number);
    }

    /// Derives again whether an address is refused and avoided.
    fn settle(&mut self, number: u128) {
        let is_refused = self.taken.contains(&number) || self.held.has(number);
        let is_avoided = is_refused || self.wished.has(number);
        for (set, is_in) in [(&mut self.refused, is_refused), (&mut self.avoided, is_avoided)] {
            match is_in {
                true => set.insert(only(number)),
                false => set.remove(only(number)),
            }
        }
    }

    fn lowest_outside(&self, used: &Numbers) -> Option<Net::Address> {
        let address = Net::address(first_gap(used, Net::number(self.range.first()))?)?;
        self.range.holds(address).then_some(address)
    }
}

/// Addresses are leased in sequence, so a set of intervals stays small: a /8 or a /64 costs nothing until it is used, and
/// the next free address is one look-up.
type Numbers = RangeInclusiveSet<u128>;

/// How many have noted each number.
#[derive(Clone, Debug, Default)]
struct Counts(BTreeMap<u128, usize>);

impl Counts {
    fn has(&self, number: u128) -> bool {
        self.0.contains_key(&number)
    }

    fn add(&mut self, number: u128) {
        *self.0.entry(number).or_default() += 1;
    }

    fn subtract(&mut self, number: u128) {
        match self.0.get_mut(&number) {
            Some(count @ 2..) => *count -= 1,
            Some(_) => drop(self.0.remove(&number)),
            None => {}
        }
    }
}

fn only(number: u128) -> RangeInclusive<u128> {
    number..=number
}

/// The lowest number from `from` on that is not in the set.
fn first_gap(set: &Numbers, from: u128) -> Option<u128> {
    set.get(&from).map_or(Some(from), |used| used.end().checked_add(1))
}

/// The highest number up to `to` that is not in the set.
fn last_gap(set: &Numbers, to: u128) -> Option<u128> {
    set.get(&to).map_or(Some(to), |used| used.start().checked_sub(1))
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
            gateway: gateway.parse().ok(),
            auxiliary: auxiliary.iter().map(|a| (format!("host-{a}"), a.parse().unwrap())).collect(),
        }
    }

    fn lease_all(pool: &mut Pool<Ipv4Net>) -> Vec<String> {
        std::iter::from_fn(|| pool.lease(None).ok()).map(|address| address.to_string()).collect()
    }

    #[test]
    fn the_highest_free_address_is_leased_from_the_top_down() {
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
    fn an_address_that_somebody_wishes_for_is_leased_to_others_last() {
        let mut pool = Pool::new(&subnet("10.0.0.0/29", None, "10.0.0.1", &[]));
        let address = |last| Ipv4Addr::new(10, 0, 0, last);
        // Two wish for .2, one takes the wish back. .7 is the broadcast address and stays reserved.
        for last in [2, 2, 3, 7] {
            pool.wish(address(last));
        }
        pool.unwish(address(2));
        pool.unwish(address(7));
        assert_eq!(pool.lease_highest(), Ok(address(6)));
        assert_eq!(pool.lease(Some(address(3))), Ok(address(3)));
        assert_eq!(pool.lease(None), Ok(address(4)));
        assert_eq!(pool.lease(None), Ok(address(5)));
        assert_eq!(pool.lease(None), Ok(address(2)), "a wished address is leased when no other is free");
        assert_eq!(pool.lease(None), Err(Error::NoAddressLeft("IPv4")));
        for last in [2, 3, 4] {
            pool.release(address(last));
        }
        assert_eq!(pool.lease(None), Ok(address(4)), "others still wish for .2 and .3");
        pool.unwish(address(3));
        assert_eq!(pool.lease(None), Ok(address(3)));
    }

    #[test]
    fn an_address_that_somebody_holds_is_leased_to_nobody() {
        let mut pool = Pool::new(&subnet("10.0.0.0/29", None, "10.0.0.1", &[]));
        let address = |last| Ipv4Addr::from([10, 0, 0, last]);
        // Two hold .2, and one holds the gateway, which stays reserved.
        for last in [2, 2, 4, 1] {
            pool.hold(address(last));
        }
        pool.unhold(address(2));
        pool.unhold(address(1));
        assert_eq!(pool.lease(Some(address(2))), Err(Error::InUse));
        assert_eq!(lease_all(&mut pool), ["10.0.0.3", "10.0.0.5", "10.0.0.6"]);
        pool.unhold(address(2));
        assert_eq!(pool.lease_highest(), Ok(address(2)));
        // A hold that comes after a lease stays after it.
        pool.hold(address(2));
        pool.release(address(2));
        assert_eq!(pool.lease(Some(address(2))), Err(Error::InUse));
        assert_eq!(pool.lease(Some(address(1))), Err(Error::InUse));
    }

    #[test]
    fn a_30_prefix_has_one_address_for_a_container() {
        let mut pool = Pool::new(&subnet("10.0.0.0/30", None, "10.0.0.1", &[]));
        assert_eq!(lease_all(&mut pool), ["10.0.0.2"]);
        assert_eq!(pool.lease(None), Err(Error::NoAddressLeft("IPv4")));
    }

    #[test]
    fn a_31_prefix_has_no_network_address_and_a_32_prefix_only_the_gateway() {
        let mut pool = Pool::new(&subnet("10.0.0.0/31", None, "10.0.0.0", &[]));
        assert_eq!(lease_all(&mut pool), ["10.0.0.1"]);
        let mut pool = Pool::new(&subnet("10.0.0.0/32", None, "10.0.0.0", &[]));
        assert_eq!(lease_all(&mut pool), [""; 0]);
    }

    #[test]
    fn gateway_auxiliary_and_end_addresses_are_never_leased() {
        let mut pool = Pool::new(&subnet("10.0.0.0/29", None, "10.0.0.3", &["10.0.0.1", "10.0.0.5"]));
        for reserved in ["10.0.0.0", "10.0.0.1", "10.0.0.3", "10.0.0.5", "10.0.0.7"] {
            let address = reserved.parse().unwrap();
            assert_eq!(pool.lease(Some(address)), Err(Error::InUse));
            pool.release(address);
        }
        assert_eq!(lease_all(&mut pool), ["10.0.0.2", "10.0.0.4", "10.0.0.6"]);
    }

    #[test]
    fn automatic_addresses_come_from_the_range_and_requested_ones_from_the_whole_subnet() {
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
    fn the_end_of_the_address_space_does_not_overflow() {
        let mut pool = Pool::new(&subnet("255.255.255.252/30", None, "255.255.255.253", &[]));
        assert_eq!(lease_all(&mut pool), ["255.255.255.254"]);
    }

    #[test]
    fn all_addresses_of_a_16_prefix_can_be_leased() {
        let mut pool = Pool::new(&subnet("172.17.0.0/16", None, "172.17.0.1", &[]));
        assert_eq!(lease_all(&mut pool).len(), 65_533);
        pool.release([172, 17, 200, 200].into());
        assert_eq!(pool.lease(None), Ok([172, 17, 200, 200].into()));
    }

    #[test]
    fn ipv6_reserves_the_first_address_but_not_the_last() {
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
        Hold(u8),
        Unhold(u8),
    }

    proptest! {
        #[test]
        fn a_pool_leases_what_a_plain_set_would(
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
                    1 => any::<u8>().prop_map(Step::Hold),
                    1 => any::<u8>().prop_map(Step::Unhold),
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
                gateway: Some(host(gateway)),
                auxiliary: auxiliary.iter().map(|n| (n.to_string(), host(*n))).collect(),
            };
            let mut pool = Pool::new(&subnet);
            let mut reserved: BTreeSet<_> = subnet.auxiliary.values().copied().collect();
            reserved.extend(subnet.gateway);
            if prefix_len < 31 {
                reserved.extend([net.network(), net.broadcast()]);
            }
            let mut leased = BTreeSet::new();
            let mut wished: Vec<Ipv4Addr> = Vec::new();
            let mut held: Vec<Ipv4Addr> = Vec::new();
            for step in steps {
                match step {
                    Step::Lease => {
                        let range = range.unwrap_or(net);
                        let free = || {
                            (u32::from(range.network())..=range.broadcast().into())
                                .map(Ipv4Addr::from)
                                .filter(|address| !reserved.contains(address) && !leased.contains(address))
                                .filter(|address| !held.contains(address))
                        };
                        let expected = free().find(|address| !wished.contains(address)).or(free().next());
                        prop_assert_eq!(pool.lease(None), expected.ok_or(Error::NoAddressLeft("IPv4")));
                        leased.extend(expected);
                    }
                    Step::LeaseThis(n) => {
                        let address = Ipv4Addr::new(10, 0, 0, n);
                        let expected = if !net.contains(&address) {
                            Err(Error::Outside(address.into()))
                        } else if reserved.contains(&address)
                            || held.contains(&address)
                            || !leased.insert(address)
                        {
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
                    Step::Hold(n) => {
                        pool.hold(host(n));
                        held.push(host(n));
                    }
                    Step::Unhold(n) => {
                        pool.unhold(host(n));
                        if let Some(at) = held.iter().position(|address| *address == host(n)) {
                            held.remove(at);
                        }
                    }
                }
            }
        }
    }
}
