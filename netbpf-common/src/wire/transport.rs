//! The ports: the common start of TCP (RFC 9293), UDP (RFC 768) and SCTP (RFC 9260) headers.

/// The ports.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// The sender's port.
    pub source: [u8; 2],
    /// The receiver's port.
    pub destination: [u8; 2],
}

/// The start of a TCP header, up to its flags (RFC 9293, section 3.1).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpStart {
    /// The ports.
    pub ports: Transport,
    /// Sequence number and acknowledged number.
    pub numbers: [u8; 8],
    /// Length of the header in words (4 bits), reserved bits.
    pub length: u8,
    /// The flags.
    pub flags: u8,
}

impl TcpStart {
    /// Offset of the checksum.
    pub const CHECKSUM: usize = 16;

    /// Whether the segment begins or ends a connection: it has SYN, FIN or RST.
    #[inline(always)]
    pub const fn is_begin_or_end(self) -> bool {
        self.flags & 0b0111 != 0
    }

    /// Length of the header in bytes.
    #[inline(always)]
    pub const fn header_bytes(self) -> usize {
        (self.length >> 4) as usize * 4
    }
}

/// A UDP header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Udp {
    /// The ports.
    pub ports: Transport,
    /// Length with the header.
    pub length: [u8; 2],
    /// The checksum; zero for none.
    pub checksum: [u8; 2],
}

impl Udp {
    /// Offset of the checksum.
    pub const CHECKSUM: usize = 6;
}

/// Numbers of protocols in IP headers.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

#[cfg(test)]
mod tests {
    use super::{super::packet, *};

    /// The first segment of a TCP connection, a DNS query and an SCTP chunk; each begins with its ports.
    const SEGMENT: [u8; 20] =
        [0xd4, 0x31, 0x00, 0x50, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xfa, 0xf0, 0x12, 0x34, 0, 0];
    const DATAGRAM: [u8; 8] = [0xd4, 0x31, 0x00, 0x35, 0x00, 0x08, 0x12, 0x34];
    const CHUNK: [u8; 12] = [0xd4, 0x31, 0x0b, 0x59, 0, 0, 0, 0, 0x12, 0x34, 0x56, 0x78];

    #[test]
    fn a_segment_tells_its_flags_and_the_length_of_its_header() {
        let mut start: TcpStart = packet::header(&SEGMENT, 0);
        assert_eq!((start.header_bytes(), start.flags), (20, 2));
        for (flags, expected) in
            [(0x10, false), (0x18, false), (0xd8, false), (0x11, true), (0x12, true), (4, true)]
        {
            start.flags = flags;
            assert_eq!(start.is_begin_or_end(), expected, "{flags:x}");
        }
        let datagram: Udp = packet::header(&DATAGRAM, 0);
        assert_eq!((datagram.length, datagram.checksum), ([0, 8], [0x12, 0x34]));
        assert_eq!(packet::bytes(&datagram)[Udp::CHECKSUM..], datagram.checksum);
    }

    #[test]
    fn the_ports_are_read_of_each_protocol() {
        for (packet, destination) in [(&SEGMENT[..], 80u16), (&DATAGRAM, 53), (&CHUNK, 2905)] {
            let ports: Transport = packet::header(packet, 0);
            assert_eq!(u16::from_be_bytes(ports.source), 54321);
            assert_eq!(u16::from_be_bytes(ports.destination), destination);
            assert_eq!(packet::bytes(&ports), &packet[..4]);
        }
    }
}
