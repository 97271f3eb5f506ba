//! How a frame ended: the one place that makes a reason into a counter and a verdict.

use aya_ebpf::bindings::{
    TC_ACT_REDIRECT, TC_ACT_SHOT,
    xdp_action::{XDP_DROP, XDP_PASS},
};
use netbpf_common::{endpoint, network, reason::Reason};

use crate::{
    bridge::End,
    maps,
    packet::{Arrival, Packet},
};

/// Lets a sentence decide about a frame, counts and gives the verdict.
#[inline(always)]
pub fn settle(packet: &mut Packet, sentence: impl FnOnce(&mut Packet) -> End) -> i32 {
    let bytes = packet.len() as u64;
    let (Ok(reason) | Err(reason)) = sentence(packet);
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

/// Lets a sentence decide whether what other hosts send ends here. What does not is not counted: the host has it yet to
/// judge.
#[inline(always)]
pub fn settle_arrival(arrival: &Arrival, sentence: impl FnOnce(&Arrival) -> Option<Reason>) -> u32 {
    let Some(reason) = sentence(arrival) else { return XDP_PASS };
    maps::count(reason, arrival.len());
    log_arrival(arrival, reason);
    XDP_DROP
}

/// Says in the programs' log how a frame ended.
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

/// There is no log in the normal object: its map would keep bpftool from loading it.
#[cfg(not(feature = "log"))]
#[inline(always)]
fn log(_: &Packet, _: Reason) {}

/// The same for a frame of an uplink.
#[cfg(not(feature = "log"))]
#[inline(always)]
fn log_arrival(_: &Arrival, _: Reason) {}

/// Counts what a endpoint gets.
#[inline(always)]
pub fn received(number: u32, bytes: u32) {
    maps::count_received(number, bytes as u64);
}

/// Whether the host sent the frame. A question that nobody answers was sent all the same: `arping -D` takes the error
/// that a drop at egress gives to the sender for an answer.
#[inline(always)]
fn is_from_host(packet: &Packet) -> bool {
    network::number_of(packet.ifindex()).is_some()
}

/// What the kernel does with the frame. tcx and clsact understand both verdicts; a frame that is passed on was
/// redirected.
#[inline(always)]
fn verdict(reason: Reason) -> i32 {
    match reason {
        Reason::Forwarded
        | Reason::Flooded
        | Reason::Delivered
        | Reason::AnsweredArp
        | Reason::AnsweredNd => TC_ACT_REDIRECT,
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
        | Reason::Failed
        | Reason::Unpublished
        | Reason::Internal
        | Reason::Untranslated
        | Reason::Transit
        | Reason::Flows => TC_ACT_SHOT,
    }
}
