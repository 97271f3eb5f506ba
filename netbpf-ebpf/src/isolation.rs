//! Checks addresses: what a container may send, and what the host may forward between networks.
//!
//! - A container sends with its own MAC only.
//! - It sends IPv4 from its own address only; never from 0.0.0.0, because addresses are leased before a
//!   container starts.
//! - It may also use its address in another network, unless a member of this network has the same: replies
//!   leave by the default route, whatever network the request came from. The host receives such packets as if
//!   they came from that other network, where the container could have sent them too. So they reach nothing
//!   else.
//! - It sends IPv6 from its own addresses only, and from `::` only the messages of a node that has no address
//!   yet (RFC 4862, MLD).
//! - [`crate::arp`] checks ARP, [`crate::nd`] neighbour discovery.
//! - Nothing is sent to the groups 01:80:c2:00:00:00 to :0f, which bridges do not forward (IEEE 802.1Q
//!   8.6.3).
//! - It sends nothing to 127.0.0.0/8, which belongs to the host itself.
//! - The host forwards nothing from one network to another, except packets that its packet filter marks.

use netbpf_common::{
    endpoint::{Endpoint, NeighbourKey, OwnedKey},
    network,
    reason::Reason,
    wire::{Ipv4, Ipv6},
};

use crate::{
    maps, nd,
    packet::Packet,
    parse::{Content, Frame},
};

/// Checks that the source MAC is the sender's.
#[inline(always)]
pub fn own_mac(endpoint: &Endpoint, frame: &Frame) -> Result<(), Reason> {
    if frame.source == endpoint.mac { Ok(()) } else { Err(Reason::SpoofedMac) }
}

/// Checks that the source IP address is the sender's, and that the destination is not in 127.0.0.0/8 (RFC
/// 1122 section 3.2.1.3): the host accepts these on its devices, for ports that are published there.
#[inline(always)]
pub fn own_addresses(packet: &Packet, endpoint: &Endpoint, frame: &Frame) -> Result<(), Reason> {
    match frame.content {
        Content::Ipv4 => {
            let Ipv4 { source, destination, .. } = *packet.header(frame.offset)?;
            if !owns_ipv4(endpoint, source) && sibling_with_ipv4(endpoint, source).is_none() {
                return Err(Reason::SpoofedIpv4);
            }
            if destination[0] == 127 { Err(Reason::Loopback) } else { Ok(()) }
        }
        Content::Ipv6 => {
            let source = packet.header::<Ipv6>(frame.offset)?.source;
            if has_ipv6(endpoint, &source) || sibling_with_ipv6(endpoint, source).is_some() {
                return Ok(());
            }
            no_address_yet(packet, endpoint, frame)
        }
        Content::Arp | Content::Other => Ok(()),
    }
}

/// The container's other endpoint that has the packet's source address; none if this endpoint has it.
/// Searched again where it is needed: passing it along would double the verifier's work.
#[inline(always)]
pub fn sibling(packet: &Packet, endpoint: &Endpoint, frame: &Frame) -> Result<Option<u32>, Reason> {
    let sibling = match frame.content {
        Content::Ipv4 => {
            let source = packet.header::<Ipv4>(frame.offset)?.source;
            if owns_ipv4(endpoint, source) {
                return Ok(None);
            }
            sibling_with_ipv4(endpoint, source).ok_or(Reason::SpoofedIpv4)?
        }
        Content::Ipv6 => {
            let source = packet.header::<Ipv6>(frame.offset)?.source;
            if has_ipv6(endpoint, &source) || source == [0; 16] {
                return Ok(None);
            }
            sibling_with_ipv6(endpoint, source).ok_or(Reason::SpoofedIpv6)?
        }
        Content::Arp | Content::Other => return Ok(None),
    };
    Ok(Some(sibling))
}

/// Another endpoint of the same container that has the IPv4 address.
#[inline(always)]
pub fn sibling_with_ipv4(endpoint: &Endpoint, address: [u8; 4]) -> Option<u32> {
    let key = NeighbourKey::ipv4(endpoint.network, address);
    sibling_with(endpoint, key, |sibling| owns_ipv4(sibling, address))
}

/// Another endpoint of the same container that has the global IPv6 address. A link-local address is valid on
/// its own link only.
#[inline(always)]
pub fn sibling_with_ipv6(endpoint: &Endpoint, address: [u8; 16]) -> Option<u32> {
    let key = NeighbourKey { network: endpoint.network, address };
    sibling_with(endpoint, key, |sibling| address == sibling.ipv6 && address != [0; 16])
}

/// Another endpoint of the same container that has the address, if no member of this endpoint's network has
/// it.
#[inline(always)]
fn sibling_with(
    endpoint: &Endpoint,
    key: NeighbourKey,
    has_it: impl FnOnce(&Endpoint) -> bool,
) -> Option<u32> {
    if endpoint.owner == 0 {
        return None;
    }
    let number = maps::owned(&OwnedKey { owner: endpoint.owner, address: key.address })?;
    let sibling = maps::endpoint(number)?;
    let is_its = sibling.owner == endpoint.owner && has_it(&sibling) && maps::owner(&key).is_none();
    is_its.then_some(number)
}

/// Checks that the destination is not a reserved group.
#[inline(always)]
pub fn no_reserved_group(frame: &Frame) -> Result<(), Reason> {
    match frame.destination {
        [0x01, 0x80, 0xc2, 0x00, 0x00, 0x00..=0x0f] => Err(Reason::Reserved),
        _ => Ok(()),
    }
}

/// Checks that the host did not receive the frame from another network, unless it is marked.
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

/// Whether the endpoint has the IPv4 address.
#[inline(always)]
pub fn owns_ipv4(endpoint: &Endpoint, address: [u8; 4]) -> bool {
    address == endpoint.ipv4 && address != [0; 4]
}

/// Whether the endpoint has the IPv6 address.
#[inline(always)]
pub fn has_ipv6(endpoint: &Endpoint, address: &[u8; 16]) -> bool {
    (*address == endpoint.ipv6 || *address == endpoint.ipv6_link_local) && *address != [0; 16]
}

/// Checks that a packet from `::` is one that a node sends before it uses an address, and that the endpoint
/// has an IPv6 address.
#[inline(always)]
fn no_address_yet(packet: &Packet, endpoint: &Endpoint, frame: &Frame) -> Result<(), Reason> {
    let has_one = endpoint.ipv6 != [0; 16] || endpoint.ipv6_link_local != [0; 16];
    let is_unspecified = packet.header::<Ipv6>(frame.offset)?.source == [0; 16];
    if has_one && is_unspecified && nd::may_be_unspecified(packet, frame)? {
        Ok(())
    } else {
        Err(Reason::SpoofedIpv6)
    }
}
