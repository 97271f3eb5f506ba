//! What the daemon knows, in memory and on disk. Nothing here touches the kernel.

mod look;
pub(in crate::daemon) mod numbers;
pub(in crate::daemon) mod world;

pub(in crate::daemon) use look::refuse;
