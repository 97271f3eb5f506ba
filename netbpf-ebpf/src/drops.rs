//! Remembers dropped frames: why, where, from whom and to whom. Only they pay for it. Decides nothing.
//!
//! A program of its own does so for all programs but `from_uplink`, so that they get neither longer nor slower.

use netbpf_common::{
    drops::{Dropping, NO_NETWORK, padded},
    endpoint::{self, NeighbourKey},
    network,
    reason::Reason,
    wire::{
        Arp, EtherType, Ethernet, Icmpv6, Ipv4, Ipv6, NeighbourMessage, Transport, Wire,
        protocol::{ICMP, SCTP, TCP, UDP},
    },
};

use crate::{
    maps::{self, Program},
    packet::{self, Arrival, Packet},
    parse,
};

/// Scratch word: the reason as a number. Whatever was there is not needed any more.
const REASON: usize = 0;

/// An IPv4 header without options.
const PLAIN: u8 = 0x45;

/// Continues in the program `remember`. Returns only if that failed: after the longest flood, no tail call is left.
#[inline(always)]
pub fn elsewhere(packet: &mut Packet, reason: Reason) {
    packet.set_note(REASON, reason as u32);
    maps::go_on_in(Program::Remember, packet);
}

/// Remembers a frame that another program drops. Returns the reason as a number.
#[inline(always)]
pub fn remember(packet: &Packet) -> u32 {
    let reason = packet.note(REASON);
    let ifindex = packet.ifindex();
    let Some(frame) = begin(reason, ifindex, packet.ingress_ifindex(), packet.len()) else { return reason };
    frame.key.network = network_at(ifindex);
    frame.drops.last.head_length = packet.copy_head(&mut frame.drops.last.head);
    if let Ok(Ethernet { destination, source, ethertype }) = packet.load(0) {
        (frame.key.destination, frame.drops.last.source) = (padded(destination), padded(source));
        if let Ok((Some(ethertype), offset)) = parse::untagged(packet, ethertype) {
            describe(packet, ethertype, offset, frame);
        }
    }
    maps::remember(frame);
    reason
}

/// The same for a frame of an uplink, unless there were enough in this tick of the clock.
#[inline(always)]
pub fn remember_arrival(arrival: &Arrival, reason: Reason) {
    if !maps::may_remember(packet::tick()) {
        return;
    }
    let ifindex = arrival.ifindex();
    let Some(frame) = begin(reason as u32, ifindex, ifindex, arrival.len() as u32) else { return };
    frame.drops.last.head_length = arrival.copy_head(&mut frame.drops.last.head);
    // Only IP packets without a VLAN tag are dropped here.
    if let Some(ethernet) = arrival.header::<Ethernet>(0) {
        describe(arrival, ethernet.ethertype, size_of::<Ethernet>(), frame);
    }
    frame.key.network =
        maps::closed_subnet(frame.key.destination).map_or(NO_NETWORK, |subnet| subnet.network);
    maps::remember(frame);
}

/// The record of one frame that is dropped now. What is not set is zero.
#[inline(always)]
fn begin(reason: u32, ifindex: u32, received_by: u32, length: u32) -> Option<&'static mut Dropping> {
    let frame = maps::dropping()?;
    let now = packet::since_boot();
    (frame.key.reason, frame.key.ifindex) = (reason, ifindex);
    (frame.drops.frames, frame.drops.first, frame.drops.last.time) = (1, now, now);
    (frame.drops.last.received_by, frame.drops.last.length) = (received_by, length);
    Some(frame)
}

/// The network of an endpoint or host device.
#[inline(always)]
fn network_at(ifindex: u32) -> u32 {
    match endpoint::number_of(ifindex) {
        Some(number) => maps::endpoint(number).map_or(NO_NETWORK, |endpoint| endpoint.network),
        None => network::number_of(ifindex).unwrap_or(NO_NETWORK),
    }
}

/// A frame whose bytes can be copied.
trait Copied {
    /// The header at an offset; none if the frame ends before it does.
    fn copied<T: Wire>(&self, offset: usize) -> Option<T>;
}

impl Copied for Packet {
    #[inline(always)]
    fn copied<T: Wire>(&self, offset: usize) -> Option<T> {
        self.load(offset).ok()
    }
}

impl Copied for Arrival {
    #[inline(always)]
    fn copied<T: Wire>(&self, offset: usize) -> Option<T> {
        self.header(offset).copied()
    }
}

/// Fills in the addresses, the protocol and the ports, as far as the frame has them.
#[inline(always)]
fn describe(bytes: &impl Copied, ethertype: EtherType, offset: usize, frame: &mut Dropping) {
    let (key, last) = (&mut frame.key, &mut frame.drops.last);
    key.ethertype = ethertype.0;
    match ethertype {
        EtherType::ARP => {
            let Some(arp) = bytes.copied::<Arp>(offset) else { return };
            (key.destination, last.source) = (mapped(arp.tpa), mapped(arp.spa));
        }
        EtherType::IPV4 => {
            let Some(ipv4) = bytes.copied::<Ipv4>(offset) else { return };
            (key.destination, last.source) = (mapped(ipv4.destination), mapped(ipv4.source));
            key.protocol = ipv4.protocol;
            let is_first = u16::from_be_bytes(ipv4.fragment) & 0x1fff == 0;
            if ipv4.version_ihl == PLAIN && is_first {
                describe_ports(bytes, offset + size_of::<Ipv4>(), frame);
            }
        }
        EtherType::IPV6 => {
            let Some(ipv6) = bytes.copied::<Ipv6>(offset) else { return };
            (key.destination, last.source) = (ipv6.destination, ipv6.source);
            key.protocol = ipv6.next_header;
            describe_ports(bytes, offset + size_of::<Ipv6>(), frame);
        }
        _ => {}
    }
}

#[inline(always)]
fn describe_ports(bytes: &impl Copied, offset: usize, frame: &mut Dropping) {
    let (key, last) = (&mut frame.key, &mut frame.drops.last);
    match key.protocol {
        TCP | UDP | SCTP => {
            let Some(ports) = bytes.copied::<Transport>(offset) else { return };
            (key.port, last.source_port) = (ports.destination, ports.source);
        }
        ICMP | Icmpv6::PROTOCOL => {
            let Some(icmp) = bytes.copied::<Icmpv6>(offset) else { return };
            key.port = [icmp.kind, icmp.code];
            let has_target =
                matches!(icmp.kind, Icmpv6::NEIGHBOUR_SOLICITATION | Icmpv6::NEIGHBOUR_ADVERTISEMENT);
            if key.protocol == Icmpv6::PROTOCOL
                && has_target
                && let Some(message) = bytes.copied::<NeighbourMessage>(offset)
            {
                key.destination = message.target;
            }
        }
        _ => {}
    }
}

/// An IPv4 address as [`netbpf_common::uplink::mapped`] has it, without a call of memset.
#[inline(always)]
fn mapped(address: [u8; 4]) -> [u8; 16] {
    NeighbourKey::ipv4(0, address).address
}
