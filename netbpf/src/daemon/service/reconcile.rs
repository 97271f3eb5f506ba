//! Recovery at start: compares the stored state with the kernel's. Running containers are not touched; those
//! that ended while no daemon ran are cleaned up; unknown objects are removed.

use std::{fs, io, sync::Arc};

use crate::{
    daemon::{
        AttachmentKey, Daemon, Error,
        effects::{forwarding::forwarded, host::Host},
        membership::restore::restore_routes,
        state::State,
    },
    detached::{self, Detached},
    model::Id,
    plan::{Action, Desired, Observed, Unleased, diff},
    private,
    sandbox::Supervisor,
};

impl Daemon {
    /// Detach what runtimes detached while no daemon ran.
    pub(in crate::daemon) async fn detach_noted(self: &Arc<Self>) -> anyhow::Result<()> {
        let folder = self.options.run_dir.join(detached::FOLDER);
        private::make_folder(&folder, None)?;
        for (Detached { runtime, container, configuration, interface }, file) in Detached::all(&folder)? {
            if let (Ok(runtime), Ok(interface)) = (runtime.parse(), interface.parse()) {
                let key = AttachmentKey { runtime, container, configuration, interface };
                tracing::info!(container = key.container, "its runtime detached it while no daemon ran");
                self.detach(&key, None).await?;
            }
            match fs::remove_file(file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// Make the kernel match the stored state.
    pub(in crate::daemon) async fn reconcile(self: &Arc<Self>) -> Result<(), Error> {
        sweep_folders(&self.state, &self.host).await?;
        let running = self.find_running().await?;
        self.host.ports.resume(&self.state.containers());
        let desired = self.state.world().desired(self.host.group);
        let observed = self.host.observe(&desired).await?;
        let actions = diff(&desired, &observed);
        tracing::info!(
            networks = desired.networks.len(),
            endpoints = desired.endpoints.len(),
            actions = actions.len(),
            "reconcile"
        );
        // Before the programs and links, so that no forbidden packet passes.
        let rules = self.state.world().rules();
        self.host.firewall.replace(&rules, self.state.mappings()).await?;
        for family in forwarded(self.state.has_ipv6()) {
            for effect in self.host.forwarding(family).await? {
                self.host.apply(effect).await?;
            }
        }
        self.host.raise_backlog(self.state.world().most_members());
        // A failed action affects one endpoint, and must not prevent the others.
        let relinked = relinked(&actions);
        self.host.carry_out(actions).await;
        match unleased(&self.state, &self.host, &observed).await {
            Ok(unleased) => self.host.carry_out([Action::ForgetUnleased(unleased)]).await,
            Err(error) => tracing::error!(%error, "look for flows of removed containers"),
        }
        self.names.open_links()?;
        self.host.datapath().forget_older()?;
        restore_routes(&self.state, &self.host, &relinked).await;
        self.names.publish_all().await?;
        if let Err(error) = self.host.ports.settle_relay(&self.state.mappings()).await {
            tracing::error!(%error, "relay published ports");
        }
        for (id, supervisor) in running {
            self.watch(id, supervisor);
        }
        self.restart_after_start();
        Ok(())
    }

    /// The supervisors of running containers. Containers that ended meanwhile are recorded as ended; their
    /// endpoints are removed with all others that are not needed.
    async fn find_running(self: &Arc<Self>) -> Result<Vec<(Id, Supervisor)>, Error> {
        let stored = self.state.containers();
        let mut running = Vec::new();
        self.forget_lost_endpoints().await;
        for container in stored {
            let id = container.id;
            let _locked = self.state.lock_container(id).await;
            running.extend(self.find_again(container).await?.map(|supervisor| (id, supervisor)));
        }
        Ok(running)
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

/// The addresses in the networks that neither a container nor the host has, nor somebody behind a route of the host.
async fn unleased(state: &State, host: &Host, observed: &Observed) -> Result<Unleased, Error> {
    let mut unleased = state.world().unleased();
    let devices = observed.networks.values().filter_map(|seen| seen.device.as_ref());
    let of_host = devices.flat_map(|device| &device.addresses);
    of_host.for_each(|net| unleased.leave_out(net.addr()));
    // A route to a part of a network leads elsewhere, also to an address of the host on another device.
    host.links.destinations().await?.into_iter().for_each(|net| unleased.leave_out_route(net));
    Ok(unleased)
}

/// Removes directories of removed containers: a daemon was killed between the removal and this.
async fn sweep_folders(state: &State, host: &Host) -> Result<(), Error> {
    for id in host.folders.containers()? {
        let is_removed = state.world().container(&id).is_none();
        if is_removed {
            if let Err(error) = host.leave_lo(id).await {
                tracing::error!(container = %id.short(), %error, "remove the filter at lo");
            }
            host.folders.remove(&id);
        }
    }
    Ok(())
}

/// Removes the whole datapath, when the daemon stops with no containers or networks left.
pub(in crate::daemon) async fn tear_down(host: &Host) -> Result<(), Error> {
    let observed = host.observe(&Desired::default()).await?;
    for action in diff(&Desired::default(), &observed) {
        host.apply(action).await?;
    }
    Ok(())
}
