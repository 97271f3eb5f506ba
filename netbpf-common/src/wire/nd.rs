//! ICMPv6 (RFC 4443) and the messages of neighbour discovery (RFC 4861).

use super::Ipv6;

/// The multicast group of all nodes on a link.
pub const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// The header of all ICMPv6 messages.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Icmpv6 {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum of the message and a pseudo-header.
    pub checksum: [u8; 2],
}

impl Icmpv6 {
    /// Next header of ICMPv6.
    pub const PROTOCOL: u8 = 58;
    /// Multicast listener report (RFC 2710).
    pub const MEMBERSHIP_REPORT: u8 = 131;
    /// Multicast listener done (RFC 2710).
    pub const MEMBERSHIP_DONE: u8 = 132;
    /// Multicast listener report, version 2 (RFC 3810).
    pub const MEMBERSHIP_REPORT_V2: u8 = 143;
    /// Router solicitation.
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbour solicitation: asks for the MAC of the target.
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    /// Neighbour advertisement: tells the MAC of the target.
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    /// Redirect to another router.
    pub const REDIRECT: u8 = 137;

    /// Whether it reports or ends a group membership.
    #[inline(always)]
    pub const fn is_membership(self) -> bool {
        matches!(self.kind, Self::MEMBERSHIP_REPORT | Self::MEMBERSHIP_DONE | Self::MEMBERSHIP_REPORT_V2)
    }

    /// Whether it is a message of neighbour discovery.
    #[inline(always)]
    pub const fn is_discovery(self) -> bool {
        self.kind >= Self::ROUTER_SOLICITATION && self.kind <= Self::REDIRECT
    }
}

/// A neighbour solicitation or advertisement, without options.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeighbourMessage {
    /// Type, code and checksum.
    pub icmpv6: Icmpv6,
    /// In an advertisement: router, solicited, override (3 bits), reserved (29).
    pub flags: [u8; 4],
    /// The address that it is about.
    pub target: [u8; 16],
}

impl NeighbourMessage {
    /// Flag: the advertisement answers a solicitation.
    pub const SOLICITED: u8 = 0x40;
    /// Flag: receivers should replace an existing entry.
    pub const OVERRIDE: u8 = 0x20;
}

/// An option of eight bytes: a link-layer address, or a nonce (RFC 3971).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiscoveryOption {
    /// Type.
    pub kind: u8,
    /// In units of eight bytes.
    pub length: u8,
    /// A MAC or a nonce.
    pub mac: [u8; 6],
}

impl DiscoveryOption {
    /// The sender's link-layer address.
    pub const SOURCE: u8 = 1;
    /// The target's link-layer address.
    pub const TARGET: u8 = 2;
    /// A nonce, which distinguishes the sender's own probes from others' (RFC 7527).
    pub const NONCE: u8 = 14;
}

/// A packet with a neighbour solicitation or advertisement and an option.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeighbourPacket {
    /// The IPv6 header.
    pub ipv6: Ipv6,
    /// The message directly after the IPv6 header.
    pub message: NeighbourMessage,
    /// The option; all zero if there is none.
    pub option: DiscoveryOption,
}

impl NeighbourPacket {
    /// Turns a solicitation into an advertisement of its target, whose MAC is `mac`. The sender of a
    /// duplicate address probe has no address, so the advertisement goes to all nodes. Does not update the
    /// checksum.
    #[inline(always)]
    pub fn advertise(&mut self, mac: [u8; 6]) {
        const LENGTH: u16 = (size_of::<NeighbourMessage>() + size_of::<DiscoveryOption>()) as u16;
        let probe = self.ipv6.source == [0; 16];
        self.ipv6.payload_length = LENGTH.to_be_bytes();
        self.ipv6.destination = if probe { ALL_NODES } else { self.ipv6.source };
        self.ipv6.source = self.message.target;
        self.message.icmpv6.kind = Icmpv6::NEIGHBOUR_ADVERTISEMENT;
        let flags = if probe { 0 } else { NeighbourMessage::SOLICITED };
        self.message.flags = [flags | NeighbourMessage::OVERRIDE, 0, 0, 0];
        self.option = DiscoveryOption { kind: DiscoveryOption::TARGET, length: 1, mac };
    }
}

/// The start of all IPv6 extension headers (RFC 8200 section 4).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extension {
    /// Next header.
    pub next_header: u8,
    /// Length: in units of eight bytes, without the first; in an authentication header, in units of four
    /// bytes, without the first two; reserved in a fragment header, which has eight bytes.
    pub length: u8,
    /// In a fragment header: fragment offset (13 bits), reserved (2), more fragments (1).
    pub fragment: [u8; 2],
    /// Content of the header.
    pub content: [u8; 4],
}

impl Extension {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing header.
    pub const ROUTING: u8 = 43;
    /// Fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header (RFC 4302).
    pub const AUTHENTICATION: u8 = 51;
    /// Destination options.
    pub const DESTINATION: u8 = 60;

    /// Whether a next header is one of these.
    #[inline(always)]
    pub const fn is_one(next_header: u8) -> bool {
        matches!(
            next_header,
            Self::HOP_BY_HOP | Self::ROUTING | Self::FRAGMENT | Self::AUTHENTICATION | Self::DESTINATION
        )
    }

    /// Its length in bytes; `kind` is its own type, from the header before.
    #[inline(always)]
    pub const fn bytes(self, kind: u8) -> usize {
        match kind {
            Self::FRAGMENT => 8,
            Self::AUTHENTICATION => 4 * (self.length as usize + 2),
            _ => 8 * (self.length as usize + 1),
        }
    }

    /// Whether the packet is a later fragment.
    #[inline(always)]
    pub const fn continues(self, kind: u8) -> bool {
        kind == Self::FRAGMENT && (self.fragment[0] != 0 || self.fragment[1] & 0xf8 != 0)
    }
}
