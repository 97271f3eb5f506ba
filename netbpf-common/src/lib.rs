//! What the kernel programs and the control plane agree on: map keys and values by subject, the reasons a frame can
//! end for, header formats. No std, no alloc, no I/O; nothing here knows aya, except `user` behind its feature.
//!
//! Multi-byte fields that come from the wire (addresses, MACs) are byte arrays in network order; numbers that only
//! netbpf assigns (endpoint numbers, ifindexes, counters) are in host order. Every struct has its size pinned and no
//! implicit padding, because the kernel compares keys byte by byte.
#![cfg_attr(not(test), no_std)]

pub mod allowed;
pub mod checksum;
pub mod endpoint;
pub mod flood;

pub mod network;
pub mod reason;
pub mod stats;
pub mod uplink;
#[cfg(feature = "user")]
mod user;
pub mod wire;

/// Version of the map layouts in this crate; part of the pin path, so that a daemon never reads maps of another layout.
/// Raise it with every change of a key, a value or a map's type.
pub const LAYOUT: u32 = 5;
