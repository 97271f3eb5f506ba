//! The daemon's state, in memory and on disk. Must not touch the kernel.

pub(in crate::daemon) mod locks;
mod look;
pub(in crate::daemon) mod numbers;
pub(in crate::daemon) mod world;

pub(in crate::daemon) use look::refuse;
