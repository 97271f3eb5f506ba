//! Header formats: structs of alignment 1 with the field names of their RFCs. No policy; must not know maps
//! or contexts.

mod arp;
mod dns;
mod ethernet;
mod ip;
mod nd;
mod transport;

pub use arp::Arp;
pub use dns::{Bytes, DNS_PORT, DnsPacket, EndOfQuestion};
pub use ethernet::{EtherType, Ethernet, Tag, is_group};
pub use ip::{AddressPair, Ipv4, Ipv4Start, Ipv6, Ipv6Start};
pub use nd::{ALL_NODES, DiscoveryOption, Extension, Icmpv6, NeighbourMessage, NeighbourPacket};
pub use transport::{TcpStart, Transport, Udp, protocol};

/// A header at any offset in a packet.
///
/// # Safety
/// The type has alignment 1 and no padding, and any bytes are a value of it.
#[expect(unsafe_code, reason = "what a packet accessor relies on; implemented here only")]
pub unsafe trait Wire: Copy {}

macro_rules! wire {
    ($($type:ty: $size:literal),+ $(,)?) => {
        $(
            const _: () = assert!(size_of::<$type>() == $size && align_of::<$type>() == 1);
            // SAFETY: repr(C) of byte arrays only: alignment 1, no padding, any bytes are a value.
            #[expect(unsafe_code, reason = "a marker; its facts are checked above")]
            unsafe impl Wire for $type {}
        )+
    };
}

wire! {
    Ethernet: 14,
    Tag: 4,
    Arp: 28,
    Ipv4: 20,
    Ipv6: 40,
    Ipv4Start: 12,
    Ipv6Start: 8,
    AddressPair<4>: 8,
    AddressPair<16>: 32,
    Icmpv6: 4,
    NeighbourMessage: 24,
    DiscoveryOption: 8,
    NeighbourPacket: 72,
    Extension: 8,
    Transport: 4,
    TcpStart: 14,
    Udp: 8,
    DnsPacket: 20,
    EndOfQuestion: 6,
    Bytes<2>: 2,
    Bytes<8>: 8,
    Bytes<11>: 11,
    Bytes<12>: 12,
    Bytes<16>: 16,
    Bytes<28>: 28,
    Bytes<34>: 34,
    Bytes<64>: 64,
    Bytes<80>: 80,
}

/// Headers in the bytes of a packet, as the programs read and write them.
#[cfg(test)]
mod packet {
    use super::Wire;

    /// The header at an offset.
    #[expect(unsafe_code, reason = "what every type that implements Wire allows")]
    pub fn header<T: Wire>(packet: &[u8], offset: usize) -> T {
        let bytes = &packet[offset..offset + size_of::<T>()];
        // SAFETY: `Wire`: any bytes are a value.
        unsafe { bytes.as_ptr().cast::<T>().read_unaligned() }
    }

    /// The bytes of a header.
    #[expect(unsafe_code, reason = "what every type that implements Wire allows")]
    pub fn bytes<T: Wire>(header: &T) -> &[u8] {
        // SAFETY: `Wire`: no padding.
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(header).cast(), size_of::<T>()) }
    }
}
