//! The daemon's API: HTTP and JSON on a unix socket. [`types`] are the messages only: a change of the model changes no
//! message by itself, because `server` converts. Client and messages must not know the daemon.

pub mod blocking;
pub mod client;
pub mod connections;
pub mod events;
pub mod filters;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
pub mod human;
pub mod ports;
pub mod request;
pub mod server;
pub mod types;

pub use blocking::SOCKET;
