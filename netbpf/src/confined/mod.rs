//! The common part of netbpf's own processes without privileges, which the daemon starts and feeds and which outlive
//! it. Nothing here knows what such a process does.
//!
//! ```text
//! daemon                                            confined process
//!   handle ── keeper ── process ── channel ───────▶ service ── privileges
//!     requests + sockets (SCM_RIGHTS)
//! ```
//!
//! The daemon's side holds the whole state (`State`), so that a new process has all of it when one dies. It also takes
//! over a process that outlived an earlier daemon, together with its sockets.

mod channel;
mod fds;
mod handle;
mod keeper;
mod privileges;
mod process;
mod service;

pub(crate) use channel::{LARGEST_PACKET, Message, Received, Response, encode};
pub use handle::Ended;
pub(crate) use handle::{Handle, Obey};
pub use keeper::Error;
pub(crate) use keeper::{Keeper, State};
pub(crate) use service::{Service, Then, run};

/// One kind of confined process.
#[derive(Debug)]
pub(crate) struct Kind {
    /// Its name in messages.
    pub name: &'static str,
    /// The first argument of the program. Its files in the run directory have this name.
    pub command: &'static str,
    /// The version of its requests. The greeting is the same in every version.
    pub protocol: u32,
    /// A number of its own for each kind, so that each has its own user.
    pub rank: usize,
}
