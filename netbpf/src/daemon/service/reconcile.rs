//! Start and recovery: the stored world against what the kernel has. What runs goes on untouched; what ended while no
//! daemon looked is cleared up; what nobody knows is removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    sync::Arc,
};

use crate::{
    daemon::{Daemon, Error, effects::steps::Steps},
    datapath::{NetworkEntry, PortEntry},
    model::{Attachment, Container, Id, Namespace, State, Subject},
    plan::{Action, Desired, Device, NetworkWiring, Observed, PortWiring, Seen, diff},
    sandbox::Supervisor,
};

impl Daemon {
    /// Bring the kernel to what is stored.
    pub(in crate::daemon) async fn reconcile(self: &Arc<Self>) -> Result<(), Error> {
        self.sweep_folders()?;
        let running = self.find_running().await?;
        self.resume_ports();
        let desired = self.desired();
        let observed = self.observe(&desired).await?;
        let actions = diff(&desired, &observed);
        tracing::info!(
            networks = desired.networks.len(),
            ports = desired.ports.len(),
            actions = actions.len(),
            "reconcile"
        );
        // Before the programs and links, so that nothing passes that must not.
        self.replace_filter().await?;
        for family in self.forwarded() {
            self.forward(family).await?;
        }
        // One that fails is one endpoint's trouble, and must not keep the others down.
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

    /// Folders of containers that are forgotten: a daemon was killed between forgetting and removing.
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

    /// Supervisors of the containers that run. Those that ended meanwhile are recorded as ended; their endpoints are
    /// then too much, and go with the rest.
    async fn find_running(self: &Arc<Self>) -> Result<Vec<(Id, Supervisor)>, Error> {
        let stored: Vec<Container> = self.world().containers().cloned().collect();
        let mut running = Vec::new();
        self.forget_lost_endpoints().await;
        for container in stored {
            match (&container.subject, &container.state) {
                (Subject::Sandbox(_), State::Running { supervisor: Some((pid, start_time)), .. }) => {
                    match Supervisor::adopt(&self.supervisor_dir(&container.id), *pid, *start_time) {
                        Some(supervisor) => running.push((container.id, supervisor)),
                        None => {
                            self.clear_up(container.id, *pid).await?;
                        }
                    }
                }
                (Subject::Foreign(namespace), _) if !Self::is_alive(namespace) => {
                    tracing::info!(container = container.name, "gone");
                    let after = Container { attachments: Vec::new(), ..container.clone() };
                    self.unwire(container, after).await?;
                }
                (Subject::Foreign(namespace), _) => self.watch_namespace(container.id, namespace.clone()),
                (Subject::Engine(_), State::Running { supervisor: Some((pid, start_time)), .. }) => {
                    let process = Namespace::Process { pid: *pid, start_time: *start_time };
                    match Self::is_alive(&process) {
                        true => self.watch_process(&container),
                        // Why it ended, the engine will say.
                        false => drop(self.end_guest(container, None).await?),
                    }
                }
                (Subject::Sandbox(_) | Subject::Engine(_) | Subject::Docker(_), _) => {}
            }
        }
        Ok(running)
    }

    fn desired(&self) -> Desired {
        let world = self.world();
        let networks =
            world.networks().filter_map(NetworkWiring::of).map(|wiring| (wiring.number, wiring)).collect();
        let mut ports = BTreeMap::new();
        for container in world.containers() {
            let namespace = match (&container.subject, self.namespace_of(container)) {
                (Subject::Docker(_), _) => None,
                (_, Ok(namespace)) => Some(namespace),
                (_, Err(_)) => continue,
            };
            for Attachment { network, endpoint, .. } in &container.attachments {
                let bridge = world.network(network).and_then(|network| network.bridge());
                if let (Some(endpoint), Some(bridge)) = (endpoint, bridge) {
                    ports.insert(
                        endpoint.port,
                        PortWiring::of(endpoint, bridge, container.owner(), namespace.clone()),
                    );
                }
            }
        }
        Desired { group: self.group, networks, ports }
    }

    /// Links of ours, and what the maps say.
    async fn observe(&self, desired: &Desired) -> Result<Observed, Error> {
        let mut observed = Observed::default();
        let maps = self.datapath().observed();
        for (number, entry) in maps.networks {
            observed.networks.entry(number).or_default().entry = Some(network_seen(number, entry));
        }
        for (number, entry) in maps.ports {
            observed.ports.entry(number).or_default().entry = Some(port_seen(number, entry));
        }
        for link in self.links.owned(self.group).await? {
            if let Some(number) = netbpf_common::endpoint::number_of(link.ifindex) {
                see(observed.ports.entry(number).or_default(), &link, maps.attached.contains(&link.name));
            } else if let Some(number) = netbpf_common::network::number_of(link.ifindex) {
                see(observed.networks.entry(number).or_default(), &link, maps.attached.contains(&link.name));
            }
        }
        // Also those whose group or name somebody changed.
        for network in desired.networks.values() {
            let like = Device::of_network(network, self.group);
            let ifindex = netbpf_common::network::ifindex_of(network.number);
            if let Some(device) = self.own_device(ifindex, &like).await? {
                observe_device(observed.networks.entry(network.number).or_default(), device, &maps.attached);
            }
        }
        for port in desired.ports.values() {
            let like = Device::of_port(port, self.group);
            let ifindex = netbpf_common::endpoint::ifindex_of(port.number);
            if let Some(device) = self.own_device(ifindex, &like).await? {
                observe_device(observed.ports.entry(port.number).or_default(), device, &maps.attached);
            }
        }
        Ok(observed)
    }

    /// An endpoint that had to be made again has lost its container's default route.
    async fn restore_routes(self: &Arc<Self>, ports: &[u32]) {
        let containers: Vec<Container> = self
            .world()
            .containers()
            .filter(|container| {
                container
                    .attachments
                    .iter()
                    .filter_map(|attachment| attachment.endpoint.as_ref())
                    .any(|endpoint| ports.contains(&endpoint.port))
            })
            .cloned()
            .collect();
        for container in containers {
            let none = Container { attachments: Vec::new(), ..container.clone() };
            if let Ok(namespace) = self.namespace_of(&container) {
                self.carry_out(self.route_change(&none, &container, namespace)).await;
            }
        }
    }

    /// Tell the responder everything; it forgets what it is not told.
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
            let sockets = match self.feed.holds(&record).await? {
                true => None,
                false => match self.open_sockets(&container, &namespace).await {
                    Ok(sockets) => Some(sockets),
                    Err(error) => {
                        tracing::error!(container = %record.container.short(), %error, "open sockets");
                        None
                    }
                },
            };
            self.feed.upsert(record, sockets).await?;
        }
        Ok(self.feed.settle().await?)
    }

    /// Take the whole datapath down: what a daemon does that stops with nothing left in its care.
    pub(in crate::daemon) async fn tear_down(self: &Arc<Self>) -> Result<(), Error> {
        let observed = self.observe(&Desired::default()).await?;
        let mut steps = Steps::new(Arc::clone(self));
        let done = steps.run(diff(&Desired::default(), &observed)).await;
        steps.keep();
        done
    }
}

/// What the maps say of a network; names and sizes are not in them.
pub(in crate::daemon) fn network_seen(number: u32, entry: NetworkEntry) -> NetworkWiring {
    NetworkWiring {
        number,
        device: String::new(),
        peer: String::new(),
        mac: entry.mac,
        ipv4: entry.gateway,
        ipv6: entry.gateway_ipv6,
        mtu: 0,
        gso_max_size: None,
        default_gateway: entry.default_gateway,
        default_gateway_ipv6: entry.default_gateway_ipv6,
        inhibit: false,
        icc: entry.icc,
        flood_copies: entry.flood_copies,
        closed: entry.closed,
    }
}

/// The same of a port.
pub(in crate::daemon) fn port_seen(number: u32, entry: PortEntry) -> PortWiring {
    PortWiring {
        number,
        network: entry.network,
        host_interface: String::new(),
        interface: String::new(),
        mac: entry.mac,
        ipv4: entry.ipv4.map(Into::into),
        ipv6: entry.ipv6.map(Into::into),
        mtu: 0,
        gso_max_size: None,
        icc: entry.icc,
        owner: entry.owner,
        sysctls: Vec::new(),
        namespace: None,
    }
}

fn see<Entry>(seen: &mut Seen<Entry>, link: &crate::link::OwnedLink, attached: bool) {
    seen.interface = Some(link.name.clone());
    seen.up = link.up;
    seen.attached = attached;
}

fn observe_device<Entry>(seen: &mut Seen<Entry>, device: Device, attached: &BTreeSet<String>) {
    seen.interface = Some(device.name.clone());
    seen.up = device.up;
    seen.attached = attached.contains(&device.name);
    seen.device = Some(device);
}

fn relinked(actions: &[Action]) -> Vec<u32> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::AddEndpointLink(port) => Some(port.number),
            _ => None,
        })
        .collect()
}
