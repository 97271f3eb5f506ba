//! ARP: the program answers requests for known addresses. Nobody but the sender sees them.
//!
//! A container must send its own MAC, and its own address or, in a probe (RFC 5227), none. A request for the
//! sender's own address is an announcement and is passed on, as are replies. A request for an unknown address
//! is dropped: all addresses of a network are known, so flooding it would find nobody. Only open endpoints
//! may have others: if a network has some, the request continues in [`crate::open`].

use netbpf_common::{
    access::UNGUARDED,
    endpoint::{Endpoint, NeighbourKey},
    network::Network,
    reason::Reason,
    wire::{Arp, Ethernet},
};

use crate::{
    isolation, maps, open,
    packet::{Packet, Side},
    parse::{Content, Frame},
};

/// Checks and answers ARP from a container; `Ok` if the frame is to be passed on.
#[inline(always)]
pub fn of_container(packet: &mut Packet, endpoint: &Endpoint, frame: &Frame) -> Result<(), Reason> {
    if frame.content != Content::Arp {
        return Ok(());
    }
    let arp = *packet.header::<Arp>(frame.offset)?;
    let probe = arp.is_request() && arp.spa == [0; 4];
    let is_own = probe || isolation::owns_ipv4(endpoint, arp.spa);
    if arp.sha != endpoint.mac {
        return Err(Reason::SpoofedArp);
    }
    let goes_on = !arp.is_request() || isolation::owns_ipv4(endpoint, arp.tpa);
    // A request from the container's address in another network is answered, but never passed on.
    if !is_own && (goes_on || isolation::sibling_with_ipv4(endpoint, arp.spa).is_none()) {
        return Err(Reason::SpoofedArp);
    }
    if goes_on {
        return Ok(());
    }
    answer(packet, endpoint.network, frame, &arp, Side::Transmit)
}

/// The same for a container with an open endpoint: also for an address that no lease tells, a request is passed
/// on.
#[inline(always)]
pub fn of_open(packet: &mut Packet, endpoint: &Endpoint, frame: &Frame) -> Result<(), Reason> {
    if frame.content != Content::Arp {
        return Ok(());
    }
    let arp = *packet.header::<Arp>(frame.offset)?;
    if arp.sha != endpoint.mac && endpoint.access & UNGUARDED == 0 {
        return Err(Reason::SpoofedArp);
    }
    let is_question = arp.is_request() && arp.tpa != arp.spa;
    let probe = arp.is_request() && arp.spa == [0; 4];
    let may_use = probe || open::may_use_ipv4(packet, endpoint, arp.spa);
    if !may_use && (!is_question || isolation::sibling_with_ipv4(endpoint, arp.spa).is_none()) {
        return Err(Reason::SpoofedArp);
    }
    let is_own = isolation::owns_ipv4(endpoint, arp.tpa);
    match maps::neighbour(endpoint.network, arp.tpa) {
        Some(owner) if is_question && !is_own => {
            // The host learns from a request where a MAC is that no lease tells.
            match open::host(endpoint, owner) {
                Some(host) if may_use && host.answers(arp.tpa) => Ok(()),
                Some(_) | None => answer_as(packet, owner.mac, frame, &arp, Side::Transmit),
            }
        }
        Some(_) | None if may_use => {
            if arp.spa == arp.tpa && !is_own {
                open::announced(packet, frame, NeighbourKey::ipv4(endpoint.network, arp.spa));
            }
            Ok(())
        }
        Some(_) | None => Err(Reason::UnknownAddress),
    }
}

/// Answers ARP from the host; `Ok` if the frame is to be passed on.
#[inline(always)]
pub fn of_host(packet: &mut Packet, number: u32, network: &Network, frame: &Frame) -> Result<(), Reason> {
    if frame.content != Content::Arp {
        return Ok(());
    }
    let arp = *packet.header::<Arp>(frame.offset)?;
    if !arp.is_request() || network.is_own(arp.tpa) {
        return Ok(());
    }
    answer(packet, number, frame, &arp, Side::Receive)
}

/// Turns the request into the owner's reply and sends it back to the interface of the sender: a container
/// receives what the host side transmits, the host what its device receives.
#[inline(always)]
fn answer(
    packet: &mut Packet,
    network: u32,
    frame: &Frame,
    request: &Arp,
    asker: Side,
) -> Result<(), Reason> {
    match maps::neighbour(network, request.tpa) {
        Some(owner) => answer_as(packet, owner.mac, frame, request, asker),
        None => Err(open::or_end(packet, network, Reason::UnknownAddress)),
    }
}

#[inline(always)]
fn answer_as(
    packet: &mut Packet,
    owner: [u8; 6],
    frame: &Frame,
    request: &Arp,
    asker: Side,
) -> Result<(), Reason> {
    let ethertype = packet.header::<Ethernet>(0)?.ethertype;
    packet.write(0, Ethernet { destination: frame.source, source: owner, ethertype })?;
    packet.write(frame.offset, request.reply(owner))?;
    packet.redirect(packet.ifindex(), asker)?;
    Err(Reason::AnsweredArp)
}
