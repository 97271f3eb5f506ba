//! Neighbour discovery (RFC 4861): the program answers solicitations for known addresses. Nobody but the
//! sender sees them.
//!
//! - A container must send its own MAC in the option, and its own address as the target of an advertisement.
//!   The source must be an address that it has on this link (RFC 4861 section 4). Only the host may send
//!   router advertisements and redirects.
//! - A duplicate address probe (RFC 4862), whose sender has no address yet, is answered to all nodes if
//!   another station has the address. Otherwise there is no answer, which tells the sender that it may use
//!   the address.
//! - Router solicitations go to the host only.
//! - A message must be in a packet of its own, unfragmented (RFC 6980), without extension headers, and with
//!   at most one option of eight bytes. Nothing sends more, and another option could contradict the checked
//!   one.
//! - Bytes after the end of a packet, as its header gives it, are not part of the message.

use core::mem::MaybeUninit;

use netbpf_common::{
    access::UNGUARDED,
    checksum,
    endpoint::{Endpoint, NeighbourKey},
    network::Network,
    reason::Reason,
    wire::{DiscoveryOption, Ethernet, Extension, Icmpv6, Ipv6, NeighbourMessage, NeighbourPacket},
};

use crate::{
    flood::Audience,
    isolation, maps, open,
    packet::{self, Packet, Side},
    parse::{self, Content, Frame},
};

/// Maximum number of extension headers before a message; RFC 8200 section 4.1 has no use for more.
const EXTENSIONS: usize = 4;

/// Hop limit of every message of neighbour discovery: no router has forwarded it.
const HOP_LIMIT: u8 = 255;

/// MAC of the multicast group of all nodes (RFC 2464 section 7).
const MAC_OF_ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// A message of neighbour discovery.
struct Message {
    kind: u8,
    /// Its offset in the frame.
    offset: usize,
    /// Its length in bytes, from its packet's header.
    length: usize,
    source: [u8; 16],
}

/// Checks and answers neighbour discovery from a container; `Ok` if the frame is to be passed on.
#[inline(always)]
pub fn of_container(packet: &mut Packet, endpoint: &Endpoint, frame: &Frame) -> Result<(), Reason> {
    if frame.content != Content::Ipv6 {
        return Ok(());
    }
    let next_header = packet.header::<Ipv6>(frame.offset)?.next_header;
    if Extension::is_one(next_header) {
        return nothing_behind(packet, next_header, frame);
    }
    let Some(message) = message(packet, frame)? else { return Ok(()) };
    if message.source != [0; 16] && !isolation::has_ipv6(endpoint, &message.source) {
        return Err(Reason::SpoofedNd);
    }
    match message.kind {
        Icmpv6::ROUTER_SOLICITATION => {
            says_own_mac(packet, endpoint, &message, 8, DiscoveryOption::SOURCE)?;
            let host = maps::network(endpoint.network).ok_or(Reason::Failed)?.ifindex;
            packet.redirect(host, Side::Receive)?;
            Err(Reason::Delivered)
        }
        Icmpv6::NEIGHBOUR_SOLICITATION => {
            let fixed = size_of::<NeighbourMessage>();
            says_own_mac(packet, endpoint, &message, fixed, DiscoveryOption::SOURCE)?;
            let target = packet.load::<NeighbourMessage>(message.offset)?.target;
            if isolation::has_ipv6(endpoint, &target) {
                return Err(Reason::UnknownAddress);
            }
            answer(packet, endpoint.network, frame, &message, Side::Transmit)
        }
        Icmpv6::NEIGHBOUR_ADVERTISEMENT => {
            let fixed = size_of::<NeighbourMessage>();
            says_own_mac(packet, endpoint, &message, fixed, DiscoveryOption::TARGET)?;
            let target = packet.load::<NeighbourMessage>(message.offset)?.target;
            if isolation::has_ipv6(endpoint, &target) && message.source != [0; 16] {
                Ok(())
            } else {
                Err(Reason::SpoofedNd)
            }
        }
        // Router advertisements and redirects.
        _ => Err(Reason::SpoofedNd),
    }
}

/// Checks and answers neighbour discovery from a container with an open endpoint; `Ok` if the frame is to be passed
/// on, with those who may believe it.
///
/// The source must be an address that the endpoint may use on this link, not that of another endpoint of its container
/// (RFC 4861 section 4): the host would take the message for one from the other network. Without guard, a message that
/// receivers ignore is passed on, but not to guarded members and the host.
#[inline(always)]
pub fn of_open(packet: &mut Packet, endpoint: &Endpoint, frame: &Frame) -> Result<Audience, Reason> {
    if frame.content != Content::Ipv6 {
        return Ok(Audience::ALL);
    }
    let next_header = packet.header::<Ipv6>(frame.offset)?.next_header;
    if Extension::is_one(next_header) {
        return nothing_behind(packet, next_header, frame).map(|()| Audience::ALL);
    }
    let is_guarded = endpoint.access & UNGUARDED == 0;
    let message = match message(packet, frame) {
        Err(reason) if is_guarded => return Err(reason),
        Err(_) => return Ok(Audience::UNGUARDED),
        Ok(None) => return Ok(Audience::ALL),
        Ok(Some(message)) => message,
    };
    if !isolation::has_ipv6(endpoint, &message.source)
        && isolation::sibling_with_ipv6(endpoint, message.source).is_some()
    {
        return Err(Reason::SpoofedNd);
    }
    let fixed = size_of::<NeighbourMessage>();
    match message.kind {
        Icmpv6::ROUTER_SOLICITATION if is_guarded => {
            says_own_mac(packet, endpoint, &message, 8, DiscoveryOption::SOURCE)?;
            let host = maps::network(endpoint.network).ok_or(Reason::Failed)?.ifindex;
            packet.redirect(host, Side::Receive)?;
            Err(Reason::Delivered)
        }
        Icmpv6::ROUTER_SOLICITATION => Ok(Audience::ALL),
        Icmpv6::NEIGHBOUR_SOLICITATION | Icmpv6::NEIGHBOUR_ADVERTISEMENT => {
            let is_question = message.kind == Icmpv6::NEIGHBOUR_SOLICITATION;
            if is_guarded {
                let kind = if is_question { DiscoveryOption::SOURCE } else { DiscoveryOption::TARGET };
                says_own_mac(packet, endpoint, &message, fixed, kind)?;
            }
            let target = packet.load::<NeighbourMessage>(message.offset)?.target;
            if !is_question {
                if !open::may_use_ipv6(packet, endpoint, target) {
                    return Err(Reason::SpoofedNd);
                }
                let answers = packet.load::<NeighbourMessage>(message.offset)?.flags[0]
                    & NeighbourMessage::SOLICITED
                    != 0;
                if !answers && !isolation::has_ipv6(endpoint, &target) {
                    let key = NeighbourKey { network: endpoint.network, address: target };
                    open::announced(packet, frame, key);
                }
                return Ok(Audience::ALL);
            }
            let key = NeighbourKey { network: endpoint.network, address: target };
            let owner = maps::owner(&key).filter(|_| !isolation::has_ipv6(endpoint, &target));
            let Some(owner) = owner else { return Ok(Audience::ALL) };
            let is_probe = message.source == [0; 16];
            // The host learns from a solicitation where a MAC is that no lease tells.
            if !is_probe && open::host(endpoint, owner).is_some_and(|host| host.answers_ipv6(target)) {
                return Ok(Audience::ALL);
            }
            if is_short(message.length) {
                answer_as(packet, owner.mac, frame, &message, Side::Transmit)?;
            }
            // A guarded member would give up its address because of a probe.
            if is_probe { Err(Reason::SpoofedNd) } else { Ok(Audience::ALL) }
        }
        // Router advertisements and redirects.
        _ if is_guarded => Err(Reason::SpoofedNd),
        _ => Ok(Audience::UNGUARDED),
    }
}

/// Whether a solicitation of this length has one option of eight bytes or none.
#[inline(always)]
fn is_short(length: usize) -> bool {
    length == size_of::<NeighbourMessage>() || length == size_of::<NeighbourPacket>() - size_of::<Ipv6>()
}

/// Answers neighbour discovery from the host; `Ok` if the frame is to be passed on.
#[inline(always)]
pub fn of_host(packet: &mut Packet, number: u32, network: &Network, frame: &Frame) -> Result<(), Reason> {
    if frame.content != Content::Ipv6 {
        return Ok(());
    }
    let Some(message) = message(packet, frame)? else { return Ok(()) };
    let fixed = size_of::<NeighbourMessage>();
    if message.kind != Icmpv6::NEIGHBOUR_SOLICITATION || message.length < fixed {
        return Ok(());
    }
    let target = packet.load::<NeighbourMessage>(message.offset)?.target;
    if network.is_own_ipv6(target) {
        return Err(Reason::UnknownAddress);
    }
    answer(packet, number, frame, &message, Side::Receive)
}

/// Whether a packet may come from `::`. A node without an address sends router solicitations and duplicate
/// address probes (RFC 4861 sections 4.1, 4.3), and reports its groups, after a router alert (RFC 3590
/// section 4, RFC 3810 section 5.2.13).
#[inline(always)]
pub fn may_be_unspecified(packet: &Packet, frame: &Frame) -> Result<bool, Reason> {
    let end = parse::end_of_ipv6(packet, frame.offset)?;
    let offset = frame.offset + size_of::<Ipv6>();
    match packet.header::<Ipv6>(frame.offset)?.next_header {
        Icmpv6::PROTOCOL => {
            let kind = packet.load_within::<Icmpv6>(offset, end)?.kind;
            Ok(matches!(kind, Icmpv6::ROUTER_SOLICITATION | Icmpv6::NEIGHBOUR_SOLICITATION))
        }
        Extension::HOP_BY_HOP => {
            let options = packet.load_within::<Extension>(offset, end)?;
            if options.next_header != Icmpv6::PROTOCOL {
                return Ok(false);
            }
            let offset = offset + options.bytes(Extension::HOP_BY_HOP);
            Ok(packet.load_within::<Icmpv6>(offset, end)?.is_membership())
        }
        _ => Ok(false),
    }
}

/// The message of neighbour discovery in an IPv6 packet, if there is one.
#[inline(always)]
fn message(packet: &Packet, frame: &Frame) -> Result<Option<Message>, Reason> {
    if packet.header::<Ipv6>(frame.offset)?.next_header != Icmpv6::PROTOCOL {
        return Ok(None);
    }
    let offset = frame.offset + size_of::<Ipv6>();
    let icmpv6 = packet.load_within::<Icmpv6>(offset, parse::end_of_ipv6(packet, frame.offset)?)?;
    if !icmpv6.is_discovery() {
        return Ok(None);
    }
    let ipv6 = packet.header::<Ipv6>(frame.offset)?;
    if ipv6.hop_limit != HOP_LIMIT || icmpv6.code != 0 {
        return Err(Reason::Malformed);
    }
    let length = u16::from_be_bytes(ipv6.payload_length) as usize;
    Ok(Some(Message { kind: icmpv6.kind, offset, length, source: ipv6.source }))
}

/// Checks that there is no message of neighbour discovery after extension headers.
#[inline(always)]
fn nothing_behind(packet: &Packet, next_header: u8, frame: &Frame) -> Result<(), Reason> {
    let end = parse::end_of_ipv6(packet, frame.offset)?;
    let (mut next_header, mut offset) = (next_header, frame.offset + size_of::<Ipv6>());
    for _ in 0..EXTENSIONS {
        let extension = packet.load_within::<Extension>(offset, end)?;
        if extension.continues(next_header) {
            return Ok(());
        }
        offset += extension.bytes(next_header);
        next_header = extension.next_header;
        if next_header == Icmpv6::PROTOCOL {
            let icmpv6 = packet.load_within::<Icmpv6>(offset, end)?;
            return if icmpv6.is_discovery() { Err(Reason::SpoofedNd) } else { Ok(()) };
        }
        if !Extension::is_one(next_header) {
            return Ok(());
        }
    }
    Err(Reason::Malformed)
}

/// Checks the option after the `fixed` bytes of a message, if there is one: it is of this kind and has the
/// sender's MAC, or is a nonce in a solicitation. A sender without an address must not send its MAC (RFC 4861
/// section 4.3).
#[inline(always)]
fn says_own_mac(
    packet: &Packet,
    endpoint: &Endpoint,
    message: &Message,
    fixed: usize,
    kind: u8,
) -> Result<(), Reason> {
    if message.length == fixed {
        return Ok(());
    }
    if message.length != fixed + size_of::<DiscoveryOption>() {
        return Err(Reason::Malformed);
    }
    let option = packet.load::<DiscoveryOption>(message.offset + fixed)?;
    let is_nonce = option.kind == DiscoveryOption::NONCE && kind == DiscoveryOption::SOURCE;
    if option.length != 1 || !(is_nonce || option.kind == kind) {
        return Err(Reason::Malformed);
    }
    if is_nonce || option.mac == endpoint.mac && message.source != [0; 16] {
        Ok(())
    } else {
        Err(Reason::SpoofedNd)
    }
}

/// Turns the solicitation into the owner's advertisement and sends it back to the interface of the sender.
#[inline(always)]
fn answer(
    packet: &mut Packet,
    network: u32,
    frame: &Frame,
    message: &Message,
    asker: Side,
) -> Result<(), Reason> {
    let target = packet.load::<NeighbourMessage>(message.offset)?.target;
    match maps::owner(&NeighbourKey { network, address: target }) {
        Some(owner) => answer_as(packet, owner.mac, frame, message, asker),
        None => Err(open::or_end(packet, network, Reason::UnknownAddress)),
    }
}

#[inline(always)]
fn answer_as(
    packet: &mut Packet,
    owner: [u8; 6],
    frame: &Frame,
    message: &Message,
    asker: Side,
) -> Result<(), Reason> {
    packet.resize(frame.offset + size_of::<NeighbourPacket>())?;
    let (mut before, mut after) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let before = packet.load_words::<NeighbourPacket>(frame.offset, &mut before)?;
    let after = packet.load_words::<NeighbourPacket>(frame.offset, &mut after)?;
    if message.length == size_of::<NeighbourMessage>() {
        before.0.option = DiscoveryOption::default();
    }
    after.0.advertise(owner);
    // The checksum covers all changes: in the message, and in the part of the header that the pseudo-header
    // has.
    let difference = packet::difference(before, after);
    after.0.message.icmpv6.checksum = checksum::updated(before.0.message.icmpv6.checksum, difference);
    let ethertype = packet.load::<Ethernet>(0)?.ethertype;
    let destination = if message.source == [0; 16] { MAC_OF_ALL_NODES } else { frame.source };
    packet.store(0, &Ethernet { destination, source: owner, ethertype })?;
    packet.store(frame.offset, &after.0)?;
    packet.redirect(packet.ifindex(), asker)?;
    Err(Reason::AnsweredNd)
}
