//! Published ports: the containers' host ports, the sockets that reserve them, and the ports for the relay.

mod held;
pub(in crate::daemon) mod lease;
mod relay;

use std::path::Path;

use crate::daemon::{
    parts::Relay,
    state::locks::{DataLock, Rank},
};
use held::HeldPorts;

#[cfg(test)]
use crate::daemon::parts::Machine;

/// The host ports of containers.
pub struct Ports {
    held: DataLock<HeldPorts>,
    pub(in crate::daemon) relay: Relay,
}

impl Ports {
    /// Starts the relay `exe` if it does not run. A running one keeps the sockets of an earlier daemon.
    pub async fn open(exe: &Path, run_dir: &Path) -> Self {
        let (relay, kept) = Relay::start(exe, run_dir).await;
        let held = HeldPorts::new(kept.into_iter().map(|(at, socket)| ((at.protocol, at.address), socket)));
        Self { held: DataLock::new(Rank::HostPorts, held), relay }
    }

    /// With a relay in memory.
    #[cfg(test)]
    pub fn on(machine: &Machine) -> Self {
        let relay = Relay { machine: machine.clone() };
        Self { held: DataLock::new(Rank::HostPorts, HeldPorts::default()), relay }
    }
}
