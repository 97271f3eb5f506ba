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

#[cfg(test)]
mod tests {
    use super::{super::packet, *};

    /// fd00::2 asks for the MAC of fd00::3.
    const SOLICITATION: [u8; 72] = [
        0x60, 0x00, 0x00, 0x00, 0x00, 0x20, 0x3a, 0xff, 0xfd, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0xff, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x01, 0xff, 0x00, 0x00, 0x03, 0x87, 0x00, 0xd1, 0x3f, 0x00, 0x00, 0x00, 0x00, 0xfd, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x01, 0x01, 0x02, 0x42,
        0xac, 0x11, 0x00, 0x02,
    ];
    /// The answer of 02:42:ac:11:00:03, with the checksum of the solicitation.
    const ADVERTISEMENT: [u8; 72] = [
        0x60, 0x00, 0x00, 0x00, 0x00, 0x20, 0x3a, 0xff, 0xfd, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xfd, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x88, 0x00, 0xd1, 0x3f, 0x60, 0x00, 0x00, 0x00, 0xfd, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x02, 0x01, 0x02, 0x42,
        0xac, 0x11, 0x00, 0x03,
    ];
    /// Somebody asks whether anybody has fd00::3, with a nonce.
    const PROBE: [u8; 72] = [
        0x60, 0x00, 0x00, 0x00, 0x00, 0x20, 0x3a, 0xff, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x01, 0xff, 0x00, 0x00, 0x03, 0x87, 0x00, 0x24, 0x1a, 0x00, 0x00, 0x00, 0x00, 0xfd, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x0e, 0x01, 0xa1, 0xb2,
        0xc3, 0xd4, 0xe5, 0xf6,
    ];
    /// The answer to all nodes, with the checksum of the probe.
    const TO_ALL: [u8; 72] = [
        0x60, 0x00, 0x00, 0x00, 0x00, 0x20, 0x3a, 0xff, 0xfd, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xff, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x88, 0x00, 0x24, 0x1a, 0x20, 0x00, 0x00, 0x00, 0xfd, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x02, 0x01, 0x02, 0x42,
        0xac, 0x11, 0x00, 0x03,
    ];
    const MAC: [u8; 6] = [2, 0x42, 172, 17, 0, 3];

    #[test]
    fn the_fields_of_a_solicitation_are_read() {
        let NeighbourPacket { ipv6, message, option } = packet::header(&SOLICITATION, 0);
        assert_eq!((ipv6.next_header, ipv6.hop_limit), (Icmpv6::PROTOCOL, 255));
        assert_eq!((message.icmpv6.kind, message.icmpv6.code), (Icmpv6::NEIGHBOUR_SOLICITATION, 0));
        assert_eq!(message.target[..], SOLICITATION[48..64]);
        assert_eq!((option.kind, option.length), (DiscoveryOption::SOURCE, 1));
        assert_eq!(option.mac, [2, 0x42, 172, 17, 0, 2]);
    }

    #[test]
    fn an_advertisement_goes_to_the_sender_and_replaces_the_option() {
        let mut answer: NeighbourPacket = packet::header(&SOLICITATION, 0);
        answer.advertise(MAC);
        assert_eq!(packet::bytes(&answer), ADVERTISEMENT);
    }

    #[test]
    fn the_advertisement_for_a_probe_goes_to_all_nodes() {
        let mut answer: NeighbourPacket = packet::header(&PROBE, 0);
        assert_eq!(answer.option.kind, DiscoveryOption::NONCE);
        answer.advertise(MAC);
        assert_eq!(packet::bytes(&answer), TO_ALL);
    }

    #[test]
    fn messages_are_told_apart_by_their_type() {
        for kind in 0..=u8::MAX {
            let message = Icmpv6 { kind, ..Icmpv6::default() };
            assert_eq!(message.is_membership(), [131, 132, 143].contains(&kind), "{kind}");
            assert_eq!(message.is_discovery(), (133..=137).contains(&kind), "{kind}");
        }
    }

    /// Hop-by-hop options with a router alert, a fragment header and an authentication header before UDP.
    const CHAIN: [u8; 40] = [
        44, 0, 5, 2, 0, 0, 1, 0, 51, 0xff, 0x05, 0xa9, 0xde, 0xad, 0xbe, 0xef, 17, 4, 0, 0, 0, 0, 1, 0, 0, 0,
        0, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    ];

    #[test]
    fn a_chain_of_extension_headers_is_followed_to_the_payload() {
        let (mut kind, mut offset, mut kinds) = (Extension::HOP_BY_HOP, 0, [0; 3]);
        for place in &mut kinds {
            assert!(Extension::is_one(kind));
            *place = kind;
            let extension: Extension = packet::header(&CHAIN, offset);
            offset += extension.bytes(kind);
            kind = extension.next_header;
        }
        assert_eq!(kinds, [Extension::HOP_BY_HOP, Extension::FRAGMENT, Extension::AUTHENTICATION]);
        assert_eq!((kind, offset), (super::super::protocol::UDP, CHAIN.len()));
    }

    #[test]
    fn the_length_of_an_extension_header_depends_on_its_type() {
        for (kind, length, bytes) in [
            (Extension::HOP_BY_HOP, 0, 8),
            (Extension::ROUTING, 2, 24),
            (Extension::DESTINATION, 255, 2048),
            // Its second byte is reserved.
            (Extension::FRAGMENT, 255, 8),
            (Extension::AUTHENTICATION, 4, 24),
            (Extension::AUTHENTICATION, 255, 1028),
        ] {
            assert_eq!(Extension { length, ..Extension::default() }.bytes(kind), bytes, "{kind} {length}");
        }
    }

    #[test]
    fn only_a_fragment_with_an_offset_continues_a_packet() {
        let continues = |fragment, kind| Extension { fragment, ..Extension::default() }.continues(kind);
        for (fragment, expected) in [
            // The whole packet; the first fragment; reserved bits.
            ([0, 0], false),
            ([0, 1], false),
            ([0, 6], false),
            // Offsets of 8, 1448 and 65528 bytes.
            ([0, 8], true),
            ([5, 0xa9], true),
            ([0xff, 0xf8], true),
        ] {
            assert_eq!(continues(fragment, Extension::FRAGMENT), expected, "{fragment:?}");
            assert!(!continues(fragment, Extension::HOP_BY_HOP));
        }
    }

    #[test]
    fn payloads_are_no_extension_headers() {
        let known = [0, 43, 44, 51, 60];
        for next_header in 0..=u8::MAX {
            assert_eq!(Extension::is_one(next_header), known.contains(&next_header), "{next_header}");
        }
    }
}
