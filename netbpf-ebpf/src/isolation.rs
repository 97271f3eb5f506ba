//! Who may say what.
//!
//! - A container sends with its own MAC only.
//! - It sends IPv4 from its own address only; 0.0.0.0 is nobody's, because addresses are leased before a container
//!   starts.
//! - It sends IPv6 from its own addresses only, and from `::` only what a node sends that has no address yet (RFC 4862, MLD).
//! - What it says in ARP is judged in [`crate::arp`], in neighbour discovery in [`crate::nd`].
//! - No bridge forwards the group 01:80:c2:00:00:00 to :0f (IEEE 802.1Q 8.6.3).
//! - It sends nothing to 127.0.0.0/8: that is the host's own.
//! - The host forwards nothing from one network to another, except what its packet filter marks.

use netbpf_common::{
    endpoint::Port,
    network,
    reason::Reason,
    wire::{Ipv4, Ipv6},
};

use crate::{
    maps, nd,
    packet::Packet,
    parse::{Content, Frame},
};

/// The sender's MAC is its own.
#[inline(always)]
pub fn own_mac(port: &Port, frame: &Frame) -> Result<(), Reason> {
    if frame.source == port.mac { Ok(()) } else { Err(Reason::SpoofedMac) }
}

/// The sender's IP address is its own, and the receiver's may be on a wire (RFC 1122 3.2.1.3): the host takes 127.0.0.0/8
/// on its devices, for ports that are published there.
#[inline(always)]
pub fn own_addresses(packet: &Packet, port: &Port, frame: &Frame) -> Result<(), Reason> {
    match frame.content {
        Content::Ipv4 => {
            let Ipv4 { source, destination, .. } = packet.header(frame.offset)?;
            match (owns_ipv4(port, *source), destination) {
                (false, _) => Err(Reason::SpoofedIpv4),
                (true, [127, ..]) => Err(Reason::Loopback),
                (true, _) => Ok(()),
            }
        }
        Content::Ipv6 if has_ipv6(port, &packet.header::<Ipv6>(frame.offset)?.source) => Ok(()),
        Content::Ipv6 => no_address_yet(packet, port, frame),
        Content::Arp | Content::Other => Ok(()),
    }
}

/// The frame is for no group that bridges keep to themselves.
#[inline(always)]
pub fn no_reserved_group(frame: &Frame) -> Result<(), Reason> {
    match frame.destination {
        [0x01, 0x80, 0xc2, 0x00, 0x00, 0x00..=0x0f] => Err(Reason::Reserved),
        _ => Ok(()),
    }
}

/// The host did not receive the frame from another network.
#[inline(always)]
pub fn not_from_another_network(packet: &Packet, number: u32) -> Result<(), Reason> {
    match network::number_of(packet.ingress_ifindex()) {
        Some(other)
            if other != number
                && maps::network(other).is_some()
                && packet.mark() != network::BETWEEN_NETWORKS =>
        {
            Err(Reason::Isolated)
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether the port has the IPv4 address.
#[inline(always)]
pub fn owns_ipv4(port: &Port, address: [u8; 4]) -> bool {
    address == port.ipv4 && address != [0; 4]
}

/// Whether the port has the IPv6 address.
#[inline(always)]
pub fn has_ipv6(port: &Port, address: &[u8; 16]) -> bool {
    (*address == port.ipv6 || *address == port.ipv6_link_local) && *address != [0; 16]
}

/// The source is `::`, of a port that has an IPv6 address, in what is sent before it is used.
#[inline(always)]
fn no_address_yet(packet: &Packet, port: &Port, frame: &Frame) -> Result<(), Reason> {
    let has_one = port.ipv6 != [0; 16] || port.ipv6_link_local != [0; 16];
    let is_unspecified = packet.header::<Ipv6>(frame.offset)?.source == [0; 16];
    if has_one && is_unspecified && nd::may_be_unspecified(packet, frame)? {
        Ok(())
    } else {
        Err(Reason::SpoofedIpv6)
    }
}
