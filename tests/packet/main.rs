//! Tests of the programs with single frames (BPF_PROG_TEST_RUN): the verdict, the counters, and the frame afterwards.
//!
//! | file | subject |
//! |---|---|
//! | `frame` | test frames |
//! | `bench` | the networks and ports of all tests, in their own namespaces |
//! | `shape` | malformed frames; VLAN tags |
//! | `container` | frames from containers |
//! | `host` | frames from the host |
//! | `icc` | networks whose members may not talk to each other, and links |
//! | `multihomed` | containers in two networks |
//! | `names` | queries for names of containers on the way to other name servers |
//! | `lo` | the same at `lo` of a container, and the port of the responder |
//! | `oracle` | a responder with the names of these tests |
//! | `dns` | messages of queries, and checksums |
//! | `nd` | neighbour discovery |
//! | `flood` | broadcast and multicast |
//! | `flow` | established flows, which skip the host's stack |
//! | `drops` | what is remembered of dropped frames |
//! | `limit` | limits of what endpoints send |
//! | `open` | endpoints with further addresses, and without guard |
//! | `unused` | addresses that are not in use |
//! | `uplink` | frames from other hosts |
//! | `hostile` | random frames: each ends as a plain model says |
//! | `model`, `headers` | the plain model |
//! | `judge` | asks an instance of the programs that is not attached |
//! | `keeping` | maps and pins over the lives of several daemons |
//! | `full` | changes for which a map has no room |
//! | `room` | more networks and endpoints than usual |
//! | `wire` | frames from a real interface |
//! | `inspection` | bpftool |
//!
//! The tests need root and fail without it. Each runs in its own network and mount namespaces with its own bpf file
//! system, and leaves nothing.

mod bench;
mod container;
mod dns;
mod drops;
mod flood;
mod flow;
mod frame;
mod full;
mod headers;
mod host;
mod hostile;
mod icc;
mod inspection;
mod judge;
mod keeping;
mod limit;
mod lo;
mod model;
mod multihomed;
mod names;
mod nd;
mod notices;
mod open;
mod oracle;
mod room;
mod shape;
mod unused;
mod uplink;
mod wire;
