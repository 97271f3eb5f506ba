//! Random frames for a bridge and its ports. Each ends with its number. Must not know who receives them.
//!
//! All frames are such that a network without guard treats them as a kernel bridge does. Where it does not, README
//! says why ("Guard"), and none is sent:
//!
//! - frames to the reserved groups 01:80:c2:00:00:0x;
//! - frames from the host's MAC or addresses in that network; the programs also answer a duplicate address probe for
//!   such an address;
//! - packets from or to 127.0.0.0/8;
//! - malformed ARP, and a VLAN tag behind one with ID 0: what they hide cannot be checked;
//! - neighbour discovery behind extension headers, and more than four extension headers.

use netbpf_tests::lab::station::{
    Arp, BROADCAST, Mac, arp, ethernet, icmpv6, ipv4, ipv4_with, ipv6, ipv6_with, tagged,
};
use rand::{Rng as _, RngExt as _, rngs::SmallRng, seq::IndexedRandom as _};

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const VLAN: u16 = 0x8100;
const IPV6: u16 = 0x86dd;
const SERVICE_VLAN: u16 = 0x88a8;

const HOP_BY_HOP: u8 = 0;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
const DESTINATION_OPTIONS: u8 = 60;

/// The host's addresses in the network.
const HOST: ([u8; 4], [u8; 16]) = ([10, 5, 0, 1], of_network(1));
/// Of ports, of nobody, of other networks, and none.
const ADDRESSES: [[u8; 4]; 7] =
    [[10, 5, 0, 2], [10, 5, 0, 3], [10, 5, 0, 99], [10, 6, 0, 2], [8; 4], [224, 0, 0, 251], [0; 4]];
const ADDRESSES_IPV6: [[u8; 16]; 6] = [
    of_network(2),
    of_network(0x99),
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9],
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7],
    [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [0; 16],
];
const GROUPS: [Mac; 6] = [
    BROADCAST,
    [1, 0, 0x5e, 0, 0, 0xfb],
    [0x33, 0x33, 0, 0, 0, 1],
    [0x33, 0x33, 0xff, 0, 0, 2],
    [1, 0x80, 0xc2, 0, 0, 0x10],
    [1, 0, 0x0c, 0xcc, 0xcc, 0xcd],
];

/// fd00:5::x
const fn of_network(last: u8) -> [u8; 16] {
    [0xfd, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

/// The last bytes of a frame.
pub fn mark(number: u32) -> [u8; 8] {
    let [a, b, c, d] = number.to_be_bytes();
    [b'n', b'e', b't', b'b', a, b, c, d]
}

/// The number of a frame.
pub fn number(frame: &[u8]) -> Option<u32> {
    let (_, end) = frame.split_last_chunk::<8>()?;
    let number = u32::from_be_bytes([end[4], end[5], end[6], end[7]]);
    (mark(number) == *end).then_some(number)
}

/// The MACs of a network.
pub struct Macs {
    /// Of the ports' interfaces.
    pub ports: Vec<Mac>,
    /// Of the host.
    pub host: Mac,
}

/// A frame that a port sends.
pub fn frame(random: &mut SmallRng, macs: &Macs, port: usize, count: u32) -> Vec<u8> {
    let source = match random.random_range(0..16) {
        0..8 => macs.ports[port],
        8..15 => any_source(random, macs),
        _ => *[[0; 6], BROADCAST, [3, 0, 0, 0, 0, 1]].choose(random).expect("some"),
    };
    let destination = match random.random_range(0..8) {
        0..5 => any_source(random, macs),
        5 | 6 => *GROUPS.choose(random).expect("some"),
        _ => *[macs.host, [2, 9, 9, 9, 9, 9]].choose(random).expect("some"),
    };
    let (ethertype, payload) = content(random, source);
    let (ethertype, payload) = match random.random_range(0..12) {
        0 => (VLAN, tagged(priority(random) | 5, ethertype, &payload)),
        1 => (VLAN, tagged(priority(random), ethertype, &payload)),
        2 => (SERVICE_VLAN, tagged(3, VLAN, &tagged(priority(random) | 5, ethertype, &payload))),
        _ => (ethertype, payload),
    };
    [ethernet(destination, source, ethertype, &payload), mark(count).to_vec()].concat()
}

/// A port's MAC, or one that stations behind ports have.
fn any_source(random: &mut SmallRng, macs: &Macs) -> Mac {
    let behind = [2, 1, 0, 0, 0, random.random_range(0..4)];
    *[behind, *macs.ports.choose(random).expect("some")].choose(random).expect("some")
}

fn priority(random: &mut SmallRng) -> u16 {
    random.random_range(0..8u16) << 13
}

/// An ethertype with its payload.
fn content(random: &mut SmallRng, source: Mac) -> (u16, Vec<u8>) {
    let bytes = bytes(random, 0..600);
    let (from, to) = (address(random), destination(random));
    let (from_ipv6, to_ipv6) = (address_ipv6(random), destination_ipv6(random));
    match random.random_range(0..14) {
        0..3 => (ARP, any_arp(random, source)),
        3 | 4 => (IPV4, ipv4(from, to, &bytes)),
        5 | 6 => (IPV6, ipv6(from_ipv6, to_ipv6, &bytes)),
        7..9 => (IPV6, discovery(random)),
        9 => (IPV4, ipv4_with(UDP, [0; 4], [255; 4], &[&dhcp(), &bytes[..]].concat())),
        10 => (IPV6, behind_extensions(random, &bytes)),
        // Of version 0: receivers ignore such packets.
        11 => (*[IPV4, IPV6].choose(random).expect("some"), [&[0][..], &bytes].concat()),
        12 => (u16::try_from(bytes.len()).expect("a length"), bytes),
        _ => (*[0x0600, 0x0842, 0x8847, 0x8863, 0x88cc, 0x88b5, 0xffff].choose(random).expect("some"), bytes),
    }
}

fn bytes(random: &mut SmallRng, lengths: std::ops::Range<usize>) -> Vec<u8> {
    let mut bytes = vec![0; random.random_range(lengths)];
    random.fill_bytes(&mut bytes);
    bytes
}

fn address(random: &mut SmallRng) -> [u8; 4] {
    *ADDRESSES.choose(random).expect("some")
}

fn destination(random: &mut SmallRng) -> [u8; 4] {
    if random.random_ratio(1, 4) { HOST.0 } else { address(random) }
}

fn address_ipv6(random: &mut SmallRng) -> [u8; 16] {
    *ADDRESSES_IPV6.choose(random).expect("some")
}

fn destination_ipv6(random: &mut SmallRng) -> [u8; 16] {
    if random.random_ratio(1, 4) { HOST.1 } else { address_ipv6(random) }
}

/// Requests, replies, probes and announcements, also with another MAC than the frame's.
fn any_arp(random: &mut SmallRng, source: Mac) -> Vec<u8> {
    let operation = *[Arp::Request, Arp::Reply].choose(random).expect("some");
    let sender = (*[source, [2, 1, 0, 0, 0, 1]].choose(random).expect("some"), address(random));
    let target = if random.random_ratio(1, 3) { sender.1 } else { destination(random) };
    arp(operation, sender, (*[[0; 6], source].choose(random).expect("some"), target))
}

/// Any message of neighbour discovery: solicitations, advertisements and redirects, with any options or none.
fn discovery(random: &mut SmallRng) -> Vec<u8> {
    let kind = random.random_range(133..=137);
    let from = address_ipv6(random);
    let target = match kind {
        135 if from != [0; 16] => destination_ipv6(random),
        _ => address_ipv6(random),
    };
    let fixed: &[u8] = if kind < 135 { &[0; 8] } else { &target };
    let mut message = [&[kind, 0, 0, 0, 0x20, 0, 0, 0][..], fixed].concat();
    for _ in 0..random.random_range(0..3) {
        let mac = [2, 1, 0, 0, 0, random.random_range(0..4)];
        message.extend([&[random.random_range(1..3), 1][..], &mac].concat());
    }
    let mut packet = icmpv6(from, destination_ipv6(random), &message);
    if random.random_ratio(1, 8) {
        // A router has forwarded it, so receivers ignore it.
        packet[7] = 64;
    }
    packet
}

/// Reports of multicast groups, fragments, and options for the destination.
fn behind_extensions(random: &mut SmallRng, bytes: &[u8]) -> Vec<u8> {
    let (from, to) = (address_ipv6(random), destination_ipv6(random));
    let router_alert = [ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    let report = [143, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0];
    match random.random_range(0..3) {
        0 => ipv6_with(HOP_BY_HOP, from, to, &[&router_alert[..], &report, &to].concat()),
        1 => ipv6_with(FRAGMENT, from, to, &[&[UDP, 0, 0, 1, 0, 0, 0, 7][..], bytes].concat()),
        _ => ipv6_with(DESTINATION_OPTIONS, from, to, &[&[UDP, 0, 1, 4, 0, 0, 0, 0][..], bytes].concat()),
    }
}

/// The UDP header of a client's message, and the begin of it.
const fn dhcp() -> [u8; 12] {
    [0, 68, 0, 67, 0, 0, 0, 0, 1, 1, 6, 0]
}
