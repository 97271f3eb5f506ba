//! The frame that an uplink has just received, and its context: what a [`Packet`](super::Packet) is for skbs, where
//! there is no skb yet. It is only looked at.
//!
//! A driver may have taken a VLAN tag out of the bytes, and no field of the context says so: an uplink with VLANs keeps
//! them in (`ethtool -K … rxvlan off`).

use aya_ebpf::{EbpfContext, programs::XdpContext};
use netbpf_common::wire::{Ethernet, Wire};

use super::route::{self, Hop};
use crate::parse::Routed;

/// A frame that came in by an uplink.
pub struct Arrival {
    pub(super) ctx: XdpContext,
}

impl Arrival {
    /// The frame of a context.
    #[inline(always)]
    pub fn new(ctx: XdpContext) -> Self {
        Self { ctx }
    }

    /// Length in bytes.
    #[inline(always)]
    pub fn len(&self) -> u64 {
        (self.ctx.data_end() - self.ctx.data()) as u64
    }

    /// The uplink.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: the kernel passes a valid context. Volatile, so that the compiler does not join loads.
        unsafe { (&raw const (*self.ctx.ctx).ingress_ifindex).read_volatile() }
    }

    /// The header at an offset; none if the frame ends before it does.
    #[inline(always)]
    pub fn header<T: Wire>(&self, offset: usize) -> Option<&T> {
        let start = self.ctx.data() + offset;
        if start + size_of::<T>() > self.ctx.data_end() {
            return None;
        }
        // SAFETY: inside the packet, as just checked; `Wire` has alignment 1 and takes any bytes.
        Some(unsafe { &*(start as *const T) })
    }

    /// The MAC that it is for.
    #[inline(always)]
    pub fn destination(&self) -> Option<[u8; 6]> {
        Some(self.header::<Ethernet>(0)?.destination)
    }

    /// Where the host would send a packet on that came in by this uplink.
    #[inline(always)]
    pub fn next_hop(&self, packet: &Routed) -> Option<Hop> {
        route::next_hop(self.ctx.as_ptr(), self.ifindex(), packet)
    }
}
