//! Addresses of a network that nobody has. A container that sends to them by way of the host would have the host look for
//! each of them, and the kernel remembers what it looks for: in one table with a limit for all namespaces, which others
//! then find full.
//!
//! Who is in a network is known, so such packets end here. But the host may have routes of its own into a part of the
//! subnet, and addresses there: what it would not hand to the destination itself, in this very network, is its own to
//! judge, and so is one whose MAC it has been told. No router sends on what is for a link-local address (RFC 4291 2.5.6),
//! but Linux does, by the device that it came by.

use netbpf_common::{
    endpoint::NeighbourKey,
    network::{Network, is_link_local},
    reason::Reason,
    wire::{Ipv4, Ipv6},
};

use crate::{
    maps,
    packet::Packet,
    parse::{Content, Frame, Routed},
};

/// The host, which the frame is for, does not have to look for the packet's destination in the network in vain. All that
/// leaves the network pays for a look at it and a comparison.
#[inline(always)]
pub fn is_somebodys(packet: &Packet, number: u32, frame: &Frame) -> Result<(), Reason> {
    let Some(network) = maps::network(number) else { return Ok(()) };
    match frame.content {
        Content::Ipv4 => {
            let ipv4 = packet.header::<Ipv4>(frame.offset)?;
            match network.holds(ipv4.destination) && !network.is_own(ipv4.destination) {
                true => is_known(packet, number, &network, ipv4.into()),
                false => Ok(()),
            }
        }
        Content::Ipv6 => {
            let ipv6 = packet.header::<Ipv6>(frame.offset)?;
            let is_inside = network.holds_ipv6(ipv6.destination) || is_link_local(ipv6.destination);
            match is_inside && !network.is_own_ipv6(ipv6.destination) {
                true => is_known(packet, number, &network, ipv6.into()),
                false => Ok(()),
            }
        }
        Content::Arp | Content::Other => Ok(()),
    }
}

/// The destination, in the network's subnet, is a member's or the host's own affair.
#[inline(always)]
fn is_known(packet: &Packet, number: u32, network: &Network, mut routed: Routed) -> Result<(), Reason> {
    if maps::owner(&NeighbourKey { network: number, address: routed.destination }).is_some() {
        return Ok(());
    }
    if !routed.is_ipv4 {
        if is_link_local(routed.destination) {
            return Err(Reason::UnknownAddress);
        }
        // The kernel's answer would be that such packets are never sent on. They are, in the network that they are from.
        if is_link_local(routed.source) {
            routed.source = [0; 16];
        }
    }
    match packet.next_hop(network.ifindex, &routed) {
        Some(hop) if hop.ifindex == network.ifindex && hop.is_last && !hop.is_known => {
            Err(Reason::UnknownAddress)
        }
        Some(_) | None => Ok(()),
    }
}
