//! Networks with `enable_icc=false`: members may talk to the host and not to each other. For other networks
//! this costs the check of one byte that was read anyway.
//!
//! - A frame from a member to a member is dropped, whatever its protocol. The exceptions are in `ALLOWED`:
//!   packets to an exposed port of a container that the sender has a `--link` to, and the replies. They apply
//!   to IP packets without options and extension headers.
//! - A member's frame to a group goes to the host only.
//! - The host forwards nothing between members. A packet from a member to a published port of another arrives
//!   with an address of the host.

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

/// Version and length of an IPv4 header without options.
const IPV4: u8 = 0x45;

/// Checks that the frame may go to the member with the endpoint number `receiver`.
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

/// Checks that the host does not forward a frame of a member back into its network.
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
        // An open member may use addresses that no lease tells.
        None if network.open != 0 => Err(Reason::NoIcc),
        Some(_) | None => Ok(()),
    }
}

/// The protocol of the packet, and its ports. The ports are 0 only for a later fragment.
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
