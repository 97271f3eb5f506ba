//! Networks as the programs see them (`NETWORKS`): a host device, its MAC and gateway address, the list of members.

/// How many networks a daemon has at most.
pub const MAX_NETWORKS: u32 = 1024;

/// Host device of network `n` is created with ifindex `NETWORK_IFINDEX + n`: a frame's ifindex is an index into
/// `NETWORKS`, and a frame that another network's host device brought in is known by its ingress ifindex.
pub const NETWORK_IFINDEX: u32 = 1_100_000;

/// Mark of a packet that the host may pass from one network to another: the answer to something that was allowed, or
/// what a published port brings. The host's packet filter sets it ("nbpf"); no packet brings it along, because marks
/// stay in the namespace that they were set in.
pub const BETWEEN_NETWORKS: u32 = 0x6e62_7066;

/// The ifindex of network `number`'s host device.
#[inline(always)]
pub const fn ifindex_of(number: u32) -> u32 {
    NETWORK_IFINDEX + number
}

/// The network number of an ifindex, where it can be one.
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
    /// First member in the list that broadcasts walk ([`Port::next`](crate::endpoint::Port::next)), or
    /// [`NO_PORT`](crate::endpoint::NO_PORT).
    pub first: u32,
    /// The host device's MAC.
    pub mac: [u8; 6],
    /// 1 where members may talk to the host and not to each other.
    pub icc_off: u8,
    /// Always zero.
    pub reserved: u8,
    /// The gateway address that the host device carries, network order; zero for none.
    pub gateway: [u8; 4],
    /// The IPv6 gateway address that it carries; zero for none.
    pub gateway_ipv6: [u8; 16],
    /// Its link-local IPv6 address; zero for none.
    pub ipv6_link_local: [u8; 16],
    /// Another address that containers take for their gateway, network order; zero for none. The host device answers for
    /// it, whether it carries it or not.
    pub default_gateway: [u8; 4],
    /// The same for IPv6.
    pub default_gateway_ipv6: [u8; 16],
}
const _: () = assert!(size_of::<Network>() == 72);

impl Network {
    /// Whether an IPv4 address is the host device's.
    #[inline(always)]
    pub fn is_own(&self, address: [u8; 4]) -> bool {
        address == self.gateway || address == self.default_gateway && address != [0; 4]
    }

    /// Whether an IPv6 address, not `::`, is the host device's.
    #[inline(always)]
    pub fn is_own_ipv6(&self, address: [u8; 16]) -> bool {
        address == self.gateway_ipv6
            || address == self.ipv6_link_local
            || address == self.default_gateway_ipv6
    }
}
