//! `netbpf::link` on the real kernel, checked with iproute2, and conntrack's entries (`netbpf::firewall`). Each test has its
//! own "host" and containers: network namespaces that are deleted with it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod endpoint;
mod filter;
mod host;
mod host_device;
mod namespace;
mod observe;
mod pace;
mod shape;
mod size;
mod tracked;
