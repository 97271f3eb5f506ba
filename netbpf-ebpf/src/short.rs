//! The short way of nearly all frames: IP packets from one member of a network to another. A small program has it, so that
//! few lines of the processor's caches serve a frame, which the host's stack has filled with its own before.
//!
//! It finds no fault. What is not as usual, or may be wrong, continues in the program `long_way`, which has all rules and
//! begins anew. Must not pass on what that one would not, or in another way.

use netbpf_common::{
    access::{LIMITED, OPEN, PLAIN},
    endpoint::{self, Endpoint},
    reason::Reason,
    wire::{EtherType, Ethernet, Ipv4, Ipv6, is_group, protocol},
};

use crate::{
    isolation,
    maps::{self, Program},
    packet::Packet,
    stats::{self, End, Peer},
};

/// Offset of the IP header. Frames with a VLAN tag go the long way.
const NETWORK: usize = size_of::<Ethernet>();

/// Continues in the program `long_way`.
#[inline(always)]
pub fn leave(packet: &Packet) -> End {
    maps::go_on_in(Program::LongWay, packet);
    Err(Reason::Failed)
}

/// Checks that the endpoint may reach all members, and has neither a limit nor a program of its own.
#[inline(always)]
pub fn is_usual(endpoint: &Endpoint) -> Option<()> {
    (endpoint.access & (LIMITED | OPEN) == 0 && endpoint.icc_off == 0).then_some(())
}

/// The destination MAC of an IP packet with the endpoint's own addresses. None for all other frames, and for neighbour
/// discovery and whatever it may hide in.
#[inline(always)]
pub fn own_packet(packet: &Packet, endpoint: &Endpoint) -> Option<[u8; 6]> {
    let Ethernet { destination, source, ethertype } = packet.ethernet().ok()?;
    if packet.vlan_present() != 0 || source != endpoint.mac || is_group(destination) {
        return None;
    }
    let is_own = match ethertype {
        EtherType::IPV4 => {
            let ipv4 = packet.header::<Ipv4>(NETWORK).ok()?;
            ipv4.is_version_4() && isolation::owns_ipv4(endpoint, ipv4.source) && ipv4.destination[0] != 127
        }
        EtherType::IPV6 => {
            let ipv6 = packet.header::<Ipv6>(NETWORK).ok()?;
            let is_transport = matches!(ipv6.next_header, protocol::TCP | protocol::UDP);
            ipv6.is_version_6() && is_transport && isolation::has_ipv6(endpoint, &ipv6.source)
        }
        _ => false,
    };
    is_own.then_some(destination)
}

/// Redirects to the member with the destination MAC. None if no member has it, or that is not known at once.
#[inline(always)]
pub fn to_member(packet: &mut Packet, endpoint: &Endpoint, destination: [u8; 6]) -> Option<End> {
    let station = maps::station_in_slot(endpoint.network, destination)?;
    let number = endpoint::number_of(station.ifindex)?;
    if station.access & PLAIN != 0 || station.ifindex == packet.ifindex() {
        return None;
    }
    Some(packet.redirect_peer(station.ifindex).map(|()| {
        stats::received(number, packet.len(), Peer::Member);
        Reason::Forwarded
    }))
}
