//! Requests of Docker to its network driver. Docker decides about networks, members and addresses, and netbpf
//! applies it. Any request may come twice, because Docker repeats interrupted ones. What requests do not tell, `names`
//! and `sweep` ask Docker after the answer, because Docker does not reply while it waits. Must not know the protocol's
//! messages.

mod endpoints;
mod names;
mod networks;
mod pools;
mod stale;
mod sweep;

pub(in crate::daemon) use sweep::{Recent, has_of_docker};

pub use endpoints::{DockerEndpointRequest, DockerPorts, Joined};
pub use networks::DockerNetwork;
