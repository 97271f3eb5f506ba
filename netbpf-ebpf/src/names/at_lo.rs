//! Answers queries to netbpf's responder where they leave a container's `lo`, and maps the responder's port.
//!
//! Clients ask at port 53 of the resolver's address. The responder listens at another port there, so that a name server of
//! the container can have port 53 of all addresses: the port in packets to the responder is changed to its own, and back
//! in its replies and in the errors of a closed port. A query for a known name is answered in place, also while no
//! responder runs. Packets of others pass unchanged, after one comparison of their addresses.
//!
//! A reply has no checksum: it stays on the host, and IPv4 permits that.

use netbpf_common::{
    checksum::{removed, sum, updated},
    name::{MAX_ADDRESSES, MAX_POINTER, TTL},
    reason::Reason,
    wire::{Bytes, DNS_PORT, DnsPacket, EndOfQuestion, EtherType, Ethernet, Ipv4, Transport, protocol},
};

use super::{Query, name, query};
use crate::{
    maps::{Found, Known, Resolver},
    packet::{self, Packet},
};

/// Offset of the IPv4 header: frames of `lo` have an Ethernet header of zeros.
const NETWORK: usize = size_of::<Ethernet>();

/// Offset of what follows an IPv4 header without options.
const TRANSPORT: usize = NETWORK + size_of::<Ipv4>();

/// Offset of the checksum in a TCP header (RFC 9293, section 3.1).
const TCP_CHECKSUM: usize = 16;

/// Offsets in an ICMP error (RFC 792): its checksum, and the header of the packet that it is about.
const ICMP_CHECKSUM: usize = 2;
const ICMP_INNER: usize = 8;

/// The type of the ICMP error of a closed port.
const UNREACHABLE: u8 = 3;

/// Answers a query, or maps a port. Returns the reason if the packet was answered.
#[inline(always)]
pub fn resolve(packet: &mut Packet) -> Option<Reason> {
    let ipv4 = *packet.header::<Ipv4>(NETWORK).ok()?;
    if !may_be_resolver(ipv4.source) && !may_be_resolver(ipv4.destination) {
        return None;
    }
    let is_whole = u16::from_be_bytes(ipv4.fragment) & 0x3fff == 0;
    if packet.header::<Ethernet>(0).ok()?.ethertype != EtherType::IPV4
        || ipv4.version_ihl != 0x45
        || !is_whole
    {
        return None;
    }
    let resolver = Resolver::of_class(packet.tc_classid())?;
    let (address, port) = (resolver.address(), resolver.port());
    let (checksum, zero_stays) = match ipv4.protocol {
        protocol::UDP => (DnsPacket::CHECKSUM, true),
        protocol::TCP => (TCP_CHECKSUM, false),
        protocol::ICMP if ipv4.source == address => {
            map_error(packet, address, port);
            return None;
        }
        _ => return None,
    };
    let ports = packet.load::<Transport>(TRANSPORT).ok()?;
    let (place, before, after) = if ipv4.destination == address && ports.destination == DNS_PORT {
        if ipv4.protocol == protocol::UDP && answer(packet, &ipv4, &resolver).is_some() {
            return Some(Reason::AnsweredName);
        }
        (2, DNS_PORT, port)
    } else if ipv4.source == address && ports.source == port {
        (0, port, DNS_PORT)
    } else {
        return None;
    };
    packet.change_port(TRANSPORT + place, before, after, TRANSPORT + checksum, zero_stays);
    None
}

/// Whether it is one of the addresses where netbpf's responder listens: 127.0.0.11 or 127.0.0.12.
#[inline(always)]
const fn may_be_resolver(address: [u8; 4]) -> bool {
    u32::from_be_bytes(address).wrapping_sub(0x7f00_000b) < 2
}

/// Maps the port in an error about a packet to the responder: the client compares it with the one that it has asked.
#[inline(always)]
fn map_error(packet: &mut Packet, address: [u8; 4], port: [u8; 2]) {
    let inner = TRANSPORT + ICMP_INNER;
    let (Ok([kind, _]), Ok(about), Ok(ports)) = (
        packet.load::<Bytes<2>>(TRANSPORT).map(|start| start.0),
        packet.load::<Ipv4>(inner),
        packet.load::<Transport>(inner + size_of::<Ipv4>()),
    ) else {
        return;
    };
    let is_to_responder =
        about.version_ihl == 0x45 && about.destination == address && ports.destination == port;
    if kind == UNREACHABLE && about.protocol == protocol::UDP && is_to_responder {
        let place = inner + size_of::<Ipv4>() + 2;
        packet.change_port(place, port, DNS_PORT, TRANSPORT + ICMP_CHECKSUM, false);
    }
}

/// Makes a query its own reply; none if only the responder can answer it, or the kernel has no memory: then it is
/// unchanged.
#[inline(always)]
fn answer(packet: &mut Packet, ipv4: &Ipv4, resolver: &Resolver) -> Option<()> {
    let end = NETWORK + u16::from_be_bytes(ipv4.total_length) as usize;
    let query = query(packet, TRANSPORT, end)?;
    let known = name(packet, &query)?.known_to(resolver, query.length, query.kind)?;
    let (count, size, room) = match &known {
        Known::Nothing => (0, 0, 0),
        Known::Addresses(found) => {
            let (count, size) = records(found, query.kind);
            (count, count * size, count * size)
        }
        Known::Pointer(pointed) => {
            let start = size_of::<Bytes<12>>();
            (1, start + pointed.length(), start + MAX_POINTER)
        }
    };
    let opt = if query.opt.is_some() { size_of::<Bytes<11>>() } else { 0 };
    // Only this can fail.
    packet.resize(query.offset + query.rest + room + opt).ok()?;
    let at = query.offset + query.rest;
    match &known {
        Known::Nothing => {}
        Known::Addresses(found) => write_addresses(packet, at, query.kind, found, count)?,
        Known::Pointer(pointed) => {
            let length = pointed.length();
            packet.store(at, &Bytes::start_of_pointer(TTL, length as u16)).ok()?;
            packet.store(at + size_of::<Bytes<12>>(), pointed.name()).ok()?;
        }
    }
    if let Some(opt) = query.opt {
        packet.store(at + size, &opt.opt_of_reply()).ok()?;
    }
    let length = query.rest + size + opt;
    packet.resize(query.offset + length).ok()?;
    send_back(packet, &query, ipv4, count as u16, length as u16)
}

/// How many records there are of this type, and the size of one.
#[inline(always)]
fn records(found: &Found, kind: [u8; 2]) -> (usize, usize) {
    match kind {
        EndOfQuestion::A => (found.ipv4_count(), size_of::<Bytes<16>>()),
        _ => (found.ipv6_count(), size_of::<Bytes<28>>()),
    }
}

/// Writes a record of each address. Each is the first one sometimes.
#[inline(always)]
fn write_addresses(packet: &mut Packet, at: usize, kind: [u8; 2], found: &Found, count: usize) -> Option<()> {
    let first = packet::random_below(count as u32) as usize;
    for place in 0..MAX_ADDRESSES {
        if place >= count {
            break;
        }
        let index = if first + place < count { first + place } else { first + place - count };
        match kind {
            EndOfQuestion::A => {
                let record = Bytes::ipv4_record(TTL, found.ipv4(index));
                packet.store(at + place * size_of::<Bytes<16>>(), &record).ok()?;
            }
            _ => {
                let record = Bytes::ipv6_record(TTL, found.ipv6(index));
                packet.store(at + place * size_of::<Bytes<28>>(), &record).ok()?;
            }
        }
    }
    Some(())
}

/// Writes the headers of a reply with `count` records in a datagram of `length` bytes. It goes on to `lo`, and so to the
/// client.
#[inline(always)]
fn send_back(packet: &mut Packet, query: &Query, ipv4: &Ipv4, count: u16, length: u16) -> Option<()> {
    let reply = DnsPacket { checksum: [0; 2], ..query.header.reply(count, length) };
    packet.store(TRANSPORT, &reply).ok()?;
    let total_length = (size_of::<Ipv4>() as u16 + length).to_be_bytes();
    let difference = removed(sum(&ipv4.total_length)) + sum(&total_length);
    let after = Ipv4 {
        total_length,
        checksum: updated(ipv4.checksum, difference),
        source: ipv4.destination,
        destination: ipv4.source,
        ..*ipv4
    };
    packet.store(NETWORK, &after).ok()
}
