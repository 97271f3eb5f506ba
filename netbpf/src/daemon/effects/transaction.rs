//! A change in progress: leases and effects, done in order, each remembered with its undo. It ends once: kept
//! as a whole, or undone in reverse order, even if a panic ends the change.

use std::{mem, sync::Arc};

use super::{descriptors, effect::Effect};
use crate::{
    daemon::{
        Daemon, Error,
        ports::lease::{PortLease, WithoutAddress},
    },
    model::{Container, Endpoint, EndpointRequest, Id},
    plan::Action,
    store,
};

/// A change that is neither kept nor undone yet.
#[must_use = "a change that is not ended is undone"]
pub struct Transaction {
    daemon: Arc<Daemon>,
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
    pub fn begin(daemon: &Arc<Daemon>) -> Result<Self, Error> {
        descriptors::check()?;
        Ok(Self { daemon: Arc::clone(daemon), undo: Vec::new() })
    }

    /// Leases a number for a network.
    pub fn lease_network_number(&mut self) -> Result<u32, Error> {
        let number = self.daemon.world().lease_network_number()?;
        self.undo.push(Undo::NetworkNumber(number));
        Ok(number)
    }

    /// Leases an endpoint in a network. `taken` are names of the container's other interfaces.
    pub fn lease_endpoint(
        &mut self,
        container: &Id,
        network: &Id,
        request: &EndpointRequest,
        taken: &[String],
    ) -> Result<Endpoint, Error> {
        let endpoint = self.daemon.world().lease_endpoint(container, network, request, taken)?;
        let leased =
            Undo::Endpoint { container: *container, network: *network, endpoint: Box::new(endpoint.clone()) };
        self.undo.push(leased);
        Ok(endpoint)
    }

    /// Leases the host ports that `after` needs and `before` has not; sets the mappings of `after`.
    pub async fn lease_ports(&mut self, before: &Container, after: &mut Container) -> Result<(), Error> {
        let leased = self.daemon.lease_ports(before, after, WithoutAddress::Refuse).await?;
        self.undo.push(Undo::Ports(leased));
        Ok(())
    }

    /// Leases the name of `after` for a container that has another name: from now on, no other container can
    /// take it.
    pub fn lease_name(&mut self, before: &Container, after: &Container) -> Result<(), Error> {
        let mut world = self.daemon.world();
        if let Some(other) = world.container_named(&after.name) {
            return Err(Error::ContainerExists { name: after.name.clone(), id: other.id });
        }
        world.put_container(after.clone());
        self.undo.push(Undo::Name(Box::new(before.clone())));
        Ok(())
    }

    /// Performs an effect.
    pub async fn perform(&mut self, effect: impl Into<Effect>) -> Result<(), Error> {
        let undo = self.daemon.perform(effect.into()).await?;
        self.undo.extend(undo.map(Box::new).map(Undo::Effect));
        Ok(())
    }

    /// Performs effects in order.
    pub async fn perform_all(&mut self, effects: impl IntoIterator<Item: Into<Effect>>) -> Result<(), Error> {
        for effect in effects {
            self.perform(effect).await?;
        }
        Ok(())
    }

    /// Stores records, all or none.
    pub fn commit(&mut self, records: &[store::Change]) -> Result<(), Error> {
        self.daemon.commit(records)
    }

    /// Ends the change: kept if it was done, otherwise undone. A failed undo is logged and left for the next
    /// start, which compares desired with observed.
    pub async fn end<T>(mut self, done: Result<T, Error>) -> Result<T, Error> {
        let undo = mem::take(&mut self.undo);
        if done.is_err() {
            self.daemon.undo(undo).await;
        }
        done
    }

    /// The same for a change of a container from `before` to `after`, which is committed if it was done.
    pub async fn end_of_container(
        mut self,
        done: Result<(), Error>,
        before: &Container,
        after: &Container,
    ) -> Result<(), Error> {
        let daemon = Arc::clone(&self.daemon);
        let done = done.and_then(|()| self.commit(&[store::Change::PutContainer(after.clone())]));
        self.end(done).await?;
        daemon.release_ports(before, after);
        daemon.world().put_container(after.clone());
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.undo.is_empty() {
            return;
        }
        tracing::error!("a change was interrupted: its steps are undone");
        let (daemon, undo) = (Arc::clone(&self.daemon), mem::take(&mut self.undo));
        tokio::spawn(async move { daemon.undo(undo).await });
    }
}

impl Daemon {
    /// Whether what an action changes does not exist any more: routes are gone with their namespace.
    pub(in crate::daemon) fn is_gone_with_its_namespace(&self, action: &Action) -> bool {
        matches!(action, Action::SetDefaultRoute { namespace, .. } if self.host.links.namespace(namespace).is_err())
    }

    async fn undo(&self, done: Vec<Undo>) {
        for undo in done.into_iter().rev() {
            match undo {
                Undo::Effect(effect) => {
                    if let Effect::Kernel(action) = &*effect
                        && self.is_gone_with_its_namespace(action)
                    {
                        continue;
                    }
                    let name = effect.name();
                    if let Err(error) = self.apply(*effect).await {
                        tracing::error!(%error, "undo: {name}");
                    }
                }
                Undo::NetworkNumber(number) => self.world().release_network_number(number),
                Undo::Endpoint { container, network, endpoint } => {
                    self.world().release_endpoint(&container, &network, &endpoint);
                }
                Undo::Ports(lease) => self.undo_ports(lease).await,
                Undo::Name(before) => self.world().put_container(*before),
            }
        }
    }
}
