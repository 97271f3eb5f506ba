//! The frame and its context: the only place that turns an offset into a reference, and the only one that calls the
//! kernel's skb helpers. Judges no content.
//!
//! References into the frame borrow the [`Packet`]; what may move the frame takes it by `&mut`, so that no reference
//! survives, as the verifier demands.
#![expect(
    unsafe_code,
    reason = "packet pointers, context fields and helpers are raw; this file makes them safe"
)]

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_F_INGRESS, TC_ACT_REDIRECT},
    helpers::{bpf_redirect, bpf_redirect_peer},
    programs::TcContext,
};
use netbpf_common::{
    reason::Reason,
    wire::{Ethernet, Ipv6, Tag, Wire},
};

/// All headers that the programs read. In a frame with less of them in its linear part, they are pulled there first.
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

    /// Hands the frame to a device. Device 0 does not exist: the kernel then frees the frame and the sender hears
    /// nothing of it, which a drop would tell it.
    #[inline(always)]
    pub fn redirect(&mut self, ifindex: u32, side: Side) -> Result<(), Reason> {
        // SAFETY: takes no pointer; the frame is handed on when the program has returned.
        done(unsafe { bpf_redirect(ifindex, side.flags()) })
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
