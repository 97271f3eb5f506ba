//! Announces addresses in the network of their endpoint. Must not know which addresses need it, or how often.

use std::net::IpAddr;

use super::host::Host;
use crate::model::{Endpoint, Namespace};

impl Host {
    /// Announces addresses of an endpoint once. A failure is logged: without it, neighbours update their entries later.
    pub async fn announce(&self, endpoint: &Endpoint, addresses: &[IpAddr], namespace: &Namespace) {
        // Most endpoints have nothing to announce.
        if addresses.is_empty() {
            return;
        }
        let namespace = match self.links.namespace(namespace) {
            Ok(namespace) => namespace,
            Err(error) => return tracing::warn!(%error, "announce"),
        };
        for address in addresses {
            let announced = self.links.announce(&namespace, &endpoint.interface, *address, endpoint.mac);
            if let Err(error) = announced.await {
                tracing::warn!(%error, "announce");
            }
        }
    }
}
