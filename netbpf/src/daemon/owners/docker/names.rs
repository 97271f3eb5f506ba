//! Names of Docker's networks, and containers of its endpoints. Docker does not send them, and cannot be
//! asked while it waits for an answer. So it is asked afterwards, and when it tells of a container that has joined a
//! network; without an answer the name is the beginning of the ID.

use std::{sync::Arc, time::Duration};

use crate::{
    daemon::{Daemon, Error, state::world::World},
    engine::{Found, FoundNetwork},
    model::{Container, DockerContainer, DockerEndpoint, Id, Network, Origin},
    store::Change,
};

/// Pauses before each query, until Docker lists what it has just created.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(15),
];

impl Daemon {
    /// Query later the name of a network, or the container of an endpoint in it.
    pub(super) fn learn_names(self: &Arc<Self>, network: Id, endpoint: Option<Id>) {
        let daemon = Arc::clone(self);
        tokio::spawn(async move {
            for pause in PAUSES {
                tokio::time::sleep(pause).await;
                let is_known = || endpoint.is_some_and(|endpoint| is_named(&endpoint, &daemon.state.world()));
                // An event may have led to the answer meanwhile.
                if is_known() {
                    return;
                }
                let is_noted = daemon.ask_for_names(network).await;
                if is_noted && (endpoint.is_none() || is_known()) {
                    return;
                }
            }
        });
    }

    /// Docker put a container into a network: query its name, unless it is known. One answer tells all names in a network,
    /// so of many events only the first ones lead to a query.
    pub(in crate::daemon) fn learn_names_now(self: &Arc<Self>, network: Id) {
        let daemon = Arc::clone(self);
        tokio::spawn(async move {
            let _queries = daemon.owners.engine_queries.lock(network).await;
            let has_unnamed = {
                let world = daemon.state.world();
                world.members(&network).any(|member| !is_named(&member.id, &world))
            };
            if has_unnamed {
                daemon.ask_for_names(network).await;
            }
        });
    }

    /// Query the names in a network, and note them. False if Docker gave no answer, or they could not be noted.
    async fn ask_for_names(self: &Arc<Self>, network: Id) -> bool {
        let found = match self.owners.engine.network(&network).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(network = %network.short(), %error, "ask Docker for its name");
                return false;
            }
        };
        let noted = self.note_names(network, found).await;
        if let Err(error) = &noted {
            tracing::warn!(network = %network.short(), %error, "note its name");
        }
        noted.is_ok()
    }

    /// Docker renamed a container: query the new name.
    pub(in crate::daemon) async fn learn_new_name(self: &Arc<Self>, container: Id) {
        let endpoints: Vec<Id> = {
            let world = self.state.world();
            let all = world.containers();
            all.filter(|endpoint| is_of(endpoint, &container)).map(|endpoint| endpoint.id).collect()
        };
        if endpoints.is_empty() {
            return;
        }
        let _queries = self.owners.engine_queries.lock(container).await;
        let found = match self.owners.engine.find(&container.to_string()).await {
            Ok(found) => found,
            Err(error) => {
                return tracing::warn!(container = %container.short(), %error, "ask Docker for its new name");
            }
        };
        for endpoint in endpoints {
            if let Err(error) = self.note_endpoint(endpoint, &found).await {
                tracing::warn!(container = found.name, %error, "note its new name");
            }
        }
    }

    /// Note the names of a network and of its endpoints' containers.
    pub(super) async fn note_names(self: &Arc<Self>, id: Id, found: FoundNetwork) -> Result<(), Error> {
        self.note_network(id, found.name).await?;
        for (endpoint, container) in found.endpoints {
            let Some(container) = container else { continue };
            if is_called(&endpoint, &container, &self.state.world()) {
                continue;
            }
            match self.owners.engine.find(&container.id.to_string()).await {
                Ok(found) => self.note_endpoint(endpoint, &found).await?,
                // It is gone, or it starts: then it is asked for again.
                Err(error) => {
                    tracing::debug!(container = container.name, %error, "ask Docker for its aliases")
                }
            }
        }
        Ok(())
    }

    /// Note the name of a network, unless another network has it.
    async fn note_network(self: &Arc<Self>, id: Id, name: String) -> Result<(), Error> {
        let _one_at_a_time = self.state.network_changes.lock().await;
        let (network, is_taken) = {
            let world = self.state.world();
            (world.network(&id).cloned(), world.networks().any(|network| network.name == name))
        };
        let network = network.filter(|network| network.origin == Origin::Docker && !is_taken);
        let Some(network) = network else { return Ok(()) };
        let named = Network { name, ..network };
        self.state.commit(&[Change::PutNetwork(named.clone())])?;
        self.state.world().replace_network(named);
        Ok(())
    }

    async fn note_endpoint(self: &Arc<Self>, id: Id, found: &Found) -> Result<(), Error> {
        let _locked = self.state.lock_container(id).await;
        let Ok(before) = self.state.container(&id) else { return Ok(()) };
        let Some(docker) = before.docker_endpoint() else { return Ok(()) };
        let network =
            before.attachments.first().and_then(|attachment| found.aliases.get(&attachment.network));
        let aliases = Some(network.cloned().unwrap_or_default());
        let container = DockerContainer { id: found.id, name: found.name.clone(), aliases };
        if docker.container.as_ref() == Some(&container) {
            return Ok(());
        }
        let docker = DockerEndpoint { container: Some(container), ..docker.clone() };
        self.put_docker_endpoint(&before, docker).await
    }
}

/// Whether the container of an endpoint is known, or the endpoint is gone.
fn is_named(endpoint: &Id, world: &World) -> bool {
    let container = world.container(endpoint);
    let docker = container.and_then(Container::docker_endpoint);
    docker.is_none_or(|docker| docker.container.is_some())
}

/// Whether the container of an endpoint is known under its name with its aliases, or the endpoint is gone.
fn is_called(endpoint: &Id, container: &DockerContainer, world: &World) -> bool {
    let docker = world.container(endpoint).and_then(Container::docker_endpoint);
    docker.is_none_or(|docker| {
        docker.container.as_ref().is_some_and(|known| {
            known.aliases.is_some() && (known.id, &known.name) == (container.id, &container.name)
        })
    })
}

/// Whether an endpoint belongs to this container.
fn is_of(endpoint: &Container, container: &Id) -> bool {
    let docker = endpoint.docker_endpoint().and_then(|docker| docker.container.as_ref());
    docker.is_some_and(|docker| docker.id == *container)
}
