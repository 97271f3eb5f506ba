//! What the daemon knows, in memory and on disk. Nothing here touches the kernel.

pub(in crate::daemon) mod numbers;
pub(in crate::daemon) mod world;
