//! The daemon's API: HTTP and JSON on a unix socket. [`types`] are the messages only; model and store have types of
//! their own.

pub mod client;
pub mod connections;
pub mod events;
pub mod filters;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
pub mod human;
pub mod ports;
pub mod server;
pub mod types;
