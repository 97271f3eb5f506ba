//! The relay: carries traffic from published host ports to containers where the packet filter cannot translate it.
//!
//! ```text
//! daemon                         relay (a process of its own, without privileges)
//!   handle ── control socket ──▶ server ─ tcp, udp ──▶ container
//!     the host's sockets (SCM_RIGHTS), and where to
//! ```
//!
//! Translated traffic never reaches a socket of the host. The rest does: IPv6 to a container that has only IPv4,
//! clients with the address `::1` or a link-local one, and broadcasts. The container sees the host's address in its
//! network as the client's address, as with Docker's proxy. Nothing here knows containers, networks or the packet
//! filter.

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
