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
