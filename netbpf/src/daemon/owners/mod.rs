//! Whose a container is: a sandbox of netbpf's own, a namespace that somebody made, an engine's container, an endpoint
//! that Docker asked for. When one begins, ends or gets another name.

mod commands;
pub(in crate::daemon) mod docker;
mod engine;
pub(in crate::daemon) mod gone;
mod namespace;
pub(in crate::daemon) mod sandbox;
