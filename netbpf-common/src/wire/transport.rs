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
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// SCTP.
    pub const SCTP: u8 = 132;
}
