//! The fixed parts of IPv4 (RFC 791) and IPv6 (RFC 8200) headers.

/// An IPv4 header without options.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ipv4 {
    /// Version (4 bits) and header length in words (4).
    pub version_ihl: u8,
    /// Type of service.
    pub tos: u8,
    /// Length with the header; 0 in a BIG TCP packet. Not checked against the frame.
    pub total_length: [u8; 2],
    /// Identification.
    pub identification: [u8; 2],
    /// Flags (3 bits) and fragment offset (13).
    pub fragment: [u8; 2],
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Checksum of the header.
    pub checksum: [u8; 2],
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
}

impl Ipv4 {
    /// Whether the first byte is valid for IPv4.
    #[inline(always)]
    pub const fn is_version_4(self) -> bool {
        self.version_ihl >= 0x45 && self.version_ihl <= 0x4f
    }
}

/// An IPv6 header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ipv6 {
    /// Version (4 bits), traffic class (8), flow label (20).
    pub version_class_flow: [u8; 4],
    /// Length without the header; 0 in a BIG TCP packet. Not checked against the frame.
    pub payload_length: [u8; 2],
    /// Protocol of the payload.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
}

impl Ipv6 {
    /// Whether the first byte is valid for IPv6.
    #[inline(always)]
    pub const fn is_version_6(self) -> bool {
        self.version_class_flow[0] >> 4 == 6
    }

    /// Traffic class.
    #[inline(always)]
    pub const fn class(self) -> u8 {
        self.version_class_flow[0] << 4 | self.version_class_flow[1] >> 4
    }
}

/// An IPv4 header up to its addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ipv4Start {
    /// As [`Ipv4::version_ihl`].
    pub version_ihl: u8,
    /// As [`Ipv4::tos`].
    pub tos: u8,
    /// As [`Ipv4::total_length`].
    pub total_length: [u8; 2],
    /// As [`Ipv4::identification`].
    pub identification: [u8; 2],
    /// As [`Ipv4::fragment`].
    pub fragment: [u8; 2],
    /// As [`Ipv4::ttl`].
    pub ttl: u8,
    /// As [`Ipv4::protocol`].
    pub protocol: u8,
    /// As [`Ipv4::checksum`].
    pub checksum: [u8; 2],
}

/// An IPv6 header up to its addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ipv6Start {
    /// As [`Ipv6::version_class_flow`].
    pub version_class_flow: [u8; 4],
    /// As [`Ipv6::payload_length`].
    pub payload_length: [u8; 2],
    /// As [`Ipv6::next_header`].
    pub next_header: u8,
    /// As [`Ipv6::hop_limit`].
    pub hop_limit: u8,
}

/// The addresses of an IP header.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPair<const N: usize> {
    /// Source address.
    pub source: [u8; N],
    /// Destination address.
    pub destination: [u8; N],
}

impl<const N: usize> AddressPair<N> {
    /// Those of the packet that answers.
    #[inline(always)]
    pub const fn swapped(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::packet, *};

    /// The first fragment of a UDP datagram from 172.17.0.2 to 172.17.0.3.
    const IPV4: [u8; 20] = [
        0x45, 0x10, 0x00, 0x54, 0x1c, 0x46, 0x20, 0x00, 0x40, 0x11, 0xe6, 0x1b, 0xac, 0x11, 0x00, 0x02, 0xac,
        0x11, 0x00, 0x03,
    ];
    /// A TCP segment from fd00::2 to fd00::3 with the class of expedited forwarding and a flow label.
    const IPV6: [u8; 40] = [
        0x6b, 0x81, 0x23, 0x45, 0x00, 0x14, 0x06, 0x40, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
        0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3,
    ];

    #[test]
    fn the_fields_of_an_ipv4_header_are_read() {
        let ipv4: Ipv4 = packet::header(&IPV4, 0);
        assert!(ipv4.is_version_4());
        assert_eq!((ipv4.tos, ipv4.total_length, ipv4.identification), (0x10, [0, 84], [0x1c, 0x46]));
        assert_eq!((ipv4.fragment, ipv4.ttl, ipv4.protocol), ([0x20, 0], 64, super::super::protocol::UDP));
        assert_eq!((ipv4.source, ipv4.destination), ([172, 17, 0, 2], [172, 17, 0, 3]));
        assert_eq!(packet::bytes(&ipv4), IPV4);
    }

    #[test]
    fn the_first_byte_of_ipv4_has_the_version_and_at_least_five_words() {
        for version_ihl in 0..=u8::MAX {
            let ipv4 = Ipv4 { version_ihl, ..packet::header(&IPV4, 0) };
            let (version, words) = (version_ihl / 16, version_ihl % 16);
            assert_eq!(ipv4.is_version_4(), version == 4 && words >= 5, "{version_ihl:#x}");
        }
    }

    #[test]
    fn the_fields_of_an_ipv6_header_are_read() {
        let ipv6: Ipv6 = packet::header(&IPV6, 0);
        assert!(ipv6.is_version_6());
        assert_eq!(ipv6.class(), 0xb8);
        assert_eq!((ipv6.payload_length, ipv6.next_header, ipv6.hop_limit), ([0, 20], 6, 64));
        assert_eq!(
            [ipv6.source[0], ipv6.source[15], ipv6.destination[0], ipv6.destination[15]],
            [0xfd, 2, 0xfd, 3]
        );
        assert_eq!(packet::bytes(&ipv6), IPV6);
    }

    #[test]
    fn the_first_byte_of_ipv6_has_the_version_and_half_of_the_class() {
        for first in 0..=u8::MAX {
            let ipv6 = Ipv6 { version_class_flow: [first, 0x0f, 0xff, 0xff], ..packet::header(&IPV6, 0) };
            assert_eq!((ipv6.is_version_6(), ipv6.class()), (first / 16 == 6, first % 16 * 16), "{first:#x}");
        }
    }
}
