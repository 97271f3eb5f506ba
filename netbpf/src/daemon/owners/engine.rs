//! Containers of a Docker engine that are connected to netbpf's networks. The engine starts, stops, renames
//! and removes them; this file follows. An event only triggers a query: the daemon asks the engine for the
//! container's state and applies it. So events may be missed, doubled or late, and either side may be down
//! for a while.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use jiff::Timestamp;
use tokio::task::block_in_place;

use crate::{
    daemon::{
        Daemon, Error,
        effects::{effect::Effect, files, folders::Folders, retry::retry},
        owners::{docker::has_of_docker, gone::process_gone},
        state::world::World,
    },
    engine::{self, Found, FoundState},
    model::{
        Attachment, Container, EngineContainer, Id, LastAddress, Namespace, Network, Origin, State, Subject,
    },
    process,
    store::Change,
};

/// Pauses between attempts to reach the engine: the first and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// Exit code of a container that ended while its engine was down (Docker's number).
const EXIT_UNKNOWN: i32 = 255;

impl Daemon {
    /// Add a container of the engine; true if it is new.
    pub(in crate::daemon) async fn adopt_from_engine(&self, key: &str) -> Result<(Id, bool), Error> {
        let found = match self.owners.engine.find(key).await {
            Ok(found) => found,
            Err(engine::Error::NotFound(_)) => return Err(Error::NoContainer(key.to_owned())),
            Err(error @ engine::Error::Socket { .. }) => return Err(Error::NoEngine(key.to_owned(), error)),
            Err(error) => return Err(error.into()),
        };
        if !found.has_own_network {
            return Err(Error::SharedNamespace);
        }
        let container = Container {
            id: found.id,
            name: found.name.clone(),
            created: found.created,
            subject: Subject::Engine(Box::new(subject_of(&found, Vec::new(), &self.host.folders)?)),
            state: state_of(&found),
            attachments: Vec::new(),
            labels: found.labels.clone(),
            mappings: Vec::new(),
        };
        let mut world = self.state.world();
        if world.container(&found.id).is_some() {
            return Ok((found.id, false));
        }
        if let Some(other) = world.container_named(&found.name) {
            return Err(Error::ContainerExists { name: found.name, id: other.id });
        }
        world.put_container(container);
        Ok((found.id, true))
    }

    /// Docker's name or ID of a container, if Docker must connect it: addresses and names in a network of
    /// Docker are Docker's. None if the network or the container is netbpf's own.
    pub(in crate::daemon) fn of_docker(&self, network: &Network, key: &str) -> Result<Option<String>, Error> {
        if network.origin != Origin::Docker {
            return Ok(None);
        }
        let known = self.find_subject(key).and_then(|id| self.state.container(&id));
        match known {
            Ok(container) if container.engine_container().is_some() => Ok(Some(container.id.to_string())),
            // Docker does not know the name that its endpoint has here.
            Ok(container) if container.docker_endpoint().is_some() => {
                Ok((container.name != key).then(|| key.to_owned()))
            }
            Ok(_) => Ok(None),
            // `netns:blue` is no name in Docker.
            Err(Error::NoContainer(_)) => Ok((!key.contains(':')).then(|| key.to_owned())),
            Err(error) => Err(error),
        }
    }

    /// Follow a container of the engine after its first connection.
    pub(in crate::daemon) fn follow(self: &Arc<Self>, container: &Container) {
        self.owners.followed.notify_one();
        self.watch_process(container);
    }

    /// Watch the container's process, whose end is detected without the engine too.
    pub(in crate::daemon) fn watch_process(self: &Arc<Self>, container: &Container) {
        let (daemon, id) = (Arc::clone(self), container.id);
        let State::Running { supervisor: Some((pid, start_time)), .. } = container.state else { return };
        tokio::spawn(async move {
            let process = Namespace::Process { pid, start_time };
            match process_gone(&daemon.state, &daemon.host, id, pid, &process).await {
                Ok(true) => daemon.ask_engine(id).await,
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(container = %id.short(), pid, %error, "watch the container's process")
                }
            }
        });
    }

    /// Follow the engine's events, as long as the daemon runs and has something of the engine.
    pub(in crate::daemon) async fn follow_engine(self: Arc<Self>) {
        let [mut pause, longest] = PAUSES;
        loop {
            while !has_of_engine(&self.state.world()) {
                self.owners.followed.notified().await;
            }
            match self.follow_engine_events().await {
                Ok(()) => pause = PAUSES[0],
                Err(error) => tracing::debug!(%error, "receive Docker's events"),
            }
            tokio::time::sleep(pause).await;
            pause = longest.min(pause * 2);
        }
    }

    /// Follows events until the connection to the engine ends.
    async fn follow_engine_events(self: &Arc<Self>) -> Result<(), engine::Error> {
        let mut events = self.owners.engine.events(Timestamp::now()).await?;
        // Earlier changes are queried now; the connection has all later events.
        let followed = of_engine(&self.state.world());
        for id in followed {
            self.ask_engine_later(id);
        }
        let receive = async {
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => self.handle_event(event),
                    Err(error) => return tracing::debug!(%error, "the engine's events end"),
                }
            }
        };
        let settle = async {
            self.settle_with_docker().await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = receive => {}
            () = settle => {}
        }
        Ok(())
    }

    fn handle_event(self: &Arc<Self>, event: engine::Event) {
        if of_engine(&self.state.world()).contains(&event.container) {
            self.ask_engine_later(event.container);
        }
        if let Some(network) = event.joined {
            self.learn_names_now(network);
        }
        if event.is_rename {
            let daemon = Arc::clone(self);
            tokio::spawn(async move { daemon.learn_new_name(event.container).await });
        }
    }

    fn ask_engine_later(self: &Arc<Self>, id: Id) {
        let daemon = Arc::clone(self);
        tokio::spawn(async move { daemon.ask_engine(id).await });
    }

    /// Ask the engine for the state of a container, and apply it.
    pub(in crate::daemon) async fn ask_engine(self: &Arc<Self>, id: Id) {
        // The container's lock is not held during the query: the engine may be waiting for a request on this
        // container.
        let _queries = self.owners.engine_queries.lock(id).await;
        let found = self.owners.engine.find(&id.to_string()).await;
        let _locked = self.state.lock_container(id).await;
        let Ok(container) = self.state.container(&id) else { return };
        let name = container.name.clone();
        let brought = match found {
            Ok(found) => self.follow_state(container, &found).await,
            Err(engine::Error::NotFound(_)) => {
                tracing::info!(container = name, "the engine removed it");
                let after = ended(container.clone(), None);
                let after = Container { attachments: Vec::new(), ..after };
                self.unwire(container, after).await
            }
            Err(_) if runs(&container) => Ok(()),
            Err(_) => self.end_engine_container(container, None).await.map(drop),
        };
        if let Err(error) = brought {
            tracing::error!(container = name, %error, "update a container from Docker");
        }
    }

    async fn follow_state(self: &Arc<Self>, mut container: Container, found: &Found) -> Result<(), Error> {
        if container.name != found.name {
            container = self.rename_engine_container(container, &found.name).await?;
        }
        let state = state_of(found);
        if runs(&container) {
            let is_the_same = matches!((&container.state, &state),
                (State::Running { supervisor: one, .. }, State::Running { supervisor: other, .. }) if one == other);
            if !is_the_same && matches!(state, State::Running { .. }) {
                container = self.end_engine_container(container, None).await?;
            }
            // Otherwise the engine's answer is outdated: the process still runs.
        } else {
            container = self.end_engine_container(container, Some(&state)).await?;
        }
        let is_new = match (&container.state, &state) {
            (State::Running { .. }, _) => false,
            (_, State::Running { .. }) => true,
            _ => return Ok(()),
        };
        let is_left = |attachment: &Attachment| self.state.world().network(&attachment.network).is_some();
        if is_new && !container.attachments.iter().all(is_left) {
            // As in Docker, a network can be removed while one of its containers is stopped.
            tracing::info!(container = container.name, "one of its networks was removed meanwhile");
            let before = container.clone();
            container.attachments.retain(is_left);
            self.unwire(before, container.clone()).await?;
            if container.attachments.is_empty() {
                return Ok(());
            }
        }
        if is_new {
            container = self.start_engine_container(container, state, found)?;
        } else {
            container = self.follow_new_resolv_conf(container, found).await?;
        }
        if container.attachments.iter().any(|attachment| attachment.endpoint.is_none()) {
            self.attach_again(&container).await;
        }
        Ok(())
    }

    /// Record the end of a container. Its addresses are released, and remembered for the next start.
    pub(in crate::daemon) async fn end_engine_container(
        self: &Arc<Self>,
        before: Container,
        seen: Option<&State>,
    ) -> Result<Container, Error> {
        let after = ended(before.clone(), seen);
        if after == before {
            return Ok(after);
        }
        tracing::info!(container = before.name, "ended");
        let dir = self.host.folders.of(&before.id);
        retry("give resolv.conf back", || self.host.apply(Effect::ReturnResolvConf { dir: dir.clone() }))
            .await;
        self.unwire(before, after.clone()).await?;
        Ok(after)
    }

    /// Record the start of a container, which has no endpoints yet.
    fn start_engine_container(
        self: &Arc<Self>,
        before: Container,
        state: State,
        found: &Found,
    ) -> Result<Container, Error> {
        let addresses = before.engine_container().map_or_else(Vec::new, |engine| engine.addresses.clone());
        let subject = Subject::Engine(Box::new(subject_of(found, addresses, &self.host.folders)?));
        let after = Container { state, subject, labels: found.labels.clone(), ..before };
        self.state.commit(&[Change::PutContainer(after.clone())])?;
        self.state.world().put_container(after.clone());
        tracing::info!(container = after.name, "started");
        self.watch_process(&after);
        Ok(after)
    }

    /// Follow a stored container after a start of the daemon, or record that it has ended.
    pub(super) async fn find_engine_container_again(
        self: &Arc<Self>,
        container: Container,
    ) -> Result<(), Error> {
        let Some(process) = container.namespace() else { return Ok(()) };
        match self.host.is_alive(&process) {
            true => self.watch_process(&container),
            // The engine will tell why it ended.
            false => drop(self.end_engine_container(container, None).await?),
        }
        Ok(())
    }

    /// The engine has replaced netbpf's server in the file by its own resolver. Forward to that one, and
    /// change the file again.
    async fn follow_new_resolv_conf(
        self: &Arc<Self>,
        before: Container,
        found: &Found,
    ) -> Result<Container, Error> {
        let Some(engine) = before.engine_container() else { return Ok(before) };
        let dir = self.host.folders.of(&before.id);
        let is_made_anew = |path| block_in_place(|| files::is_made_anew(&dir, path)).unwrap_or_default();
        if !engine.resolv_conf.as_deref().is_some_and(is_made_anew) {
            return Ok(before);
        }
        tracing::info!(container = before.name, "the engine has changed its resolv.conf");
        let subject = subject_of(found, engine.addresses.clone(), &self.host.folders)?;
        let after = Container { subject: Subject::Engine(Box::new(subject)), ..before.clone() };
        self.state.commit(&[Change::PutContainer(after.clone())])?;
        self.state.world().put_container(after.clone());
        retry("publish names", || self.names.republish(&before, &after)).await;
        retry("rewrite files", || self.names.rewrite_files(&after)).await;
        Ok(after)
    }

    /// Connect all networks of a container again; if that fails, each one separately.
    async fn attach_again(self: &Arc<Self>, container: &Container) {
        let Err(error) = self.wire(container.clone(), container.clone()).await else { return };
        tracing::error!(container = container.name, %error, "connect again");
        let missing = container.attachments.iter().filter(|attachment| attachment.endpoint.is_none());
        let networks: Vec<Id> = missing.map(|attachment| attachment.network).collect();
        if networks.len() < 2 {
            return;
        }
        for network in networks {
            let Ok(now) = self.state.container(&container.id) else { return };
            if let Err(error) = self.wire_in(now.clone(), now, Some(network)).await {
                tracing::error!(container = container.name, network = %network.short(), %error, "connect again");
            }
        }
    }

    /// Rename a container as in the engine. The name may be taken here.
    async fn rename_engine_container(
        self: &Arc<Self>,
        before: Container,
        name: &str,
    ) -> Result<Container, Error> {
        let after = Container { name: name.to_owned(), ..before.clone() };
        tracing::info!(from = before.name, to = name, "renamed");
        if self.state.world().container_named(name).is_some() {
            tracing::warn!(name, "two containers have this name: use the ID");
        }
        self.state.commit(&[Change::PutContainer(after.clone())])?;
        self.state.world().put_container(after.clone());
        if runs(&after) {
            retry("publish names", || self.names.republish(&before, &after)).await;
        }
        self.names.refresh_links_to(after.id).await;
        Ok(after)
    }
}

/// Whether there is anything of the engine to follow.
fn has_of_engine(world: &World) -> bool {
    !of_engine(world).is_empty() || has_of_docker(world)
}

/// The containers of the engine.
fn of_engine(world: &World) -> Vec<Id> {
    let of_engine = world.containers().filter(|other| other.engine_container().is_some());
    of_engine.map(|container| container.id).collect()
}

/// What is noted of a container of the engine.
fn subject_of(
    found: &Found,
    addresses: Vec<LastAddress>,
    folders: &Folders,
) -> Result<EngineContainer, Error> {
    let dir = folders.of(&found.id);
    let resolv_conf = found.resolv_conf.clone().filter(|path| {
        let is_engines = files::is_engines_own(path, &found.id);
        if !is_engines {
            tracing::warn!(
                container = found.name,
                path = %path.display(),
                "its resolv.conf is not the engine's own and is not changed: it does not resolve names in netbpf's networks"
            );
        }
        is_engines
    });
    Ok(EngineContainer {
        image: found.image.clone(),
        command: found.command.clone(),
        hostname: found.hostname.clone(),
        servers: match &resolv_conf {
            Some(path) => block_in_place(|| files::servers(&dir, path))?,
            None => Vec::new(),
        },
        resolv_conf,
        sandbox: found.sandbox.clone(),
        addresses,
    })
}

/// The engine's state, unless the process has ended since.
fn state_of(found: &Found) -> State {
    let now = Timestamp::now();
    match found.state {
        FoundState::Created => State::Created { error: String::new() },
        FoundState::Exited { code, started, finished } => {
            State::Exited { code, started, finished, error: String::new() }
        }
        FoundState::Running { pid, started } => match process::start_time(pid) {
            Some(start_time) => State::Running { supervisor: Some((pid, start_time)), started },
            None => State::Exited { code: EXIT_UNKNOWN, started, finished: now, error: String::new() },
        },
    }
}

/// Whether its first process runs.
fn runs(container: &Container) -> bool {
    matches!(container.state, State::Running { supervisor: Some((pid, start_time)), .. }
        if process::start_time(pid) == Some(start_time))
}

/// The same container after its end, with the engine's state if known.
fn ended(mut container: Container, seen: Option<&State>) -> Container {
    let last = |attachment: &Attachment| {
        let endpoint = attachment.endpoint.as_ref()?;
        Some(LastAddress { network: attachment.network, ipv4: endpoint.ipv4, ipv6: endpoint.ipv6 })
    };
    let addresses: Vec<_> = container.attachments.iter().filter_map(last).collect();
    container.attachments.iter_mut().for_each(|attachment| attachment.endpoint = None);
    if let Subject::Engine(engine) = &mut container.subject {
        engine.addresses.retain(|old| addresses.iter().all(|new| new.network != old.network));
        engine.addresses.extend(addresses);
    }
    container.state = match (seen, container.state) {
        (Some(seen @ (State::Exited { .. } | State::Created { .. })), _) => seen.clone(),
        (_, State::Running { started, .. }) => {
            State::Exited { code: EXIT_UNKNOWN, started, finished: Timestamp::now(), error: String::new() }
        }
        (_, before) => before,
    };
    container
}
