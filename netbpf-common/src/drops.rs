//! What was dropped (`DROPS`): an entry for each kind of dropped frames, of which the kernel keeps those that were used
//! last. Must not know what a reason means.

/// Size of `DROPS`.
pub const MAX_DROPS: u32 = 1024;

/// How many bytes are kept of a dropped frame.
pub const HEAD: usize = 64;

/// Stands for no network in [`DropKey::network`].
pub const NO_NETWORK: u32 = u32::MAX;

/// Key of the LRU hash `DROPS`: frames that were dropped for one reason, at one interface, on the way to one destination.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DropKey {
    /// [`Reason`](crate::reason::Reason) as a number.
    pub reason: u32,
    /// The interface where they were dropped: an endpoint's host side, a network's host device or an uplink.
    pub ifindex: u32,
    /// The network that they were in, or would have entered; [`NO_NETWORK`] if that is not known.
    pub network: u32,
    /// The destination as an IPv6 address, or as v4-mapped IPv6; in ARP and neighbour discovery the address that is asked
    /// for or announced. Otherwise ten zeros and the destination MAC.
    pub destination: [u8; 16],
    /// The EtherType, behind a VLAN tag with ID 0; zero for a frame with a VLAN ID, or one that is too short.
    pub ethertype: [u8; 2],
    /// The destination port of TCP, UDP and SCTP in network order, type and code of ICMP; else zero.
    pub port: [u8; 2],
    /// As in the IP header; behind IPv6 extension headers that of the first one. Zero for other packets.
    pub protocol: u8,
    /// Always zero.
    pub reserved: [u8; 3],
}
const _: () = assert!(size_of::<DropKey>() == 36);

/// Value of `DROPS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drops {
    /// Number of frames. At an uplink there may have been more: see [`Ticks`].
    pub frames: u64,
    /// When the first one was dropped, in the form of [`DroppedFrame::time`].
    pub first: u64,
    /// The last one.
    pub last: DroppedFrame,
}
const _: () = assert!(size_of::<Drops>() == 120);

/// A dropped frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedFrame {
    /// When it was dropped, in nanoseconds since the boot; the time in which the host slept is part of it.
    pub time: u64,
    /// Its source, in the form of [`DropKey::destination`].
    pub source: [u8; 16],
    /// The interface where the host had received it; 0 if it was the host's own.
    pub received_by: u32,
    /// Its length in bytes.
    pub length: u32,
    /// Its source port in network order, if it has one.
    pub source_port: [u8; 2],
    /// How many bytes of `head` are from it.
    pub head_length: u16,
    /// Always zero.
    pub reserved: u32,
    /// Its first bytes, from its Ethernet header on; zeros follow.
    pub head: [u8; HEAD],
}
const _: () = assert!(size_of::<DroppedFrame>() == 104);

/// A frame that a program is dropping, as the only value of the per-CPU array `DROPPING`: it would take too much of the
/// program's stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropping {
    /// The value, if it is the first of its kind.
    pub drops: Drops,
    /// Its kind.
    pub key: DropKey,
    /// Always zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Dropping>() == 160);

/// A MAC in the form of [`DropKey::destination`].
#[inline(always)]
pub const fn padded([a, b, c, d, e, f]: [u8; 6]) -> [u8; 16] {
    // As one number: the zeros of an array would become a call of memset in the programs.
    (u64::from_be_bytes([0, 0, a, b, c, d, e, f]) as u128).to_be_bytes()
}

/// How many frames an uplink's program may remember in a tick of the kernel's clock (1 to 10 ms), on one CPU: more would make
/// a flood expensive. All are counted in `REASONS`.
pub const DROPS_IN_A_TICK: u32 = 16;

/// One CPU's value of the per-CPU array `DROP_TICKS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    /// The tick, modulo 2^32.
    pub tick: u32,
    /// How many frames were remembered in it.
    pub frames: u32,
}
const _: () = assert!(size_of::<Ticks>() == 8);

impl Ticks {
    /// The value after one more frame in the tick `now`; none if there were enough.
    #[inline(always)]
    pub const fn and_one(self, now: u32) -> Option<Self> {
        if self.tick != now {
            return Some(Self { tick: now, frames: 1 });
        }
        if self.frames < DROPS_IN_A_TICK { Some(Self { tick: now, frames: self.frames + 1 }) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_has_a_few_frames() {
        let mut ticks = Ticks::default();
        for _ in 0..DROPS_IN_A_TICK {
            ticks = ticks.and_one(7).unwrap();
        }
        assert_eq!(ticks.and_one(7), None);
        assert_eq!(ticks.and_one(8), Some(Ticks { tick: 8, frames: 1 }));
    }
}
