//! Creates, lists and removes sandboxes. Start and end are in `lifecycle`.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use jiff::Timestamp;

use crate::{
    api::{
        filters, ports,
        types::{ContainerCreate, ContainerResource, ContainerSummary, Created, EndpointSettings},
    },
    daemon::{
        Daemon, Error, Happened, effects::descriptors, membership::endpoint_request::parse_request,
        names::links, owners::sandbox::own_sandbox, ports::lease::has_ipv6, state::refuse, tell::view,
    },
    model::{
        Attachment, Container, ContainerPort, Driver, Id, Mode, Network, Protocol, Restart, RestartPolicy,
        Sandbox, State, Subject, check_alias, check_container_name, check_dns_option, check_hostname,
        check_search_domain, random_name,
    },
    private,
    store::Change,
};

impl Daemon {
    /// `create` of a container. An empty name stands for a random one.
    ///
    /// # Errors
    /// [`Error::ContainerExists`]; [`Error::NoNetwork`], [`Error::NoContainer`] or [`Error::NoLinkTarget`] if the
    /// request names something that does not exist; [`Error::Invalid`], [`Error::Name`] and others with Docker's
    /// message for its other parts; [`Error::Descriptors`], [`Error::Folder`] or [`Error::Store`]. Nothing is left of
    /// the container then.
    pub fn create_container(&self, name: &str, request: ContainerCreate) -> Result<Created, Error> {
        let name = name.strip_prefix('/').unwrap_or(name);
        if !name.is_empty() {
            check_container_name(name)?;
        }
        descriptors::check()?;
        let id = Id::random();
        let (sandbox, attachments) = self.sandbox_of(&id, &request)?;
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
            let mut world = self.world();
            let name = match name {
                "" => (0..)
                    .map(random_name)
                    .find(|name| world.find_container(name).is_err())
                    .expect("some number gives a free name"),
                name => name.to_owned(),
            };
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
                labels: request.labels,
                mappings: Vec::new(),
            };
            world.put_container(container.clone());
            container
        };
        let dir = self.container_dir(&id);
        let stored = private::make_folder(&dir, None)
            .map_err(Error::from)
            .and_then(|()| self.commit(&[Change::PutContainer(container.clone())]));
        if let Err(error) = stored {
            self.world().remove_container(&id);
            self.remove_dirs(&id);
            return Err(error);
        }
        self.tell(&container, Happened::Created);
        Ok(Created { id: id.to_string(), warnings })
    }

    /// Refuses published ports in internal networks only. Docker ignores them.
    fn check_ports(&self, sandbox: &Sandbox, attachments: &[Attachment]) -> Result<(), Error> {
        if sandbox.publish.is_empty() || attachments.is_empty() {
            return Ok(());
        }
        let world = self.world();
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
        let world = self.world();
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
    fn sandbox_of(&self, id: &Id, request: &ContainerCreate) -> Result<(Sandbox, Vec<Attachment>), Error> {
        if request.cmd.first().is_none_or(String::is_empty) {
            return Err(Error::Invalid("no command specified".into()));
        }
        for (what, words) in [
            ("command", request.cmd.as_slice()),
            ("environment", &request.env),
            ("working directory", std::slice::from_ref(&request.working_dir)),
        ] {
            if let Some(word) = words.iter().find(|word| word.contains('\0')) {
                return Err(Error::Invalid(format!("invalid {what}: {word:?} contains a null byte")));
            }
        }
        if let Some(rootfs) = &request.rootfs
            && !(rootfs.is_absolute() && rootfs.is_dir())
        {
            return Err(Error::Invalid(format!(
                "invalid rootfs {}: not an absolute path of a directory",
                rootfs.display()
            )));
        }
        let asked = &request.host_config.restart_policy;
        let policy = RestartPolicy::parse(&asked.name, asked.maximum_retry_count)?;
        if request.auto_remove && policy != RestartPolicy::No {
            return Err(Error::Invalid("can't create 'AutoRemove' container with restart policy".into()));
        }
        let (mode, attachments) = self.modes_of(request)?;
        check_conflicts(&mode, request)?;
        let (publish, exposed) = ports::asked(request)?;
        let hostname = match &mode {
            Mode::Host => nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned(),
            Mode::Container(other) => {
                self.container(other)?.owner().hostname().map_or_else(|| id.short(), str::to_owned)
            }
            Mode::Networks | Mode::None if request.hostname.is_empty() => id.short(),
            Mode::Networks | Mode::None => request.hostname.clone(),
        };
        // A generated host name is valid.
        if !request.hostname.is_empty() {
            check_hostname(&hostname)?;
        }
        request.dns_search.iter().try_for_each(|domain| check_search_domain(domain))?;
        request.dns_options.iter().try_for_each(|option| check_dns_option(option))?;
        let sandbox = Sandbox {
            command: request.cmd.clone(),
            env: request.env.clone(),
            working_dir: match request.working_dir.as_str() {
                "" => PathBuf::from("/"),
                dir if dir.starts_with('/') => PathBuf::from(dir),
                dir => {
                    return Err(Error::Invalid(format!(
                        "the working directory '{dir}' is invalid, it needs to be an absolute path"
                    )));
                }
            },
            hostname,
            rootfs: request.rootfs.clone(),
            auto_remove: request.auto_remove,
            restart: Restart::new(policy),
            mode,
            created_in: attachments.first().map(|first| first.network_name.clone()).unwrap_or_default(),
            extra_hosts: request
                .extra_hosts
                .iter()
                .map(|line| self.extra_host(line))
                .collect::<Result<_, _>>()?,
            dns: request.dns.iter().map(|text| name_server(text)).collect::<Result<_, _>>()?,
            dns_search: request.dns_search.clone(),
            dns_options: request.dns_options.clone(),
            publish,
            exposed,
            publish_all: request.host_config.publish_all_ports,
            no_new_privileges: no_new_privileges(&request.host_config.security_opt)?,
        };
        Ok((sandbox, attachments))
    }

    /// The mode and the attachments from `--net`.
    fn modes_of(&self, request: &ContainerCreate) -> Result<(Mode, Vec<Attachment>), Error> {
        let (mode, first) = self.mode_of(request)?;
        let mut attachments: Vec<Attachment> = first.into_iter().collect();
        for other in &request.networks {
            let world = self.world();
            let has_names = |id: &Id| world.network(id).is_some_and(Network::has_names);
            let network = world.find_network(&other.network)?;
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
            let request = parse_request(&other.endpoint_config, network)?;
            attachments.push(Attachment::new(network, request));
        }
        Ok((mode, attachments))
    }

    fn mode_of(&self, request: &ContainerCreate) -> Result<(Mode, Option<Attachment>), Error> {
        let world = self.world();
        let network = match request.network_mode.as_str() {
            "none" => return Ok((Mode::None, None)),
            "host" => return Ok((Mode::Host, None)),
            mode if mode.starts_with("container:") => {
                let key = &mode["container:".len()..];
                if key.is_empty() {
                    return Err(Error::Invalid(
                        "invalid network mode: invalid container format container:<name|id>".into(),
                    ));
                }
                let other = world.find_container(key)?;
                own_sandbox(other)?;
                return Ok((Mode::Container(other.id), None));
            }
            "" | "default" => world.find_network(Network::DEFAULT)?,
            name => world.find_network(name)?,
        };
        match network.driver {
            Driver::Host => return Ok((Mode::Host, None)),
            Driver::Null => return Ok((Mode::None, None)),
            Driver::Bridge(_) => {}
        }
        let settings = EndpointSettings { links: None, ..request.endpoint_config.clone() };
        let mut endpoint = parse_request(&settings, network)?;
        endpoint.links =
            links::parse(request.endpoint_config.links.as_deref().unwrap_or_default(), network, &world)?;
        Ok((Mode::Networks, Some(Attachment::new(network, endpoint))))
    }

    /// `--add-host name:address`; `host-gateway` is the default network's gateway, as in Docker.
    fn extra_host(&self, line: &str) -> Result<(String, IpAddr), Error> {
        let (name, address) = line
            .split_once([':', '='])
            .filter(|(name, address)| !name.is_empty() && !address.is_empty())
            .ok_or_else(|| Error::Invalid(format!("bad format for add-host: {line:?}")))?;
        check_alias(name)?;
        if address == "host-gateway" {
            let world = self.world();
            let gateway = world
                .find_network(Network::DEFAULT)?
                .bridge()
                .and_then(|bridge| Some(bridge.ipv4.as_ref()?.gateway))
                .ok_or_else(|| Error::Invalid("unable to derive the IP value for host-gateway".into()))?;
            return Ok((name.to_owned(), gateway.into()));
        }
        let address = address
            .parse()
            .map_err(|_| Error::Invalid(format!("invalid IP address in add-host: {address:?}")))?;
        Ok((name.to_owned(), address))
    }

    /// `ps`, newest first.
    ///
    /// # Errors
    /// [`Error::Filter`] for an unknown filter or an invalid value.
    pub fn list_containers(
        &self,
        all: bool,
        filters: &filters::Filters,
    ) -> Result<Vec<ContainerSummary>, Error> {
        let filter = filters::Containers::parse(filters)?;
        let world = self.world();
        let now = Timestamp::now();
        let mut containers: Vec<_> = world
            .containers()
            .filter(|container| {
                all || filter.asks_for_state() || matches!(container.status(), "running" | "restarting")
            })
            .filter(|container| filter.matches(container, |id| world.network(id)))
            .collect();
        containers.sort_by_key(|container| std::cmp::Reverse(container.created));
        Ok(containers.into_iter().map(|container| view::summary(container, now)).collect())
    }

    /// `inspect` of a container. As in Docker, it waits for a change of the container: one that is starting is not shown
    /// as running without a PID.
    ///
    /// # Errors
    /// [`Error::NoContainer`], or [`Error::Invalid`] if several match.
    pub async fn inspect_container(&self, key: &str) -> Result<ContainerResource, Error> {
        let id = self.find_subject(key)?;
        let _locked = self.lock_container(id).await;
        let container = self.container(&id)?;
        let pid = self.supervisor_of(&container).ok().and_then(|supervisor| supervisor.pid1());
        let world = self.world();
        Ok(view::container(&container, &world, &self.container_dir(&id), pid))
    }

    /// `rm`.
    ///
    /// # Errors
    /// [`Error::NoContainer`]; without `force` [`Error::ContainerRunning`], [`Error::ContainerRestarting`],
    /// [`Error::Foreign`] or [`Error::OfDocker`]: nothing was changed. [`Error::Store`]: it stays, but with `force` it
    /// may have been killed.
    pub async fn remove_container(self: &Arc<Self>, key: &str, force: bool) -> Result<(), Error> {
        let id = self.find_subject(key)?;
        let mut locked = self.lock_container(id).await;
        let mut container = self.container(&id)?;
        if !force {
            refuse(&container, "docker rm")?;
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
            locked = self.lock_container(id).await;
            match self.container(&id) {
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
        self.commit(&[Change::RemoveContainer(*id)])?;
        let removed = self.world().remove_container(id);
        self.remove_dirs(id);
        if let Some(container) = removed {
            self.tell(&container, Happened::Destroyed);
        }
        Ok(())
    }
}

/// `--security-opt`. A sandbox has none of the mechanisms that it can turn off in Docker.
fn no_new_privileges(options: &[String]) -> Result<bool, Error> {
    let mut set = false;
    for (index, option) in options.iter().enumerate() {
        match option.replacen(':', "=", 1).as_str() {
            "no-new-privileges" | "no-new-privileges=true" => set = true,
            "no-new-privileges=false" => set = false,
            "seccomp=unconfined" | "apparmor=unconfined" | "label=disable" => {}
            _ => return Err(Error::Invalid(format!("invalid --security-opt {}: {option:?}", index + 1))),
        }
    }
    Ok(set)
}

/// `--dns`.
fn name_server(text: &str) -> Result<IpAddr, Error> {
    text.parse().map_err(|_| {
        Error::Invalid(format!("IP address is not correctly formatted: {}", text.escape_debug()))
    })
}

/// Refuses options that conflict with a mode, with Docker's messages.
fn check_conflicts(mode: &Mode, request: &ContainerCreate) -> Result<(), Error> {
    let has_links = request.endpoint_config.links.as_ref().is_some_and(|links| !links.is_empty());
    let what = match mode {
        Mode::Container(_) if has_links => {
            "container type network can't be used with links. This would result in undefined behavior"
        }
        Mode::Host if has_links => {
            "host type networking can't be used with links. This would result in undefined behavior"
        }
        Mode::None if has_links => "links and the network mode",
        Mode::Container(_) if !request.hostname.is_empty() => "hostname and the network mode",
        Mode::Container(_) if !request.dns.is_empty() => "dns and the network mode",
        Mode::Container(_) if !request.extra_hosts.is_empty() => {
            "custom host-to-IP mapping and the network mode"
        }
        Mode::Container(_)
            if !request.host_config.port_bindings.is_empty() || request.host_config.publish_all_ports =>
        {
            "port publishing and the container type network mode"
        }
        Mode::Container(_) if !request.exposed_ports.is_empty() => {
            "port exposing and the container type network mode"
        }
        Mode::Container(_) | Mode::Host if !request.endpoint_config.mac_address.is_empty() => {
            "mac-address and the network mode"
        }
        _ => {
            let addresses = request.endpoint_config.ipam_config.clone().unwrap_or_default();
            let aliases = request.endpoint_config.aliases.as_ref().is_some_and(|aliases| !aliases.is_empty());
            return match mode {
                Mode::Networks => Ok(()),
                _ if !addresses.ipv4_address.is_empty() || !addresses.ipv6_address.is_empty() => {
                    Err(Error::AddressOnDefaultNetwork)
                }
                _ if aliases => Err(Error::AliasOnDefaultNetwork),
                _ => Ok(()),
            };
        }
    };
    Err(Error::Invalid(format!("conflicting options: {what}")))
}
