//! Open endpoints: what they may never send, and the way of frames to them.
//!
//! An endpoint with further subnets ([`FURTHER`](netbpf_common::access::FURTHER)) may use their addresses, with
//! its own MAC. An endpoint without guard ([`UNGUARDED`]) is a port of a learning bridge: it may use any MAC and
//! address, and its leases are not in the maps, so they have no priority (but they are where members must not talk to
//! each other, so that linked ones find it). No open endpoint may use
//!
//! - the MAC of a guarded member or of the host, or an address that one of them leases;
//! - 127.0.0.0/8;
//! - towards the host, an address of the host or of another network.
//!
//! Frames to MACs and addresses that no map has may be for open endpoints. They continue in a program of their
//! own, so that networks without open endpoints do not pay for it.

use netbpf_common::{
    access::{OPEN, UNGUARDED},
    endpoint::{self, Endpoint, FdbKey, Neighbour, NeighbourKey},
    network::{self, Network, is_link_local},
    notice::Notice,
    reason::Reason,
    wire::{Ipv4, Ipv6, is_group},
};

use crate::{
    flood::{self, Audience},
    isolation,
    maps::{self, Program},
    nd,
    packet::{self, Packet},
    parse::{Content, Frame, Routed},
    stats::End,
};

/// Continues in the program `from_open` if the endpoint is open.
#[inline(always)]
pub fn elsewhere(packet: &Packet, endpoint: &Endpoint) -> Result<(), Reason> {
    if endpoint.access & OPEN == 0 {
        return Ok(());
    }
    maps::go_on_in(Program::FromOpen, packet);
    Err(Reason::Failed)
}

/// Continues in the program `to_open` if the network has open members. Otherwise nobody has what the frame is for:
/// the reason.
#[inline(always)]
pub fn or_end(packet: &mut Packet, network: u32, reason: Reason) -> Reason {
    if maps::network(network).is_none_or(|network| network.open == 0) {
        return reason;
    }
    let (Ok(reason) | Err(reason)) = pass_on(packet, Audience::OPEN);
    reason
}

/// Continues in the program `to_open`. If the frame is for a group, it is for this audience.
#[inline(always)]
pub fn pass_on(packet: &mut Packet, audience: Audience) -> End {
    audience.keep(packet);
    maps::go_on_in(Program::ToOpen, packet);
    Err(Reason::Failed)
}

/// Checks the source MAC: the endpoint's own; without guard, one that no other station has.
#[inline(always)]
pub fn free_mac(packet: &Packet, endpoint: &Endpoint, frame: &Frame) -> Result<(), Reason> {
    if frame.source == endpoint.mac {
        return Ok(());
    }
    if endpoint.access & UNGUARDED == 0 || is_group(frame.source) || frame.source == [0; 6] {
        return Err(Reason::SpoofedMac);
    }
    match maps::station(endpoint.network, frame.source) {
        Some(station) if station.ifindex != packet.ifindex() => Err(Reason::SpoofedMac),
        Some(_) | None => Ok(()),
    }
}

/// Checks that the endpoint may use the packet's source address, and that no address is in 127.0.0.0/8.
#[inline(always)]
pub fn free_addresses(packet: &Packet, endpoint: &Endpoint, frame: &Frame) -> Result<(), Reason> {
    match frame.content {
        Content::Ipv4 => {
            let Ipv4 { source, destination, .. } = *packet.header(frame.offset)?;
            if destination[0] == 127 || source[0] == 127 {
                return Err(Reason::Loopback);
            }
            if may_use_ipv4(packet, endpoint, source)
                || isolation::sibling_with_ipv4(endpoint, source).is_some()
            {
                return Ok(());
            }
            Err(Reason::SpoofedIpv4)
        }
        Content::Ipv6 => {
            let source = packet.header::<Ipv6>(frame.offset)?.source;
            if may_use_ipv6(packet, endpoint, source)
                || isolation::sibling_with_ipv6(endpoint, source).is_some()
            {
                return Ok(());
            }
            if source == [0; 16] && nd::may_be_unspecified(packet, frame)? {
                return Ok(());
            }
            Err(Reason::SpoofedIpv6)
        }
        Content::Arp | Content::Other => Ok(()),
    }
}

/// Whether an open endpoint may use an IPv4 address.
#[inline(always)]
pub fn may_use_ipv4(packet: &Packet, endpoint: &Endpoint, address: [u8; 4]) -> bool {
    let key = NeighbourKey::ipv4(endpoint.network, address);
    isolation::owns_ipv4(endpoint, address)
        || may_use(packet, endpoint, &key, |number| {
            address != [0; 4] && maps::is_further(number, key.address, true)
        })
}

/// Whether an open endpoint may use an IPv6 address.
#[inline(always)]
pub fn may_use_ipv6(packet: &Packet, endpoint: &Endpoint, address: [u8; 16]) -> bool {
    let key = NeighbourKey { network: endpoint.network, address };
    isolation::has_ipv6(endpoint, &address)
        || may_use(packet, endpoint, &key, |number| {
            address != [0; 16] && maps::is_further(number, address, false)
        })
}

/// The network of an endpoint without guard, if the host is the owner of an address in it.
#[inline(always)]
pub fn host(endpoint: &Endpoint, owner: Neighbour) -> Option<Network> {
    if endpoint.access & UNGUARDED == 0 {
        return None;
    }
    maps::network(endpoint.network).filter(|network| network.mac == owner.mac)
}

/// Whether nobody leases the address, and the endpoint has no guard or a further subnet with it.
#[inline(always)]
fn may_use(
    packet: &Packet,
    endpoint: &Endpoint,
    key: &NeighbourKey,
    is_further: impl FnOnce(u32) -> bool,
) -> bool {
    maps::owner(key).is_none()
        && (endpoint.access & UNGUARDED != 0 || endpoint::number_of(packet.ifindex()).is_some_and(is_further))
}

/// Reports that an open endpoint announced an address that is no lease of its own.
#[inline(always)]
pub fn announced(packet: &Packet, frame: &Frame, address: NeighbourKey) {
    if let Some(endpoint) = endpoint::number_of(packet.ifindex()) {
        let notice =
            Notice { kind: Notice::ANNOUNCEMENT, endpoint, address, mac: frame.source, reserved: [0; 2] };
        maps::notify(notice, packet::seconds());
    }
}

/// Learns where the source MAC is, if the endpoint has no guard, and notes whether it has moved for [`flood`].
#[inline(always)]
pub fn learn(packet: &mut Packet, endpoint: &Endpoint, frame: &Frame) {
    if endpoint.access & UNGUARDED == 0 {
        return;
    }
    if let Some(number) = endpoint::number_of(packet.ifindex()) {
        let key = FdbKey { network: endpoint.network, mac: frame.source, reserved: [0; 2] };
        let has_moved = maps::learn(&key, number, packet::seconds());
        flood::note_move(packet, has_moved);
    }
}

/// The endpoint where the frame's destination MAC was learnt.
#[inline(always)]
pub fn learnt(network: u32, frame: &Frame) -> Option<Endpoint> {
    let key = FdbKey { network, mac: frame.destination, reserved: [0; 2] };
    maps::learnt(&key, packet::seconds())
}

/// Checks that the host would send replies to the packet's source into this network, or to other hosts: the
/// source is no address of the host or of another network. The host itself checks this for some IPv4 addresses
/// only.
#[inline(always)]
pub fn is_credible(packet: &Packet, endpoint: &Endpoint, frame: &Frame) -> Result<(), Reason> {
    let (source, is_ipv4) = match frame.content {
        Content::Ipv4 => {
            let source = packet.header::<Ipv4>(frame.offset)?.source;
            if isolation::owns_ipv4(endpoint, source) || source == [0; 4] {
                return Ok(());
            }
            (NeighbourKey::ipv4(0, source).address, true)
        }
        Content::Ipv6 => {
            let source = packet.header::<Ipv6>(frame.offset)?.source;
            if isolation::has_ipv6(endpoint, &source) || source == [0; 16] || is_link_local(source) {
                return Ok(());
            }
            (source, false)
        }
        Content::Arp | Content::Other => return Ok(()),
    };
    let spoofed = if is_ipv4 { Reason::SpoofedIpv4 } else { Reason::SpoofedIpv6 };
    let reply = Routed { source: [0; 16], destination: source, is_ipv4, class: 0 };
    let hop = packet.next_hop(network::ifindex_of(endpoint.network), &reply).ok_or(spoofed)?;
    match network::number_of(hop.ifindex) {
        Some(other) if other != endpoint.network && maps::network(other).is_some() => Err(spoofed),
        Some(_) | None => Ok(()),
    }
}

/// The network that a frame is in, by the interface where it was sent, with the endpoint that sent it.
#[inline(always)]
pub fn network_of(packet: &Packet) -> Result<(u32, Option<Endpoint>), Reason> {
    if let Some(number) = endpoint::number_of(packet.ifindex()) {
        let endpoint = maps::endpoint(number).ok_or(Reason::UnknownEndpoint)?;
        return Ok((endpoint.network, Some(endpoint)));
    }
    Ok((network::number_of(packet.ifindex()).ok_or(Reason::UnknownEndpoint)?, None))
}

/// The container's other endpoint that has the packet's source address; none if the packet is this endpoint's.
#[inline(always)]
pub fn sibling(packet: &Packet, endpoint: &Endpoint, frame: &Frame) -> Result<Option<u32>, Reason> {
    Ok(match frame.content {
        Content::Ipv4 => {
            let source = packet.header::<Ipv4>(frame.offset)?.source;
            if isolation::owns_ipv4(endpoint, source) {
                None
            } else {
                isolation::sibling_with_ipv4(endpoint, source)
            }
        }
        Content::Ipv6 => {
            let source = packet.header::<Ipv6>(frame.offset)?.source;
            if isolation::has_ipv6(endpoint, &source) {
                None
            } else {
                isolation::sibling_with_ipv6(endpoint, source)
            }
        }
        Content::Arp | Content::Other => None,
    })
}
