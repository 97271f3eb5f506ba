//! The frame that an uplink has just received, and its context: what a [`Packet`](super::Packet) is for skbs, where
//! there is no skb yet. It is only looked at.
//!
//! A driver may have taken a VLAN tag out of the bytes, and no field of the context says so: an uplink with VLANs keeps
//! them in (`ethtool -K … rxvlan off`).

use core::mem::{self, MaybeUninit};

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup as Question},
    helpers::bpf_fib_lookup,
    programs::XdpContext,
};
use netbpf_common::wire::{Ethernet, Wire};

use crate::parse::Routed;

/// Address families of linux/socket.h.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

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

    /// The device by which the host would send a packet on that came in by this uplink: by its rules, its routes and
    /// its settings. None where it would not: its own addresses, no route, no forwarding.
    #[inline(always)]
    pub fn next_device(&self, packet: &Routed) -> Option<u32> {
        let mut question = MaybeUninit::<Question>::zeroed();
        // SAFETY: integers only, of which zeros are values.
        let question = unsafe { question.assume_init_mut() };
        question.ifindex = self.ifindex();
        question.__bindgen_anon_2.tos = packet.class;
        if packet.is_ipv4 {
            question.family = AF_INET;
            question.__bindgen_anon_3.ipv4_src = ipv4(packet.source);
            question.__bindgen_anon_4.ipv4_dst = ipv4(packet.destination);
        } else {
            question.family = AF_INET6;
            // The traffic class is a part of the word that the header begins with.
            question.__bindgen_anon_2.flowinfo = (u32::from(packet.class) << 20).to_be();
            question.__bindgen_anon_3.ipv6_src = words(packet.source);
            question.__bindgen_anon_4.ipv6_dst = words(packet.destination);
        }
        let size = size_of::<Question>() as i32;
        // SAFETY: the kernel passes a valid context, and reads and writes as many bytes as a question has.
        let answer = unsafe { bpf_fib_lookup(self.ctx.as_ptr(), question, size, 0) };
        // Nobody needs to have asked for the container's MAC yet.
        let is_sent_on =
            answer == BPF_FIB_LKUP_RET_SUCCESS as i64 || answer == BPF_FIB_LKUP_RET_NO_NEIGH as i64;
        is_sent_on.then_some(question.ifindex)
    }
}

/// The IPv4 address in an IPv6 one, as it lies in memory.
#[inline(always)]
fn ipv4([.., a, b, c, d]: [u8; 16]) -> u32 {
    u32::from_ne_bytes([a, b, c, d])
}

/// An address as it lies in memory, by words.
#[inline(always)]
fn words(address: [u8; 16]) -> [u32; 4] {
    // SAFETY: the same number of bytes, and any of them are values.
    unsafe { mem::transmute(address) }
}
