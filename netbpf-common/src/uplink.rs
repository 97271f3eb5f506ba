//! What other hosts send, before the host's own stack has it: the subnets that nobody out there may reach directly
//! (`CLOSED_SUBNETS`), and the interfaces at which a program looks for such packets (`UPLINKS`).

use crate::network::MAX_NETWORKS;

/// How many subnets can be closed: one of each family in each network.
pub const MAX_CLOSED_SUBNETS: u32 = 2 * MAX_NETWORKS;

/// How many uplinks there can be.
pub const MAX_UPLINKS: u32 = 64;

/// Length in bits of an address in a key of `CLOSED_SUBNETS`; of an IPv4 one (RFC 4291 2.5.5.2) too.
pub const ADDRESS_BITS: u32 = 128;

/// An IPv4 address as the keys of `CLOSED_SUBNETS` have it (::ffff:a.b.c.d).
#[inline(always)]
pub const fn mapped([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// Value of the trie `CLOSED_SUBNETS` (key: length of the prefix in bits, address in network order): whose subnet it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClosedSubnet {
    /// The network's number.
    pub network: u32,
    /// 1 if the network is internal: nobody leaves it either.
    pub internal: u32,
}
const _: () = assert!(size_of::<ClosedSubnet>() == 8);

/// Value of the hash `UPLINKS` (key: ifindex): an interface that the program is attached to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    /// Its MAC: a frame to any other is not for the host.
    pub mac: [u8; 6],
    /// Always zero.
    pub reserved: [u8; 2],
}
const _: () = assert!(size_of::<Uplink>() == 8);
