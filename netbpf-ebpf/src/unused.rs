//! Drops packets to unused addresses of a network. If a container sent them through the host, the host would
//! have to resolve each address, and each would take an entry in the kernel's neighbour table, whose limit is
//! for all namespaces together.
//!
//! All stations of a network are known, so such packets end here. But the host may have routes of its own
//! into a part of the subnet, and addresses there. So a packet passes if the host would not send it directly
//! to the destination in this very network, or if the host knows the destination's MAC. Routers must not
//! forward packets to link-local addresses (RFC 4291 section 2.5.6), but Linux does, by the device that
//! received them.

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

/// Checks that the host, which the frame is for, does not have to resolve an unused address of the network.
/// This costs every packet that leaves the network one map lookup and a comparison.
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

/// Checks that the destination, in the network's subnet, is a member's or is for the host to decide.
#[inline(always)]
fn is_known(packet: &Packet, number: u32, network: &Network, mut routed: Routed) -> Result<(), Reason> {
    if maps::owner(&NeighbourKey { network: number, address: routed.destination }).is_some() {
        return Ok(());
    }
    if !routed.is_ipv4 {
        if is_link_local(routed.destination) {
            return Err(Reason::UnknownAddress);
        }
        // The lookup would fail for a link-local source, but the kernel does forward such packets, within
        // their own network.
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
