//! Processes of netbpf's own without privileges, which the daemon starts and feeds and which outlive it: what all of
//! them have in common. Nothing here knows what one of them is for.
//!
//! ```text
//! daemon                                  confined process
//!   keeper ── process ── channel ───────▶ service ── privileges
//!     requests + sockets (SCM_RIGHTS)
//! ```
//!
//! The daemon's side holds the whole state (`State`), so that a process that dies is back with all of it; and it takes
//! over a process that outlived an earlier daemon, with the sockets that this one has.

mod channel;
mod fds;
mod keeper;
mod privileges;
mod process;
mod service;

pub(crate) use channel::{LARGEST_PACKET, Message, Received, Response, encode};
pub use keeper::Error;
pub(crate) use keeper::{Keeper, State};
pub(crate) use service::{Service, Then, run};

/// One kind of confined process.
#[derive(Debug)]
pub(crate) struct Kind {
    /// For people.
    pub name: &'static str,
    /// The first argument of the program; its files in the run directory are named after it.
    pub command: &'static str,
    /// The version of its messages. The greeting stays as it is in every version.
    pub protocol: u32,
    /// Each kind has another one: it is another user.
    pub rank: usize,
}
