//! Sends packets of established flows past the host's stack: a container's to the uplink, and those from other hosts to the
//! container. The daemon makes an entry from what conntrack has decided; a packet without one goes on through the stack.
//! So does all that the stack may have to answer or to learn from: segments that begin or end a connection, fragments,
//! options, a last hop, packets that are too large for the next device, datagrams without a checksum.
//!
//! The kernel's routes decide about each packet, and its neighbours about each of a container, so an entry knows none of
//! them.

use netbpf_common::{
    access::{OPEN, PLAIN},
    checksum::{removed, sum, updated},
    endpoint::Endpoint,
    flow::{Flow, FlowKey, Way},
    network,
    reason::Reason,
    wire::{EtherType, Ethernet, Ipv4, TcpStart, Transport, Udp, protocol},
};

use crate::{
    isolation,
    maps::{self, KnownFlow, Program},
    packet::{self, Packet, Side},
    parse::{Content, Frame, Routed},
    stats::{self, Peer},
};

/// Offset of the IPv4 header. Frames with a VLAN tag go through the stack.
const NETWORK: usize = size_of::<Ethernet>();

/// Offset of what follows an IPv4 header without options.
const TRANSPORT: usize = NETWORK + size_of::<Ipv4>();

/// What a packet needs to be sent on.
struct Segment {
    ipv4: Ipv4,
    ports: Transport,
    /// Offset of the checksum in the frame.
    checksum: usize,
    /// Length of the headers behind Ethernet's, in bytes.
    headers: usize,
    /// Whether the segment begins or ends a connection.
    is_begin_or_end: bool,
}

/// Which of the two addresses and ports is replaced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Replaced {
    Source,
    Destination,
}

/// Continues in the program `flow_out`, which is there while flows may skip the stack. Returns otherwise.
#[inline(always)]
pub fn elsewhere(packet: &Packet, frame: &Frame) {
    if frame.content == Content::Ipv4 {
        maps::go_on_in(Program::FlowOut, packet);
    }
}

/// Sends a container's packet to the uplink of its flow. `Ok`: it is to go on through the stack.
#[inline(always)]
pub fn out(packet: &mut Packet, endpoint: &Endpoint, frame: &Frame) -> Result<(), Reason> {
    if frame.offset != NETWORK || packet.vlan_present() != 0 {
        return Ok(());
    }
    let Some(segment) = segment(packet) else { return Ok(()) };
    let now = packet::seconds();
    let Some((known, flow)) = find(packet, &segment, now, |flow| &flow.out) else {
        count(packet, &segment, now);
        return Ok(());
    };
    if !isolation::owns_ipv4(endpoint, segment.ipv4.source) {
        return Ok(());
    }
    let length = segment_length(packet, &segment);
    let received_by = network::ifindex_of(endpoint.network);
    let Some(next) = packet.next_station(received_by, &segment.ipv4, &segment.ports, length) else {
        return Ok(());
    };
    if next.ifindex != flow.uplink {
        return Ok(());
    }
    let macs = (next.mac, next.own_mac);
    rewrite(packet, &segment, &flow.out, Replaced::Source, macs)?;
    known.note_seen(now);
    // As if the stack had sent it: an old entry of a neighbour is checked.
    if known.is_first_check(now) {
        packet.redirect_to_neighbour(next.ifindex, next.address)?;
    } else {
        packet.redirect(next.ifindex, Side::Transmit)?;
    }
    Err(Reason::Shortcut)
}

/// Sends a packet that an uplink received to the container of its flow. None: it is to go on through the stack.
#[inline(always)]
pub fn back(packet: &mut Packet) -> Option<Reason> {
    if !packet.is_for_this_host() || packet.vlan_present() != 0 {
        return None;
    }
    if packet.header::<Ethernet>(0).ok()?.ethertype != EtherType::IPV4 {
        return None;
    }
    packet.pull_headers().ok()?;
    let segment = segment(packet)?;
    let now = packet::seconds();
    let (known, flow) = find(packet, &segment, now, |flow| &flow.back)?;
    let endpoint = maps::endpoint(flow.endpoint)?;
    let network = maps::network(endpoint.network)?;
    let is_its = isolation::owns_ipv4(&endpoint, flow.back.address);
    if !is_its || endpoint.access & (OPEN | PLAIN) != 0 || !packet.fits(network.ifindex) {
        return None;
    }
    // The host forwards what it gets from there, and to that container.
    let translated = Ipv4 { destination: flow.back.address, ..segment.ipv4 };
    let hop = packet.next_hop(packet.ifindex(), &Routed::from(&translated))?;
    if hop.ifindex != network.ifindex || !hop.is_last {
        return None;
    }
    Some(match into(packet, &segment, &flow, &endpoint, network.mac) {
        Ok(()) => {
            known.note_seen(now);
            stats::received(flow.endpoint, packet.len(), Peer::Host);
            Reason::Shortcut
        }
        Err(reason) => reason,
    })
}

#[inline(always)]
fn into(
    packet: &mut Packet,
    segment: &Segment,
    flow: &Flow,
    endpoint: &Endpoint,
    own_mac: [u8; 6],
) -> Result<(), Reason> {
    rewrite(packet, segment, &flow.back, Replaced::Destination, (endpoint.mac, own_mac))?;
    packet.redirect_peer(endpoint.ifindex)
}

/// Reads the headers; none if the packet is one for the stack.
#[inline(always)]
fn segment(packet: &Packet) -> Option<Segment> {
    let ipv4 = *packet.header::<Ipv4>(NETWORK).ok()?;
    let is_whole = u16::from_be_bytes(ipv4.fragment) & 0x3fff == 0;
    if ipv4.version_ihl != 0x45 || !is_whole || ipv4.ttl < 2 {
        return None;
    }
    let (ports, checksum, header, is_begin_or_end) = match ipv4.protocol {
        protocol::TCP => {
            let tcp = *packet.header::<TcpStart>(TRANSPORT).ok()?;
            (tcp.ports, TcpStart::CHECKSUM, tcp.header_bytes(), tcp.is_begin_or_end())
        }
        protocol::UDP => {
            let udp = *packet.header::<Udp>(TRANSPORT).ok()?;
            if udp.checksum == [0; 2] {
                return None;
            }
            (udp.ports, Udp::CHECKSUM, size_of::<Udp>(), false)
        }
        _ => return None,
    };
    let headers = size_of::<Ipv4>() + header;
    Some(Segment { ipv4, ports, checksum: TRANSPORT + checksum, headers, is_begin_or_end })
}

/// The flow of a packet, if it may skip the stack.
#[inline(always)]
fn find(
    packet: &Packet,
    segment: &Segment,
    now: u32,
    way: impl Fn(&Flow) -> &Way,
) -> Option<(KnownFlow, Flow)> {
    let key = key(packet, segment);
    let known = maps::flow(&key)?;
    let flow = known.copy();
    if way(&flow).key != key || !maps::flow_state().admits(flow.epoch, now) || flow.is_over != 0 {
        return None;
    }
    if segment.is_begin_or_end {
        known.end();
        return None;
    }
    Some((known, flow))
}

#[inline(always)]
fn key(packet: &Packet, segment: &Segment) -> FlowKey {
    FlowKey {
        ifindex: packet.ifindex(),
        source: segment.ipv4.source,
        destination: segment.ipv4.destination,
        source_port: segment.ports.source,
        destination_port: segment.ports.destination,
        protocol: segment.ipv4.protocol.into(),
    }
}

/// Counts a packet of a flow without an entry, and reports a flow that has sent enough.
#[inline(always)]
fn count(packet: &Packet, segment: &Segment, now: u32) {
    if segment.is_begin_or_end || now >= maps::flow_state().until {
        return;
    }
    if maps::has_sent_enough(packet.hash(), now, || packet::random_below(2) == 0) {
        maps::report_busy_flow(key(packet, segment));
    }
}

/// The length of the packet, in bytes; of a GSO packet, that of its largest segment.
#[inline(always)]
fn segment_length(packet: &Packet, segment: &Segment) -> u32 {
    match packet.gso_size() {
        0 => packet.len() - NETWORK as u32,
        size => size + segment.headers as u32,
    }
}

/// Writes the addresses, the port, the time to live and the checksums. If that fails, the packet is to be dropped.
#[inline(always)]
fn rewrite(
    packet: &mut Packet,
    segment: &Segment,
    way: &Way,
    replaced: Replaced,
    (destination, source): ([u8; 6], [u8; 6]),
) -> Result<(), Reason> {
    let Segment { ipv4: before, ports, .. } = segment;
    let (mut after, mut new_ports) = (Ipv4 { ttl: before.ttl - 1, ..*before }, *ports);
    let (old_address, old_port) = match replaced {
        Replaced::Source => {
            (after.source, new_ports.source) = (way.address, way.port);
            (before.source, ports.source)
        }
        Replaced::Destination => {
            (after.destination, new_ports.destination) = (way.address, way.port);
            (before.destination, ports.destination)
        }
    };
    let of_address = removed(sum(&old_address)) + sum(&way.address);
    let of_port = removed(sum(&old_port)) + sum(&way.port);
    let of_ttl = removed(sum(&[before.ttl, before.protocol])) + sum(&[after.ttl, before.protocol]);
    after.checksum = updated(before.checksum, of_address + of_ttl);
    let zero_stays = before.protocol == protocol::UDP;
    packet.change_checksum(segment.checksum, of_port, of_address, zero_stays)?;
    packet.store(TRANSPORT, &new_ports)?;
    packet.write(0, Ethernet { destination, source, ethertype: EtherType::IPV4 })?;
    packet.write(NETWORK, after)
}
