//! The name service for containers: the responder that answers their DNS queries, and the feed that keeps it informed.
//!
//! ```text
//! daemon                                   responder (a process of its own, without privileges)
//!   feed ──────── control socket ────────▶ responder ─ asker ─ answer ─ zone
//!     records + sockets (SCM_RIGHTS)                     └─ forward ─▶ servers (upstream)
//! ```
//!
//! The daemon opens sockets at 127.0.0.11 in the network namespace of each container (at 127.0.0.12 where an engine's own
//! resolver has that address): at any port, if a program at `lo` answers known names and maps that port to 53, otherwise
//! at port 53. The socket that a query comes in on identifies the asking container, so no
//! container can ask as another one. `zone`, `message` and `answer` are pure: bytes in, bytes out. Nothing here knows
//! links, sandboxes, the store or the datapath.

mod answer;
mod asker;
mod control;
mod feed;
mod forward;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod inside;
mod lookup;
mod message;
mod record;
pub mod responder;
mod upstream;
mod zone;

pub use control::Pair;
pub use feed::{Error, Feed, Sockets};
pub use lookup::{Looked, look_up};
pub use record::{NetworkRecord, Record, Servers};
