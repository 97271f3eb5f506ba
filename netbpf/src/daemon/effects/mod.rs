//! Changes of the kernel and of containers' files, each with its undo, and watches that restore what others
//! changed.

mod announce;
pub(in crate::daemon) mod contest;
pub(in crate::daemon) mod descriptors;
pub(in crate::daemon) mod devices;
pub(in crate::daemon) mod effect;
pub(in crate::daemon) mod files;
mod filter;
pub(in crate::daemon) mod folders;
mod forwarding;
pub(in crate::daemon) mod grace;
pub(in crate::daemon) mod insist;
pub(in crate::daemon) mod namespaces;
mod observe;
mod perform;
pub(in crate::daemon) mod pins;
pub(in crate::daemon) mod settings;
pub(in crate::daemon) mod transaction;
pub(in crate::daemon) mod uplinks;
