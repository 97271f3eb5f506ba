//! netbpf in user space: one binary that is daemon, name responder, sandbox supervisor and command line.
//!
//! `model`, `ipam` and `plan` are pure. `datapath`, `link`, `firewall`, `store`, `sandbox`, `relay` and `engine` do the I/O and do
//! not know each other; `private` is what they know of folders, `confined` what the processes without privileges have in common. `daemon` joins them; `api` is its edge, and `cli` knows only that edge; `docker` is its other
//! edge, for Docker.

pub mod api;
pub mod cli;
pub mod confined;
pub mod daemon;
pub mod datapath;
pub mod dns;
pub mod docker;
pub mod engine;
pub mod firewall;
pub mod ipam;
pub mod link;
pub mod model;
pub mod plan;
pub mod private;
pub mod relay;
pub mod sandbox;
pub mod store;
