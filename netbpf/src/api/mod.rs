//! The daemon's API: HTTP/JSON on a unix socket. [`types`] are its messages and nothing else's: model and disk have
//! their own. Client and server live in files of their own.

pub mod client;
pub mod connections;
pub mod events;
pub mod filters;
pub mod human;
pub mod ports;
pub mod server;
pub mod types;
