//! Recovery at start: compares the stored state with the kernel's. Running containers are not touched; those
//! that ended while no daemon ran are cleaned up; unknown objects are removed.

use std::{collections::BTreeMap, fs, io, sync::Arc};

use crate::{
    daemon::{Daemon, Error},
    model::{Container, Id},
    plan::{Action, Desired, EndpointWiring, NetworkWiring, diff},
    sandbox::Supervisor,
};

impl Daemon {
    /// Make the kernel match the stored state.
    pub(in crate::daemon) async fn reconcile(self: &Arc<Self>) -> Result<(), Error> {
        self.sweep_folders()?;
        let running = self.find_running().await?;
        self.resume_ports();
        let desired = self.desired();
        let observed = self.observe(&desired).await?;
        let actions = diff(&desired, &observed);
        tracing::info!(
            networks = desired.networks.len(),
            endpoints = desired.endpoints.len(),
            actions = actions.len(),
            "reconcile"
        );
        // Before the programs and links, so that no forbidden packet passes.
        self.replace_filter().await?;
        for family in self.forwarded() {
            for effect in self.forwarding(family).await? {
                self.apply(effect).await?;
            }
        }
        // A failed action affects one endpoint, and must not prevent the others.
        let relinked = relinked(&actions);
        self.carry_out(actions).await;
        self.open_links()?;
        self.datapath().forget_older()?;
        self.restore_routes(&relinked).await;
        self.publish_all().await?;
        if let Err(error) = self.settle_relay().await {
            tracing::error!(%error, "relay published ports");
        }
        for (id, supervisor) in running {
            self.watch(id, supervisor);
        }
        self.restart_after_start();
        Ok(())
    }

    /// Removes directories of removed containers: a daemon was killed between the removal and this.
    fn sweep_folders(&self) -> Result<(), Error> {
        for root in [&self.options.state_dir, &self.options.run_dir].map(|dir| dir.join("containers")) {
            let entries = match fs::read_dir(&root) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => {
                    entries.map_err(|source| Error::File { operation: "read", path: root.clone(), source })?
                }
            };
            for name in entries.flatten().map(|entry| entry.file_name()) {
                let id = name.to_str().and_then(|name| name.parse().ok());
                if let Some(id) = id
                    && self.world().container(&id).is_none()
                {
                    self.remove_dirs(&id);
                }
            }
        }
        Ok(())
    }

    /// The supervisors of running containers. Containers that ended meanwhile are recorded as ended; their
    /// endpoints are removed with all others that are not needed.
    async fn find_running(self: &Arc<Self>) -> Result<Vec<(Id, Supervisor)>, Error> {
        let stored: Vec<Container> = self.world().containers().cloned().collect();
        let mut running = Vec::new();
        self.forget_lost_endpoints().await;
        for container in stored {
            let id = container.id;
            running.extend(self.find_again(container).await?.map(|supervisor| (id, supervisor)));
        }
        Ok(running)
    }

    fn desired(&self) -> Desired {
        let world = self.world();
        let networks =
            world.networks().filter_map(NetworkWiring::of).map(|wiring| (wiring.number, wiring)).collect();
        let mut endpoints = BTreeMap::new();
        for container in world.containers() {
            let namespace = match (container.owner().places_interface(), container.namespace()) {
                (true, _) => None,
                (false, Some(namespace)) => Some(namespace),
                (false, None) => continue,
            };
            for attachment in &container.attachments {
                let bridge = world.network(&attachment.network).and_then(|network| network.bridge());
                let owner = container.owner_number();
                let wiring = bridge
                    .and_then(|bridge| EndpointWiring::of(attachment, bridge, owner, namespace.clone()));
                endpoints.extend(wiring.map(|wiring| (wiring.number, wiring)));
            }
        }
        Desired { group: self.host.group, networks, endpoints }
    }

    /// Send all records to the responder, which removes all others.
    async fn publish_all(self: &Arc<Self>) -> Result<(), Error> {
        let containers: Vec<Container> = self.world().containers().cloned().collect();
        let mut records = Vec::new();
        for container in containers {
            let Ok(namespace) = self.namespace_of(&container) else { continue };
            if let Some(record) = self.record_of(&container) {
                records.push((record, container, namespace));
            }
        }
        for (record, container, namespace) in records {
            let sockets = match self.host.feed.holds(&record).await? {
                true => None,
                false => match self.open_sockets(&container, &namespace).await {
                    Ok(sockets) => Some(sockets),
                    Err(error) => {
                        tracing::error!(container = %record.container.short(), %error, "open sockets");
                        None
                    }
                },
            };
            self.host.feed.upsert(record, sockets).await?;
        }
        Ok(self.host.feed.settle().await?)
    }

    /// Remove the whole datapath, when the daemon stops with no containers or networks left.
    pub(in crate::daemon) async fn tear_down(self: &Arc<Self>) -> Result<(), Error> {
        let observed = self.observe(&Desired::default()).await?;
        for action in diff(&Desired::default(), &observed) {
            self.apply(action).await?;
        }
        Ok(())
    }
}

fn relinked(actions: &[Action]) -> Vec<u32> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::AddEndpointLink(endpoint) => Some(endpoint.number),
            _ => None,
        })
        .collect()
}
