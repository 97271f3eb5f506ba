//! Ethernet II (RFC 894) and the IEEE 802.1Q tag.

/// An Ethernet header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination MAC.
    pub destination: [u8; 6],
    /// Source MAC.
    pub source: [u8; 6],
    /// The EtherType of the payload.
    pub ethertype: EtherType,
}

/// The part of an 802.1Q tag after its protocol identifier.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// Priority (3 bits), drop eligible indicator (1), VLAN identifier (12).
    pub tci: [u8; 2],
    /// The EtherType of the payload.
    pub ethertype: EtherType,
}

impl Tag {
    /// The VLAN identifier; 0 in a priority tag, which receivers treat as untagged.
    #[inline(always)]
    pub const fn vid(self) -> u16 {
        u16::from_be_bytes(self.tci) & 0x0fff
    }
}

/// An EtherType, or the length of an IEEE 802.3 frame.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EtherType(pub [u8; 2]);

impl EtherType {
    /// IPv4.
    pub const IPV4: Self = Self([0x08, 0x00]);
    /// ARP.
    pub const ARP: Self = Self([0x08, 0x06]);
    /// IPv6.
    pub const IPV6: Self = Self([0x86, 0xdd]);
    /// A customer VLAN tag.
    pub const VLAN: Self = Self([0x81, 0x00]);
    /// A service VLAN tag.
    pub const SERVICE_VLAN: Self = Self([0x88, 0xa8]);

    /// Whether a [`Tag`] follows.
    #[inline(always)]
    pub fn is_vlan(self) -> bool {
        self == Self::VLAN || self == Self::SERVICE_VLAN
    }
}

/// Whether a MAC is a group address: multicast or broadcast.
#[inline(always)]
pub const fn is_group(mac: [u8; 6]) -> bool {
    mac[0] & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::{super::packet, *};

    /// A broadcast in VLAN 7 with priority 3, in a service VLAN 100 that may be dropped.
    const FRAME: [u8; 22] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x42, 0xac, 0x11, 0x00, 0x02, 0x88, 0xa8, 0x10, 0x64, 0x81,
        0x00, 0x60, 0x07, 0x08, 0x06,
    ];

    #[test]
    fn the_fields_of_a_frame_and_its_tags_are_read() {
        let frame: Ethernet = packet::header(&FRAME, 0);
        assert_eq!((frame.destination, frame.source), ([0xff; 6], [2, 0x42, 172, 17, 0, 2]));
        assert_eq!(frame.ethertype, EtherType::SERVICE_VLAN);
        let [outer, inner] = [14, 18].map(|offset| packet::header::<Tag>(&FRAME, offset));
        assert_eq!((outer.vid(), outer.ethertype), (100, EtherType::VLAN));
        assert_eq!((inner.vid(), inner.ethertype), (7, EtherType::ARP));
    }

    #[test]
    fn a_vlan_identifier_has_twelve_bits() {
        let vid = |tci| Tag { tci, ethertype: EtherType::IPV4 }.vid();
        assert_eq!(vid([0xe0, 0x00]), 0, "a priority tag");
        assert_eq!(vid([0xff, 0xff]), 0x0fff);
        assert_eq!(vid([0x0f, 0xff]), 0x0fff);
    }

    #[test]
    fn a_tag_follows_only_its_two_types() {
        assert!(EtherType::VLAN.is_vlan() && EtherType::SERVICE_VLAN.is_vlan());
        // The last one is the length of an IEEE 802.3 frame.
        let others = [EtherType::IPV4, EtherType::ARP, EtherType::IPV6, EtherType([0x00, 0x26])];
        assert!(!others.into_iter().any(EtherType::is_vlan));
    }

    #[test]
    fn the_lowest_bit_of_the_first_byte_makes_a_group() {
        assert!(
            is_group([0xff; 6]) && is_group([0x33, 0x33, 0, 0, 0, 1]) && is_group([1, 0x80, 0xc2, 0, 0, 0])
        );
        assert!(!is_group([2, 0x42, 172, 17, 0, 3]) && !is_group([0xfe, 1, 1, 1, 1, 1]));
    }
}
