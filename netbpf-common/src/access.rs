//! What an endpoint may send besides its leased addresses, and in which way frames reach it: the bits of
//! `Endpoint::access`, the subnets in `FURTHER`. And where the MACs are that the programs learn from endpoints without
//! guard: `LEARNT`, with the order in which each endpoint's were learnt (`LEARNT_OF`, `LEARNING`). Must not know how the
//! maps are accessed.

/// The programs check nothing but what the endpoint may never send; its MACs are learnt.
pub const UNGUARDED: u8 = 1;

/// The endpoint may use the subnets in `FURTHER` besides its leases.
pub const FURTHER: u8 = 2;

/// Frames reach the endpoint through its veth pair, and not by `bpf_redirect_peer`: XDP, tc and the counters
/// of both ends see them.
pub const PLAIN: u8 = 4;

/// The programs answer names of containers, if the endpoint asks a name server behind the host for them
/// ([`crate::name`]).
pub const ASKS: u8 = 8;

/// There is a limit of what the endpoint sends, in `LIMITS`.
pub const LIMITED: u8 = 16;

/// The bits of an open endpoint, which may have addresses or MACs that no lease tells.
pub const OPEN: u8 = UNGUARDED | FURTHER;

/// Maximum number of subnets and addresses in `FURTHER`, of all endpoints.
pub const MAX_FURTHER: u32 = 65_536;

/// Maximum number of learnt MACs in all networks.
pub const MAX_LEARNT: u32 = 65_536;

/// Maximum number of MACs that are learnt of one endpoint. The oldest makes room for a new one, so an endpoint
/// that sends from many MACs displaces its own only.
pub const MAX_LEARNT_OF_ENDPOINT: u32 = 4096;

/// Seconds after which a MAC is forgotten that has sent nothing (IEEE 802.1D 7.9.2, the kernel bridge's
/// default).
pub const LEARNT_SECONDS: u32 = 300;

/// Number of bits of a key of `FURTHER` before the address: the endpoint number.
pub const ENDPOINT_BITS: u32 = 32;

/// Key of the trie `FURTHER`, after the prefix length: an endpoint and a subnet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FurtherKey {
    /// Endpoint number. All its bits are always compared.
    pub endpoint: u32,
    /// As in [`NeighbourKey::address`](crate::endpoint::NeighbourKey::address).
    pub address: [u8; 16],
}
const _: () = assert!(size_of::<FurtherKey>() == 20);

/// Value of `FURTHER`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Further {
    /// 4 for a subnet of IPv4, 6 for one of IPv6. `::/0` also matches the keys of IPv4 addresses; this field shows that
    /// it does not permit them.
    pub family: u32,
}
const _: () = assert!(size_of::<Further>() == 4);

/// Value of the hash `LEARNT` (key: [`FdbKey`](crate::endpoint::FdbKey)): where a MAC was seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learnt {
    /// Number of the endpoint that sent from it.
    pub endpoint: u32,
    /// When it did so last: seconds of the monotonic clock.
    pub seen: u32,
}
const _: () = assert!(size_of::<Learnt>() == 8);

impl Learnt {
    /// Whether it is not forgotten yet.
    #[inline(always)]
    pub const fn is_fresh(self, now: u32) -> bool {
        // Signed: another CPU may have written a second that begins now.
        now.wrapping_sub(self.seen).cast_signed() <= LEARNT_SECONDS as i32
    }
}

/// Key of the hash `LEARNT_OF`: one of the places of an endpoint's learnt MACs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LearntOfKey {
    /// Endpoint number.
    pub endpoint: u32,
    /// Below [`MAX_LEARNT_OF_ENDPOINT`].
    pub place: u32,
}
const _: () = assert!(size_of::<LearntOfKey>() == 8);

/// Value of `LEARNT_OF`: the MAC that was learnt. `LEARNT` may have it at another endpoint by now.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LearntMac {
    /// The MAC.
    pub mac: [u8; 6],
    /// Always zero.
    pub reserved: [u8; 2],
}
const _: () = assert!(size_of::<LearntMac>() == 8);

/// Value of the array `LEARNING` (key: endpoint number).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learning {
    /// Number of MACs learnt so far; from twice [`MAX_LEARNT_OF_ENDPOINT`] it goes back to that. The next MAC gets the
    /// place `count % MAX_LEARNT_OF_ENDPOINT`. While `count` is less than that, the places from `count` on are free.
    pub count: u32,
}
const _: () = assert!(size_of::<Learning>() == 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_forgotten_after_five_minutes_of_silence() {
        let learnt = Learnt { endpoint: 1, seen: 1000 };
        assert!(learnt.is_fresh(1000) && learnt.is_fresh(1300));
        assert!(!learnt.is_fresh(1301));
        assert!(learnt.is_fresh(999));
        assert!(!Learnt { seen: u32::MAX - 400, ..learnt }.is_fresh(0));
    }

    #[test]
    fn an_endpoint_has_room_for_all_places() {
        const { assert!(MAX_LEARNT.is_multiple_of(MAX_LEARNT_OF_ENDPOINT)) };
    }
}
