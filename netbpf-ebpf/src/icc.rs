//! Networks whose members do not talk to each other (`enable_icc=false`): each member and the host do, and what links
//! open. All other networks pay for it with one look at a byte that they have at hand.
//!
//! - From a member to a member nothing passes, of any protocol, but what goes to an exposed port of a container that the
//!   sender is linked to, and the answer. Only IP without options or extension headers can do that.
//! - What a member sends to a group, the host alone gets.
//! - The host forwards nothing between members. What it brings from one to a published port of another carries an
//!   address of its own.

use netbpf_common::{
    endpoint::{self, NeighbourKey, Port},
    link::{self, FRAGMENT},
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

/// The frame may go to the member with that port number.
#[inline(always)]
pub fn to_member(packet: &Packet, port: &Port, receiver: u32, frame: &Frame) -> Result<(), Reason> {
    if port.icc_off == 0 {
        return Ok(());
    }
    let sender = endpoint::number_of(packet.ifindex()).ok_or(Reason::UnknownPort)?;
    let (protocol, ports) = ports(packet, frame)?;
    let [question, answer] = link::links_of(sender, receiver, protocol, ports);
    if maps::is_open(&question) || maps::is_open(&answer) { Ok(()) } else { Err(Reason::NoIcc) }
}

/// The host does not send back into the network what it received from a member.
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

/// What the frame carries between which ports. None of them is 0, which stands for fragments.
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
    if !link::has_ports(protocol) {
        return Err(Reason::NoIcc);
    }
    match packet.load_within(offset, end)? {
        Transport { source: FRAGMENT, .. } | Transport { destination: FRAGMENT, .. } => Err(Reason::NoIcc),
        ports => Ok((protocol, ports)),
    }
}
