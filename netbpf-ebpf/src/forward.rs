//! Passes a frame on: to the station with its destination MAC, or by [`mod@crate::flood`] to all. If no
//! station has the MAC, it may be an old MAC of the packet's IP address; otherwise the frame is dropped. All
//! stations of a network are known, so nothing is learnt, and nothing unknown is flooded, except for
//! [open](mod@crate::open) endpoints.

use netbpf_common::{
    access::{OPEN, PLAIN, UNGUARDED},
    endpoint::{self, Endpoint, Neighbour, NeighbourKey, Station},
    network,
    reason::Reason,
    wire::{Ethernet, Ipv4, Ipv6, is_group},
};

use crate::{
    flood::{self, Audience},
    flow, icc, isolation, maps, names, open,
    packet::{Packet, Side},
    parse::{Content, Frame},
    stats::{self, End, Peer},
    unused,
};

/// Passes a container's frame to a container, to the host or to all.
#[inline(always)]
pub fn from_container(packet: &mut Packet, endpoint: &Endpoint, frame: &Frame) -> End {
    if is_group(frame.destination) {
        return match endpoint.icc_off {
            0 => flood::begin(packet, endpoint.network, Audience::ALL),
            _ => to_host(packet, network::ifindex_of(endpoint.network)),
        };
    }
    let Station { ifindex, access, .. } = another_station(packet, endpoint.network, frame)?;
    match endpoint::number_of(ifindex) {
        Some(number) => {
            icc::to_member(packet, endpoint, number, frame)?;
            to_member(packet, number, ifindex, access, Peer::Member)
        }
        None => {
            names::elsewhere(packet, endpoint, frame);
            flow::elsewhere(packet, frame);
            from_guarded_to_host(packet, endpoint, frame, ifindex)
        }
    }
}

/// Redirects to a member, through its veth pair if it wants so.
#[inline(always)]
fn to_member(packet: &mut Packet, number: u32, ifindex: u32, access: u8, from: Peer) -> End {
    match access & PLAIN {
        0 => packet.redirect_peer(ifindex)?,
        _ => packet.redirect(ifindex, Side::Transmit)?,
    }
    stats::received(number, packet.len(), from);
    Ok(Reason::Forwarded)
}

/// Passes on a frame of an open endpoint, or one to a MAC or an address that nobody leases. The endpoint `sender` or
/// the host has sent it.
#[inline(always)]
pub fn to_open(packet: &mut Packet, network: u32, sender: Option<&Endpoint>, frame: &Frame) -> End {
    let audience = Audience::of(packet);
    let is_apart = sender.is_some_and(|sender| sender.icc_off != 0);
    if is_group(frame.destination) {
        let Some(sender) = sender else { return flood::begin(packet, network, audience) };
        let is_credible = open::is_credible(packet, sender, frame);
        return match (is_apart, is_credible) {
            (true, _) if audience == Audience::UNGUARDED => Err(Reason::NoIcc),
            (true, Err(spoofed)) => Err(spoofed),
            (true, Ok(())) => to_host(packet, network::ifindex_of(network)),
            (false, Err(_)) => flood_from(packet, network, Some(sender), audience.without_host()),
            (false, Ok(())) => flood_from(packet, network, Some(sender), audience),
        };
    }
    let (ifindex, access) = match maps::station(network, frame.destination) {
        Some(_) if audience == Audience::UNGUARDED => return Err(Reason::SpoofedNd),
        Some(Station { ifindex, access, .. }) => (ifindex, access),
        None => match open::learnt(network, frame) {
            Some(receiver) => (receiver.ifindex, access_with(&receiver, frame)),
            None if is_apart => return Err(Reason::NoIcc),
            None => return flood_from(packet, network, sender, Audience::UNGUARDED),
        },
    };
    if ifindex == packet.ifindex() {
        return Err(Reason::Hairpin);
    }
    match (endpoint::number_of(ifindex), sender) {
        (Some(number), Some(sender)) => {
            icc::to_member(packet, sender, number, frame)?;
            to_member(packet, number, ifindex, access, Peer::Member)
        }
        // At the egress of a device, a frame can only be transmitted.
        (Some(number), None) => to_member(packet, number, ifindex, PLAIN, Peer::Host),
        (None, Some(sender)) => {
            names::elsewhere(packet, sender, frame);
            from_open_to_host(packet, sender, frame, ifindex)
        }
        (None, None) => Err(Reason::Hairpin),
    }
}

/// Floods a frame that an endpoint or the host has sent.
#[inline(always)]
fn flood_from(packet: &mut Packet, network: u32, sender: Option<&Endpoint>, audience: Audience) -> End {
    let has_moved = sender.is_some_and(|sender| sender.access & UNGUARDED != 0) && flood::has_moved(packet);
    flood::begin_after(packet, network, audience, has_moved)
}

/// How the endpoint gets a frame: through its veth pair, if the MAC is that of a station behind it. By a redirect to the
/// peer, the container would take the frame for one to itself, and its IP stack would answer or route it.
#[inline(always)]
fn access_with(receiver: &Endpoint, frame: &Frame) -> u8 {
    if receiver.mac == frame.destination { receiver.access } else { receiver.access | PLAIN }
}

/// Passes a container's frame to the host.
#[inline(always)]
pub fn to_the_host(packet: &mut Packet, endpoint: &Endpoint, frame: &Frame) -> End {
    let ifindex = network::ifindex_of(endpoint.network);
    match endpoint.access & OPEN {
        0 => from_guarded_to_host(packet, endpoint, frame, ifindex),
        _ => from_open_to_host(packet, endpoint, frame, ifindex),
    }
}

#[inline(always)]
fn from_guarded_to_host(packet: &mut Packet, endpoint: &Endpoint, frame: &Frame, ifindex: u32) -> End {
    let (network, ifindex) = match isolation::sibling(packet, endpoint, frame)? {
        None => (endpoint.network, ifindex),
        Some(sibling) => enter_as(packet, sibling)?,
    };
    unused::is_somebodys(packet, network, frame)?;
    to_host(packet, ifindex)
}

#[inline(always)]
fn from_open_to_host(packet: &mut Packet, endpoint: &Endpoint, frame: &Frame, ifindex: u32) -> End {
    if let Some(sibling) = open::sibling(packet, endpoint, frame)? {
        let (network, ifindex) = enter_as(packet, sibling)?;
        unused::is_somebodys(packet, network, frame)?;
        return to_host(packet, ifindex);
    }
    open::is_credible(packet, endpoint, frame)?;
    unused::is_somebodys(packet, endpoint.network, frame)?;
    to_host(packet, ifindex)
}

/// Rewrites a frame for the host as if the sibling, the container's endpoint that has the source address, had
/// sent it. The host chooses by the incoming network what a packet may reach, and its translated address.
/// Returns the sibling's network and its host device.
#[inline(always)]
fn enter_as(packet: &mut Packet, sibling: u32) -> Result<(u32, u32), Reason> {
    let sibling = maps::endpoint(sibling).ok_or(Reason::Failed)?;
    let host = maps::network(sibling.network).ok_or(Reason::Failed)?;
    let ethernet = *packet.header::<Ethernet>(0)?;
    packet.write(0, Ethernet { destination: host.mac, source: sibling.mac, ..ethernet })?;
    Ok((sibling.network, host.ifindex))
}

/// Redirects to the host device. Both ends of its veth pair are in one namespace, so a redirect to the peer
/// is not possible.
#[inline(always)]
fn to_host(packet: &mut Packet, ifindex: u32) -> End {
    packet.redirect(ifindex, Side::Receive)?;
    Ok(Reason::Delivered)
}

/// Passes a frame of the host to a container or to all.
#[inline(always)]
pub fn from_host(packet: &mut Packet, network: u32, frame: &Frame) -> End {
    if is_group(frame.destination) {
        return flood::begin(packet, network, Audience::ALL);
    }
    let Station { ifindex, .. } = another_station(packet, network, frame)?;
    packet.redirect(ifindex, Side::Transmit)?;
    if let Some(number) = endpoint::number_of(ifindex) {
        stats::received(number, packet.len(), Peer::Host);
    }
    Ok(Reason::Forwarded)
}

/// The station with the frame's destination MAC, if it is not the sender.
#[inline(always)]
fn another_station(packet: &mut Packet, network: u32, frame: &Frame) -> Result<Station, Reason> {
    let Some(station) = maps::station(network, frame.destination) else {
        return successor(packet, network, frame)?
            .ok_or_else(|| open::or_end(packet, network, Reason::UnknownDestination));
    };
    if station.ifindex == packet.ifindex() { Err(Reason::Hairpin) } else { Ok(station) }
}

/// The station that leases the packet's IP address, if no station has the frame's MAC. An address may get
/// another MAC; a sender that knows the old one notices only when its neighbour entry expires, up to a minute
/// later.
#[inline(always)]
fn successor(packet: &mut Packet, network: u32, frame: &Frame) -> Result<Option<Station>, Reason> {
    let address = match frame.content {
        Content::Ipv4 => NeighbourKey::ipv4(network, packet.header::<Ipv4>(frame.offset)?.destination),
        Content::Ipv6 => NeighbourKey { network, address: packet.header::<Ipv6>(frame.offset)?.destination },
        Content::Arp | Content::Other => return Ok(None),
    };
    let Some(Neighbour { mac, .. }) = maps::owner(&address) else { return Ok(None) };
    let Some(station) = maps::station(network, mac) else { return Ok(None) };
    if station.ifindex == packet.ifindex() {
        return Err(Reason::Hairpin);
    }
    let ethernet = *packet.header::<Ethernet>(0)?;
    packet.write(0, Ethernet { destination: mac, ..ethernet })?;
    Ok(Some(station))
}
