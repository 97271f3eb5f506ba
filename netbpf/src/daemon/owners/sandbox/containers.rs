//! Creates, lists and removes sandboxes. Start and end are in `lifecycle`.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use jiff::Timestamp;

use crate::{
    daemon::{
        Daemon, Error, Happened,
        effects::descriptors,
        membership::endpoint_request::check_request,
        names::links,
        owners::sandbox::own_sandbox,
        ports::lease::has_ipv6,
        state::refuse,
        tell::view::{self, ContainerView},
    },
    model::{
        Attachment, Container, ContainerPort, Driver, EndpointRequest, Id, Mode, Network, Protocol, Restart,
        Sandbox, State, Subject, random_name,
    },
    private,
    store::Change,
};

/// A request for a sandbox.
pub struct SandboxRequest {
    /// Its name; a random one if absent.
    pub name: Option<String>,
    /// `--net`.
    pub network: NetworkMode,
    /// The request for its endpoint there.
    pub endpoint: EndpointRequest,
    /// Names or IDs of further networks, with the requests for its endpoints there.
    pub networks: Vec<(String, EndpointRequest)>,
    /// `--hostname`; the short ID if absent.
    pub hostname: Option<String>,
    /// `--add-host`; `host-gateway` if the address is absent.
    pub extra_hosts: Vec<(String, Option<IpAddr>)>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// The other settings. Those that follow from the above are set by the daemon.
    pub sandbox: Sandbox,
}

/// `--net`, as far as its text tells.
pub enum NetworkMode {
    /// `none`.
    None,
    /// `host`.
    Host,
    /// A container with this name or ID.
    Container(String),
    /// A network with this name or ID.
    Network(String),
}

impl Daemon {
    /// `create` of a container. Returns its ID, and warnings for the user.
    ///
    /// # Errors
    /// [`Error::ContainerExists`]; [`Error::NoNetwork`], [`Error::NoContainer`] or [`Error::NoLinkTarget`] if the
    /// request names something that does not exist; [`Error::Invalid`] and others with Docker's message for its other
    /// parts; [`Error::Descriptors`], [`Error::Folder`] or [`Error::Store`]. Nothing is left of
    /// the container then.
    pub fn create_container(&self, request: SandboxRequest) -> Result<(Id, Vec<String>), Error> {
        descriptors::check()?;
        let id = Id::random();
        let (name, labels) = (request.name.clone(), request.labels.clone());
        let (sandbox, attachments) = self.sandbox_of(&id, request)?;
        self.check_ports(&sandbox, &attachments)?;
        let warnings = match sandbox.mode {
            Mode::Host if !sandbox.publish.is_empty() || sandbox.publish_all => {
                vec!["Published ports are discarded when using host network mode".to_owned()]
            }
            _ => Vec::new(),
        };
        let endpoints = attachments.iter().flat_map(|attachment| attachment.request.options.warnings());
        let left_out = self.ports_left_out(&sandbox, &attachments);
        let warnings = warnings.into_iter().chain(endpoints).chain(left_out).collect();
        let container = {
            let mut world = self.state.world();
            let name = name.unwrap_or_else(|| {
                let mut names = (0..).map(random_name);
                let free = names.find(|name| world.find_container(name).is_err());
                free.expect("some number gives a free name")
            });
            if let Some(other) = world.container_named(&name) {
                return Err(Error::ContainerExists { name, id: other.id });
            }
            let container = Container {
                id,
                name,
                created: Timestamp::now(),
                subject: Subject::Sandbox(Box::new(sandbox)),
                state: State::Created { error: String::new() },
                attachments,
                labels,
                mappings: Vec::new(),
            };
            world.put_container(container.clone());
            container
        };
        let dir = self.host.folders.of(&id);
        let stored = private::make_folder(&dir, None)
            .map_err(Error::from)
            .and_then(|()| self.state.commit(&[Change::PutContainer(container.clone())]));
        if let Err(error) = stored {
            self.state.world().remove_container(&id);
            self.host.folders.remove(&id);
            return Err(error);
        }
        self.events.tell(&container, Happened::Created);
        Ok((id, warnings))
    }

    /// Refuses published ports in internal networks only. Docker ignores them.
    fn check_ports(&self, sandbox: &Sandbox, attachments: &[Attachment]) -> Result<(), Error> {
        if sandbox.publish.is_empty() || attachments.is_empty() {
            return Ok(());
        }
        let world = self.state.world();
        let mut networks = attachments.iter().filter_map(|attachment| world.network(&attachment.network));
        match networks.find(|network| !network.internal) {
            Some(_) => Ok(()),
            None => {
                let name = attachments.first().and_then(|one| world.network(&one.network));
                let name = name.map(|network| network.name.as_str()).unwrap_or_default();
                Err(Error::Invalid(format!("cannot publish ports: network {name} is internal")))
            }
        }
    }

    /// Warnings about ports at addresses of a family that none of the networks has. IPv6 is relayed to IPv4.
    fn ports_left_out(&self, sandbox: &Sandbox, attachments: &[Attachment]) -> Vec<String> {
        let world = self.state.world();
        let bridges: Vec<_> = attachments
            .iter()
            .filter_map(|attachment| world.network(&attachment.network)?.bridge())
            .collect();
        let has_ipv6 = has_ipv6();
        let has = |host: IpAddr, port: ContainerPort| {
            let is_relayed = has_ipv6 && port.protocol != Protocol::Sctp;
            bridges.iter().any(|bridge| match host {
                IpAddr::V4(_) => bridge.ipv4.is_some(),
                IpAddr::V6(_) => bridge.ipv6.is_some() || (is_relayed && bridge.ipv4.is_some()),
            })
        };
        let hosts = sandbox.publish.iter().filter_map(|publish| Some((publish.host?, publish.container)));
        let stray: Vec<_> = hosts.filter(|(host, port)| !bridges.is_empty() && !has(*host, *port)).collect();
        let family = |host: &IpAddr| if host.is_ipv4() { "IPv4" } else { "IPv6" };
        stray
            .iter()
            .map(|(host, port)| {
                format!("{port} is not published on {host}: the container has no {} address", family(host))
            })
            .collect()
    }

    /// Checks a request, and returns the sandbox and its attachments.
    fn sandbox_of(&self, id: &Id, request: SandboxRequest) -> Result<(Sandbox, Vec<Attachment>), Error> {
        if let Some(rootfs) = &request.sandbox.rootfs
            && !(rootfs.is_absolute() && rootfs.is_dir())
        {
            return Err(Error::Invalid(format!(
                "invalid rootfs {}: not an absolute path of a directory",
                rootfs.display()
            )));
        }
        let (mode, attachments) = self.modes_of(&request)?;
        check_conflicts(&mode, &request)?;
        let hostname = match &mode {
            Mode::Host => nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned(),
            Mode::Container(other) => {
                self.state.container(other)?.owner().hostname().map_or_else(|| id.short(), str::to_owned)
            }
            Mode::Networks | Mode::None => request.hostname.unwrap_or_else(|| id.short()),
        };
        let extra_hosts = request.extra_hosts.into_iter().map(|(name, address)| {
            let address = address.map_or_else(|| self.default_gateway(), Ok);
            Ok::<_, Error>((name, address?))
        });
        let sandbox = Sandbox {
            hostname,
            mode,
            created_in: attachments.first().map(|first| first.network_name.clone()).unwrap_or_default(),
            extra_hosts: extra_hosts.collect::<Result<_, _>>()?,
            ..request.sandbox
        };
        Ok((sandbox, attachments))
    }

    /// The mode and the attachments from `--net`.
    fn modes_of(&self, request: &SandboxRequest) -> Result<(Mode, Vec<Attachment>), Error> {
        let (mode, first) = self.mode_of(request)?;
        let mut attachments: Vec<Attachment> = first.into_iter().collect();
        for (key, endpoint) in &request.networks {
            let world = self.state.world();
            let has_names = |id: &Id| world.network(id).is_some_and(Network::has_names);
            let network = world.find_network(key)?;
            if !network.has_names() || !attachments.first().is_some_and(|first| has_names(&first.network)) {
                return Err(Error::Invalid(
                    "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
                        .into(),
                ));
            }
            if attachments.iter().any(|attachment| attachment.network == network.id) {
                return Err(Error::Invalid(format!(
                    "network {:?} is specified multiple times",
                    network.name
                )));
            }
            check_request(endpoint, network)?;
            attachments.push(Attachment::new(network, endpoint.clone()));
        }
        Ok((mode, attachments))
    }

    fn mode_of(&self, request: &SandboxRequest) -> Result<(Mode, Option<Attachment>), Error> {
        let world = self.state.world();
        let network = match &request.network {
            NetworkMode::None => return Ok((Mode::None, None)),
            NetworkMode::Host => return Ok((Mode::Host, None)),
            NetworkMode::Container(key) => {
                let other = world.find_container(key)?;
                own_sandbox(other)?;
                return Ok((Mode::Container(other.id), None));
            }
            NetworkMode::Network(key) => world.find_network(key)?,
        };
        match network.driver {
            Driver::Host => return Ok((Mode::Host, None)),
            Driver::Null => return Ok((Mode::None, None)),
            Driver::Bridge(_) => {}
        }
        // Unlike `connect`, a new container may have links on the default network.
        let without_links = EndpointRequest { links: Vec::new(), ..request.endpoint.clone() };
        check_request(&without_links, network)?;
        let links = links::resolve(request.endpoint.links.clone(), network, &world)?;
        let endpoint = EndpointRequest { links, ..without_links };
        Ok((Mode::Networks, Some(Attachment::new(network, endpoint))))
    }

    /// The address for `host-gateway`: the default network's gateway, as in Docker.
    fn default_gateway(&self) -> Result<IpAddr, Error> {
        let world = self.state.world();
        let bridge = world.find_network(Network::DEFAULT)?.bridge();
        let gateway = bridge.and_then(|bridge| Some(bridge.ipv4.as_ref()?.gateway));
        let none = || Error::Invalid("unable to derive the IP value for host-gateway".into());
        Ok(gateway.ok_or_else(none)?.into())
    }

    /// `ps`, newest first: each container, and whether an endpoint of it is open. `matches` learns of each container
    /// its networks.
    pub fn list_containers(
        &self,
        matches: impl Fn(&Container, &[&Network]) -> bool,
    ) -> Vec<(Container, bool)> {
        let world = self.state.world();
        let mut containers: Vec<_> = world
            .containers()
            .filter(|container| {
                let attachments = container.attachments.iter();
                let networks: Vec<_> =
                    attachments.filter_map(|attachment| world.network(&attachment.network)).collect();
                matches(container, &networks)
            })
            .map(|container| (container.clone(), view::is_open(container, &world)))
            .collect();
        containers.sort_by_key(|(container, _)| std::cmp::Reverse(container.created));
        containers
    }

    /// `inspect` of a container. As in Docker, it waits for a change of the container: one that is starting is not shown
    /// as running without a PID.
    ///
    /// # Errors
    /// [`Error::NoContainer`], or [`Error::Invalid`] if several match.
    pub async fn inspect_container(&self, key: &str) -> Result<ContainerView, Error> {
        let id = self.find_subject(key)?;
        let _locked = self.state.lock_container(id).await;
        let container = self.state.container(&id)?;
        let pid = self.supervisor_of(&container).ok().and_then(|supervisor| supervisor.pid1());
        let world = self.state.world();
        Ok(view::container(container, &world, &self.host.folders.of(&id), pid))
    }

    /// `rm`.
    ///
    /// # Errors
    /// [`Error::NoContainer`]; without `force` [`Error::ContainerRunning`], [`Error::ContainerRestarting`],
    /// [`Error::Foreign`] or [`Error::Managed`]: nothing was changed. [`Error::Store`]: it stays, but with `force` it
    /// may have been killed.
    pub async fn remove_container(self: &Arc<Self>, key: &str, force: bool) -> Result<(), Error> {
        let id = self.find_subject(key)?;
        let mut locked = self.state.lock_container(id).await;
        let mut container = self.state.container(&id)?;
        if !force {
            refuse(&container, "rm")?;
        }
        if container.sandbox().is_none() {
            if !force {
                return Err(Error::Foreign(container.name));
            }
            let after = Container { attachments: Vec::new(), ..container.clone() };
            return self.unwire(container, after).await;
        }
        // Between its end and its removal, it may be started again.
        while matches!(container.state, State::Running { .. }) {
            if !force {
                return Err(Error::ContainerRunning(container.name));
            }
            self.note_restart(id, Restart::stop)?;
            match self.end(&container, nix::libc::SIGKILL).await {
                Err(Error::NotRunning(_)) => {}
                sent => sent?,
            }
            // The watcher of the ended container needs the lock; it also removes the container if that was
            // run with `--rm`.
            drop(locked);
            self.ended(&container).await;
            locked = self.state.lock_container(id).await;
            match self.state.container(&id) {
                Ok(now) => container = now,
                Err(_) => return Ok(()),
            }
        }
        if container.status() == "restarting" && !force {
            return Err(Error::ContainerRestarting(container.name));
        }
        self.forget(&id)
    }

    /// Remove a container that does not run.
    pub(in crate::daemon) fn forget(&self, id: &Id) -> Result<(), Error> {
        self.state.commit(&[Change::RemoveContainer(*id)])?;
        let removed = self.state.world().remove_container(id);
        self.host.folders.remove(id);
        if let Some(container) = removed {
            self.events.tell(&container, Happened::Destroyed);
        }
        Ok(())
    }
}

/// Refuses options that conflict with a mode, with Docker's messages.
fn check_conflicts(mode: &Mode, request: &SandboxRequest) -> Result<(), Error> {
    let SandboxRequest { endpoint, sandbox, .. } = request;
    let has_links = !endpoint.links.is_empty();
    let what = match mode {
        Mode::Container(_) if has_links => {
            "container type network can't be used with links. This would result in undefined behavior"
        }
        Mode::Host if has_links => {
            "host type networking can't be used with links. This would result in undefined behavior"
        }
        Mode::None if has_links => "links and the network mode",
        Mode::Container(_) if request.hostname.is_some() => "hostname and the network mode",
        Mode::Container(_) if !sandbox.dns.is_empty() => "dns and the network mode",
        Mode::Container(_) if !request.extra_hosts.is_empty() => {
            "custom host-to-IP mapping and the network mode"
        }
        Mode::Container(_) if !sandbox.publish.is_empty() || sandbox.publish_all => {
            "port publishing and the container type network mode"
        }
        Mode::Container(_) if !sandbox.exposed.is_empty() => {
            "port exposing and the container type network mode"
        }
        Mode::Container(_) | Mode::Host if endpoint.mac.is_some() => "mac-address and the network mode",
        Mode::Networks => return Ok(()),
        _ if endpoint.ipv4.is_some() || endpoint.ipv6.is_some() => {
            return Err(Error::AddressOnDefaultNetwork);
        }
        _ if !endpoint.aliases.is_empty() => return Err(Error::AliasOnDefaultNetwork),
        _ => return Ok(()),
    };
    Err(Error::Invalid(format!("conflicting options: {what}")))
}
