//! ICMPv6 (RFC 4443) and the messages of neighbour discovery (RFC 4861).

use super::Ipv6;

/// The group that every node is in.
pub const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// The part that all ICMPv6 messages begin with.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Icmpv6 {
    /// Which message.
    pub kind: u8,
    /// Which kind of it.
    pub code: u8,
    /// Of the message and a pseudo-header.
    pub checksum: [u8; 2],
}

impl Icmpv6 {
    /// Next header of ICMPv6.
    pub const PROTOCOL: u8 = 58;
    /// A node is in a group (RFC 2710).
    pub const MEMBERSHIP_REPORT: u8 = 131;
    /// A node leaves a group (RFC 2710).
    pub const MEMBERSHIP_DONE: u8 = 132;
    /// A node is in these groups (RFC 3810).
    pub const MEMBERSHIP_REPORT_V2: u8 = 143;
    /// A host asks for routers.
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// A router says what there is.
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Who has the target?
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    /// The target is here.
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    /// A router knows a better one.
    pub const REDIRECT: u8 = 137;

    /// Whether a node says with it which groups it is in.
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
    /// Whom it is about.
    pub target: [u8; 16],
}

impl NeighbourMessage {
    /// Answers a solicitation.
    pub const SOLICITED: u8 = 0x40;
    /// Counts more than what is known.
    pub const OVERRIDE: u8 = 0x20;
}

/// An option of eight bytes: a link-layer address, or a nonce (RFC 3971) in the place of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiscoveryOption {
    /// Which option.
    pub kind: u8,
    /// In units of eight bytes.
    pub length: u8,
    /// A MAC.
    pub mac: [u8; 6],
}

impl DiscoveryOption {
    /// The sender's link-layer address.
    pub const SOURCE: u8 = 1;
    /// The target's link-layer address.
    pub const TARGET: u8 = 2;
    /// A number that tells the sender's own probes from others' (RFC 7527).
    pub const NONCE: u8 = 14;
}

/// A packet with a neighbour solicitation or advertisement and an option.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeighbourPacket {
    /// The IPv6 header.
    pub ipv6: Ipv6,
    /// Behind it, without headers between.
    pub message: NeighbourMessage,
    /// All zero where there is none.
    pub option: DiscoveryOption,
}

impl NeighbourPacket {
    /// Makes a solicitation its target's advertisement; the target has the MAC `mac`. On a probe for a duplicate, who
    /// asks has no address, and all nodes are told. The checksum is still to be made.
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

/// What all extension headers of IPv6 begin with (RFC 8200 4).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extension {
    /// What follows.
    pub next_header: u8,
    /// In units of eight bytes, the first not counted; in an authentication header, of four bytes, the first two not
    /// counted; reserved in a fragment header, which has eight bytes.
    pub length: u8,
    /// In a fragment header: where the fragment belongs (13 bits), reserved (2), more to come (1).
    pub fragment: [u8; 2],
    /// Whatever the header says.
    pub content: [u8; 4],
}

impl Extension {
    /// Options for all on the way.
    pub const HOP_BY_HOP: u8 = 0;
    /// Stations on the way.
    pub const ROUTING: u8 = 43;
    /// A part of a packet.
    pub const FRAGMENT: u8 = 44;
    /// A proof of origin (RFC 4302).
    pub const AUTHENTICATION: u8 = 51;
    /// Options for the receiver.
    pub const DESTINATION: u8 = 60;

    /// Whether a next header is one of these.
    #[inline(always)]
    pub const fn is_one(next_header: u8) -> bool {
        matches!(
            next_header,
            Self::HOP_BY_HOP | Self::ROUTING | Self::FRAGMENT | Self::AUTHENTICATION | Self::DESTINATION
        )
    }

    /// Its length in bytes; `kind` is the next header that led to it.
    #[inline(always)]
    pub const fn bytes(self, kind: u8) -> usize {
        match kind {
            Self::FRAGMENT => 8,
            Self::AUTHENTICATION => 4 * (self.length as usize + 2),
            _ => 8 * (self.length as usize + 1),
        }
    }

    /// Whether it says that its packet continues another one.
    #[inline(always)]
    pub const fn continues(self, kind: u8) -> bool {
        kind == Self::FRAGMENT && (self.fragment[0] != 0 || self.fragment[1] & 0xf8 != 0)
    }
}
