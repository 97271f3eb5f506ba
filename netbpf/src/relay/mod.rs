//! The relay: carries to containers what the packet filter does not bring them from the ports of the host that they have.
//!
//! ```text
//! daemon                         relay (a process of its own, without privileges)
//!   handle ── control socket ──▶ server ─ tcp, udp ──▶ container
//!     the host's sockets (SCM_RIGHTS), and where to
//! ```
//!
//! What is translated never comes to a socket of the host. What does is: IPv6 for a container that has only IPv4, clients
//! that have `::1` or a link-local address, and broadcasts. The container sees the host's address in its network as the
//! client's, as with Docker's proxy. Nothing here knows containers, networks or the packet filter.

mod control;
mod handle;
mod process;
mod socket;
mod tcp;
mod udp;

pub use control::{Place, Port};
pub use handle::Relay;
pub use process::run;

/// Why a port is not relayed.
pub type Error = handle::Error;
