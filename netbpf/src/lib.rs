//! netbpf in user space: one binary for daemon, name responder, relay, sandbox supervisor and command line.
//!
//! `model`, `ipam` and `plan` are pure. `datapath`, `link`, `firewall`, `store`, `sandbox`, `relay` and
//! `engine` do the I/O and do not know each other. They share `private` for safe directories, `process` for
//! PIDs that cannot be confused, `confined` for
//! processes without privileges, `logging`, and `fault` for tests that let calls fail. `daemon` joins them; `api` is its
//! interface, and `cli` knows only that; `docker` is its interface for Docker.

pub mod api;
pub mod cli;
pub mod cni;
pub mod confined;
pub mod daemon;
pub mod datapath;
pub mod detached;
pub mod dns;
pub mod docker;
pub mod engine;
mod fault;
pub mod firewall;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod heap;
pub mod ipam;
pub mod link;
pub mod logging;
pub mod model;
mod multicast;
pub mod netavark;
pub mod plan;
pub mod private;
pub mod process;
pub mod relay;
pub mod sandbox;
pub mod store;
