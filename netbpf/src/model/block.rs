//! Blocks of addresses: what allocation needs of IPv4 and IPv6 subnets alike.

use std::{
    fmt::{Debug, Display},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Serialize, de::DeserializeOwned};

/// A block of addresses of one family: [`Ipv4Net`] or [`Ipv6Net`].
pub trait Block: Copy + Eq + Debug + Display + FromStr + Into<IpNet> + Serialize + DeserializeOwned {
    /// The addresses of the block.
    type Address: Copy + Ord + Debug + Display + FromStr + Into<IpAddr> + Serialize + DeserializeOwned;

    /// `IPv4` or `IPv6`, for messages.
    const FAMILY: &'static str;

    /// Length of an address in bits.
    const BITS: u8;

    /// The block of this length that contains an address; none if the length is longer than an address.
    fn around(address: Self::Address, prefix_len: u8) -> Option<Self>;

    /// Its address as written, with the host bits.
    fn host(&self) -> Self::Address;

    /// A block of the same length, written with this address.
    fn with_host(&self, address: Self::Address) -> Self;

    /// An address as a number; the next address has the next number.
    fn number(address: Self::Address) -> u128;

    /// The address with a number; none if the number is too large.
    fn address(number: u128) -> Option<Self::Address>;

    /// The first address, host bits cleared.
    fn first(&self) -> Self::Address;

    /// The last address.
    fn last(&self) -> Self::Address;

    /// Length of the prefix in bits.
    fn prefix_len(&self) -> u8;

    /// Addresses at its ends that no host may have: IPv4's network and broadcast address, IPv6's
    /// subnet-router anycast address (RFC 4291 section 2.6.1). Blocks of one and two addresses have none (RFC
    /// 3021, RFC 6164).
    fn ends(&self) -> Vec<Self::Address>;

    /// Whether an address is in it.
    fn holds(&self, address: Self::Address) -> bool {
        self.first() <= address && address <= self.last()
    }

    /// Whether it contains another block.
    fn covers(&self, other: Self) -> bool {
        self.first() <= other.first() && other.last() <= self.last()
    }

    /// Whether the blocks share an address.
    fn overlaps(&self, other: Self) -> bool {
        self.first() <= other.last() && other.first() <= self.last()
    }

    /// The same block without host bits.
    fn trunc(&self) -> Self {
        Self::around(self.first(), self.prefix_len()).expect("its length is one of its family")
    }
}

impl Block for Ipv4Net {
    type Address = Ipv4Addr;
    const FAMILY: &'static str = "IPv4";
    const BITS: u8 = 32;

    fn around(address: Ipv4Addr, prefix_len: u8) -> Option<Self> {
        Self::new(address, prefix_len).ok().map(|net| Self::trunc(&net))
    }

    fn host(&self) -> Ipv4Addr {
        self.addr()
    }

    fn with_host(&self, address: Ipv4Addr) -> Self {
        Self::new_assert(address, Self::prefix_len(self))
    }

    fn number(address: Ipv4Addr) -> u128 {
        u32::from(address).into()
    }

    fn address(number: u128) -> Option<Ipv4Addr> {
        u32::try_from(number).ok().map(Ipv4Addr::from)
    }

    fn first(&self) -> Ipv4Addr {
        self.network()
    }

    fn last(&self) -> Ipv4Addr {
        self.broadcast()
    }

    fn prefix_len(&self) -> u8 {
        Self::prefix_len(self)
    }

    fn ends(&self) -> Vec<Ipv4Addr> {
        if Self::prefix_len(self) < 31 { vec![self.network(), self.broadcast()] } else { Vec::new() }
    }

    fn trunc(&self) -> Self {
        Self::trunc(self)
    }
}

impl Block for Ipv6Net {
    type Address = Ipv6Addr;
    const FAMILY: &'static str = "IPv6";
    const BITS: u8 = 128;

    fn around(address: Ipv6Addr, prefix_len: u8) -> Option<Self> {
        Self::new(address, prefix_len).ok().map(|net| Self::trunc(&net))
    }

    fn host(&self) -> Ipv6Addr {
        self.addr()
    }

    fn with_host(&self, address: Ipv6Addr) -> Self {
        Self::new_assert(address, Self::prefix_len(self))
    }

    fn number(address: Ipv6Addr) -> u128 {
        address.into()
    }

    fn address(number: u128) -> Option<Ipv6Addr> {
        Some(number.into())
    }

    fn first(&self) -> Ipv6Addr {
        self.network()
    }

    fn last(&self) -> Ipv6Addr {
        self.broadcast()
    }

    fn prefix_len(&self) -> u8 {
        Self::prefix_len(self)
    }

    fn ends(&self) -> Vec<Ipv6Addr> {
        if Self::prefix_len(self) < 127 { vec![self.network()] } else { Vec::new() }
    }

    fn trunc(&self) -> Self {
        Self::trunc(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_say_what_no_host_has() {
        let ends = |text: &str| match text.parse().unwrap() {
            IpNet::V4(net) => net.ends().iter().map(ToString::to_string).collect::<Vec<_>>(),
            IpNet::V6(net) => net.ends().iter().map(ToString::to_string).collect(),
        };
        assert_eq!(ends("10.0.0.0/30"), ["10.0.0.0", "10.0.0.3"]);
        assert_eq!(ends("fd00::/64"), ["fd00::"]);
        for small in ["10.0.0.0/31", "10.0.0.0/32", "fd00::/127", "fd00::/128"] {
            assert!(ends(small).is_empty(), "{small}");
        }
    }

    #[test]
    fn blocks_meet_or_do_not() {
        let net = |text: &str| text.parse::<Ipv6Net>().unwrap();
        assert!(
            net("fd00::/48").covers(net("fd00:0:0:7::/64")) && !net("fd00::/64").covers(net("fd00::/48"))
        );
        assert!(net("fd00::/64").overlaps(net("fd00::/48")) && !net("fd00::/64").overlaps(net("fd01::/64")));
        assert!(net("::/0").holds("ffff::".parse().unwrap()));
    }
}
