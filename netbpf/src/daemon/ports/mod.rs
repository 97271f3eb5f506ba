//! Published ports: the containers' host ports, the sockets that reserve them, and the ports for the relay.

pub(in crate::daemon) mod held;
pub(in crate::daemon) mod lease;
mod relay;
