//! Commands that name a container of any kind, and how they find it. `network connect` and `network disconnect` are
//! handled by netbpf or by the engine, depending on the kind.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    daemon::{
        Daemon, Error,
        owners::namespace,
        tell::{
            drops::{self, Dropped, DropsAsked},
            info::{self, EndpointStats, Stats},
            usage::{self, Usage},
        },
    },
    datapath::MapFill,
    model::{AccessChange, Container, EndpointRequest, Id},
};

impl Daemon {
    /// Find a known container by name, by ID, or by the text for its namespace.
    pub(in crate::daemon) fn find_subject(&self, text: &str) -> Result<Id, Error> {
        let name = namespace::parse(text)?.map_or_else(|| text.to_owned(), |(_, name)| name);
        let world = self.state.world();
        match world.find_container(&name) {
            Ok(container) => Ok(container.id),
            // An endpoint of Docker is also found by the name or ID of its container in Docker.
            Err(error) => {
                let mut containers = world.containers();
                let found = containers.find(|container| {
                    let (id, shown) = container.shown();
                    id != container.id && (shown == name || id.to_string() == name || id.short() == name)
                });
                found.map(|container| container.id).ok_or(error)
            }
        }
    }

    /// `network connect`.
    ///
    /// # Errors
    /// [`Error::NoNetwork`], [`Error::NoContainer`], [`Error::NoEngine`] or [`Error::NoNamespace`] if one of
    /// the two is not found; the refusals of Docker, for example [`Error::AlreadyConnected`];
    /// [`Error::Engine`] if Docker has to connect it, and does not. Otherwise the error of a step: the steps
    /// before it are undone.
    pub async fn connect(
        self: &Arc<Self>,
        network: &str,
        container: &str,
        request: EndpointRequest,
    ) -> Result<(), Error> {
        let network = self.state.world().find_network(network)?.clone();
        if let Some(container) = self.of_docker(&network, container)? {
            return Ok(self.owners.engine.connect_to(&network.id, &container, request).await?);
        }
        let (id, is_new) = self.find_or_adopt(container).await?;
        if !is_new && self.state.container(&id)?.engine_container().is_some() {
            // The engine's last event may not have arrived yet.
            self.ask_engine(id).await;
        }
        let _locked = self.state.lock_container(id).await;
        let connected = self.connect_locked(id, &network, request).await;
        if is_new {
            let container = self.state.container(&id)?;
            match &connected {
                Ok(()) => self.follow_adopted(&container),
                Err(_) => {
                    self.state.world().remove_container(&id);
                    self.host.folders.remove(&id);
                }
            }
        }
        connected
    }

    /// `network disconnect`.
    ///
    /// # Errors
    /// [`Error::NoNetwork`], [`Error::NotConnected`] or [`Error::DisconnectFromHost`]; without `force` also
    /// [`Error::NoContainer`] and [`Error::Managed`]; [`Error::Engine`] if Docker has to disconnect it, and
    /// does not; [`Error::Store`]. Then it is still connected. What the kernel refuses afterwards is
    /// left for the next start.
    pub async fn disconnect(
        self: &Arc<Self>,
        network: &str,
        container: &str,
        force: bool,
    ) -> Result<(), Error> {
        let key = network;
        let network = self.state.world().find_network(key).cloned();
        if let Ok(network) = &network
            && let Some(container) = self.of_docker(network, container)?
        {
            return Ok(self.owners.engine.disconnect_from(&network.id, &container, force).await?);
        }
        let id = match self.find_subject(container) {
            Ok(id) => id,
            Err(Error::NoContainer(_)) if force => return Ok(()),
            Err(error) => return Err(error),
        };
        let _locked = self.state.lock_container(id).await;
        self.disconnect_locked(id, key, network, force).await
    }

    /// `update`: change options of a container's endpoint in a network. Docker has no such command, so this is for
    /// its endpoints too.
    ///
    /// # Errors
    /// [`Error::NoNetwork`], [`Error::NoContainer`], or [`Error::Invalid`] if several match;
    /// [`Error::NotConnected`]; [`Error::FurtherInUse`]. Otherwise the error of a step: the steps before it are
    /// undone.
    pub async fn update(
        self: &Arc<Self>,
        network: &str,
        container: &str,
        change: AccessChange,
    ) -> Result<(), Error> {
        let network = self.state.world().find_network(network)?.clone();
        let found = self.find_subject(container)?;
        let id = {
            let world = self.state.world();
            let shown = world.container(&found).map(|container| container.shown().0);
            // A container of Docker has a record for each of its endpoints.
            let mut members = world.members(&network.id);
            let same = members.find(|member| member.id == found || Some(member.shown().0) == shown);
            same.map_or(found, |member| member.id)
        };
        let _locked = self.state.lock_container(id).await;
        self.update_locked(id, &network.id, &change).await
    }

    /// `netbpf stats`: the counters of these containers, or of all.
    ///
    /// # Errors
    /// [`Error::NoContainer`] for one that is not known; [`Error::Link`], [`Error::Firewall`] or
    /// [`Error::Datapath`] if its source of counters cannot be read.
    pub async fn stats(&self, containers: &[&str]) -> Result<Stats, Error> {
        let asked: Vec<Id> = containers.iter().map(|key| self.find_subject(key)).collect::<Result<_, _>>()?;
        info::stats(&self.state, &self.host, &asked).await
    }

    /// `netbpf drops`: what was dropped, of these containers or of all, since a time or ever, and so many at most.
    ///
    /// # Errors
    /// [`Error::NoContainer`] for one that is not known; [`Error::Firewall`] or [`Error::Datapath`] if its source cannot be
    /// read.
    pub async fn drops(
        &self,
        containers: &[&str],
        since: Option<Timestamp>,
        tail: Option<usize>,
    ) -> Result<Vec<Dropped>, Error> {
        let shown = |key: &&str| Ok::<_, Error>(self.state.container(&self.find_subject(key)?)?.shown().0);
        let containers = containers.iter().map(shown).collect::<Result<_, _>>()?;
        drops::drops(&self.state, &self.host, &DropsAsked { containers, since, tail }).await
    }

    /// The counters of all endpoints.
    ///
    /// # Errors
    /// [`Error::Link`] or [`Error::Datapath`] if they cannot be read.
    pub async fn endpoint_stats(&self) -> Result<Vec<EndpointStats>, Error> {
        info::endpoints(&self.state, &self.host, &[]).await
    }

    /// How full the programs' maps are.
    ///
    /// # Errors
    /// [`Error::Datapath`] if they cannot be read.
    pub fn map_fill(&self) -> Result<Vec<MapFill>, Error> {
        Ok(self.host.datapath().fill()?)
    }

    /// What the processes of a container use: nothing if it does not run, or is not a sandbox.
    ///
    /// # Errors
    /// [`Error::NoContainer`], or [`Error::Invalid`] if several match.
    pub fn usage(&self, key: &str) -> Result<(Container, Usage), Error> {
        let container = self.state.container(&self.find_subject(key)?)?;
        let processes = self.processes(&container.id.to_string()).unwrap_or_default();
        Ok((container, usage::of_processes(&processes)))
    }
}
