//! Passes a frame on: to the station with its destination MAC, or by [`mod@crate::flood`] to all. If no
//! station has the MAC, it may be an old MAC of the packet's IP address; otherwise the frame is dropped. All
//! stations of a network are known, so nothing is learnt, and nothing unknown is flooded.

use netbpf_common::{
    endpoint::{self, Endpoint, NeighbourKey, Station},
    network,
    reason::Reason,
    wire::{Ethernet, Ipv4, Ipv6, is_group},
};

use crate::{
    bridge::End,
    flood, icc, isolation, maps,
    packet::{Packet, Side},
    parse::{Content, Frame},
    stats, unused,
};

/// Passes a container's frame to a container, to the host or to all.
#[inline(always)]
pub fn from_container(packet: &mut Packet, endpoint: &Endpoint, frame: &Frame) -> End {
    if is_group(frame.destination) {
        return match endpoint.icc_off {
            0 => flood::begin(packet, endpoint.network),
            _ => to_host(packet, network::ifindex_of(endpoint.network)),
        };
    }
    let Station { ifindex } = another_station(packet, endpoint.network, frame)?;
    match endpoint::number_of(ifindex) {
        Some(number) => {
            icc::to_member(packet, endpoint, number, frame)?;
            packet.redirect_peer(ifindex)?;
            stats::received(number, packet.len());
            Ok(Reason::Forwarded)
        }
        None => {
            let (network, ifindex) = match isolation::sibling(packet, endpoint, frame)? {
                None => (endpoint.network, ifindex),
                Some(sibling) => enter_as(packet, sibling)?,
            };
            unused::is_somebodys(packet, network, frame)?;
            to_host(packet, ifindex)
        }
    }
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
        return flood::begin(packet, network);
    }
    let Station { ifindex } = another_station(packet, network, frame)?;
    packet.redirect(ifindex, Side::Transmit)?;
    if let Some(number) = endpoint::number_of(ifindex) {
        stats::received(number, packet.len());
    }
    Ok(Reason::Forwarded)
}

/// The station with the frame's destination MAC, if it is not the sender.
#[inline(always)]
fn another_station(packet: &mut Packet, network: u32, frame: &Frame) -> Result<Station, Reason> {
    let Some(station) = maps::station(network, frame.destination) else {
        return successor(packet, network, frame);
    };
    if station.ifindex == packet.ifindex() { Err(Reason::Hairpin) } else { Ok(station) }
}

/// The station that has the packet's IP address, if no station has the frame's MAC. An address may get
/// another MAC; a sender that knows the old one notices only when its neighbour entry expires, up to a minute
/// later.
#[inline(always)]
fn successor(packet: &mut Packet, network: u32, frame: &Frame) -> Result<Station, Reason> {
    let address = match frame.content {
        Content::Ipv4 => NeighbourKey::ipv4(network, packet.header::<Ipv4>(frame.offset)?.destination),
        Content::Ipv6 => NeighbourKey { network, address: packet.header::<Ipv6>(frame.offset)?.destination },
        Content::Arp | Content::Other => return Err(Reason::UnknownDestination),
    };
    let mac = maps::owner(&address).ok_or(Reason::UnknownDestination)?.mac;
    let station = maps::station(network, mac).ok_or(Reason::UnknownDestination)?;
    if station.ifindex == packet.ifindex() {
        return Err(Reason::Hairpin);
    }
    let ethernet = *packet.header::<Ethernet>(0)?;
    packet.write(0, Ethernet { destination: mac, ..ethernet })?;
    Ok(station)
}
