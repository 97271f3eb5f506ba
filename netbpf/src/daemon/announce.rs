//! What neighbours are told of new endpoints.

use super::{Daemon, steps};
use crate::{model::Namespace, plan::PortWiring};

impl Daemon {
    /// Tell neighbours of new IPv6 addresses: one that was another container's may have another MAC now, which with IPv4
    /// only who asks for a MAC can bring about.
    pub(super) async fn announce(&self, ports: impl Iterator<Item = &PortWiring>, namespace: &Namespace) {
        for port in ports {
            let Some(address) = port.ipv6.map(|net| net.addr()) else { continue };
            let announced = match steps::open(namespace) {
                Ok(namespace) => self.links.announce(&namespace, &port.interface, address, port.mac).await,
                Err(error) => {
                    tracing::warn!(%error, "announce");
                    continue;
                }
            };
            if let Err(error) = announced {
                // Neighbours find out by themselves, later.
                tracing::warn!(%error, "announce");
            }
        }
    }
}
