//! What Docker asks of its network driver, in the daemon's own terms. Docker decides who is in which network under which
//! address, and netbpf makes it so; every request may come twice, because Docker repeats what broke off. Knows no message
//! of the protocol and never asks Docker anything: it waits for the answer and could not give one.

mod endpoints;
mod names;
mod networks;
mod pools;
mod stale;
mod sweep;

pub(in crate::daemon) use sweep::Recent;

pub use endpoints::{DockerEndpointRequest, Joined};
pub use networks::DockerNetwork;
