//! The entry points of netbpf's eBPF programs, one line each.
//!
//! An entry point runs one function of [`bridge`]; [`stats`] counts the result. [`short`] has the way of nearly all frames.
//! For the others, [`parse`] reads a frame's headers, [`interface`] finds the sender, [`isolation`], [`open`] and [`icc`] check what it may send, and [`limit`]
//! how much; [`arp`], [`nd`] and [`names`] answer, [`forward`] and [`mod@flood`] pass on, [`unused`] drops packets to
//! unused addresses, [`uplink`] packets from other hosts; [`mod@flow`] leads around the host's stack. [`drops`] remembers what was dropped. Only [`packet`]
//! accesses a frame's bytes and its context, only [`maps`] accesses maps: there is no `unsafe` elsewhere.
//!
//! Fragments, GSO frames and partial checksums pass unchanged, and no length in a header is trusted.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

mod arp;
mod bridge;
mod drops;
mod flood;
mod flow;
mod forward;
mod icc;
mod interface;
mod isolation;
mod limit;
mod maps;
mod names;
mod nd;
mod open;
mod packet;
mod parse;
mod short;
mod stats;
mod unused;
mod uplink;

use aya_ebpf::{
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

use self::packet::{Arrival, Packet};

/// A frame that a container sent: tc ingress of its endpoint's host side.
#[classifier]
fn from_container(ctx: TcContext) -> i32 {
    stats::settle(&mut Packet::new(ctx), bridge::from_container)
}

/// A container's frame that does not go the short way: the target of a tail call from `from_container`.
#[classifier]
fn long_way(ctx: TcContext) -> i32 {
    stats::settle(&mut Packet::new(ctx), bridge::long_way)
}

/// A frame that the host sent to a network: tc egress of the network's host device.
#[classifier]
fn from_host(ctx: TcContext) -> i32 {
    stats::settle(&mut Packet::new(ctx), bridge::from_host)
}

/// A frame of a container that may use more than its leases: the target of a tail call from `long_way`.
#[classifier]
fn from_open(ctx: TcContext) -> i32 {
    stats::settle(&mut Packet::new(ctx), bridge::from_open)
}

/// A frame to somebody without a lease: the target of tail calls from the programs above.
#[classifier]
fn to_open(ctx: TcContext) -> i32 {
    stats::settle(&mut Packet::new(ctx), bridge::to_open)
}

/// A container's query to a name server: the target of tail calls from the programs above.
#[classifier]
fn answer_name(ctx: TcContext) -> i32 {
    stats::settle(&mut Packet::new(ctx), bridge::answer_name)
}

/// A container's packet to the host, which may be of an established flow: the target of tail calls from `long_way`.
#[classifier]
fn flow_out(ctx: TcContext) -> i32 {
    stats::settle(&mut Packet::new(ctx), bridge::flow_out)
}

/// A packet that an uplink received, which may be of an established flow: tc ingress.
#[classifier]
fn flow_back(ctx: TcContext) -> i32 {
    stats::settle_at_uplink(&mut Packet::new(ctx), flow::back)
}

/// A packet of a container's `lo`: tc egress.
#[classifier]
fn at_lo(ctx: TcContext) -> i32 {
    stats::settle_at_lo(&mut Packet::new(ctx), names::resolve)
}

/// A frame for all members of a network: the target of tail calls from the programs above.
#[classifier]
fn flood(ctx: TcContext) -> i32 {
    stats::settle(&mut Packet::new(ctx), flood::go_on)
}

/// A frame for those members of a network that may send more than their leases: another target.
#[classifier]
fn flood_open(ctx: TcContext) -> i32 {
    stats::settle(&mut Packet::new(ctx), flood::go_on_in_open)
}

/// A frame that one of the programs above drops: the target of tail calls from them.
#[classifier]
fn remember(ctx: TcContext) -> i32 {
    stats::settle_dropped(&mut Packet::new(ctx))
}

/// A frame that an uplink received, before the kernel creates an skb: XDP.
#[xdp]
fn from_uplink(ctx: XdpContext) -> u32 {
    stats::settle_arrival(&Arrival::new(ctx), bridge::from_uplink)
}

/// The licence that the kernel requires for programs that look up routes.
#[expect(unsafe_code, reason = "a section of its own; the kernel reads it as a string that ends in a zero")]
#[cfg(target_arch = "bpf")]
#[used]
// SAFETY: nothing else is in this section.
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// An endless loop, which the verifier rejects: a program that could panic does not load.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The programs run in the kernel; for the host they are only compiled.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
