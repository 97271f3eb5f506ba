//! The next hop of a packet, from the host's own rules, routes and settings (`bpf_fib_lookup`).

use core::{
    ffi::c_void,
    mem::{self, MaybeUninit},
};

use aya_ebpf::{
    bindings::{
        BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
        bpf_fib_lookup as Question, bpf_redir_neigh as Neighbour,
    },
    helpers::{bpf_fib_lookup, bpf_redirect_neigh},
};
use netbpf_common::wire::{Ipv4, Transport};

use crate::parse::Routed;

/// Address families of linux/socket.h.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The next device of a packet, and the next station there.
pub struct Hop {
    /// The device.
    pub ifindex: u32,
    /// Whether the next station is the packet's destination, and not another router.
    pub is_last: bool,
    /// Whether the host knows the MAC of the next station.
    pub is_known: bool,
}

/// The hop that the host would forward a packet to that it received by a device. None if the host would not
/// forward it: one of its own addresses, a broadcast address, no route, forwarding is off.
///
/// `context` is the context that the kernel passed to the program.
#[inline(always)]
pub(super) fn next_hop(context: *mut c_void, received_by: u32, packet: &Routed) -> Option<Hop> {
    let mut question = MaybeUninit::<Question>::zeroed();
    // SAFETY: integers only, of which zeros are values.
    let question = unsafe { question.assume_init_mut() };
    question.ifindex = received_by;
    question.__bindgen_anon_2.tos = packet.class;
    let (family, destination) = (if packet.is_ipv4 { AF_INET } else { AF_INET6 }, words(packet.destination));
    question.family = family;
    if packet.is_ipv4 {
        question.__bindgen_anon_3.ipv4_src = words(packet.source)[3];
        question.__bindgen_anon_4.ipv4_dst = destination[3];
    } else {
        // The traffic class is part of the first word of the header.
        question.__bindgen_anon_2.flowinfo = (u32::from(packet.class) << 20).to_be();
        question.__bindgen_anon_3.ipv6_src = words(packet.source);
        question.__bindgen_anon_4.ipv6_dst = destination;
    }
    let size = size_of::<Question>() as i32;
    // SAFETY: the kernel passed the context, and reads and writes as many bytes as a question has.
    let answer = unsafe { bpf_fib_lookup(context, question, size, 0) };
    let is_known = match u32::try_from(answer).ok()? {
        // FRAG_NEEDED: the packet is too large for the device. Linux returns this only if it knows the MAC.
        BPF_FIB_LKUP_RET_SUCCESS | BPF_FIB_LKUP_RET_FRAG_NEEDED => true,
        BPF_FIB_LKUP_RET_NO_NEIGH => false,
        _ => return None,
    };
    // The answer replaces the destination with the next router, which may be of the other family.
    // SAFETY: any bytes are values of either member, whichever was written.
    let next = unsafe {
        match packet.is_ipv4 {
            true => [0, 0, 0, question.__bindgen_anon_4.ipv4_dst],
            false => question.__bindgen_anon_4.ipv6_dst,
        }
    };
    let is_last = question.family == family
        && match packet.is_ipv4 {
            true => next[3] == destination[3],
            false => next == destination,
        };
    Some(Hop { ifindex: question.ifindex, is_last, is_known })
}

/// The next station of a packet that the host would forward.
pub struct NextStation {
    /// The device.
    pub ifindex: u32,
    /// Its MAC.
    pub own_mac: [u8; 6],
    /// The MAC of the station.
    pub mac: [u8; 6],
    /// The address of the station: the packet's destination, or a router.
    pub address: [u8; 4],
}

/// The station that the host would forward an IPv4 packet of `length` bytes to; its ports may choose one of several routers.
/// None if it would not forward it, does not know the station's MAC, or if the packet is too large for the route (Linux
/// 5.12) or the router has an IPv6 address.
#[inline(always)]
pub(super) fn next_station(
    context: *mut c_void,
    received_by: u32,
    packet: &Ipv4,
    ports: &Transport,
    length: u32,
) -> Option<NextStation> {
    let mut question = MaybeUninit::<Question>::zeroed();
    // SAFETY: integers only, of which zeros are values.
    let question = unsafe { question.assume_init_mut() };
    question.family = AF_INET;
    question.l4_protocol = packet.protocol;
    question.sport = u16::from_ne_bytes(ports.source);
    question.dport = u16::from_ne_bytes(ports.destination);
    question.ifindex = received_by;
    question.__bindgen_anon_1.tot_len = u16::try_from(length).ok()?;
    question.__bindgen_anon_2.tos = packet.tos;
    question.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(packet.source);
    question.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(packet.destination);
    let size = size_of::<Question>() as i32;
    // SAFETY: the kernel passed the context, and reads and writes as many bytes as a question has.
    let answer = unsafe { bpf_fib_lookup(context, question, size, 0) };
    if answer != BPF_FIB_LKUP_RET_SUCCESS as i64 || question.family != AF_INET {
        return None;
    }
    // SAFETY: any bytes are a value of this member, whichever was written.
    let address = unsafe { question.__bindgen_anon_4.ipv4_dst }.to_ne_bytes();
    Some(NextStation { ifindex: question.ifindex, own_mac: question.smac, mac: question.dmac, address })
}

/// Redirects the frame of the running program to a device and a neighbour there.
#[inline(always)]
pub(super) fn redirect_to_neighbour(ifindex: u32, address: [u8; 4]) -> i64 {
    let mut neighbour = MaybeUninit::<Neighbour>::zeroed();
    // SAFETY: integers only, of which zeros are values.
    let neighbour = unsafe { neighbour.assume_init_mut() };
    neighbour.nh_family = AF_INET.into();
    neighbour.__bindgen_anon_1.ipv4_nh = u32::from_ne_bytes(address);
    // SAFETY: the kernel reads as many bytes as a neighbour has.
    unsafe { bpf_redirect_neigh(ifindex, neighbour, size_of::<Neighbour>() as i32, 0) }
}

/// An address as words in memory order; an IPv4 address is the last one.
#[inline(always)]
fn words(address: [u8; 16]) -> [u32; 4] {
    // SAFETY: the same number of bytes, and any of them are values.
    unsafe { mem::transmute(address) }
}
