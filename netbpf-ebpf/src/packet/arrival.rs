//! A frame that an uplink received, and its XDP context: like [`Packet`](super::Packet), but before there is
//! an skb. It is only read.
//!
//! A driver may have removed a VLAN tag from the bytes, which no field of the context shows: an uplink with
//! VLANs must keep tags in the frame (`ethtool -K … rxvlan off`).

use aya_ebpf::{EbpfContext, programs::XdpContext};
use netbpf_common::{
    drops::HEAD,
    wire::{Bytes, Ethernet, Ipv4, Wire},
};

use super::route::{self, Hop};
use crate::parse::Routed;

/// A frame that an uplink received.
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

    /// The uplink's ifindex.
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

    /// Copies its first bytes, and returns how many: of a short frame, as many as an IPv4 packet has at least.
    #[inline(always)]
    pub fn copy_head(&self, head: &mut [u8; HEAD]) -> u16 {
        const SHORT: usize = size_of::<Ethernet>() + size_of::<Ipv4>();
        if let Some(Bytes(bytes)) = self.header::<Bytes<HEAD>>(0) {
            *head = *bytes;
            return HEAD as u16;
        }
        let Some(Bytes(bytes)) = self.header::<Bytes<SHORT>>(0) else { return 0 };
        head[..SHORT].copy_from_slice(bytes);
        SHORT as u16
    }

    /// The destination MAC.
    #[inline(always)]
    pub fn destination(&self) -> Option<[u8; 6]> {
        Some(self.header::<Ethernet>(0)?.destination)
    }

    /// The next hop of a packet that this uplink received.
    #[inline(always)]
    pub fn next_hop(&self, packet: &Routed) -> Option<Hop> {
        route::next_hop(self.ctx.as_ptr(), self.ifindex(), packet)
    }
}
