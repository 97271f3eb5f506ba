//! The maps of established flows: which may skip the host's stack, and which have sent enough for it. Must not know packets.
//!
//! An entry of the hash may be removed and its memory be another's while a program reads it, so the value is only an index,
//! and the caller compares the key in the flow. User space changes a flow only when no program reads it any more.
#![expect(
    unsafe_code,
    reason = "map values are raw pointers; this file copies them out or writes words of them"
)]

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, HashMap, RingBuf},
    macros::btf_map,
};
use netbpf_common::flow::{
    BUSY_FLOWS_BYTES, Flow, FlowKey, FlowState, MAX_FLOWS, MAX_WAYS, SENDERS as MAX_SENDERS, Sender,
};

/// The flow of each packet that may skip the stack. Most hosts have few, so it is not preallocated.
#[btf_map]
static FLOW_WAYS: HashMap<FlowKey, u32, { MAX_WAYS as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// The flows.
#[btf_map]
static FLOWS: Array<Flow, { MAX_FLOWS as usize }> = Array::new();

/// Whether flows may skip the stack.
#[btf_map]
static FLOW_STATE: Array<FlowState, 1> = Array::new();

/// How many packets flows without an entry have sent.
#[btf_map]
static SENDERS: Array<Sender, { MAX_SENDERS as usize }> = Array::new();

/// The keys of flows that have sent enough.
#[btf_map]
static BUSY_FLOWS: RingBuf<(), { BUSY_FLOWS_BYTES as usize }> = RingBuf::new();

/// A flow with an entry.
pub struct KnownFlow(*mut Flow);

impl KnownFlow {
    /// A copy of it.
    #[inline(always)]
    pub fn copy(&self) -> Flow {
        // SAFETY: a value of an array, which stays; any bytes are a value.
        unsafe { self.0.read() }
    }

    /// Notes that a packet was sent on in this second.
    #[inline(always)]
    pub fn note_seen(&self, now: u32) {
        // SAFETY: an aligned word, which no CPU sees half written; so it is in the next two. Volatile, because others write
        // there.
        unsafe {
            let seen = &raw mut (*self.0).seen;
            if seen.read_volatile() != now {
                seen.write_volatile(now);
            }
        }
    }

    /// Notes that the next hop is checked in this second. False: it was checked before.
    #[inline(always)]
    pub fn is_first_check(&self, now: u32) -> bool {
        // SAFETY: as above.
        unsafe {
            let checked = &raw mut (*self.0).checked;
            if checked.read_volatile() == now {
                return false;
            }
            checked.write_volatile(now);
        }
        true
    }

    /// Ends it: its packets go through the stack from now on.
    #[inline(always)]
    pub fn end(&self) {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.0).is_over).write_volatile(1) }
    }
}

/// The flow of a key. The caller must compare the flow's own key.
#[inline(always)]
pub fn flow(key: &FlowKey) -> Option<KnownFlow> {
    // SAFETY: any bytes are an index; copied out at once.
    let index = unsafe { FLOW_WAYS.get(key).copied() }?;
    FLOWS.get_ptr_mut(index).map(KnownFlow)
}

/// Whether flows may skip the stack.
#[inline(always)]
pub fn flow_state() -> FlowState {
    FLOW_STATE.get(0).copied().unwrap_or_default()
}

/// Counts a packet of the flow with this hash, which takes a place by chance if others have both of its own. Whether the flow
/// is to be reported now. Two CPUs at once may count one.
#[inline(always)]
pub fn has_sent_enough(hash: u32, now: u32, takes_first: impl FnOnce() -> bool) -> bool {
    let [first, second] = Sender::places(hash);
    let (Some(first), Some(second)) = (SENDERS.get_ptr_mut(first), SENDERS.get_ptr_mut(second)) else {
        return false;
    };
    let is_there = |place: *mut Sender| {
        // SAFETY: aligned words, which no CPU sees half written. Volatile, because others write there.
        unsafe { (&raw const (*place).hash).read_volatile() == hash }
    };
    let is_in_first = is_there(first) || (!is_there(second) && takes_first());
    let place = if is_in_first { first } else { second };
    // SAFETY: as above.
    let (sender, is_enough) = unsafe { place.read_volatile() }.and_one(hash, now);
    // SAFETY: the same.
    unsafe { place.write_volatile(sender) };
    is_enough
}

/// Reports a flow to the daemon, unless it has not read for long.
#[inline(always)]
pub fn report_busy_flow(key: FlowKey) {
    let _full = BUSY_FLOWS.output_untyped::<FlowKey>(key, 0);
}
