//! ARP: requests for known addresses are answered on the spot, and nobody but the asker hears of them.
//!
//! What a container says of itself has to be true: its MAC, and its address or, in a probe (RFC 5227), none. A request
//! for the sender's own address is an announcement and goes on, as replies do. What nobody in the network has is
//! dropped: whoever has an address is known, so flooding would find nobody.

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

/// Judges and answers what a container says in ARP; `Ok` for what goes on.
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
    // Whoever asks as one with an address of another network is answered, and nobody else hears of that.
    if !is_own && (goes_on || isolation::sibling_with_ipv4(endpoint, arp.spa).is_none()) {
        return Err(Reason::SpoofedArp);
    }
    if goes_on {
        return Ok(());
    }
    answer(packet, endpoint.network, frame, &arp, Side::Transmit)
}

/// Answers what the host asks; `Ok` for what goes on.
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

/// Turns the request into the owner's reply and gives it back to the device that asked: to the one end of its veth
/// pair by sending there, to the host by receiving here.
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
