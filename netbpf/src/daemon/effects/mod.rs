//! Changes of the kernel and of containers' files, each with its undo, and watches that restore what others
//! changed.

mod announce;
pub(in crate::daemon) mod asking;
mod backlog;
mod contest;
pub(in crate::daemon) mod descriptors;
pub(in crate::daemon) mod devices;
pub(in crate::daemon) mod effect;
pub(in crate::daemon) mod files;
mod filter;
pub(in crate::daemon) mod flows;
pub(in crate::daemon) mod folders;
pub(in crate::daemon) mod forwarding;
mod grace;
pub(in crate::daemon) mod host;
pub(in crate::daemon) mod learnt;
pub(in crate::daemon) mod lo;
pub(in crate::daemon) mod names;
mod observe;
mod perform;
pub(in crate::daemon) mod pins;
pub(in crate::daemon) mod repairs;
pub(in crate::daemon) mod retry;
mod settings;
pub(in crate::daemon) mod transaction;
mod uplinks;

pub use uplinks::Uplink;
