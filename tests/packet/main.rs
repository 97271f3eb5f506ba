//! The programs, one frame at a time, by BPF_PROG_TEST_RUN: what becomes of it, which counters say so, and what the
//! frame looks like afterwards.
//!
//! | file | says |
//! |---|---|
//! | `frame` | how test frames are made |
//! | `bench` | the networks and ports that all tests have, in namespaces of their own |
//! | `shape` | what has no shape is dropped; VLAN tags |
//! | `container` | what containers send |
//! | `host` | what the host sends |
//! | `icc` | networks whose members do not talk to each other, and their links |
//! | `multihomed` | containers in two networks |
//! | `nd` | neighbour discovery |
//! | `flood` | broadcast and multicast |
//! | `unused` | addresses that nobody has |
//! | `uplink` | what other hosts send |
//! | `keeping` | the maps and pins over the life of daemons |
//! | `wire` | frames from a real interface |
//! | `inspection` | what bpftool sees |
//!
//! A test needs root, and fails without it. It runs in network and mount namespaces of its own, with its own bpf file
//! system: nothing stays.

mod bench;
mod container;
mod flood;
mod frame;
mod host;
mod icc;
mod inspection;
mod keeping;
mod multihomed;
mod nd;
mod shape;
mod unused;
mod uplink;
mod wire;
