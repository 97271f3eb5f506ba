//! ARP for IPv4 over Ethernet (RFC 826).

/// An ARP packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arp {
    /// Hardware address space.
    pub hrd: [u8; 2],
    /// Protocol address space.
    pub pro: [u8; 2],
    /// Length of a hardware address.
    pub hln: u8,
    /// Length of a protocol address.
    pub pln: u8,
    /// Opcode.
    pub op: [u8; 2],
    /// Sender hardware address.
    pub sha: [u8; 6],
    /// Sender protocol address.
    pub spa: [u8; 4],
    /// Target hardware address.
    pub tha: [u8; 6],
    /// Target protocol address.
    pub tpa: [u8; 4],
}

impl Arp {
    /// Opcode of a request.
    pub const REQUEST: [u8; 2] = [0, 1];
    /// Opcode of a reply.
    pub const REPLY: [u8; 2] = [0, 2];

    /// Whether the addresses are MACs and IPv4 addresses.
    #[inline(always)]
    pub fn is_ipv4_over_ethernet(&self) -> bool {
        self.hrd == [0, 1] && self.pro == [0x08, 0x00] && self.hln == 6 && self.pln == 4
    }

    /// Whether it asks for the target's MAC.
    #[inline(always)]
    pub fn is_request(&self) -> bool {
        self.op == Self::REQUEST
    }

    /// The reply of the target, whose MAC is `mac`.
    #[inline(always)]
    pub fn reply(&self, mac: [u8; 6]) -> Self {
        Self { op: Self::REPLY, sha: mac, spa: self.tpa, tha: self.sha, tpa: self.spa, ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::packet, *};

    /// 172.17.0.2 asks for the MAC of 172.17.0.3.
    const REQUEST: [u8; 28] = [
        0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01, 0x02, 0x42, 0xac, 0x11, 0x00, 0x02, 0xac, 0x11, 0x00,
        0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xac, 0x11, 0x00, 0x03,
    ];
    const REPLY: [u8; 28] = [
        0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x02, 0x02, 0x42, 0xac, 0x11, 0x00, 0x03, 0xac, 0x11, 0x00,
        0x03, 0x02, 0x42, 0xac, 0x11, 0x00, 0x02, 0xac, 0x11, 0x00, 0x02,
    ];

    #[test]
    fn the_fields_of_a_request_are_read() {
        let request: Arp = packet::header(&REQUEST, 0);
        assert!(request.is_ipv4_over_ethernet() && request.is_request());
        assert_eq!((request.sha, request.spa), ([2, 0x42, 172, 17, 0, 2], [172, 17, 0, 2]));
        assert_eq!((request.tha, request.tpa), ([0; 6], [172, 17, 0, 3]));
    }

    #[test]
    fn a_reply_swaps_sender_and_target_and_contains_the_mac() {
        let request: Arp = packet::header(&REQUEST, 0);
        let reply = request.reply([2, 0x42, 172, 17, 0, 3]);
        assert!(reply.is_ipv4_over_ethernet() && !reply.is_request());
        assert_eq!(packet::bytes(&reply), REPLY);
    }

    #[test]
    fn other_address_formats_are_not_taken_for_ipv4_over_ethernet() {
        // The hardware (IEEE 802), the protocol (IPv6), and the lengths of their addresses.
        for (at, value) in [(1, 6), (0, 1), (2, 0x86), (3, 0xdd), (4, 8), (5, 16), (4, 0), (5, 0)] {
            let mut bytes = REQUEST;
            bytes[at] = value;
            assert!(!packet::header::<Arp>(&bytes, 0).is_ipv4_over_ethernet(), "byte {at} is {value}");
        }
    }
}
