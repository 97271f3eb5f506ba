//! Announces the addresses of new endpoints, because the kernel of each member, and of the host, may know an
//! address with an old MAC. Only such addresses are announced: a message to all costs one copy for each
//! member.

use std::{net::IpAddr, sync::Arc, time::Duration};

use crate::{
    daemon::Daemon,
    model::{Container, Endpoint, Id, Namespace},
};

impl Daemon {
    /// Announce the endpoints that `after` has and `before` has not.
    pub(in crate::daemon) async fn announce(
        self: &Arc<Self>,
        before: &Container,
        after: &Container,
        namespace: &Namespace,
    ) {
        for (attachment, endpoint) in after.endpoints_without(before) {
            let (addresses, again) = self.announcements(&attachment.network, endpoint);
            self.announce_once(endpoint, &addresses, namespace).await;
            if let Some((times, interval)) = again {
                let daemon = Arc::clone(self);
                let (id, endpoint, namespace) = (after.id, endpoint.clone(), namespace.clone());
                tokio::spawn(async move {
                    for _ in 0..times {
                        tokio::time::sleep(interval).await;
                        if !daemon.has_endpoint(&id, &endpoint) {
                            return;
                        }
                        daemon.announce_once(&endpoint, &addresses, &namespace).await;
                    }
                });
            }
        }
    }

    /// The addresses to announce, and the number of repetitions with their interval: from the network's
    /// options, otherwise once the addresses that neighbours may know with another MAC.
    fn announcements(&self, network: &Id, endpoint: &Endpoint) -> (Vec<IpAddr>, Option<(u32, Duration)>) {
        let world = self.world();
        let options = world.network(network).and_then(|network| Some(&network.bridge()?.options));
        match options.and_then(|options| options.advertisements.map(|times| (times, options))) {
            None => (world.known_otherwise(network, endpoint), None),
            Some((0, _)) => (Vec::new(), None),
            Some((times, options)) => {
                let interval = Duration::from_millis(options.advertisement_interval.unwrap_or(1000).into());
                (endpoint.addresses().collect(), Some((times - 1, interval)))
            }
        }
    }

    async fn announce_once(&self, endpoint: &Endpoint, addresses: &[IpAddr], namespace: &Namespace) {
        // Most endpoints have nothing to announce.
        if addresses.is_empty() {
            return;
        }
        let namespace = match self.host.links.namespace(namespace) {
            Ok(namespace) => namespace,
            Err(error) => return tracing::warn!(%error, "announce"),
        };
        for address in addresses {
            let announced = self.host.links.announce(&namespace, &endpoint.interface, *address, endpoint.mac);
            if let Err(error) = announced.await {
                // Without it, neighbours update their entries later.
                tracing::warn!(%error, "announce");
            }
        }
    }

    fn has_endpoint(&self, container: &Id, endpoint: &Endpoint) -> bool {
        self.world().container(container).is_some_and(|container| {
            container.attachments.iter().any(|attachment| attachment.endpoint.as_ref() == Some(endpoint))
        })
    }
}
