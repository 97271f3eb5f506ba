//! Subnets that other hosts may not reach directly (`CLOSED_SUBNETS`), and uplinks where XDP drops packets to
//! them (`UPLINKS`).

use crate::network::MAX_NETWORKS;

/// Maximum number of closed subnets: one of each family in each network.
pub const MAX_CLOSED_SUBNETS: u32 = 2 * MAX_NETWORKS;

/// Maximum number of uplinks.
pub const MAX_UPLINKS: u32 = 64;

/// Length in bits of an address in a key of `CLOSED_SUBNETS`. IPv4 addresses are mapped (RFC 4291 section
/// 2.5.5.2).
pub const ADDRESS_BITS: u32 = 128;

/// An IPv4 address in a key of `CLOSED_SUBNETS` (::ffff:a.b.c.d).
#[inline(always)]
pub const fn mapped([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// Value of the trie `CLOSED_SUBNETS` (key: prefix length in bits, address in network order): the network of
/// a subnet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClosedSubnet {
    /// The network's number.
    pub network: u32,
    /// 1 if the network is internal: its members cannot reach other hosts either.
    pub internal: u32,
}
const _: () = assert!(size_of::<ClosedSubnet>() == 8);

/// Value of the hash `UPLINKS` (key: ifindex): an interface with the XDP program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uplink {
    /// Its MAC: frames to other MACs are not for the host.
    pub mac: [u8; 6],
    /// Always zero.
    pub reserved: [u8; 2],
}
const _: () = assert!(size_of::<Uplink>() == 8);
