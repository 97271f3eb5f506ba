//! Announces the addresses of new endpoints, because the kernel of each member, and of the host, may know an
//! address with an old MAC. Only such addresses are announced: a message to all costs one copy for each
//! member.

use std::{net::IpAddr, sync::Arc, time::Duration};

use crate::{
    daemon::{
        effects::host::Host,
        state::{State, world::World},
    },
    model::{Container, Endpoint, Id, Namespace},
};

/// Announce the endpoints that `after` has and `before` has not.
pub(super) async fn announce(
    state: &Arc<State>,
    host: &Arc<Host>,
    before: &Container,
    after: &Container,
    namespace: &Namespace,
) {
    for (attachment, endpoint) in after.endpoints_without(before) {
        let (addresses, again) = announcements(&state.world(), &attachment.network, endpoint);
        host.announce(endpoint, &addresses, namespace).await;
        if let Some((times, interval)) = again {
            let (state, host) = (Arc::clone(state), Arc::clone(host));
            let (id, endpoint, namespace) = (after.id, endpoint.clone(), namespace.clone());
            tokio::spawn(async move {
                for _ in 0..times {
                    tokio::time::sleep(interval).await;
                    if !has_endpoint(&state.world(), &id, &endpoint) {
                        return;
                    }
                    host.announce(&endpoint, &addresses, &namespace).await;
                }
            });
        }
    }
}

/// The addresses to announce, and the number of repetitions with their interval: from the network's
/// options, otherwise once the addresses that neighbours may know with another MAC.
fn announcements(world: &World, network: &Id, endpoint: &Endpoint) -> (Vec<IpAddr>, Option<(u32, Duration)>) {
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

fn has_endpoint(world: &World, container: &Id, endpoint: &Endpoint) -> bool {
    world.container(container).is_some_and(|container| container.endpoints().any(|other| other == endpoint))
}
