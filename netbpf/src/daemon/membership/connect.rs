//! Connects containers to networks and disconnects them: lease, plan, apply, commit. For a removal, commit
//! comes first.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use crate::{
    daemon::{
        Daemon, Error,
        effects::{effect::Effect, retry::retry, transaction::Transaction},
        membership::endpoint_request::check_request,
        names,
        ports::lease::WithoutAddress,
        state::refuse,
    },
    link,
    model::{Attachment, CannotJoin, Container, Driver, EndpointRequest, Id, Namespace, Network, State},
    plan::{Action, Desired, EndpointWiring, Observed, default_gateways, diff, port_changes, removal},
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
        let container = self.container(&id)?;
        refuse(&container, "network connect")?;
        check_modes(&container, network)?;
        if is_attached(&container, &network.id) {
            return Err(Error::AlreadyConnected { container: container.name, network: network.name.clone() });
        }
        check_request(&request, network)?;
        let mut after = container.clone();
        {
            let world = self.world();
            // As in Docker, a network replaces a removed one of the same name.
            after
                .attachments
                .retain(|old| old.network_name != network.name || world.network(&old.network).is_some());
        }
        after.attachments.push(Attachment::new(network, request));
        match &container.state {
            State::Running { .. } => {
                let namespace = self.namespace_of(&container)?;
                let wired = self.wire(container, after).await;
                // It may have ended, and that is not recorded yet.
                wired.map_err(|error| match self.host.links.namespace(&namespace) {
                    Err(_) => Error::NotRunning(id.to_string()),
                    Ok(_) => error,
                })
            }
            State::Created { .. } | State::Exited { .. } => {
                self.commit(&[Change::PutContainer(after.clone())])?;
                self.world().put_container(after);
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
        let container = self.container(&id)?;
        if !force {
            refuse(&container, "network disconnect")?;
        }
        let left = match network {
            Ok(network) if network.driver == Driver::Host => return Err(Error::DisconnectFromHost),
            Ok(network) if is_attached(&container, &network.id) => network.id,
            network => match (self.removed_network_of(&container, key), network) {
                (Some(removed), _) => removed,
                (None, Ok(network)) => {
                    return Err(Error::NotConnected { container: id.to_string(), network: network.name });
                }
                (None, Err(error)) => return Err(error),
            },
        };
        let mut after = container.clone();
        after.attachments.retain(|attachment| attachment.network != left);
        self.unwire(container, after).await
    }

    /// A network of the container that matches the user's name or ID, and was removed while the container was
    /// stopped.
    fn removed_network_of(&self, container: &Container, key: &str) -> Option<Id> {
        let world = self.world();
        let mut removed =
            container.attachments.iter().filter(|attachment| world.network(&attachment.network).is_none());
        let found = removed.find(|attachment| {
            attachment.network_name == key
                || [attachment.network.to_string(), attachment.network.short()].iter().any(|id| id == key)
        });
        found.map(|attachment| attachment.network)
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
                let namespace = self.host.links.namespace(&self.namespace_of(&after)?)?;
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
        let mut change = Transaction::begin(self)?;
        let mut joined = Vec::new();
        let done = async {
            joined = self.lease_endpoints(&mut change, &mut after, only, taken)?;
            change.lease_ports(&before, &mut after).await?;
            self.wire_steps(&mut change, &before, &after).await
        }
        .await;
        change.end_of_container(done, &before, &after).await?;
        self.tell_of_members(&after.id, &joined, "connect");
        self.refresh_links_to(after.id).await;
        Ok(())
    }

    /// Lease an endpoint for each attachment without one, or only for that in the network `only`. Returns
    /// their networks.
    pub(in crate::daemon) fn lease_endpoints(
        &self,
        change: &mut Transaction,
        container: &mut Container,
        only: Option<Id>,
        taken: &[String],
    ) -> Result<Vec<Id>, Error> {
        let own = container.attachments.iter().filter_map(|attachment| attachment.endpoint.as_ref());
        let mut taken: Vec<String> =
            own.map(|endpoint| endpoint.interface.to_string()).chain(taken.iter().cloned()).collect();
        // Requested names are not used for other interfaces.
        taken.extend(
            container
                .attachments
                .iter()
                .filter_map(|wanted| wanted.request.options.interface.clone().map(String::from)),
        );
        let mut leased = Vec::new();
        for index in 0..container.attachments.len() {
            let Attachment { network, request, endpoint: None, .. } = container.attachments[index].clone()
            else {
                continue;
            };
            if only.is_some_and(|only| only != network) {
                continue;
            }
            let mut lease = |request| change.lease_endpoint(&container.id, &network, request, &taken);
            let endpoint = match container.owner().request_again(&network, &request) {
                Some(again) => lease(&again).or_else(|_| lease(&request)),
                None => lease(&request),
            }?;
            taken.push(endpoint.interface.to_string());
            container.attachments[index].endpoint = Some(endpoint);
            leased.push(network);
        }
        Ok(leased)
    }

    /// Release the endpoints of `container` in `networks`.
    pub(in crate::daemon) fn release_endpoints(&self, container: &Container, networks: &[Id]) {
        let mut world = self.world();
        for attachment in
            container.attachments.iter().filter(|attachment| networks.contains(&attachment.network))
        {
            if let Some(endpoint) = &attachment.endpoint {
                world.release_endpoint(&container.id, &attachment.network, endpoint);
            }
        }
    }

    /// The steps from `before` to `after`, for a running container that gets endpoints.
    pub(in crate::daemon) async fn wire_steps(
        self: &Arc<Self>,
        change: &mut Transaction,
        before: &Container,
        after: &Container,
    ) -> Result<(), Error> {
        let namespace = self.namespace_of(after)?;
        let endpoints = self.endpoints_of(after, before, Some(&namespace));
        let new = Desired { endpoints, ..Desired::default() };
        change.perform_all(diff(&new, &Observed::default())).await?;
        self.announce(before, after, &namespace).await;
        change.perform_all(self.route_changes(before, after, namespace.clone())).await?;
        change.perform_all(port_changes(&before.mappings, &after.mappings)).await?;
        let (before_record, record) = {
            let world = self.world();
            (names::record_of(before, &world), names::record_of(after, &world))
        };
        if let Some(record) = record {
            let sockets = match before_record {
                Some(_) => None,
                None => Some(self.open_sockets(after, &namespace).await?),
            };
            change.perform(Effect::PublishNames { record, before: before_record, sockets }).await?;
        }
        // After the responder answers at the address that they contain.
        change.perform_all(self.file_changes(after)?).await
    }

    /// Commit, then carry out: remove the endpoints that `before` has and `after` has not.
    pub(in crate::daemon) async fn unwire(
        self: &Arc<Self>,
        before: Container,
        mut after: Container,
    ) -> Result<(), Error> {
        // As in Docker, a container can leave a network even if its ports cannot move.
        let ports = self.lease_ports(&before, &mut after, WithoutAddress::LeaveOut).await.map_err(|error| {
            tracing::error!(container = before.name, %error, "publish in another network");
            after.mappings.clear();
        });
        let is_forgotten = !after.owner().outlives_networks() && after.attachments.is_empty();
        let change = if is_forgotten {
            Change::RemoveContainer(after.id)
        } else {
            Change::PutContainer(after.clone())
        };
        if let Err(error) = self.commit(&[change]) {
            if let Ok(ports) = ports {
                self.undo_ports(ports).await;
            }
            return Err(error);
        }
        // The state last: a client that sees the endpoint gone finds nothing of it left, and its address
        // free.
        self.unwire_committed(&before, &after).await;
        let id = after.id;
        if is_forgotten {
            self.world().remove_container(&id);
            self.remove_dirs(&id);
        } else {
            self.world().put_container(after);
        }
        self.refresh_links_to(id).await;
        Ok(())
    }

    /// Carry out a committed removal of endpoints.
    pub(in crate::daemon) async fn unwire_committed(self: &Arc<Self>, before: &Container, after: &Container) {
        // First, because a port leads to an address that another container may get soon.
        self.carry_out(port_changes(&before.mappings, &after.mappings)).await;
        self.release_ports(before, after);
        let runs = matches!(after.state, State::Running { .. });
        if runs && let Ok(namespace) = self.namespace_of(after) {
            // The route is removed before its interface, so that the new one finds no old one.
            self.carry_out(self.route_changes(before, after, namespace)).await;
            retry("rewrite files", || self.rewrite_files(after)).await;
        }
        retry("withdraw names", || self.withdraw_names(before, after)).await;
        let addresses: Vec<IpAddr> =
            before.endpoints_without(after).flat_map(|(_, endpoint)| endpoint.addresses()).collect();
        let endpoints = self.endpoints_of(before, after, None);
        self.carry_out(removal(&Desired { endpoints, ..Desired::default() })).await;
        self.carry_out([Action::ForgetFlows(addresses)]).await;
        let networks: Vec<Id> =
            before.endpoints_without(after).map(|(attachment, _)| attachment.network).collect();
        self.release_endpoints(before, &networks);
        self.tell_of_members(&before.id, &networks, "disconnect");
    }

    async fn withdraw_names(&self, before: &Container, after: &Container) -> Result<(), Error> {
        let (old, new) = {
            let world = self.world();
            (names::record_of(before, &world), names::record_of(after, &world))
        };
        match (old, new) {
            (None, _) => Ok(()),
            (before @ Some(_), Some(record)) => {
                self.apply(Effect::PublishNames { record, before, sockets: None }).await
            }
            (Some(old), None) => self.apply(Effect::WithdrawNames(old)).await,
        }
    }

    /// Perform actions that are committed already.
    pub(in crate::daemon) async fn carry_out(&self, actions: impl IntoIterator<Item = Action>) {
        for action in actions {
            if self.is_gone_with_its_namespace(&action) {
                continue;
            }
            retry(action.name(), || self.apply(action.clone())).await;
        }
    }

    /// The wiring of endpoints that `container` has and `before` has not.
    pub(in crate::daemon) fn endpoints_of(
        &self,
        container: &Container,
        before: &Container,
        namespace: Option<&Namespace>,
    ) -> BTreeMap<u32, EndpointWiring> {
        let world = self.world();
        container
            .endpoints_without(before)
            .filter_map(|(attachment, endpoint)| {
                let bridge = world.network(&attachment.network)?.bridge()?;
                let owner = container.owner_number();
                let wiring = EndpointWiring::of(attachment, bridge, owner, namespace.cloned())?;
                Some((endpoint.number, wiring))
            })
            .collect()
    }

    /// The actions for changed default routes.
    pub(in crate::daemon) fn route_changes(
        &self,
        before: &Container,
        after: &Container,
        namespace: Namespace,
    ) -> Vec<Action> {
        if !after.owner().has_our_default_routes() {
            return Vec::new();
        }
        let world = self.world();
        let [before, after] =
            [before, after].map(|container| default_gateways(container, |id| world.network(id)));
        let changes = before.changes(after);
        let set = |(before, route)| Action::SetDefaultRoute { namespace: namespace.clone(), route, before };
        changes.map(set).collect()
    }
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
