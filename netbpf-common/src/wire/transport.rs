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
    fn the_ports_are_read_of_each_protocol() {
        for (packet, destination) in [(&SEGMENT[..], 80u16), (&DATAGRAM, 53), (&CHUNK, 2905)] {
            let ports: Transport = packet::header(packet, 0);
            assert_eq!(u16::from_be_bytes(ports.source), 54321);
            assert_eq!(u16::from_be_bytes(ports.destination), destination);
            assert_eq!(packet::bytes(&ports), &packet[..4]);
        }
    }
}
