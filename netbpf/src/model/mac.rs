//! MAC addresses, the rules that derive one from an IP address, and its link-local address.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A unicast MAC address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// `02:42:` and the four bytes of the address: 172.17.0.2 has 02:42:ac:11:00:02 (Docker up to 27).
    pub const fn of(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// `02:42:` and the address folded to four bytes: for endpoints without IPv4.
    pub fn of_ipv6(address: Ipv6Addr) -> Self {
        let number = u128::from(address);
        let folded = (0..4).fold(0, |folded, word| folded ^ (number >> (32 * word)) as u32);
        Self::of(folded.into())
    }

    /// The default MAC of an endpoint with these addresses: derived from the IPv4 address, if there is one.
    pub fn of_addresses(ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>) -> Self {
        ipv4.map_or_else(|| Self::of_ipv6(ipv6.unwrap_or(Ipv6Addr::UNSPECIFIED)), Self::of)
    }

    /// This MAC and its alternatives if it is taken: the last four bytes stay, the first two change. No
    /// alternative is derived from an address, so no endpoint loses the MAC of its address to an earlier one.
    /// All are locally administered and unicast (IEEE 802 8.2). There are 16,384, more than endpoints.
    pub fn and_alternatives(self) -> impl Iterator<Item = Self> {
        const LOCALLY_ADMINISTERED: u8 = 0b10;
        let [first, second, last @ ..] = self.0;
        let [a, b, c, d] = last;
        (0..=u8::MAX).flat_map(move |second_step| {
            (0..64).map(move |first_step: u8| match (first_step, second_step) {
                (0, 0) => self,
                _ => {
                    let first = (first & !0b11 | LOCALLY_ADMINISTERED).wrapping_add(first_step << 2);
                    Self([first, second.wrapping_add(second_step), a, b, c, d])
                }
            })
        })
    }

    /// The link-local IPv6 address of an interface with this MAC (modified EUI-64, RFC 4291 appendix A).
    pub const fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        Ipv6Addr::from_octets([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }

    /// From octets that were a `Mac` when they were passed to the kernel.
    pub(crate) const fn from_octets(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    /// The octets in network order.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Not a unicast MAC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid MAC address: {}", .0.escape_debug())]
pub struct NotAMac(String);

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let error = || NotAMac(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            // `from_str_radix` also takes a sign.
            let is_hex = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            let part = parts.next().filter(is_hex).ok_or_else(error)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() {
            return Err(error());
        }
        Self::try_from(octets).map_err(|_| error())
    }
}

/// From octets in network order.
impl TryFrom<[u8; 6]> for Mac {
    type Error = NotAMac;

    fn try_from(octets: [u8; 6]) -> Result<Self, NotAMac> {
        let is_group = octets[0] & 1 == 1;
        if is_group || octets == [0; 6] { Err(NotAMac(Self(octets).to_string())) } else { Ok(Self(octets)) }
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_derived_from_the_address() {
        assert_eq!(Mac::of(Ipv4Addr::new(172, 17, 0, 2)).to_string(), "02:42:ac:11:00:02");
    }

    #[test]
    fn without_ipv4_a_mac_is_derived_from_the_whole_ipv6_address() {
        let mac = |text: &str| Mac::of_ipv6(text.parse().unwrap()).to_string();
        assert_eq!(mac("2001:db8::2"), "02:42:20:01:0d:ba");
        assert_ne!(mac("fd00:0:0:1::2"), mac("fd00:0:0:2::2"));
    }

    #[test]
    fn a_mac_has_more_alternatives_than_there_are_endpoints() {
        let mac: Mac = "02:42:ac:11:00:02".parse().unwrap();
        let all: Vec<_> = mac.and_alternatives().collect();
        assert_eq!(all[0], mac);
        assert_eq!(all[1].to_string(), "06:42:ac:11:00:02");
        assert_eq!(all[64].to_string(), "02:43:ac:11:00:02");
        let each_once: std::collections::HashSet<_> = all.iter().copied().collect();
        assert_eq!((all.len(), each_once.len()), (16_384, 16_384));
        assert!(all.iter().all(|mac| mac.octets()[0] & 0b11 == 0b10 && mac.octets()[2..] == [172, 17, 0, 2]));
    }

    #[test]
    fn the_link_local_address_is_derived_from_the_mac() {
        let mac: Mac = "02:42:ac:11:00:02".parse().unwrap();
        assert_eq!(mac.link_local().to_string(), "fe80::42:acff:fe11:2");
    }

    #[test]
    fn only_unicast_macs_are_accepted() {
        assert!("02:42:ac:11:00:02".parse::<Mac>().is_ok());
        for bad in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:02:03",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "0:1:2:3:4:5",
        ] {
            assert_eq!(bad.parse::<Mac>(), Err(NotAMac(bad.to_owned())));
        }
    }
}
