//! Removes endpoints that Docker will never delete, because it was killed and restarted without them. Looks at their
//! interfaces and asks nobody: an endpoint without an interface is stale; one whose interface is in the host's
//! namespace is stale as soon as a restarted Docker sends requests. What Docker lists is compared in `sweep`.

use std::{sync::Arc, time::Duration};

use crate::{
    daemon::{Daemon, state::world::World},
    link::{Deletions, Heard},
    model::{Container, Endpoint, EndpointRequest, Id},
};

/// How long an endpoint may be in no container; longer than Docker takes to start one.
const ABANDONED: Duration = Duration::from_secs(60);

impl Daemon {
    /// Remove endpoints whose interface was deleted while no daemon ran.
    pub(in crate::daemon) async fn forget_lost_endpoints(self: &Arc<Self>) {
        let endpoints = docker_endpoints(&self.state.world(), |endpoint| self.host.is_lost(endpoint));
        for id in endpoints {
            self.forget_docker_endpoint(id, |endpoint| self.host.is_lost(endpoint)).await;
        }
    }

    /// Remove endpoints that are in no container when the daemon starts, nor some time later: Docker gave
    /// them up, because the daemon died before its answer.
    pub(in crate::daemon) async fn forget_abandoned_endpoints(self: Arc<Self>) {
        let unused = docker_endpoints(&self.state.world(), |endpoint| self.host.is_unused(endpoint));
        tokio::time::sleep(ABANDONED).await;
        for id in unused {
            self.forget_docker_endpoint(id, |endpoint| self.host.is_unused(endpoint)).await;
        }
    }

    /// Remove endpoints that are in no container. Call it after Docker's start: such endpoints belonged to
    /// the Docker before.
    pub async fn forget_unused_endpoints(self: &Arc<Self>) {
        let endpoints = docker_endpoints(&self.state.world(), |endpoint| self.host.is_unused(endpoint));
        for id in endpoints {
            self.forget_docker_endpoint(id, |endpoint| self.host.is_unused(endpoint)).await;
        }
    }

    /// The same for endpoints in a network that have an address or MAC which Docker requests again.
    pub(super) async fn forget_stale_in(self: &Arc<Self>, network: &Id, wanted: &EndpointRequest) {
        let members: Vec<Id> = self.state.world().members(network).map(|container| container.id).collect();
        let has_it = |endpoint: &Endpoint| {
            (endpoint.ipv4.is_some() && endpoint.ipv4 == wanted.ipv4)
                || (endpoint.ipv6.is_some() && endpoint.ipv6 == wanted.ipv6)
                || Some(endpoint.mac) == wanted.mac
        };
        for id in members {
            self.forget_docker_endpoint(id, |endpoint| self.host.is_unused(endpoint) && has_it(endpoint))
                .await;
        }
    }

    /// Remove endpoints when their interfaces are deleted, as long as the daemon runs.
    pub(in crate::daemon) async fn watch_docker_endpoints(self: Arc<Self>, mut deletions: Deletions) {
        while let Some(event) = deletions.next().await {
            let gone = match event {
                Heard::Lost => docker_endpoints(&self.state.world(), |endpoint| self.host.is_lost(endpoint)),
                Heard::Of(ifindex) => {
                    let number = netbpf_common::endpoint::number_of(ifindex);
                    docker_endpoints(&self.state.world(), |endpoint| Some(endpoint.number) == number)
                }
            };
            for id in gone {
                let daemon = Arc::clone(&self);
                tokio::spawn(async move {
                    daemon.forget_docker_endpoint(id, |endpoint| daemon.host.is_lost(endpoint)).await;
                });
            }
        }
        tracing::error!("deleted links are not watched any more");
    }

    /// Remove an endpoint if it is still stale.
    pub(super) async fn forget_docker_endpoint(
        self: &Arc<Self>,
        id: Id,
        is_stale: impl Fn(&Endpoint) -> bool,
    ) {
        let _locked = self.state.lock_container(id).await;
        let Ok(before) = self.state.container(&id) else { return };
        if !is_docker(&before, is_stale) {
            return;
        }
        tracing::info!(endpoint = before.name, "Docker does not use it any more");
        let after = Container { attachments: Vec::new(), ..before.clone() };
        if let Err(error) = self.unwire(before, after).await {
            tracing::error!(endpoint = %id.short(), %error, "forget");
        }
    }
}

/// The endpoints of Docker that are meant.
fn docker_endpoints(world: &World, is_meant: impl Fn(&Endpoint) -> bool) -> Vec<Id> {
    let containers = world.containers().filter(|container| is_docker(container, &is_meant));
    containers.map(|container| container.id).collect()
}

fn is_docker(container: &Container, is_meant: impl Fn(&Endpoint) -> bool) -> bool {
    container.docker_endpoint().is_some() && container.endpoints().any(is_meant)
}
