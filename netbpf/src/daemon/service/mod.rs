//! A daemon's life: its options and sockets, start and recovery, its end. The one room that knows all others.

mod notify;
mod options;
mod reconcile;
mod sockets;
mod start;

pub use options::{BPFFS, Options};
pub use sockets::Inherited;
pub use start::run;
