//! Who may say what.
//!
//! - A container sends with its own MAC only.
//! - It sends IPv4 from its own address only; 0.0.0.0 is nobody's, because addresses are leased before a container
//!   starts.
//! - An address that it has in another network is its own here too, unless another member has the same: answers leave by
//!   the default route, whatever network the question came by. What the host gets of such packets, it gets by that other
//!   network, from where the container could have sent them as well: so they reach nobody else than those would.
//! - It sends IPv6 from its own addresses only, and from `::` only what a node sends that has no address yet (RFC 4862, MLD).
//! - What it says in ARP is judged in [`crate::arp`], in neighbour discovery in [`crate::nd`].
//! - No bridge forwards the group 01:80:c2:00:00:00 to :0f (IEEE 802.1Q 8.6.3).
//! - It sends nothing to 127.0.0.0/8: that is the host's own.
//! - The host forwards nothing from one network to another, except what its packet filter marks.

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

/// The sender's MAC is its own.
#[inline(always)]
pub fn own_mac(endpoint: &Endpoint, frame: &Frame) -> Result<(), Reason> {
    if frame.source == endpoint.mac { Ok(()) } else { Err(Reason::SpoofedMac) }
}

/// The sender's IP address is its own, and the receiver's may be on a wire (RFC 1122 3.2.1.3): the host takes 127.0.0.0/8
/// on its devices, for endpoints that are published there.
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

/// The other endpoint of the container that the packet's source address is of, where it is not the endpoint's own. Looked for once
/// more where it matters: a program that takes it along is twice as long for the verifier.
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

/// Another endpoint of the same container that has the global IPv6 address. A link-local one is its own link's.
#[inline(always)]
fn sibling_with_ipv6(endpoint: &Endpoint, address: [u8; 16]) -> Option<u32> {
    let key = NeighbourKey { network: endpoint.network, address };
    sibling_with(endpoint, key, |sibling| address == sibling.ipv6 && address != [0; 16])
}

/// Another endpoint of the same container that has the address, which no member of the endpoint's own network has.
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

/// The source is `::`, of a endpoint that has an IPv6 address, in what is sent before it is used.
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
