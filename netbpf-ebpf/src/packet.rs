//! The frame and its context: the only file that turns an offset into a reference, and that calls the
//! kernel's skb helpers. Checks no content.
//!
//! References into the frame borrow the [`Packet`]. Functions that may move the frame take it by `&mut`, so
//! no reference survives, as the verifier requires.
#![expect(
    unsafe_code,
    reason = "packet pointers, context fields and helpers are raw; this file makes them safe"
)]

mod arrival;
mod route;
mod words;

use core::mem::MaybeUninit;

use aya_ebpf::{
    EbpfContext,
    bindings::{
        BPF_F_INGRESS, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_REDIRECT,
        bpf_check_mtu_flags::BPF_MTU_CHK_SEGS,
    },
    helpers::{
        bpf_check_mtu, bpf_csum_diff, bpf_get_hash_recalc, bpf_get_prandom_u32, bpf_jiffies64,
        bpf_ktime_get_boot_ns, bpf_ktime_get_ns, bpf_l4_csum_replace, bpf_redirect, bpf_redirect_peer,
        bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes,
    },
    programs::TcContext,
};
use netbpf_common::{
    drops::HEAD,
    reason::Reason,
    wire::{Bytes, Ethernet, Ipv4, Ipv6, Tag, Transport, Wire},
};

pub use arrival::Arrival;
use route::{Hop, NextStation};

use crate::parse::Routed;

/// Length of the headers that the programs read of every frame. If fewer bytes are in the frame's linear
/// part, they are pulled there first.
const HEADERS: usize = size_of::<Ethernet>() + size_of::<Tag>() + size_of::<Ipv6>();

/// `PACKET_HOST` of linux/if_packet.h: the frame is for this host.
const PACKET_HOST: u32 = 0;

/// A frame on its way through a program.
pub struct Packet {
    ctx: TcContext,
}

/// The direction of a redirected frame at a device.
#[derive(Clone, Copy)]
pub enum Side {
    /// The device sends it.
    Transmit,
    /// The device receives it.
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
        /// The device that received the frame; 0 if the host itself sent it.
        ingress_ifindex,
        /// Whether there is a VLAN tag in the skb's metadata.
        vlan_present,
        /// The tag control information of that tag.
        vlan_tci,
        /// Whether the frame is for this host, by its destination MAC at the receiving device.
        pkt_type,
        /// The mark, as the host's firewall has it.
        mark,
        /// The length of a segment of a GSO frame, in bytes, without headers; 0 in other frames.
        gso_size,
        /// The class of the clsact filter that the program is in.
        tc_classid,
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

    /// The Ethernet header, read by words.
    #[inline(always)]
    pub fn ethernet(&self) -> Result<Ethernet, Reason> {
        let start = self.ctx.data();
        if start + size_of::<Ethernet>() > self.ctx.data_end() {
            return Err(Reason::Malformed);
        }
        // SAFETY: inside the packet, as just checked.
        Ok(unsafe { words::ethernet(start) })
    }

    /// A copy of the header at an offset, even outside the linear part: for headers that are rarely read.
    #[inline(always)]
    pub fn load<T: Wire>(&self, offset: usize) -> Result<T, Reason> {
        self.ctx.load(offset).map_err(|_| Reason::Malformed)
    }

    /// The same, but the header must not go beyond `end`, the end of the packet: what follows in the frame is
    /// padding, which receivers ignore.
    #[inline(always)]
    pub fn load_within<T: Wire>(&self, offset: usize, end: usize) -> Result<T, Reason> {
        if offset + size_of::<T>() > end { Err(Reason::Malformed) } else { self.load(offset) }
    }

    /// The same as [`Self::load`], into the caller's memory: a program's stack is small.
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

    /// Copies its first bytes, and returns how many.
    #[inline(always)]
    pub fn copy_head(&self, head: &mut [u8; HEAD]) -> u16 {
        // From 1 to 64, in a form in which the verifier sees it.
        let length = (self.len().min(HEAD as u32).wrapping_sub(1) & (HEAD as u32 - 1)) + 1;
        let place = head.as_mut_ptr().cast();
        // SAFETY: the kernel passes a valid context, and writes not more than there is room for.
        match unsafe { bpf_skb_load_bytes(self.ctx.skb.skb.cast(), 0, place, length) } {
            0 => length as u16,
            _ => 0,
        }
    }

    /// Writes a header at an offset, even outside the linear part.
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

    /// Pulls the headers into the linear part. They are there already, unless the sender builds its own
    /// frames (packet rings).
    #[inline(always)]
    pub fn pull_headers(&mut self) -> Result<(), Reason> {
        let wanted = (self.len() as usize).min(HEADERS);
        if self.ctx.data() + wanted <= self.ctx.data_end() {
            return Ok(());
        }
        self.ctx.pull_data(wanted as u32).map_err(|_| Reason::Failed)
    }

    /// Changes the length of the frame: appends zeros or cuts it.
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

    /// Updates a checksum at an offset after its data have changed by `difference`; of this, a pseudo-header has changed
    /// by `in_pseudo_header`, too. A checksum that the kernel is to complete covers only the pseudo-header so far. If zero
    /// stays zero, it means that there is no checksum.
    #[inline(always)]
    pub fn change_checksum(
        &mut self,
        offset: usize,
        difference: u32,
        in_pseudo_header: u32,
        zero_stays: bool,
    ) -> Result<(), Reason> {
        let zero_stays = if zero_stays { BPF_F_MARK_MANGLED_0 as u64 } else { 0 };
        let pseudo_header = zero_stays | BPF_F_PSEUDO_HDR as u64;
        for (difference, flags) in [(difference, zero_stays), (in_pseudo_header, pseudo_header)] {
            // SAFETY: the kernel passes a valid context; references into the frame ended when it was taken by `&mut`.
            let changed =
                unsafe { bpf_l4_csum_replace(self.ctx.skb.skb, offset as u32, 0, difference.into(), flags) };
            if changed != 0 {
                return Err(Reason::Failed);
            }
        }
        Ok(())
    }

    /// Changes the port at an offset, and the checksum at another that covers it. If zero stays zero there, it means that
    /// there is no checksum. Inside the frame, nothing of this can fail.
    #[inline(always)]
    pub fn change_port(
        &mut self,
        offset: usize,
        before: [u8; 2],
        after: [u8; 2],
        checksum: usize,
        zero_stays: bool,
    ) {
        let size = size_of::<[u8; 2]>() as u64;
        let flags = if zero_stays { size | BPF_F_MARK_MANGLED_0 as u64 } else { size };
        let [before, new] = [before, after].map(|port| u16::from_ne_bytes(port).into());
        // SAFETY: the kernel passes a valid context; references into the frame ended when it was taken by `&mut`.
        let changed = unsafe { bpf_l4_csum_replace(self.ctx.skb.skb, checksum as u32, before, new, flags) };
        if changed == 0 {
            let _inside = self.store(offset, &Bytes(after));
        }
    }

    /// Redirects the frame to a device. Device 0 does not exist: the kernel then frees the frame without an
    /// error to the sender, unlike a drop.
    #[inline(always)]
    pub fn redirect(&mut self, ifindex: u32, side: Side) -> Result<(), Reason> {
        // SAFETY: takes no pointer; the frame is handed on when the program has returned.
        done(unsafe { bpf_redirect(ifindex, side.flags()) })
    }

    /// Drops the frame without an error to its sender.
    #[inline(always)]
    pub fn lose(&mut self) -> Result<(), Reason> {
        self.redirect(0, Side::Transmit)
    }

    /// Redirects the frame to the other end of a veth pair, in that end's namespace, without a queue.
    #[inline(always)]
    pub fn redirect_peer(&mut self, ifindex: u32) -> Result<(), Reason> {
        // Before Linux 6.15 the frame keeps its type, which at this end of the pair was "for another host".
        if self.pkt_type() != PACKET_HOST {
            self.ctx.change_type(PACKET_HOST).map_err(|_| Reason::Failed)?;
        }
        // The mark is for the host only; it would be kept in the container's namespace.
        if self.mark() != 0 {
            self.ctx.set_mark(0);
        }
        // SAFETY: takes no pointer; the frame is handed on when the program has returned.
        done(unsafe { bpf_redirect_peer(ifindex, 0) })
    }

    /// Redirects the frame to a device, and has the kernel write its MACs for a neighbour there. It checks an entry that it
    /// has not used for a while.
    #[inline(always)]
    pub fn redirect_to_neighbour(&mut self, ifindex: u32, address: [u8; 4]) -> Result<(), Reason> {
        done(route::redirect_to_neighbour(ifindex, address))
    }

    /// Whether the frame is for this host, by its destination MAC.
    #[inline(always)]
    pub fn is_for_this_host(&self) -> bool {
        self.pkt_type() == PACKET_HOST
    }

    /// Whether the packet, or each segment of a GSO packet, is not larger than a device's MTU (Linux 5.12).
    #[inline(always)]
    pub fn fits(&self, ifindex: u32) -> bool {
        let mut length = 0;
        let flags = BPF_MTU_CHK_SEGS as u64;
        // SAFETY: the kernel passes a valid context, and reads and writes the length.
        unsafe { bpf_check_mtu(self.ctx.as_ptr(), ifindex, &raw mut length, 0, flags) == 0 }
    }

    /// The hash of the packet's flow.
    #[inline(always)]
    pub fn hash(&self) -> u32 {
        // SAFETY: the kernel passes a valid context.
        unsafe { bpf_get_hash_recalc(self.ctx.skb.skb) }
    }

    /// The next station of an IPv4 packet of `length` bytes, if the host received it by the device `received_by`.
    #[inline(always)]
    pub fn next_station(
        &self,
        received_by: u32,
        packet: &Ipv4,
        ports: &Transport,
        length: u32,
    ) -> Option<NextStation> {
        route::next_station(self.ctx.as_ptr(), received_by, packet, ports, length)
    }

    /// The next hop of a packet, if the host received it by the device `received_by`.
    #[inline(always)]
    pub fn next_hop(&self, received_by: u32, packet: &Routed) -> Option<Hop> {
        route::next_hop(self.ctx.as_ptr(), received_by, packet)
    }

    /// Sends a copy of the frame to a device at once.
    #[inline(always)]
    pub fn clone_to(&mut self, ifindex: u32) -> Result<(), Reason> {
        self.ctx.clone_redirect(ifindex, 0).map_err(|_| Reason::Failed)
    }

    /// A word of the frame's scratch memory, which is kept across tail calls.
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

    /// The context, for helpers that need it.
    #[inline(always)]
    pub fn context(&self) -> &impl EbpfContext {
        &self.ctx
    }
}

/// The time since the boot, in nanoseconds, with that in which the host slept (Linux 5.8).
#[inline(always)]
pub fn since_boot() -> u64 {
    // SAFETY: takes nothing.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// The tick of the kernel's clock, modulo 2^32: 1 to 10 ms (Linux 5.5). Costs a fraction of the time.
#[inline(always)]
pub fn tick() -> u32 {
    // SAFETY: takes nothing.
    unsafe { bpf_jiffies64() as u32 }
}

/// The monotonic clock, in nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: takes nothing.
    unsafe { bpf_ktime_get_ns() }
}

/// The same in seconds, modulo 2^32.
#[inline(always)]
pub fn seconds() -> u32 {
    (now() / 1_000_000_000) as u32
}

/// A random number below `limit`; 0 if that is 0.
#[inline(always)]
pub fn random_below(limit: u32) -> u32 {
    // SAFETY: takes nothing.
    let random = unsafe { bpf_get_prandom_u32() };
    ((random as u64 * limit as u64) >> 32) as u32
}

/// Bytes that the kernel may read four at a time.
#[repr(C, align(4))]
pub struct Words<T>(pub T);

/// The difference for a checksum update.
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

/// Functions that the verifier checks once, and not on each path to them, because they are global. They print
/// the reason's number, and the daemon replaces it with the name: copying a name would need another call, too
/// much for the stack that Linux 5.10 allows, and would be most of the verifier's work.
#[cfg(feature = "log")]
pub mod apart {
    use aya_ebpf::{
        bindings::{__sk_buff, xdp_md},
        programs::XdpContext,
    };

    use super::{Arrival, Packet, Reason, TcContext};

    /// Logs how a frame ended.
    #[inline(always)]
    pub fn log(packet: &Packet, reason: Reason) {
        netbpf_log(packet.ctx.skb.skb, reason as u32);
    }

    /// Formatting a line is longer than the rest of a program.
    #[unsafe(no_mangle)]
    #[inline(never)]
    pub extern "C" fn netbpf_log(skb: *mut __sk_buff, reason: u32) -> u32 {
        let packet = Packet::new(TcContext::new(skb));
        let (bytes, ifindex) = (packet.len(), packet.ifindex());
        aya_log_ebpf::info!(packet.context(), "{} bytes at {}: {}", bytes, ifindex, reason);
        1
    }

    /// Logs why a frame of an uplink was dropped.
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
