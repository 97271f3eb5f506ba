//! ARP: the program answers requests for known addresses. Nobody but the sender sees them.
//!
//! A container must send its own MAC, and its own address or, in a probe (RFC 5227), none. A request for the
//! sender's own address is an announcement and is passed on, as are replies. A request for an unknown address
//! is dropped: all addresses of a network are known, so flooding it would find nobody.

use netbpf_common::{
    endpoint::Endpoint,
    network::Network,
    reason::Reason,
    wire::{Arp, Ethernet},
};

use crate::{
    isolation, maps,
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
    let owner = maps::neighbour(network, request.tpa).ok_or(Reason::UnknownAddress)?.mac;
    let ethertype = packet.header::<Ethernet>(0)?.ethertype;
    packet.write(0, Ethernet { destination: frame.source, source: owner, ethertype })?;
    packet.write(frame.offset, request.reply(owner))?;
    packet.redirect(packet.ifindex(), asker)?;
    Err(Reason::AnsweredArp)
}
