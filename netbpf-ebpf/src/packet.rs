//! The frame and its context: the only place that turns an offset into a reference, and the only one that calls the
//! kernel's skb helpers. Judges no content.
//!
//! References into the frame borrow the [`Packet`]; what may move the frame takes it by `&mut`, so that no reference
//! survives, as the verifier demands.
#![expect(
    unsafe_code,
    reason = "packet pointers, context fields and helpers are raw; this file makes them safe"
)]

mod arrival;
mod route;

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_F_INGRESS, TC_ACT_REDIRECT},
    helpers::{
        bpf_csum_diff, bpf_ktime_get_ns, bpf_redirect, bpf_redirect_peer, bpf_skb_change_tail,
        bpf_skb_load_bytes, bpf_skb_store_bytes,
    },
    programs::TcContext,
};
use netbpf_common::{
    reason::Reason,
    wire::{Ethernet, Ipv6, Tag, Wire},
};

pub use arrival::Arrival;
use route::Hop;

use crate::parse::Routed;

/// The headers that the programs read of every frame. In a frame with less of them in its linear part, they are pulled
/// there first.
const HEADERS: usize = size_of::<Ethernet>() + size_of::<Tag>() + size_of::<Ipv6>();

/// `PACKET_HOST` of linux/if_packet.h: for us.
const PACKET_HOST: u32 = 0;

/// A frame on its way through a program.
pub struct Packet {
    ctx: TcContext,
}

/// Where a redirected frame appears at a device.
#[derive(Clone, Copy)]
pub enum Side {
    /// It is sent by the device.
    Transmit,
    /// It is received by the device.
    Receive,
}

macro_rules! fields {
    ($($(#[doc = $doc:literal])+ $field:ident,)+) => {
        $(
            $(#[doc = $doc])+
            #[inline(always)]
            pub fn $field(&self) -> u32 {
                // SAFETY: the kernel passes a valid context. Volatile, so that the compiler does not join loads:
                // the verifier takes each field only by its own width.
                unsafe { (&raw const (*self.ctx.skb.skb).$field).read_volatile() }
            }
        )+
    };
}

impl Packet {
    /// The frame of a context.
    #[inline(always)]
    pub fn new(ctx: TcContext) -> Self {
        Self { ctx }
    }

    fields! {
        /// Length in bytes; far more than the MTU in a GSO frame.
        len,
        /// The device that the program is attached to.
        ifindex,
        /// The device that the frame came into the host by; 0 for the host's own.
        ingress_ifindex,
        /// Whether there is a VLAN tag beside the bytes.
        vlan_present,
        /// Its tag control information.
        vlan_tci,
        /// Whom the frame is for, as the receiving device judged it by its MAC.
        pkt_type,
        /// The mark that the host's firewall sees.
        mark,
    }

    /// The header at an offset.
    #[inline(always)]
    pub fn header<T: Wire>(&self, offset: usize) -> Result<&T, Reason> {
        let start = self.ctx.data() + offset;
        if start + size_of::<T>() > self.ctx.data_end() {
            return Err(Reason::Malformed);
        }
        // SAFETY: inside the packet, as just checked; `Wire` has alignment 1 and takes any bytes.
        Ok(unsafe { &*(start as *const T) })
    }

    /// A copy of the header at an offset, wherever the kernel keeps its bytes: for what is rarely looked at.
    #[inline(always)]
    pub fn load<T: Wire>(&self, offset: usize) -> Result<T, Reason> {
        self.ctx.load(offset).map_err(|_| Reason::Malformed)
    }

    /// The same of a packet that ends at `end`, maybe before its frame does: what is behind is padding, which receivers
    /// do not read.
    #[inline(always)]
    pub fn load_within<T: Wire>(&self, offset: usize, end: usize) -> Result<T, Reason> {
        if offset + size_of::<T>() > end { Err(Reason::Malformed) } else { self.load(offset) }
    }

    /// The same as [`Self::load`] in a place that the caller has: a program's stack is small.
    #[inline(always)]
    pub fn load_words<'a, T: Wire>(
        &self,
        offset: usize,
        place: &'a mut MaybeUninit<Words<T>>,
    ) -> Result<&'a mut Words<T>, Reason> {
        let size = size_of::<T>() as u32;
        // SAFETY: the kernel passes a valid context, and writes as many bytes as a `T` has.
        match unsafe {
            bpf_skb_load_bytes(self.ctx.skb.skb.cast(), offset as u32, place.as_mut_ptr().cast(), size)
        } {
            // SAFETY: the kernel has written all of it; `Wire` takes any bytes.
            0 => Ok(unsafe { place.assume_init_mut() }),
            _ => Err(Reason::Malformed),
        }
    }

    /// Writes a header at an offset, wherever the kernel keeps the bytes there.
    #[inline(always)]
    pub fn store<T: Wire>(&mut self, offset: usize, value: &T) -> Result<(), Reason> {
        let (value, size): (*const T, _) = (value, size_of::<T>() as u32);
        // SAFETY: the kernel passes a valid context and reads as many bytes as a `T` has; references into the frame ended
        // when it was taken by `&mut`.
        match unsafe { bpf_skb_store_bytes(self.ctx.skb.skb, offset as u32, value.cast(), size, 0) } {
            0 => Ok(()),
            _ => Err(Reason::Malformed),
        }
    }

    /// Writes a header at an offset.
    #[inline(always)]
    pub fn write<T: Wire>(&mut self, offset: usize, value: T) -> Result<(), Reason> {
        let start = self.ctx.data() + offset;
        if start + size_of::<T>() > self.ctx.data_end() {
            return Err(Reason::Malformed);
        }
        // SAFETY: inside the packet, as just checked; the verifier makes the frame's head ours before the program
        // runs, because it writes there.
        unsafe { (start as *mut T).write_unaligned(value) };
        Ok(())
    }

    /// Makes the headers linear. They are already, but for senders that lay out their own frames (packet rings).
    #[inline(always)]
    pub fn pull_headers(&mut self) -> Result<(), Reason> {
        let wanted = (self.len() as usize).min(HEADERS);
        if self.ctx.data() + wanted <= self.ctx.data_end() {
            return Ok(());
        }
        self.ctx.pull_data(wanted as u32).map_err(|_| Reason::Failed)
    }

    /// Gives the frame another length, by zeros at its end or by cutting it.
    #[inline(always)]
    pub fn resize(&mut self, bytes: usize) -> Result<(), Reason> {
        if self.len() as usize == bytes {
            return Ok(());
        }
        // SAFETY: the kernel passes a valid context; references into the frame ended when it was taken by `&mut`.
        match unsafe { bpf_skb_change_tail(self.ctx.skb.skb, bytes as u32, 0) } {
            0 => Ok(()),
            _ => Err(Reason::Failed),
        }
    }

    /// Hands the frame to a device. Device 0 does not exist: the kernel then frees the frame and the sender hears
    /// nothing of it, which a drop would tell it.
    #[inline(always)]
    pub fn redirect(&mut self, ifindex: u32, side: Side) -> Result<(), Reason> {
        // SAFETY: takes no pointer; the frame is handed on when the program has returned.
        done(unsafe { bpf_redirect(ifindex, side.flags()) })
    }

    /// Ends the frame without a word to its sender.
    #[inline(always)]
    pub fn lose(&mut self) -> Result<(), Reason> {
        self.redirect(0, Side::Transmit)
    }

    /// Hands the frame to the other end of a veth pair, in its own namespace, without a queue in between.
    #[inline(always)]
    pub fn redirect_peer(&mut self, ifindex: u32) -> Result<(), Reason> {
        // Before 6.15 the frame arrives as what it was for our end of the pair: somebody else's.
        if self.pkt_type() != PACKET_HOST {
            self.ctx.change_type(PACKET_HOST).map_err(|_| Reason::Failed)?;
        }
        // The mark is the host's; it would survive the change of namespace.
        if self.mark() != 0 {
            self.ctx.set_mark(0);
        }
        // SAFETY: takes no pointer; the frame is handed on when the program has returned.
        done(unsafe { bpf_redirect_peer(ifindex, 0) })
    }

    /// Where the host would send a packet of this frame's on that it received by a device.
    #[inline(always)]
    pub fn next_hop(&self, received_by: u32, packet: &Routed) -> Option<Hop> {
        route::next_hop(self.ctx.as_ptr(), received_by, packet)
    }

    /// Hands a copy of the frame to a device, at once.
    #[inline(always)]
    pub fn clone_to(&mut self, ifindex: u32) -> Result<(), Reason> {
        self.ctx.clone_redirect(ifindex, 0).map_err(|_| Reason::Failed)
    }

    /// A word of the frame's scratch memory: what it held when the program before this one in a tail call ended.
    #[inline(always)]
    pub fn note(&self, index: usize) -> u32 {
        // SAFETY: the kernel passes a valid context; callers pass constants below 5, and the verifier checks them.
        unsafe { (&raw const (*self.ctx.skb.skb).cb).cast::<u32>().add(index).read_volatile() }
    }

    /// Sets a word of the frame's scratch memory.
    #[inline(always)]
    pub fn set_note(&mut self, index: usize, value: u32) {
        // SAFETY: as in `note`.
        unsafe { (&raw mut (*self.ctx.skb.skb).cb).cast::<u32>().add(index).write_volatile(value) }
    }

    /// The context, for what is not about the frame.
    #[inline(always)]
    pub fn context(&self) -> &impl EbpfContext {
        &self.ctx
    }
}

/// The monotonic clock, in nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: takes nothing.
    unsafe { bpf_ktime_get_ns() }
}

/// Bytes that the kernel may read four at a time.
#[repr(C, align(4))]
pub struct Words<T>(pub T);

/// What a checksum has to be changed by when what it covers changes.
#[inline(always)]
pub fn difference<T: Wire>(before: &Words<T>, after: &Words<T>) -> u32 {
    const { assert!(size_of::<T>().is_multiple_of(4)) };
    let (before, after): (*const Words<T>, *const Words<T>) = (before, after);
    let size = size_of::<T>() as u32;
    // SAFETY: both are read for their size, which is a multiple of four, and not changed.
    unsafe { bpf_csum_diff(before.cast_mut().cast(), size, after.cast_mut().cast(), size, 0) as u32 }
}

impl Side {
    #[inline(always)]
    fn flags(self) -> u64 {
        match self {
            Self::Transmit => 0,
            Self::Receive => BPF_F_INGRESS as u64,
        }
    }
}

#[inline(always)]
fn done(action: i64) -> Result<(), Reason> {
    if action == TC_ACT_REDIRECT as i64 { Ok(()) } else { Err(Reason::Failed) }
}

/// What the verifier judges once, and not on each way that leads to it: functions that other objects could call. They say
/// the reason by its number, and the daemon puts its name there: to copy a name is a call more, which is too much for the
/// stack that Linux 5.10 allows, and most of what the verifier would look at.
#[cfg(feature = "log")]
pub mod apart {
    use aya_ebpf::{
        bindings::{__sk_buff, xdp_md},
        programs::XdpContext,
    };

    use super::{Arrival, Packet, Reason, TcContext};

    /// Says how a frame ended.
    #[inline(always)]
    pub fn log(packet: &Packet, reason: Reason) {
        netbpf_log(packet.ctx.skb.skb, reason as u32);
    }

    /// Making a line is longer than all the rest.
    #[unsafe(no_mangle)]
    #[inline(never)]
    pub extern "C" fn netbpf_log(skb: *mut __sk_buff, reason: u32) -> u32 {
        let packet = Packet::new(TcContext::new(skb));
        let (bytes, ifindex) = (packet.len(), packet.ifindex());
        aya_log_ebpf::info!(packet.context(), "{} bytes at {}: {}", bytes, ifindex, reason);
        1
    }

    /// Says why a frame of an uplink ended.
    #[inline(always)]
    pub fn log_arrival(arrival: &Arrival, reason: Reason) {
        netbpf_log_arrival(arrival.ctx.ctx, reason as u32);
    }

    /// The same for a frame that is no skb yet.
    #[unsafe(no_mangle)]
    #[inline(never)]
    pub extern "C" fn netbpf_log_arrival(xdp: *mut xdp_md, reason: u32) -> u32 {
        let arrival = Arrival::new(XdpContext::new(xdp));
        let (bytes, ifindex) = (arrival.len(), arrival.ifindex());
        aya_log_ebpf::info!(&arrival.ctx, "{} bytes at {}: {}", bytes, ifindex, reason);
        1
    }
}
