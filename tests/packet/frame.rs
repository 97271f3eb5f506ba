//! Test frames, byte by byte. Knows protocols, not networks.

use netbpf_common::wire::Arp;

/// A frame as on the wire, without the frame check sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(pub Vec<u8>);

/// The broadcast address.
pub const BROADCAST: [u8; 6] = [0xff; 6];

impl Frame {
    /// An Ethernet header.
    pub fn ethernet(source: [u8; 6], destination: [u8; 6], ethertype: u16) -> Self {
        Self([&destination[..], &source, &ethertype.to_be_bytes()].concat())
    }

    /// An Ethernet header with a VLAN tag.
    pub fn tagged(source: [u8; 6], destination: [u8; 6], vid: u16, ethertype: u16) -> Self {
        Self::ethernet(source, destination, 0x8100).then(&vid.to_be_bytes()).then(&ethertype.to_be_bytes())
    }

    /// An IPv4 frame with a UDP header and a few bytes.
    pub fn ipv4(source: ([u8; 6], [u8; 4]), destination: ([u8; 6], [u8; 4])) -> Self {
        Self::ethernet(source.0, destination.0, 0x0800).then(&ipv4(source.1, destination.1))
    }

    /// An IPv6 frame.
    pub fn ipv6(source: ([u8; 6], [u8; 16]), destination: ([u8; 6], [u8; 16])) -> Self {
        let fixed = [0x60, 0, 0, 0, 0, 8, 17, 64];
        Self::ethernet(source.0, destination.0, 0x86dd)
            .then(&fixed)
            .then(&source.1)
            .then(&destination.1)
            .then(&[0; 8])
    }

    /// An ICMPv6 frame with a hop limit of 255 and a valid checksum. Ignores the checksum in `message`.
    pub fn icmpv6(source: ([u8; 6], [u8; 16]), destination: ([u8; 6], [u8; 16]), message: &[u8]) -> Self {
        let length = u8::try_from(message.len()).expect("a short message");
        let frame = Self::ethernet(source.0, destination.0, 0x86dd)
            .then(&[0x60, 0, 0, 0, 0, length, 58, 255])
            .then(&source.1)
            .then(&destination.1)
            .then(message)
            .with(14 + 40 + 2, &[0, 0]);
        let checksum = icmpv6_checksum(&frame);
        frame.with(14 + 40 + 2, &checksum)
    }

    /// Inserts extension headers into an IPv6 frame; the first has this number.
    pub fn behind(mut self, first: u8, headers: &[u8]) -> Self {
        let rest = self.0.split_off(14 + 40);
        let length = u8::try_from(rest.len() + headers.len()).expect("a short packet");
        self.with(14 + 5, &[length, first]).then(headers).then(&rest)
    }

    /// An ARP frame.
    pub fn arp(source: [u8; 6], destination: [u8; 6], arp: Arp) -> Self {
        Self::ethernet(source, destination, 0x0806).then(&arp_bytes(arp))
    }

    /// Appends bytes.
    pub fn then(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Truncates the frame.
    pub fn cut(mut self, length: usize) -> Self {
        self.0.truncate(length);
        self
    }

    /// Replaces bytes at an offset.
    pub fn with(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }
}

/// An IPv4 header, a UDP header and eight bytes of data.
pub fn ipv4(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let fixed = [0x45, 0, 0, 36, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0];
    [&fixed[..], &source, &destination, &[0; 16]].concat()
}

/// An ARP request.
pub fn request(sha: [u8; 6], spa: [u8; 4], tpa: [u8; 4]) -> Arp {
    Arp { hrd: [0, 1], pro: [8, 0], hln: 6, pln: 4, op: Arp::REQUEST, sha, spa, tha: [0; 6], tpa }
}

/// An ARP packet as bytes.
pub fn arp_bytes(arp: Arp) -> Vec<u8> {
    let Arp { hrd, pro, hln, pln, op, sha, spa, tha, tpa } = arp;
    [&hrd[..], &pro, &[hln, pln], &op, &sha, &spa, &tha, &tpa].concat()
}

/// The checksum for an ICMPv6 frame with a zero checksum; zero if the frame has the right one.
pub fn icmpv6_checksum(frame: &Frame) -> [u8; 2] {
    let ipv6 = &frame.0[14..];
    let length = usize::from(ipv6[5]);
    let pseudo = [&ipv6[8..40], &[0, 0, 0, ipv6[5], 0, 0, 0, 58], &ipv6[40..40 + length]].concat();
    let words =
        pseudo.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!(((folded & 0xffff) + (folded >> 16)) as u16)).to_be_bytes()
}

/// An 8-byte option of neighbour discovery.
pub fn option(kind: u8, mac: [u8; 6]) -> Vec<u8> {
    [&[kind, 1][..], &mac].concat()
}

/// The solicited-node group of an address, and the group's MAC address.
pub fn solicited_node(address: [u8; 16]) -> ([u8; 16], [u8; 6]) {
    let [.., a, b, c] = address;
    ([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c], [0x33, 0x33, 0xff, a, b, c])
}
