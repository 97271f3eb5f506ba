//! Connects containers to networks and disconnects them: lease, plan, apply, commit. For a removal, commit
//! comes first.

use std::{net::IpAddr, sync::Arc};

use crate::{
    daemon::{
        Daemon, Error,
        effects::{retry::retry, transaction::Transaction},
        membership::{announce::announce, endpoint_request::check_request},
        ports::lease::WithoutAddress,
        state::{namespace_of, refuse, refuse_forced, world::World},
    },
    link,
    model::{Attachment, CannotJoin, Container, Driver, EndpointRequest, Id, Network, State},
    plan::{Action, Desired, Observed, diff, port_changes, removal},
    store::Change,
};

impl Daemon {
    /// Connect a container to a network. The caller must hold the container's lock.
    pub(in crate::daemon) async fn connect_locked(
        self: &Arc<Self>,
        id: Id,
        network: &Network,
        request: EndpointRequest,
    ) -> Result<(), Error> {
        let container = self.state.container(&id)?;
        refuse(&container, "network connect")?;
        attachable(&container, network, &request)?;
        let after = with_attachment(container.clone(), network, request, &self.state.world());
        match &container.state {
            State::Running { .. } => {
                let namespace = namespace_of(&container)?;
                let wired = self.wire(container, after).await;
                // It may have ended, and that is not recorded yet.
                wired.map_err(|error| match self.host.links.namespace(&namespace) {
                    Err(_) => Error::NotRunning(id.to_string()),
                    Ok(_) => error,
                })
            }
            State::Created { .. } | State::Exited { .. } => {
                self.state.commit(&[Change::PutContainer(after.clone())])?;
                self.state.world().put_container(after);
                Ok(())
            }
        }
    }

    /// Disconnect a container from the network that the user named `key`. The caller must hold the
    /// container's lock.
    pub(in crate::daemon) async fn disconnect_locked(
        self: &Arc<Self>,
        id: Id,
        key: &str,
        network: Result<Network, Error>,
        force: bool,
    ) -> Result<(), Error> {
        let container = self.state.container(&id)?;
        let left = match network {
            Ok(network) if network.driver == Driver::Host => return Err(Error::DisconnectFromHost),
            Ok(network) if is_attached(&container, &network.id) => network.id,
            network => {
                let removed = removed_network_of(&container, key, &self.state.world());
                match (removed, network) {
                    (Some(removed), _) => removed,
                    (None, Ok(network)) => {
                        return Err(Error::NotConnected { container: id.to_string(), network: network.name });
                    }
                    (None, Err(error)) => return Err(error),
                }
            }
        };
        match force {
            true => {
                refuse_forced(&container, "network disconnect", |namespace| self.host.is_alive(namespace))?
            }
            false => refuse(&container, "network disconnect")?,
        }
        let mut after = container.clone();
        after.attachments.retain(|attachment| attachment.network != left);
        self.unwire(container, after).await
    }

    /// Lease, do, commit: add the endpoints that `after` has and `before` has not to a running container.
    pub(in crate::daemon) async fn wire(
        self: &Arc<Self>,
        before: Container,
        after: Container,
    ) -> Result<(), Error> {
        self.wire_in(before, after, None).await
    }

    /// The same for one network, or for all.
    pub(in crate::daemon) async fn wire_in(
        self: &Arc<Self>,
        before: Container,
        after: Container,
        only: Option<Id>,
    ) -> Result<(), Error> {
        match self.try_wire(before.clone(), after.clone(), only, &[]).await {
            // Somebody created an interface with that name in the container. This is rare, so interfaces are
            // listed only then.
            Err(Error::Link(link::Error::NameTaken { .. })) if !after.owner().places_interface() => {
                let namespace = self.host.links.namespace(&namespace_of(&after)?)?;
                let taken = self.host.links.interfaces_in(&namespace).await?;
                self.try_wire(before, after, only, &taken).await
            }
            done => done,
        }
    }

    /// `taken` are names that new interfaces must not have.
    async fn try_wire(
        self: &Arc<Self>,
        before: Container,
        mut after: Container,
        only: Option<Id>,
        taken: &[String],
    ) -> Result<(), Error> {
        let mut change = self.begin()?;
        let mut joined = Vec::new();
        let done = async {
            joined = change.lease_endpoints(&mut after, only, taken)?;
            change.lease_ports(&before, &mut after, WithoutAddress::Refuse).await?;
            self.wire_steps(&mut change, &before, &after).await
        }
        .await;
        change.end_of_container(done, &before, &after).await?;
        self.tell_of_members(&after.id, &joined, "connect");
        self.names.refresh_links_to(after.id).await;
        Ok(())
    }

    /// The steps from `before` to `after`, for a running container that gets endpoints.
    pub(in crate::daemon) async fn wire_steps(
        self: &Arc<Self>,
        change: &mut Transaction,
        before: &Container,
        after: &Container,
    ) -> Result<(), Error> {
        // None if the interfaces stay in the host's namespace, from which their owner moves them.
        let namespace = match after.owner().places_interface() {
            true => None,
            false => Some(namespace_of(after)?),
        };
        self.host.raise_backlog(self.state.world().most_members());
        let endpoints = self.state.world().wirings_without(after, before, namespace.as_ref());
        let new = Desired { endpoints, ..Desired::default() };
        change.perform_all(diff(&new, &Observed::default())).await?;
        if let Some(namespace) = &namespace {
            announce(&self.state, &self.host, before, after, namespace).await;
            let routes = self.state.world().route_changes(before, after, namespace);
            change.perform_all(routes).await?;
        }
        change.perform_all(port_changes(&before.mappings, &after.mappings, &[])).await?;
        change.perform_all(self.names.publication(before, after, namespace.as_ref())).await?;
        // After the responder answers at the address that they contain.
        change.perform_all(self.names.file_changes(after)?).await
    }

    /// Commit, then carry out: remove the endpoints that `before` has and `after` has not.
    pub(in crate::daemon) async fn unwire(
        self: &Arc<Self>,
        before: Container,
        mut after: Container,
    ) -> Result<(), Error> {
        // As in Docker, a container can leave a network even if its ports cannot move.
        let ports =
            self.host.ports.lease(&self.state, &before, &mut after, WithoutAddress::LeaveOut).await.map_err(
                |error| {
                    tracing::error!(container = before.name, %error, "publish in another network");
                    after.mappings.clear();
                },
            );
        let is_forgotten = !after.owner().outlives_networks() && after.attachments.is_empty();
        let change = if is_forgotten {
            Change::RemoveContainer(after.id)
        } else {
            Change::PutContainer(after.clone())
        };
        if let Err(error) = self.state.commit(&[change]) {
            if let Ok(ports) = ports {
                self.host.ports.undo(ports).await;
            }
            return Err(error);
        }
        // The state last: a client that sees the endpoint gone finds nothing of it left, and its address
        // free.
        self.unwire_committed(&before, &after).await;
        let id = after.id;
        if is_forgotten {
            self.state.world().remove_container(&id);
            self.host.folders.remove(&id);
        } else {
            self.state.world().put_container(after);
        }
        self.names.refresh_links_to(id).await;
        Ok(())
    }

    /// Carry out a committed removal of endpoints.
    pub(in crate::daemon) async fn unwire_committed(self: &Arc<Self>, before: &Container, after: &Container) {
        let addresses: Vec<IpAddr> =
            before.endpoints_without(after).flat_map(|(_, endpoint)| endpoint.addresses()).collect();
        // First, because a port leads to an address that another container may get soon.
        self.host.carry_out(port_changes(&before.mappings, &after.mappings, &addresses)).await;
        self.host.ports.release(before, after);
        let runs = matches!(after.state, State::Running { .. });
        if runs && let Ok(namespace) = namespace_of(after) {
            // Replaced before the interface of the old route goes, and the route with it.
            let routes = self.state.world().route_changes(before, after, &namespace);
            self.host.carry_out(routes).await;
            retry("rewrite files", || self.names.rewrite_files(after)).await;
        }
        retry("republish names", || self.names.republish(before, after)).await;
        let endpoints = self.state.world().wirings_without(before, after, None);
        self.host.carry_out(removal(&Desired { endpoints, ..Desired::default() })).await;
        self.host.carry_out([Action::ForgetFlows(addresses)]).await;
        let networks: Vec<Id> =
            before.endpoints_without(after).map(|(attachment, _)| attachment.network).collect();
        self.state.world().release_endpoints(before, &networks);
        self.tell_of_members(&before.id, &networks, "disconnect");
    }
}

/// Checks that a container can join a network with this request.
///
/// # Errors
/// The refusals of Docker, for example [`Error::AlreadyConnected`].
pub(in crate::daemon) fn attachable(
    container: &Container,
    network: &Network,
    request: &EndpointRequest,
) -> Result<(), Error> {
    check_modes(container, network)?;
    if is_attached(container, &network.id) {
        let (container, network) = (container.name.clone(), network.name.clone());
        return Err(Error::AlreadyConnected { container, network });
    }
    check_request(request, network)
}

/// The container with a further network. As in Docker, it replaces a removed one of the same name.
pub(in crate::daemon) fn with_attachment(
    mut container: Container,
    network: &Network,
    request: EndpointRequest,
    world: &World,
) -> Container {
    let attachments = &mut container.attachments;
    attachments.retain(|old| old.network_name != network.name || world.network(&old.network).is_some());
    attachments.push(Attachment::new(network, request));
    container
}

/// A network of the container that matches the user's name or ID, and was removed while the container was
/// stopped.
fn removed_network_of(container: &Container, key: &str, world: &World) -> Option<Id> {
    let mut removed =
        container.attachments.iter().filter(|attachment| world.network(&attachment.network).is_none());
    let found = removed.find(|attachment| {
        attachment.network_name == key
            || [attachment.network.to_string(), attachment.network.short()].iter().any(|id| id == key)
    });
    found.map(|attachment| attachment.network)
}

fn is_attached(container: &Container, network: &Id) -> bool {
    container.attachments.iter().any(|attachment| attachment.network == *network)
}

/// Checks Docker's rules for connections, by mode and driver.
fn check_modes(container: &Container, network: &Network) -> Result<(), Error> {
    if network.driver == Driver::Host {
        return Err(Error::ConnectToHost);
    }
    container.owner().may_join(network.driver == Driver::Null).map_err(|reason| match reason {
        CannotJoin::SharedNamespace => Error::SharedNamespace,
        CannotJoin::Private => Error::PrivateMode,
    })
}
