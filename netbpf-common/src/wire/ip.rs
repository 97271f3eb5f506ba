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
