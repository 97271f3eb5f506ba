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
    use super::*;

    const ASKER: [u8; 6] = [2, 0x42, 172, 17, 0, 2];
    const OWNER: [u8; 6] = [2, 0x42, 172, 17, 0, 3];

    #[test]
    fn a_reply_swaps_sender_and_target_and_contains_the_mac() {
        let request = Arp {
            hrd: [0, 1],
            pro: [8, 0],
            hln: 6,
            pln: 4,
            op: Arp::REQUEST,
            sha: ASKER,
            spa: [172, 17, 0, 2],
            tha: [0; 6],
            tpa: [172, 17, 0, 3],
        };
        let reply = request.reply(OWNER);
        assert!(reply.is_ipv4_over_ethernet() && !reply.is_request());
        assert_eq!((reply.sha, reply.spa), (OWNER, [172, 17, 0, 3]));
        assert_eq!((reply.tha, reply.tpa), (ASKER, [172, 17, 0, 2]));
    }
}
