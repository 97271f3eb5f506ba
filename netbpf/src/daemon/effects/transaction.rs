//! A change in progress: leases and effects, done in order, each remembered with its undo. It ends once: kept
//! as a whole, or undone in reverse order, even if a panic ends the change.

use std::{mem, sync::Arc};

use super::{descriptors, effect::Effect, host::Host};
use crate::{
    daemon::{
        Error,
        ports::lease::{PortLease, WithoutAddress},
        state::State,
    },
    model::{Attachment, Container, Endpoint, EndpointRequest, Id},
    store,
};

/// A change that is neither kept nor undone yet.
#[must_use = "a change that is not ended is undone"]
pub struct Transaction {
    state: Arc<State>,
    host: Arc<Host>,
    undo: Vec<Undo>,
}

enum Undo {
    Effect(Box<Effect>),
    NetworkNumber(u32),
    Endpoint {
        container: Id,
        network: Id,
        endpoint: Box<Endpoint>,
    },
    Ports(PortLease),
    /// The container with its old name.
    Name(Box<Container>),
}

impl Transaction {
    /// Begins a change.
    ///
    /// # Errors
    /// [`Error::Descriptors`] if too few file descriptors are free for it.
    pub fn begin(state: &Arc<State>, host: &Arc<Host>) -> Result<Self, Error> {
        descriptors::check()?;
        Ok(Self { state: Arc::clone(state), host: Arc::clone(host), undo: Vec::new() })
    }

    /// Leases a number for a network.
    ///
    /// # Errors
    /// [`Error::NoNumber`] if there are too many networks.
    pub fn lease_network_number(&mut self) -> Result<u32, Error> {
        let number = self.state.world().lease_network_number()?;
        self.undo.push(Undo::NetworkNumber(number));
        Ok(number)
    }

    /// Leases an endpoint in a network. `taken` are names of the container's other interfaces.
    ///
    /// # Errors
    /// [`Error::NoNetwork`], [`Error::NoNumber`], [`Error::Ipam`] or [`Error::MacInUse`]: nothing is leased.
    fn lease_endpoint(
        &mut self,
        container: &Id,
        network: &Id,
        request: &EndpointRequest,
        taken: &[String],
    ) -> Result<Endpoint, Error> {
        let endpoint = self.state.world().lease_endpoint(container, network, request, taken)?;
        let leased =
            Undo::Endpoint { container: *container, network: *network, endpoint: Box::new(endpoint.clone()) };
        self.undo.push(leased);
        Ok(endpoint)
    }

    /// Leases an endpoint for each attachment without one, or only for that in the network `only`. Returns their
    /// networks. `taken` are names that new interfaces must not have.
    ///
    /// # Errors
    /// As of [`Transaction::lease_endpoint`]: those before it stay leased until the change ends.
    pub fn lease_endpoints(
        &mut self,
        container: &mut Container,
        only: Option<Id>,
        taken: &[String],
    ) -> Result<Vec<Id>, Error> {
        let own = container.endpoints().map(|endpoint| endpoint.interface.to_string());
        let mut taken: Vec<String> = own.chain(taken.iter().cloned()).collect();
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
            let mut lease = |request| self.lease_endpoint(&container.id, &network, request, &taken);
            let endpoint = match container.owner().request_again(&network, &request) {
                Some(again) => lease(&again).or_else(|_| lease(&request)),
                None => lease(&request),
            }?;
            let endpoint = container.owner().determine(&container.id, endpoint);
            taken.push(endpoint.interface.to_string());
            container.attachments[index].endpoint = Some(endpoint);
            leased.push(network);
        }
        Ok(leased)
    }

    /// Leases the host ports that `after` needs and `before` has not; sets the mappings of `after`.
    /// `without_address` says what to do with a port of a family that the container does not have.
    ///
    /// # Errors
    /// [`Error::Publish`] if a port cannot be published: none is leased.
    pub async fn lease_ports(
        &mut self,
        before: &Container,
        after: &mut Container,
        without_address: WithoutAddress,
    ) -> Result<(), Error> {
        let leased = self.host.ports.lease(&self.state, before, after, without_address).await?;
        self.undo.push(Undo::Ports(leased));
        Ok(())
    }

    /// Leases the name of `after` for a container that has another name: from now on, no other container can
    /// take it.
    ///
    /// # Errors
    /// [`Error::ContainerExists`] if another container has it.
    pub fn lease_name(&mut self, before: &Container, after: &Container) -> Result<(), Error> {
        let mut world = self.state.world();
        if let Some(other) = world.container_named(&after.name) {
            return Err(Error::ContainerExists { name: after.name.clone(), id: other.id });
        }
        world.put_container(after.clone());
        self.undo.push(Undo::Name(Box::new(before.clone())));
        Ok(())
    }

    /// Performs an effect.
    ///
    /// # Errors
    /// The effect's own: it has changed nothing.
    pub async fn perform(&mut self, effect: impl Into<Effect>) -> Result<(), Error> {
        let undo = self.host.perform(effect.into()).await?;
        self.undo.extend(undo.map(Box::new).map(Undo::Effect));
        Ok(())
    }

    /// Performs effects in order.
    ///
    /// # Errors
    /// That of the first effect that fails: those before it stay until the change ends.
    pub async fn perform_all(&mut self, effects: impl IntoIterator<Item: Into<Effect>>) -> Result<(), Error> {
        for effect in effects {
            self.perform(effect).await?;
        }
        Ok(())
    }

    /// Stores records, all or none.
    ///
    /// # Errors
    /// [`Error::Store`]: nothing is stored.
    pub fn commit(&mut self, records: &[store::Change]) -> Result<(), Error> {
        self.state.commit(records)
    }

    /// Ends the change: kept if it was done, otherwise undone. A failed undo is logged and left for the next
    /// start, which compares desired with observed.
    ///
    /// # Errors
    /// That of `done`.
    pub async fn end<T>(mut self, done: Result<T, Error>) -> Result<T, Error> {
        let undo = mem::take(&mut self.undo);
        if done.is_err() {
            undo_all(&self.state, &self.host, undo).await;
        }
        done
    }

    /// The same for a change of a container from `before` to `after`, which is committed if it was done.
    ///
    /// # Errors
    /// That of `done`, or [`Error::Store`]: the change is undone.
    pub async fn end_of_container(
        mut self,
        done: Result<(), Error>,
        before: &Container,
        after: &Container,
    ) -> Result<(), Error> {
        let (state, host) = (Arc::clone(&self.state), Arc::clone(&self.host));
        let done = done.and_then(|()| self.commit(&[store::Change::PutContainer(after.clone())]));
        self.end(done).await?;
        host.ports.release(before, after);
        state.world().put_container(after.clone());
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.undo.is_empty() {
            return;
        }
        tracing::error!("a change was interrupted: its steps are undone");
        let (state, host) = (Arc::clone(&self.state), Arc::clone(&self.host));
        let undo = mem::take(&mut self.undo);
        tokio::spawn(async move { undo_all(&state, &host, undo).await });
    }
}

async fn undo_all(state: &State, host: &Host, done: Vec<Undo>) {
    for undo in done.into_iter().rev() {
        match undo {
            Undo::Effect(effect) => {
                if let Effect::Kernel(action) = &*effect
                    && host.is_gone_with_its_namespace(action)
                {
                    continue;
                }
                let name = effect.name();
                if let Err(error) = host.apply(*effect).await {
                    tracing::error!(%error, "undo: {name}");
                }
            }
            Undo::NetworkNumber(number) => state.world().release_network_number(number),
            Undo::Endpoint { container, network, endpoint } => {
                state.world().release_endpoint(&container, &network, &endpoint);
            }
            Undo::Ports(lease) => host.ports.undo(lease).await,
            Undo::Name(before) => state.world().put_container(*before),
        }
    }
}
