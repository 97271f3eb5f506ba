//! Restores endpoints whose link somebody deleted, on the host or in the container; not for endpoints of
//! Docker, whose links are created only at Docker's request.

use std::{sync::Arc, time::Instant};

use netbpf_common::endpoint::{ifindex_of, number_of};

use crate::{
    daemon::{
        Daemon, Error,
        state::{namespace_of, world::World},
    },
    link::{Deletions, Heard},
    model::{Container, Endpoint, Id, State},
    plan::{Desired, EndpointWiring, Observed, diff},
};

impl Daemon {
    /// Restores endpoints as their links are deleted, for as long as the daemon runs.
    pub(in crate::daemon) async fn restore_deleted_links(self: Arc<Self>, mut deletions: Deletions) {
        while let Some(heard) = deletions.next().await {
            let endpoints = endpoints_with_links(heard, &self.state.world());
            for (id, number) in endpoints {
                let daemon = Arc::clone(&self);
                tokio::spawn(async move {
                    if let Err(error) = daemon.restore_endpoint(id, number).await {
                        tracing::error!(container = %id.short(), %error, "restore a deleted interface");
                    }
                });
            }
        }
        tracing::error!("deleted interfaces of containers are not restored any more");
    }

    async fn restore_endpoint(self: &Arc<Self>, id: Id, number: u32) -> Result<(), Error> {
        let _locked = self.state.lock_container(id).await;
        // Since the event, the container may have ended, left the network, or been restored already.
        let Ok(container) = self.state.container(&id) else { return Ok(()) };
        let Ok(namespace) = namespace_of(&container) else { return Ok(()) };
        let (ifindex, now) = (ifindex_of(number), Instant::now());
        let is_there = self.host.links.name_of(ifindex).is_some();
        if is_there
            || self.host.links.namespace(&namespace).is_err()
            || self.host.contests.is_left_alone(ifindex, now)
        {
            return Ok(());
        }
        let mut endpoints = self.state.world().wirings_of(&container, Some(&namespace));
        endpoints.retain(|of, _| *of == number);
        let Some(EndpointWiring { host_interface, .. }) = endpoints.get(&number) else { return Ok(()) };
        let (_, name) = container.shown();
        let repair = format!("somebody deleted {host_interface}: it is made again, for container {name}");
        // Before it is tried: whoever deletes the interface during each attempt must not keep the daemon busy.
        self.host.contests.note(ifindex, host_interface, now);
        let desired = Desired { group: self.host.group, endpoints, ..Desired::default() };
        for action in diff(&desired, &Observed::default()) {
            match self.host.apply(action).await {
                // The container has ended.
                Err(_) if self.host.links.namespace(&namespace).is_err() => return Ok(()),
                done => done?,
            }
        }
        self.host.repairs.note(repair);
        self.restore_routes(&[number]).await;
        Ok(())
    }

    /// Restores the default routes of containers whose endpoints were created again.
    pub(in crate::daemon) async fn restore_routes(self: &Arc<Self>, endpoints: &[u32]) {
        let containers: Vec<Container> = self
            .state
            .world()
            .containers()
            .filter(|container| {
                container.endpoints().any(|endpoint| endpoints.contains(&endpoint.number))
            })
            .cloned()
            .collect();
        for container in containers {
            let none = Container { attachments: Vec::new(), ..container.clone() };
            if let Ok(namespace) = namespace_of(&container) {
                let routes = self.state.world().route_changes(&none, &container, &namespace);
                self.host.carry_out(routes).await;
            }
        }
    }
}

/// The endpoints whose links may have been deleted, with their containers.
fn endpoints_with_links(heard: Heard<u32>, world: &World) -> Vec<(Id, u32)> {
    let is_meant = |endpoint: &Endpoint| match heard {
        Heard::Of(ifindex) => number_of(ifindex) == Some(endpoint.number),
        Heard::Lost => true,
    };
    let containers = world
        .containers()
        .filter(|container| !container.owner().places_interface())
        .filter(|container| matches!(container.state, State::Running { .. }));
    let endpoints = containers.flat_map(|container| {
        let meant = container.endpoints().filter(|endpoint| is_meant(endpoint));
        meant.map(|endpoint| (container.id, endpoint.number))
    });
    endpoints.collect()
}
