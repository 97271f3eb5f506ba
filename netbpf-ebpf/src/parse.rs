//! Parses headers into a [`Frame`] or [`Routed`]. Checks their format, never policy.
//!
//! A VLAN tag is in the skb's metadata if the kernel removed it from the bytes, otherwise in the bytes (a
//! frame from BPF_PROG_TEST_RUN, or from a device without VLAN offload). A frame with a VLAN ID is checked by
//! its MACs only. A tag with ID 0 only has a priority, and receivers skip it. The programs do so too, but
//! only once: a frame with a second tag is malformed.

use netbpf_common::{
    reason::Reason,
    uplink,
    wire::{Arp, EtherType, Ethernet, Extension, Ipv4, Ipv6, Tag, protocol},
};

use crate::packet::{Arrival, Packet};

/// Headers of a frame.
pub struct Frame {
    /// Destination MAC.
    pub destination: [u8; 6],
    /// Source MAC.
    pub source: [u8; 6],
    /// What it carries.
    pub content: Content,
    /// Its offset in the frame.
    pub offset: usize,
}

/// What a frame carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// ARP for IPv4 over Ethernet.
    Arp,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// A frame with a VLAN ID, or another protocol.
    Other,
}

/// The fields that a router uses.
pub struct Routed {
    /// Source address; an IPv4 address is mapped by [`uplink::mapped`].
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
    /// Whether it is an IPv4 packet.
    pub is_ipv4: bool,
    /// Type of service, or traffic class.
    pub class: u8,
}

impl From<&Ipv4> for Routed {
    #[inline(always)]
    fn from(ipv4: &Ipv4) -> Self {
        Self {
            source: uplink::mapped(ipv4.source),
            destination: uplink::mapped(ipv4.destination),
            is_ipv4: true,
            class: ipv4.tos,
        }
    }
}

impl From<&Ipv6> for Routed {
    #[inline(always)]
    fn from(ipv6: &Ipv6) -> Self {
        Self { source: ipv6.source, destination: ipv6.destination, is_ipv4: false, class: ipv6.class() }
    }
}

/// Reads the headers of a frame that an uplink received. None if it is not an IP packet, or in a VLAN.
/// Packets that reach their last hop are left to the host, which tells the sender.
#[inline(always)]
pub fn routed(arrival: &Arrival) -> Option<Routed> {
    let offset = size_of::<Ethernet>();
    match arrival.header::<Ethernet>(0)?.ethertype {
        EtherType::IPV4 => {
            let ipv4 = arrival.header::<Ipv4>(offset)?;
            (ipv4.is_version_4() && ipv4.ttl > 1).then(|| ipv4.into())
        }
        EtherType::IPV6 => {
            let ipv6 = arrival.header::<Ipv6>(offset)?;
            (ipv6.is_version_6() && ipv6.hop_limit > 1).then(|| ipv6.into())
        }
        _ => None,
    }
}

/// Reads the headers.
#[inline(always)]
pub fn frame(packet: &mut Packet) -> Result<Frame, Reason> {
    packet.pull_headers()?;
    let Ethernet { destination, source, ethertype } = *packet.header::<Ethernet>(0)?;
    let (ethertype, offset) = untagged(packet, ethertype)?;
    let content = match ethertype {
        Some(EtherType::ARP) => arp(packet, offset)?,
        Some(EtherType::IPV4) => ipv4(packet, offset)?,
        Some(EtherType::IPV6) => ipv6(packet, offset)?,
        Some(_) | None => Content::Other,
    };
    Ok(Frame { destination, source, content, offset })
}

/// Reads the headers of a frame of or to an open endpoint. An IP packet of another version or without a whole header
/// is passed on like any other protocol, because every receiver ignores it. Other malformed frames are not: Linux
/// skips any number of tags without a VLAN ID, and takes ARP for some other kinds of hardware than Ethernet.
#[inline(always)]
pub fn frame_as_is(packet: &mut Packet) -> Result<Frame, Reason> {
    packet.pull_headers()?;
    let Ethernet { destination, source, ethertype } = *packet.header::<Ethernet>(0)?;
    let (ethertype, offset) = untagged(packet, ethertype)?;
    let content = match ethertype {
        Some(EtherType::ARP) => arp(packet, offset)?,
        Some(EtherType::IPV4) => ipv4(packet, offset).unwrap_or(Content::Other),
        Some(EtherType::IPV6) => ipv6(packet, offset).unwrap_or(Content::Other),
        Some(_) | None => Content::Other,
    };
    Ok(Frame { destination, source, content, offset })
}

/// The end of the IPv4 packet at an offset, from its header. BIG TCP packets have no length there and end
/// with the frame.
#[inline(always)]
pub fn end_of_ipv4(packet: &Packet, offset: usize) -> Result<usize, Reason> {
    match u16::from_be_bytes(packet.header::<Ipv4>(offset)?.total_length) {
        0 => Ok(packet.len() as usize),
        length => Ok(offset + length as usize),
    }
}

/// The end of the IPv6 packet at an offset, from its header. BIG TCP packets and other packets with
/// hop-by-hop options may have no length there (RFC 2675) and end with the frame; before Linux 7.0 BIG TCP
/// packets have such options.
#[inline(always)]
pub fn end_of_ipv6(packet: &Packet, offset: usize) -> Result<usize, Reason> {
    let Ipv6 { payload_length, next_header, .. } = packet.header(offset)?;
    match (u16::from_be_bytes(*payload_length), *next_header) {
        (0, Extension::HOP_BY_HOP | protocol::TCP) => Ok(packet.len() as usize),
        (length, _) => Ok(offset + size_of::<Ipv6>() + length as usize),
    }
}

/// The EtherType of a frame without a VLAN ID, and the offset of its content.
#[inline(always)]
pub fn untagged(packet: &Packet, ethertype: EtherType) -> Result<(Option<EtherType>, usize), Reason> {
    let offset = size_of::<Ethernet>();
    let (vid, inner, offset) = if packet.vlan_present() != 0 {
        (packet.vlan_tci() & 0x0fff, ethertype, offset)
    } else if ethertype.is_vlan() {
        let tag = packet.header::<Tag>(offset)?;
        (tag.vid() as u32, tag.ethertype, offset + size_of::<Tag>())
    } else {
        return Ok((Some(ethertype), offset));
    };
    match vid {
        0 if inner.is_vlan() => Err(Reason::Malformed),
        0 => Ok((Some(inner), offset)),
        _ => Ok((None, offset)),
    }
}

#[inline(always)]
fn arp(packet: &Packet, offset: usize) -> Result<Content, Reason> {
    let arp = packet.header::<Arp>(offset)?;
    if arp.is_ipv4_over_ethernet() { Ok(Content::Arp) } else { Err(Reason::Malformed) }
}

#[inline(always)]
fn ipv4(packet: &Packet, offset: usize) -> Result<Content, Reason> {
    let ipv4 = packet.header::<Ipv4>(offset)?;
    if ipv4.is_version_4() { Ok(Content::Ipv4) } else { Err(Reason::Malformed) }
}

#[inline(always)]
fn ipv6(packet: &Packet, offset: usize) -> Result<Content, Reason> {
    let ipv6 = packet.header::<Ipv6>(offset)?;
    if ipv6.is_version_6() { Ok(Content::Ipv6) } else { Err(Reason::Malformed) }
}
