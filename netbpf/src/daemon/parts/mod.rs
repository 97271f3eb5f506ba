//! The modules with I/O that the daemon joins. Unit tests of the daemon have them in memory (`memory`): they
//! need no root and no kernel, and each call can fail.

#[cfg(test)]
mod memory;
#[cfg_attr(test, expect(dead_code, reason = "replaced in tests"))]
mod sockets;

#[cfg(test)]
pub use memory::{
    Datapath, Feed, Firewall, Link, Links, Machine, Namespace, Relay, State, Sysctls, held_namespace,
    resolver_sockets,
};
#[cfg(not(test))]
pub use sockets::{held_namespace, resolver_sockets};

#[cfg(not(test))]
pub use crate::{
    datapath::Datapath,
    dns::Feed,
    firewall::Firewall,
    link::{Links, Namespace, sysctl::Sysctls},
    relay::Relay,
};
