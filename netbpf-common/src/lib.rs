//! Shared by the eBPF programs and the daemon: map keys and values, the reasons for which a frame ends,
//! header formats. No std, no alloc, no I/O; must not know aya, except `user` behind its feature.
//!
//! Addresses and MACs are byte arrays in network order. Numbers that netbpf assigns (endpoint numbers,
//! ifindexes, counters) are in host order. The size of every struct is checked, and there is no implicit
//! padding, because the kernel compares keys byte by byte.
#![cfg_attr(not(test), no_std)]

pub mod access;
pub mod allowed;
pub mod bucket;
pub mod checksum;
pub mod drops;
pub mod endpoint;
pub mod flood;
pub mod flow;
pub mod limit;
pub mod name;
pub mod network;
pub mod notice;
pub mod reason;
pub mod stats;
pub mod uplink;
#[cfg(feature = "user")]
mod user;
pub mod wire;

/// Version of the map layouts in this crate. It is part of the pin path, so that a daemon never reads maps of
/// another layout. Increase it with every change of a key, a value, or a map's type or size.
pub const LAYOUT: u32 = 14;
