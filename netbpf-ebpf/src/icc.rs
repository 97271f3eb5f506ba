//! Networks with `enable_icc=false`: members talk to the host and not to each other. All other networks pay for it with
//! one look at a byte that is at hand.
//!
//! - A frame from a member to a member is dropped, whatever its protocol. The exceptions are in `ALLOWED`: what goes to an
//!   exposed port of a container that the sender has a `--link` to, and the answers. They hold for IP packets without
//!   options and extension headers.
//! - The host alone gets what a member sends to a group.
//! - The host forwards nothing between members. A packet that one member sends to a published port of another arrives with
//!   an address of the host.

use netbpf_common::{
    allowed::{self, FRAGMENT},
    endpoint::{self, Endpoint, NeighbourKey},
    network::Network,
    reason::Reason,
    wire::{Ipv4, Ipv6, Transport},
};

use crate::{
    maps,
    packet::Packet,
    parse::{self, Content, Frame},
};

/// The length of an IPv4 header without options.
const IPV4: u8 = 0x45;

/// The frame may go to the member with the endpoint number `receiver`.
#[inline(always)]
pub fn to_member(packet: &Packet, endpoint: &Endpoint, receiver: u32, frame: &Frame) -> Result<(), Reason> {
    if endpoint.icc_off == 0 {
        return Ok(());
    }
    let sender = endpoint::number_of(packet.ifindex()).ok_or(Reason::UnknownEndpoint)?;
    let (protocol, ports) = ports(packet, frame)?;
    let [question, answer] = allowed::keys_of(sender, receiver, protocol, ports);
    if maps::is_allowed(&question) || maps::is_allowed(&answer) { Ok(()) } else { Err(Reason::NoIcc) }
}

/// The host does not send a frame back into the network that it received from a member of it.
#[inline(always)]
pub fn not_from_a_member(
    packet: &Packet,
    number: u32,
    network: &Network,
    frame: &Frame,
) -> Result<(), Reason> {
    if network.icc_off == 0 || packet.ingress_ifindex() != network.ifindex {
        return Ok(());
    }
    let source = match frame.content {
        Content::Ipv4 => NeighbourKey::ipv4(number, packet.header::<Ipv4>(frame.offset)?.source),
        Content::Ipv6 => {
            NeighbourKey { network: number, address: packet.header::<Ipv6>(frame.offset)?.source }
        }
        Content::Arp | Content::Other => return Err(Reason::NoIcc),
    };
    match maps::owner(&source) {
        Some(owner) if owner.mac != network.mac => Err(Reason::NoIcc),
        Some(_) | None => Ok(()),
    }
}

/// The protocol of the packet, and its ports. Neither is 0 unless the packet is a later fragment.
#[inline(always)]
fn ports(packet: &Packet, frame: &Frame) -> Result<(u8, Transport), Reason> {
    let (protocol, offset, end) = match frame.content {
        Content::Ipv4 => {
            let Ipv4 { version_ihl, fragment, protocol, .. } = *packet.header(frame.offset)?;
            if version_ihl != IPV4 {
                return Err(Reason::NoIcc);
            }
            if u16::from_be_bytes(fragment) & 0x1fff != 0 {
                return Ok((protocol, Transport { source: FRAGMENT, destination: FRAGMENT }));
            }
            (protocol, frame.offset + size_of::<Ipv4>(), parse::end_of_ipv4(packet, frame.offset)?)
        }
        Content::Ipv6 => {
            let protocol = packet.header::<Ipv6>(frame.offset)?.next_header;
            (protocol, frame.offset + size_of::<Ipv6>(), parse::end_of_ipv6(packet, frame.offset)?)
        }
        Content::Arp | Content::Other => return Err(Reason::NoIcc),
    };
    if !allowed::has_ports(protocol) {
        return Err(Reason::NoIcc);
    }
    match packet.load_within(offset, end)? {
        Transport { source: FRAGMENT, .. } | Transport { destination: FRAGMENT, .. } => Err(Reason::NoIcc),
        ports => Ok((protocol, ports)),
    }
}
