//! Names of containers: what a container may ask, who answers, and how the answerer stays fed.
//!
//! ```text
//! daemon                                   responder (a process of its own, without privileges)
//!   feed ──────── control socket ────────▶ responder ─ asker ─ answer ─ zone
//!     records + sockets (SCM_RIGHTS)                     └─ forward ─▶ servers (upstream)
//! ```
//!
//! Each container that may ask has sockets of its own on 127.0.0.11:53 (beside an engine's resolver, which has that
//! address, 127.0.0.12:53) in its network namespace, opened by the daemon: the socket a query comes in on *is* the asker, so nobody can ask in another's name. `zone`, `message`
//! and `answer` are pure: bytes in, bytes out. Nothing here knows links, sandboxes, the store or the datapath.

mod answer;
mod asker;
mod control;
mod feed;
mod forward;
mod inside;
mod message;
mod record;
pub mod responder;
mod upstream;
mod zone;

pub use control::Pair;
pub use feed::{Error, Feed, Sockets};
pub use record::{NetworkRecord, Record, Servers};
