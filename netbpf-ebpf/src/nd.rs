//! Neighbour discovery (RFC 4861), IPv6's ARP: solicitations for known addresses are answered on the spot, and nobody
//! but the asker hears of them.
//!
//! - What a container says of itself has to be true: its MAC in the option, its own address as the target of an
//!   advertisement. It says so with an address that it has on this link (RFC 4861 4). Routers and redirects are the host's to announce.
//! - A probe for a duplicate (RFC 4862), whose sender has no address yet, is answered to all nodes if somebody else has
//!   the address. If nobody has, or the sender itself, there is silence, which is what the prober waits for.
//! - What asks for routers goes to the host only.
//! - A message is alone in its packet, unfragmented (RFC 6980), behind no other header and with at most one option of
//!   eight bytes: nobody sends more, and what is longer could hide a lie behind a truth.
//! - What is behind the end of a packet, as its header has it, is no part of the message.

use core::mem::MaybeUninit;

use netbpf_common::{
    checksum,
    endpoint::{Endpoint, NeighbourKey},
    network::Network,
    reason::Reason,
    wire::{DiscoveryOption, Ethernet, Extension, Icmpv6, Ipv6, NeighbourMessage, NeighbourPacket},
};

use crate::{
    isolation, maps,
    packet::{self, Packet, Side},
    parse::{self, Content, Frame},
};

/// Extension headers that are looked behind; RFC 8200 4.1 has no use for more.
const EXTENSIONS: usize = 4;

/// Of every message of neighbour discovery: no router has sent it on.
const HOP_LIMIT: u8 = 255;

/// Of the group that every node is in (RFC 2464 7).
const MAC_OF_ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// A message of neighbour discovery.
struct Message {
    kind: u8,
    /// Where it begins.
    offset: usize,
    /// Its length in bytes, as its packet's header has it.
    length: usize,
    source: [u8; 16],
}

/// Judges and answers what a container says in neighbour discovery; `Ok` for what goes on.
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
        // Advertisements and redirects of a router.
        _ => Err(Reason::SpoofedNd),
    }
}

/// Answers what the host asks; `Ok` for what goes on.
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

/// Whether a packet may come from `::`: a node that has no address yet asks for routers and for who has its address (RFC
/// 4861 4.1, 4.3), and says which groups it is in, behind a router alert (RFC 3590 4, RFC 3810 5.2.13).
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

/// What comes behind extension headers is no neighbour discovery.
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

/// The option behind the `fixed` bytes of a message, if there is one, names the sender's MAC: as its own in an option of
/// this kind. A sender without an address has no MAC to say (RFC 4861 4.3), but may have a nonce.
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

/// Turns the solicitation into the owner's advertisement and gives it back to the device that asked.
#[inline(always)]
fn answer(
    packet: &mut Packet,
    network: u32,
    frame: &Frame,
    message: &Message,
    asker: Side,
) -> Result<(), Reason> {
    let target = packet.load::<NeighbourMessage>(message.offset)?.target;
    let owner = maps::owner(&NeighbourKey { network, address: target }).ok_or(Reason::UnknownAddress)?.mac;
    packet.resize(frame.offset + size_of::<NeighbourPacket>())?;
    let (mut before, mut after) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let before = packet.load_words::<NeighbourPacket>(frame.offset, &mut before)?;
    let after = packet.load_words::<NeighbourPacket>(frame.offset, &mut after)?;
    if message.length == size_of::<NeighbourMessage>() {
        before.0.option = DiscoveryOption::default();
    }
    after.0.advertise(owner);
    // All that has changed is in the checksum: the message, and of the header what the pseudo-header has.
    let difference = packet::difference(before, after);
    after.0.message.icmpv6.checksum = checksum::updated(before.0.message.icmpv6.checksum, difference);
    let ethertype = packet.load::<Ethernet>(0)?.ethertype;
    let destination = if message.source == [0; 16] { MAC_OF_ALL_NODES } else { frame.source };
    packet.store(0, &Ethernet { destination, source: owner, ethertype })?;
    packet.store(frame.offset, &after.0)?;
    packet.redirect(packet.ifindex(), asker)?;
    Err(Reason::AnsweredNd)
}
