//! netbpf's programs: the entry points, one line each.
//!
//! An entry point is one sentence of [`bridge`], settled by [`stats`]. Below the sentence: [`parse`] judges a frame's
//! shape, [`interface`] says who sent it, [`isolation`] and [`icc`] what the sender may say, [`arp`] and [`nd`] answer,
//! [`forward`] and [`mod@flood`] pass on, [`unused`] knows the addresses that nobody has, [`uplink`] what other hosts may
//! not send. Only [`packet`] touches a frame's bytes and its context, only [`maps`] touches maps: there is no `unsafe`
//! elsewhere.
//!
//! What the kernel knows of an skb is never repaired here: fragments, GSO frames and partial checksums pass as they
//! came, and no length that a header claims is trusted.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

mod arp;
mod bridge;
mod flood;
mod forward;
mod icc;
mod interface;
mod isolation;
mod maps;
mod nd;
mod packet;
mod parse;
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

/// A frame that the host sent to a network: tc egress of the network's host device.
#[classifier]
fn from_host(ctx: TcContext) -> i32 {
    stats::settle(&mut Packet::new(ctx), bridge::from_host)
}

/// A frame for every member of a network: what the other two hand over by tail call.
#[classifier]
fn flood(ctx: TcContext) -> i32 {
    stats::settle(&mut Packet::new(ctx), flood::go_on)
}

/// A frame that came in by an uplink, before the kernel has made an skb of it: XDP.
#[xdp]
fn from_uplink(ctx: XdpContext) -> u32 {
    stats::settle_arrival(&Arrival::new(ctx), bridge::from_uplink)
}

/// What the kernel asks of programs that look up routes.
#[expect(unsafe_code, reason = "a section of its own; the kernel reads it as a string that ends in a zero")]
#[cfg(target_arch = "bpf")]
#[used]
// SAFETY: nothing else is in this section.
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// An endless loop, which the verifier refuses: a program that could panic does not load.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The programs run in the kernel; on the host they are only checked.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
