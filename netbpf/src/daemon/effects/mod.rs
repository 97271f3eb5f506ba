//! What changes the kernel or a container's files: each change with its undo, and the watches that put back what
//! somebody else changed.

mod announce;
pub(in crate::daemon) mod devices;
pub(in crate::daemon) mod files;
mod filter;
pub(in crate::daemon) mod folders;
mod forwarding;
pub(in crate::daemon) mod grace;
pub(in crate::daemon) mod insist;
mod observe;
pub(in crate::daemon) mod settings;
pub(in crate::daemon) mod steps;
pub(in crate::daemon) mod uplinks;
