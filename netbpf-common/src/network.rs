//! Networks in the map `NETWORKS`: the host device, its MAC and addresses, the list of members.

/// Maximum number of networks of a daemon.
pub const MAX_NETWORKS: u32 = 16_384;

/// The networks for which the maps have room at first.
pub const USUAL_NETWORKS: u32 = 1024;

/// The host device of network `n` is created with ifindex `NETWORK_IFINDEX + n`. So a frame's ifindex is an
/// index into `NETWORKS`, and the ingress ifindex of a frame from another network identifies that network.
pub const NETWORK_IFINDEX: u32 = 1_100_000;

/// Mark of a packet that the host may forward from one network to another: the reply to an allowed packet, or
/// a packet to a published port. The host's packet filter sets the mark ("nbpf"). Containers cannot set it,
/// because marks do not leave their namespace.
pub const BETWEEN_NETWORKS: u32 = 0x6e62_7066;

/// The ifindex of a network's host device.
#[inline(always)]
pub const fn ifindex_of(number: u32) -> u32 {
    NETWORK_IFINDEX + number
}

/// The network number of an ifindex, if it is in the range of networks.
#[inline(always)]
pub const fn number_of(ifindex: u32) -> Option<u32> {
    let number = ifindex.wrapping_sub(NETWORK_IFINDEX);
    if number < MAX_NETWORKS { Some(number) } else { None }
}

/// A network, as value of the array `NETWORKS` (key: network number). All zero is a vacant entry.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The host device; 0 in a vacant entry.
    pub ifindex: u32,
    /// First member in the list that broadcasts walk ([`Endpoint::next`](crate::endpoint::Endpoint::next)), or
    /// [`NO_ENDPOINT`](crate::endpoint::NO_ENDPOINT).
    pub first: u32,
    /// The host device's MAC.
    pub mac: [u8; 6],
    /// 1 if members may talk to the host only.
    pub icc_off: u8,
    /// Prefix length in bits of the IPv4 subnet, which contains the gateway address; 0 without such an
    /// address.
    pub prefix: u8,
    /// The gateway address of the host device, network order; zero for none.
    pub gateway: [u8; 4],
    /// The IPv6 gateway address of the host device; zero for none.
    pub gateway_ipv6: [u8; 16],
    /// Its link-local IPv6 address; zero for none.
    pub ipv6_link_local: [u8; 16],
    /// A different default gateway of the containers, network order; zero for none. The host device answers
    /// for it, whether it has the address or not.
    pub default_gateway: [u8; 4],
    /// The same for IPv6.
    pub default_gateway_ipv6: [u8; 16],
    /// Prefix length in bits of the IPv6 subnet; 0 without an IPv6 gateway address.
    pub prefix_ipv6: u8,
    /// 1 if a member is open ([`crate::access::OPEN`]): a frame to an unknown MAC or address may be for it.
    pub open: u8,
    /// 1 if the host device does not have the gateway address, and the programs answer for it.
    pub inhibited: u8,
    /// Always zero.
    pub reserved: u8,
    /// Limit of copies a second of a member's frames to all ([`crate::flood`]); 0 for no limit.
    pub flood_copies: u32,
}
const _: () = assert!(size_of::<Network>() == 80);

impl Network {
    /// Whether an IPv4 address is the host device's.
    #[inline(always)]
    pub fn is_own(&self, address: [u8; 4]) -> bool {
        address == self.gateway || address == self.default_gateway && address != [0; 4]
    }

    /// Whether the host itself answers for the address, of those that the host device has.
    #[inline(always)]
    pub fn answers(&self, address: [u8; 4]) -> bool {
        match address == self.gateway {
            true => self.inhibited == 0,
            false => address != self.default_gateway,
        }
    }

    /// The same for an IPv6 address.
    #[inline(always)]
    pub fn answers_ipv6(&self, address: [u8; 16]) -> bool {
        address == self.gateway_ipv6 || address != self.default_gateway_ipv6
    }

    /// Whether an IPv6 address, not `::`, is the host device's.
    #[inline(always)]
    pub fn is_own_ipv6(&self, address: [u8; 16]) -> bool {
        address == self.gateway_ipv6
            || address == self.ipv6_link_local
            || address == self.default_gateway_ipv6
    }

    /// Whether an IPv4 address is in the network's subnet.
    #[inline(always)]
    pub const fn holds(&self, address: [u8; 4]) -> bool {
        let differ = u32::from_be_bytes(address) ^ u32::from_be_bytes(self.gateway);
        self.prefix != 0 && differ.wrapping_shr(32 - self.prefix as u32) == 0
    }

    /// Whether an IPv6 address is in the network's subnet.
    #[inline(always)]
    pub const fn holds_ipv6(&self, address: [u8; 16]) -> bool {
        let differ = u128::from_be_bytes(address) ^ u128::from_be_bytes(self.gateway_ipv6);
        let (high, low) = ((differ >> 64) as u64, differ as u64);
        match self.prefix_ipv6 as u32 {
            0 => false,
            bits @ 1..=64 => high.wrapping_shr(64 - bits) == 0,
            bits => high == 0 && low.wrapping_shr(128 - bits) == 0,
        }
    }
}

/// Whether an IPv6 address is link-local (RFC 4291 2.5.6).
#[inline(always)]
pub const fn is_link_local(address: [u8; 16]) -> bool {
    address[0] == 0xfe && address[1] & 0xc0 == 0x80
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn a_subnet_contains_addresses_with_its_prefix() {
        for (prefix, held, other) in [
            (16, "10.1.255.255", "10.2.0.0"),
            (17, "10.1.127.255", "10.1.128.0"),
            (1, "127.0.0.1", "128.0.0.1"),
            (31, "10.1.0.0", "10.1.0.2"),
            (32, "10.1.0.1", "10.1.0.0"),
        ] {
            let network = Network { gateway: [10, 1, 0, 1], prefix, ..Network::default() };
            let holds = |address: &str| network.holds(address.parse::<Ipv4Addr>().unwrap().octets());
            assert!(holds(held) && !holds(other), "{prefix}");
            assert!(!Network { prefix: 0, ..network }.holds(network.gateway));
        }
    }

    #[test]
    fn an_ipv6_subnet_contains_addresses_with_its_prefix() {
        for (prefix_ipv6, held, other) in [
            (64, "fd00:1::ffff", "fd00:1:0:1::1"),
            (48, "fd00:1:0:1::1", "fd00:1:1::1"),
            (1, "8000::1", "7fff::1"),
            (65, "fd00:1::7fff:0:0:1", "fd00:1::8000:0:0:1"),
            (128, "fd00:1::1", "fd00:1::"),
        ] {
            let gateway_ipv6 = "fd00:1::1".parse::<Ipv6Addr>().unwrap().octets();
            let network = Network { gateway_ipv6, prefix_ipv6, ..Network::default() };
            let holds = |address: &str| network.holds_ipv6(address.parse::<Ipv6Addr>().unwrap().octets());
            assert!(holds(held) && !holds(other), "{prefix_ipv6}");
            assert!(!Network { prefix_ipv6: 0, ..network }.holds_ipv6(gateway_ipv6));
        }
    }
}
