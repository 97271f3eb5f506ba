//! The only file that turns a reason into a counter and a verdict.

use aya_ebpf::bindings::{
    TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC,
    xdp_action::{XDP_DROP, XDP_PASS},
};
use netbpf_common::{endpoint, network, reason::Reason};

use crate::{
    maps,
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
    if reason.is_drop()
        && let Some(number) = endpoint::number_of(packet.ifindex())
    {
        maps::count_dropped(number, bytes);
    }
    if reason == Reason::UnknownAddress && is_from_host(packet) && packet.lose().is_ok() {
        return TC_ACT_REDIRECT;
    }
    verdict(reason)
}

/// Runs a function of [`bridge`](crate::bridge) on a frame from another host. Only dropped frames are counted
/// here: the host decides about the others.
#[inline(always)]
pub fn settle_arrival(arrival: &Arrival, policy: impl FnOnce(&Arrival) -> Option<Reason>) -> u32 {
    let Some(reason) = policy(arrival) else { return XDP_PASS };
    maps::count(reason, arrival.len());
    log_arrival(arrival, reason);
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
    verdict(reason)
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

/// Counts a frame that an endpoint receives.
#[inline(always)]
pub fn received(number: u32, bytes: u32) {
    maps::count_received(number, bytes as u64);
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
