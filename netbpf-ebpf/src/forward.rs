//! Passing a frame on: to the one station with its MAC, or by [`mod@crate::flood`] to all. A MAC that no station has is
//! nobody's, or was once that of the packet's address: whoever is in a network is known, so nothing is learnt and nothing
//! unknown is flooded.

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

/// To a container, to the host or to all.
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

/// Makes the frame, which is for the host, one that a sibling has sent: whom the host lets it reach, and with what address,
/// goes by the network that a packet came in by. Says which network that is now, and its host device.
#[inline(always)]
fn enter_as(packet: &mut Packet, sibling: u32) -> Result<(u32, u32), Reason> {
    let sibling = maps::endpoint(sibling).ok_or(Reason::Failed)?;
    let host = maps::network(sibling.network).ok_or(Reason::Failed)?;
    let ethernet = *packet.header::<Ethernet>(0)?;
    packet.write(0, Ethernet { destination: host.mac, source: sibling.mac, ..ethernet })?;
    Ok((sibling.network, host.ifindex))
}

/// Both ends of the host device are in one namespace, where a redirect to the peer is not allowed.
#[inline(always)]
fn to_host(packet: &mut Packet, ifindex: u32) -> End {
    packet.redirect(ifindex, Side::Receive)?;
    Ok(Reason::Delivered)
}

/// To a container or to all.
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

/// The station with the frame's destination, if that is not where it came from.
#[inline(always)]
fn another_station(packet: &mut Packet, network: u32, frame: &Frame) -> Result<Station, Reason> {
    let Some(station) = maps::station(network, frame.destination) else {
        return successor(packet, network, frame);
    };
    if station.ifindex == packet.ifindex() { Err(Reason::Hairpin) } else { Ok(station) }
}

/// The station that has the packet's IP address, where nobody has the frame's MAC: an address may come back with another
/// one, and who talked to it before learns of that when its own doubts come, up to a minute later.
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
