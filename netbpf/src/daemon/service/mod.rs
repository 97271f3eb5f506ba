//! Start and shutdown of the daemon, its options and sockets, recovery. The only module that knows all
//! others.

mod notify;
mod options;
mod reconcile;
mod sockets;
mod start;

pub use options::{BPFFS, Options};
pub use sockets::Inherited;
pub use start::run;
