//! Restores endpoints whose link somebody deleted, on the host or in the container; not for endpoints of
//! Docker, whose links are created only at Docker's request.

use std::{sync::Arc, time::Instant};

use netbpf_common::endpoint::{ifindex_of, number_of};

use crate::{
    daemon::{
        Error,
        effects::host::Host,
        state::{State, namespace_of, world::World},
    },
    link::{Deletions, Heard},
    model::{self, Container, Endpoint, Id},
    plan::{Desired, EndpointWiring, Observed, diff},
};

/// Restores endpoints as their links are deleted, for as long as the daemon runs.
pub(in crate::daemon) async fn restore_deleted_links(
    state: Arc<State>,
    host: Arc<Host>,
    mut deletions: Deletions,
) {
    while let Some(heard) = deletions.next().await {
        let endpoints = endpoints_with_links(heard, &state.world());
        for (id, number) in endpoints {
            let (state, host) = (Arc::clone(&state), Arc::clone(&host));
            tokio::spawn(async move {
                if let Err(error) = restore_endpoint(&state, &host, id, number).await {
                    tracing::error!(container = %id.short(), %error, "restore a deleted interface");
                }
            });
        }
    }
    tracing::error!("deleted interfaces of containers are not restored any more");
}

async fn restore_endpoint(state: &State, host: &Host, id: Id, number: u32) -> Result<(), Error> {
    let _locked = state.lock_container(id).await;
    // Since the event, the container may have ended, left the network, or been restored already.
    let Ok(container) = state.container(&id) else { return Ok(()) };
    let Ok(namespace) = namespace_of(&container) else { return Ok(()) };
    let (ifindex, now) = (ifindex_of(number), Instant::now());
    let is_there = host.links.name_of(ifindex).is_some();
    if is_there || host.links.namespace(&namespace).is_err() || host.contests.is_left_alone(ifindex, now) {
        return Ok(());
    }
    let mut endpoints = state.world().wirings_of(&container, Some(&namespace));
    endpoints.retain(|of, _| *of == number);
    let Some(EndpointWiring { host_interface, .. }) = endpoints.get(&number) else { return Ok(()) };
    let (_, name) = container.shown();
    let repair = format!("somebody deleted {host_interface}: it is made again, for container {name}");
    // Before it is tried: whoever deletes the interface during each attempt must not keep the daemon busy.
    host.contests.note(ifindex, host_interface, now);
    let desired = Desired { group: host.group, endpoints, ..Desired::default() };
    for action in diff(&desired, &Observed::default()) {
        match host.apply(action).await {
            // The container has ended.
            Err(_) if host.links.namespace(&namespace).is_err() => return Ok(()),
            done => done?,
        }
    }
    host.repairs.note(repair);
    restore_routes(state, host, &[number]).await;
    Ok(())
}

/// Restores the default routes of containers whose endpoints were created again.
pub(in crate::daemon) async fn restore_routes(state: &State, host: &Host, endpoints: &[u32]) {
    let containers: Vec<Container> = state
        .world()
        .containers()
        .filter(|container| container.endpoints().any(|endpoint| endpoints.contains(&endpoint.number)))
        .cloned()
        .collect();
    for container in containers {
        let none = Container { attachments: Vec::new(), ..container.clone() };
        if let Ok(namespace) = namespace_of(&container) {
            let routes = state.world().route_changes(&none, &container, &namespace);
            host.carry_out(routes).await;
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
        .filter(|container| matches!(container.state, model::State::Running { .. }));
    let endpoints = containers.flat_map(|container| {
        let meant = container.endpoints().filter(|endpoint| is_meant(endpoint));
        meant.map(|endpoint| (container.id, endpoint.number))
    });
    endpoints.collect()
}
