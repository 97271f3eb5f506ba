//! How a frame ended: the one place that makes a reason into a counter and a verdict.

use aya_ebpf::bindings::{TC_ACT_REDIRECT, TC_ACT_SHOT};
use netbpf_common::{endpoint, reason::Reason};

use crate::{bridge::End, maps, packet::Packet};

/// Lets a sentence decide about a frame, counts and gives the verdict.
#[inline(always)]
pub fn settle(packet: &mut Packet, sentence: impl FnOnce(&mut Packet) -> End) -> i32 {
    let bytes = packet.len() as u64;
    let (Ok(reason) | Err(reason)) = sentence(packet);
    maps::count(reason, bytes);
    log(packet, reason);
    if reason.is_drop()
        && let Some(stats) = endpoint::number_of(packet.ifindex()).and_then(maps::port_stats)
    {
        stats.dropped.add(bytes);
    }
    verdict(reason)
}

/// Says in the programs' log how a frame ended.
#[cfg(feature = "log")]
#[inline(always)]
fn log(packet: &Packet, reason: Reason) {
    crate::packet::apart::log(packet, reason);
}

/// There is no log in the normal object: its map would keep bpftool from loading it.
#[cfg(not(feature = "log"))]
#[inline(always)]
fn log(_: &Packet, _: Reason) {}

/// Counts what a port gets.
#[inline(always)]
pub fn received(number: u32, bytes: u32) {
    if let Some(stats) = maps::port_stats(number) {
        stats.received.add(bytes as u64);
    }
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
        | Reason::UnknownPort
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
        | Reason::Failed => TC_ACT_SHOT,
    }
}
