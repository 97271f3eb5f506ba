//! Published ports: who has which port of the host, the sockets that hold them, what the relay carries.

pub(in crate::daemon) mod held;
pub(in crate::daemon) mod lease;
mod relay;
