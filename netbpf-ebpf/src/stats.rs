//! The only file that turns a reason into a counter and a verdict.

use aya_ebpf::bindings::{
    TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC,
    xdp_action::{XDP_DROP, XDP_PASS},
};
use netbpf_common::{endpoint, network, reason::Reason};

use crate::{
    drops, maps,
    packet::{Arrival, Packet},
};

/// How a frame ends, with the reason: `Err` if a step before the last one ends it.
pub type End = Result<Reason, Reason>;

/// Runs a function of [`bridge`](crate::bridge) on a frame, counts the reason and returns the verdict.
#[inline(always)]
pub fn settle(packet: &mut Packet, policy: impl FnOnce(&mut Packet) -> End) -> i32 {
    let bytes = packet.len() as u64;
    let (Ok(reason) | Err(reason)) = policy(packet);
    maps::count(reason, bytes);
    log(packet, reason);
    let sender = endpoint::number_of(packet.ifindex());
    match (reason, sender) {
        (Reason::Delivered | Reason::Shortcut, Some(number)) => maps::count_to_host(number, bytes),
        (reason, Some(number)) if reason.is_drop() => maps::count_dropped(number, bytes),
        _ => {}
    }
    if reason.is_drop() { discard(packet, reason) } else { verdict(reason) }
}

/// Drops a frame. The program `remember` does, if it can be reached.
#[inline(always)]
fn discard(packet: &mut Packet, reason: Reason) -> i32 {
    drops::elsewhere(packet, reason);
    discarded(packet, reason as u32)
}

/// Remembers a frame that another program drops, and drops it.
#[inline(always)]
pub fn settle_dropped(packet: &mut Packet) -> i32 {
    let reason = drops::remember(packet);
    discarded(packet, reason)
}

/// The verdict for a dropped frame.
#[inline(always)]
fn discarded(packet: &mut Packet, reason: u32) -> i32 {
    if reason == Reason::UnknownAddress as u32 && is_from_host(packet) && packet.lose().is_ok() {
        return TC_ACT_REDIRECT;
    }
    TC_ACT_SHOT
}

/// Runs a function of [`bridge`](crate::bridge) on a frame from another host. Only dropped frames are counted
/// here: the host decides about the others.
#[inline(always)]
pub fn settle_arrival(arrival: &Arrival, policy: impl FnOnce(&Arrival) -> Option<Reason>) -> u32 {
    let Some(reason) = policy(arrival) else { return XDP_PASS };
    maps::count(reason, arrival.len());
    log_arrival(arrival, reason);
    drops::remember_arrival(arrival, reason);
    XDP_DROP
}

/// Runs a function on a packet of a container's `lo`, and counts it if there is a reason. The packet goes on to further
/// filters, and to `lo`.
#[inline(always)]
pub fn settle_at_lo(packet: &mut Packet, policy: impl FnOnce(&mut Packet) -> Option<Reason>) -> i32 {
    let bytes = packet.len() as u64;
    if let Some(reason) = policy(packet) {
        maps::count(reason, bytes);
        log(packet, reason);
    }
    TC_ACT_UNSPEC
}

/// Runs a function on a packet that an uplink received, and counts it if there is a reason. All others go on to further
/// programs, and to the host.
#[inline(always)]
pub fn settle_at_uplink(packet: &mut Packet, policy: impl FnOnce(&mut Packet) -> Option<Reason>) -> i32 {
    let bytes = packet.len() as u64;
    let Some(reason) = policy(packet) else { return TC_ACT_UNSPEC };
    maps::count(reason, bytes);
    log(packet, reason);
    if reason.is_drop() { discard(packet, reason) } else { verdict(reason) }
}

/// Logs how a frame ended.
#[cfg(feature = "log")]
#[inline(always)]
fn log(packet: &Packet, reason: Reason) {
    crate::packet::apart::log(packet, reason);
}

/// The same for a frame of an uplink.
#[cfg(feature = "log")]
#[inline(always)]
fn log_arrival(arrival: &Arrival, reason: Reason) {
    crate::packet::apart::log_arrival(arrival, reason);
}

/// There are no logs in the normal object: their map would keep bpftool from loading it.
#[cfg(not(feature = "log"))]
#[inline(always)]
fn log(_: &Packet, _: Reason) {}

/// The same for a frame of an uplink.
#[cfg(not(feature = "log"))]
#[inline(always)]
fn log_arrival(_: &Arrival, _: Reason) {}

/// Who sent a frame that an endpoint receives.
#[derive(Clone, Copy)]
pub enum Peer {
    /// Another member of the network.
    Member,
    /// The host, for itself or for other hosts.
    Host,
}

impl Peer {
    /// The sender of a frame, by the interface where it was sent.
    #[inline(always)]
    pub fn of(packet: &Packet) -> Self {
        if is_from_host(packet) { Self::Host } else { Self::Member }
    }
}

/// Counts a frame that an endpoint receives.
#[inline(always)]
pub fn received(number: u32, bytes: u32, from: Peer) {
    match from {
        Peer::Member => maps::count_from_member(number, bytes as u64),
        Peer::Host => maps::count_from_host(number, bytes as u64),
    }
}

/// Whether the host sent the frame. Its requests that get no answer are dropped without an error: `arping -D`
/// takes the error of a drop at egress for an answer.
#[inline(always)]
fn is_from_host(packet: &Packet) -> bool {
    network::number_of(packet.ifindex()).is_some()
}

/// The kernel's action for the frame. tcx and clsact have the same codes; a frame that is passed on was
/// redirected before.
#[inline(always)]
fn verdict(reason: Reason) -> i32 {
    match reason {
        Reason::Forwarded
        | Reason::Flooded
        | Reason::Delivered
        | Reason::Shortcut
        | Reason::AnsweredArp
        | Reason::AnsweredNd
        | Reason::AnsweredName => TC_ACT_REDIRECT,
        Reason::Malformed
        | Reason::UnknownEndpoint
        | Reason::UnknownDestination
        | Reason::UnknownAddress
        | Reason::SpoofedMac
        | Reason::SpoofedIpv4
        | Reason::SpoofedIpv6
        | Reason::SpoofedArp
        | Reason::SpoofedNd
        | Reason::Loopback
        | Reason::Hairpin
        | Reason::NoIcc
        | Reason::Isolated
        | Reason::Reserved
        | Reason::FloodLimit
        | Reason::EgressLimit
        | Reason::Failed
        | Reason::Unpublished
        | Reason::Internal
        | Reason::Untranslated
        | Reason::Transit
        | Reason::Flows => TC_ACT_SHOT,
    }
}
