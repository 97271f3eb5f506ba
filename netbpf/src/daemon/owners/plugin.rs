//! Containers whose runtime executes netbpf as its network plugin (CNI, netavark): attach, detach, check, collect, status.
//! A request names the runtime, its container and an interface. A container ends with its last interface, or with its
//! namespace: runtimes may forget to detach, or do so twice.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::IpNet;
use jiff::Timestamp;

use crate::{
    daemon::{
        Daemon, Error,
        effects::host::Host,
        membership::connect::{attachable, with_attachment},
        names::record::record_of,
        owners::{gone::is_in_its_namespace, namespace},
        state::world::World,
    },
    model::{
        Attachment, Container, Driver, EndpointRequest, Id, InterfaceName, Mac, Namespace, Network,
        PluginContainer, PluginRequest, Publish, Runtime, State, Subject,
    },
    plan::{EndpointWiring, default_gateways},
};

/// A runtime's name for a request: it attaches, checks and detaches with the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachmentKey {
    /// The runtime's kind.
    pub runtime: Runtime,
    /// The runtime's ID of the container.
    pub container: String,
    /// The name of the runtime's configuration.
    pub configuration: String,
    /// The interface in the container.
    pub interface: InterfaceName,
}

/// A request to attach a container.
#[derive(Clone, Debug)]
pub struct AttachRequest {
    /// What it is called.
    pub key: AttachmentKey,
    /// The container's name, which no other container may have.
    pub name: String,
    /// Whether it is a pod, which gets another name if its own is taken.
    pub is_pod: bool,
    /// The file of its network namespace.
    pub namespace: PathBuf,
    /// The inode of that file as the runtime sees it, if it says so.
    pub inode: Option<u64>,
    /// Its networks, by name or ID. The first one gets the interface that was asked for, the others the next free names.
    pub networks: Vec<(String, EndpointRequest)>,
    /// The ports to publish.
    pub publish: Vec<Publish>,
    /// Whether the runtime has sockets at their host ports.
    pub reserves_ports: bool,
    /// The name servers that the runtime has chosen; none for the host's.
    pub servers: Vec<IpAddr>,
}

/// What a request has attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The interfaces, that which was asked for first.
    pub interfaces: Vec<AttachedInterface>,
    /// The address in the container at which netbpf resolves names; none if its networks have no names.
    pub resolver: Option<Ipv4Addr>,
}

/// An interface of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedInterface {
    /// Its name in the container.
    pub name: String,
    /// Its MAC.
    pub mac: Mac,
    /// In bytes.
    pub mtu: u32,
    /// Its other end on the host.
    pub host_interface: String,
    /// The name of its network.
    pub network: String,
    /// Its addresses with the prefix lengths of the subnets, and the gateways of these.
    pub addresses: Vec<(IpNet, Option<IpAddr>)>,
    /// The container's default routes that lead through it.
    pub default_routes: Vec<IpAddr>,
}

impl Daemon {
    /// Attach a container: create its interfaces in its namespace, with all that belongs to them.
    ///
    /// # Errors
    /// [`Error::NoNamespace`] if there is none at the path; [`Error::InterfaceExists`]; [`Error::OtherNamespace`];
    /// [`Error::ContainerExists`] if the name is taken; [`Error::NoNetwork`] and the refusals of `connect`. Otherwise the
    /// error of a step: the steps before it are undone.
    pub async fn attach(self: &Arc<Self>, request: AttachRequest) -> Result<Attached, Error> {
        let AttachRequest { key, name, is_pod, networks, publish, reserves_ports, servers, .. } = request;
        let (namespace, inode) = self.namespace_at(&request.namespace)?;
        if request.inode.is_some_and(|seen| seen != inode) {
            return Err(Error::NoNamespace(format!(
                "{} is another network namespace for the daemon than for the runtime, which has processes or mounts of \
                 its own",
                request.namespace.display()
            )));
        }
        let id = key.runtime.container(&key.container);
        let _locked = self.state.lock_container(id).await;
        let known = self.known_container(id, &namespace, inode).await?;
        let is_new = known.is_none();
        let before = match known {
            Some(container) => container,
            None => {
                let plugin = PluginContainer {
                    runtime: key.runtime,
                    runtime_id: key.container.clone(),
                    namespace: namespace.clone(),
                    inode,
                    requests: Vec::new(),
                    reserves_ports,
                    servers,
                };
                self.add_plugin_container(id, name, is_pod, plugin)?
            }
        };
        let wired = match self.with_request(&before, &key, networks, publish) {
            Ok(after) => self.wire(before, after).await,
            Err(error) => Err(error),
        };
        if let Err(error) = wired {
            if is_new {
                self.state.world().remove_container(&id);
                self.host.folders.remove(&id);
            }
            return Err(error);
        }
        if is_new {
            self.watch_namespace(id, namespace);
        }
        attached(&self.state.container(&id)?, &key, &self.state.world())
    }

    /// Remove what a request attached. It may be removed already. `namespace` is the container's, if the runtime knows
    /// it: a container with its ID in another one, which exists, is another runtime's, and stays.
    ///
    /// # Errors
    /// [`Error::Store`]: nothing is removed. What the kernel refuses afterwards is left for the next start.
    pub async fn detach(
        self: &Arc<Self>,
        key: &AttachmentKey,
        namespace: Option<&Path>,
    ) -> Result<(), Error> {
        let id = key.runtime.container(&key.container);
        let _locked = self.state.lock_container(id).await;
        let Ok(before) = self.state.container(&id) else { return Ok(()) };
        let Some(after) = without_request(&before, key) else { return Ok(()) };
        let other = namespace.and_then(|path| self.namespace_at(path).ok());
        if other.is_some_and(|(namespace, inode)| !is_in(&before, &namespace, inode, &self.host))
            && is_in_its_namespace(&before, &self.host)
        {
            tracing::warn!(
                container = before.name,
                ?namespace,
                "another runtime's container has its ID: it stays"
            );
            return Ok(());
        }
        self.unwire(before, after).await
    }

    /// Check that all that a request attached is as it was made. Returns it.
    ///
    /// # Errors
    /// [`Error::NoInterface`] if it was not attached, or its namespace is another; [`Error::Altered`] if an interface is
    /// gone or lost an address.
    pub async fn check_attached(&self, key: &AttachmentKey, path: &Path) -> Result<Attached, Error> {
        let id = key.runtime.container(&key.container);
        let _locked = self.state.lock_container(id).await;
        let container = self.state.container(&id).map_err(|_| no_interface(key))?;
        let attached = attached(&container, key, &self.state.world())?;
        let (namespace, inode) = self.namespace_at(path)?;
        if !is_in(&container, &namespace, inode, &self.host) {
            return Err(no_interface(key));
        }
        let opened = self.host.links.namespace(&namespace)?;
        let routes = self.host.links.default_routes_in(&opened).await?;
        for interface in &attached.interfaces {
            let altered = |what: String| Error::Altered { interface: interface.name.clone(), what };
            if self.host.links.index_of(&interface.host_interface).is_none() {
                return Err(altered(format!("its end on the host, {}, is gone", interface.host_interface)));
            }
            let found = self.host.links.addresses_in(&opened, &interface.name).await?;
            let found = found.ok_or_else(|| altered("it is gone, or down".to_owned()))?;
            if let Some((missing, _)) =
                interface.addresses.iter().find(|(address, _)| !found.contains(address))
            {
                return Err(altered(format!("it has no address {missing}")));
            }
            if let Some(missing) = interface.default_routes.iter().find(|gateway| !routes.contains(gateway)) {
                return Err(altered(format!("there is no default route via {missing}")));
            }
        }
        Ok(attached)
    }

    /// Remove what this configuration of a kind of runtime attached, except for these containers' interfaces.
    ///
    /// # Errors
    /// [`Error::Store`]: some are removed.
    pub async fn collect(
        self: &Arc<Self>,
        runtime: Runtime,
        configuration: &str,
        keep: &[(String, String)],
    ) -> Result<(), Error> {
        let stale: Vec<AttachmentKey> = {
            let world = self.state.world();
            let containers = world.containers().filter_map(Container::plugin_container);
            let of_runtime = containers.filter(|container| container.runtime == runtime);
            of_runtime
                .flat_map(|container| container.requests.iter().map(move |request| (container, request)))
                .filter(|(_, request)| request.configuration == configuration)
                .filter(|(container, request)| {
                    let is_it = |(id, interface): &(String, String)| {
                        *id == container.runtime_id && *interface == *request.interface
                    };
                    !keep.iter().any(is_it)
                })
                .map(|(container, request)| AttachmentKey {
                    runtime,
                    container: container.runtime_id.clone(),
                    configuration: configuration.to_owned(),
                    interface: request.interface.clone(),
                })
                .collect()
        };
        for key in stale {
            tracing::info!(container = key.container, interface = %key.interface, "its runtime does not list it any more");
            self.detach(&key, None).await?;
        }
        Ok(())
    }

    /// Whether a container can be attached to a network now.
    ///
    /// # Errors
    /// [`Error::NoNetwork`], [`Error::ConnectToHost`] for one without endpoints, or [`Error::Ipam`] if it has no address
    /// left.
    pub fn attach_status(&self, network: &str) -> Result<(), Error> {
        let world = self.state.world();
        let network = network_called(network, &world)?;
        match network.driver {
            Driver::Bridge(_) => world.check_free(&network.id),
            Driver::Host | Driver::Null => Err(Error::ConnectToHost),
        }
    }

    /// The namespace at a path that a runtime gave, with its inode.
    fn namespace_at(&self, path: &Path) -> Result<(Namespace, u64), Error> {
        let namespace = namespace::at(path)?;
        let opened =
            self.host.links.namespace(&namespace).map_err(|error| {
                Error::NoNamespace(format!("network namespace {}: {error}", path.display()))
            })?;
        if opened.same_as_current()? {
            return Err(Error::Forbidden(format!(
                "cannot attach {}: it is the host's own network namespace",
                path.display()
            )));
        }
        let inode = opened.inode()?;
        Ok((namespace, inode))
    }

    /// The container with this ID, if it is still in this namespace. If its former namespace is gone, so is the container.
    async fn known_container(
        self: &Arc<Self>,
        id: Id,
        namespace: &Namespace,
        inode: u64,
    ) -> Result<Option<Container>, Error> {
        let Ok(known) = self.state.container(&id) else { return Ok(None) };
        if is_in(&known, namespace, inode, &self.host) {
            return Ok(Some(known));
        }
        if is_in_its_namespace(&known, &self.host) {
            return Err(Error::OtherNamespace(known.name));
        }
        let after = ended(&known);
        self.unwire(known, after).await?;
        Ok(None)
    }

    /// A new container without interfaces. From now on no other gets its name.
    fn add_plugin_container(
        &self,
        id: Id,
        name: String,
        is_pod: bool,
        plugin: PluginContainer,
    ) -> Result<Container, Error> {
        let mut container = Container {
            id,
            name,
            created: Timestamp::now(),
            subject: Subject::Plugin(Box::new(plugin)),
            state: State::Running { supervisor: None, started: Timestamp::now() },
            attachments: Vec::new(),
            labels: Default::default(),
            mappings: Vec::new(),
        };
        let mut world = self.state.world();
        let inode = container.plugin_container().map_or(0, |plugin| plugin.inode);
        if let Some(other) = world.plugin_container_in(inode) {
            let name = &other.name;
            return Err(Error::Forbidden(format!(
                "cannot attach {}: its network namespace is that of container {name}",
                container.name
            )));
        }
        if is_pod && world.container_named(&container.name).is_some() {
            container.name = format!("{}-{}", container.name, id.short());
        }
        if let Some(other) = world.container_named(&container.name) {
            return Err(Error::ContainerExists { name: container.name, id: other.id });
        }
        world.put_container(container.clone());
        Ok(container)
    }

    /// The container with the interfaces of one more request.
    fn with_request(
        &self,
        before: &Container,
        key: &AttachmentKey,
        networks: Vec<(String, EndpointRequest)>,
        publish: Vec<Publish>,
    ) -> Result<Container, Error> {
        if before.endpoints().any(|endpoint| endpoint.interface == key.interface) {
            return Err(Error::InterfaceExists {
                interface: key.interface.to_string(),
                container: before.name.clone(),
            });
        }
        let world = self.state.world();
        let mut after = before.clone();
        let mut joined = Vec::new();
        for (index, (network, mut request)) in networks.into_iter().enumerate() {
            let network = network_called(&network, &world)?;
            attachable(&after, network, &request)?;
            request.options.interface = (index == 0).then(|| key.interface.clone());
            joined.push(network.id);
            after = with_attachment(after, network, request, &world);
        }
        let request = PluginRequest {
            configuration: key.configuration.clone(),
            interface: key.interface.clone(),
            networks: joined,
            publish,
        };
        if let Subject::Plugin(plugin) = &mut after.subject {
            plugin.requests.push(request);
        }
        Ok(after)
    }
}

/// The network with this name or full ID. The beginning of an ID names none: runtimes ask again and again with the same
/// text, which may come to mean another network.
fn network_called<'a>(text: &str, world: &'a World) -> Result<&'a Network, Error> {
    let found = world.find_network(text)?;
    match found.name == text || found.id.to_string() == text {
        true => Ok(found),
        false => Err(Error::NoNetwork(text.to_owned())),
    }
}

/// The container without the interfaces of a request; none if there is no such request.
fn without_request(before: &Container, key: &AttachmentKey) -> Option<Container> {
    let networks = before.plugin_container()?.request(&key.configuration, &key.interface)?.networks.clone();
    let mut after = before.clone();
    after.attachments.retain(|attachment| !networks.contains(&attachment.network));
    if let Subject::Plugin(plugin) = &mut after.subject {
        plugin.requests.retain(|request| {
            request.configuration != key.configuration || request.interface != key.interface
        });
    }
    Some(after)
}

/// The container without interfaces.
fn ended(container: &Container) -> Container {
    Container { attachments: Vec::new(), ..container.clone() }
}

/// Whether a container is in a namespace. Runtimes may spell its path in several ways: as long as the container's own path
/// leads to it, the inode tells.
fn is_in(container: &Container, namespace: &Namespace, inode: u64, host: &Host) -> bool {
    container.plugin_container().is_some_and(|plugin| {
        plugin.inode == inode
            && (plugin.namespace == *namespace || host.inode_of(&plugin.namespace) == Some(inode))
    })
}

fn no_interface(key: &AttachmentKey) -> Error {
    Error::NoInterface { interface: key.interface.to_string(), container: key.container.clone() }
}

/// What a request has attached.
fn attached(container: &Container, key: &AttachmentKey, world: &World) -> Result<Attached, Error> {
    let plugin = container.plugin_container().ok_or_else(|| no_interface(key))?;
    let request = plugin.request(&key.configuration, &key.interface).ok_or_else(|| no_interface(key))?;
    let of_network = |id: &Id| {
        let attachment = container.attachments.iter().find(|attachment| attachment.network == *id)?;
        interface(container, attachment, world)
    };
    let interfaces: Vec<_> = request.networks.iter().filter_map(of_network).collect();
    if interfaces.len() != request.networks.len() {
        return Err(no_interface(key));
    }
    let resolver = record_of(container, world).map(|_| container.owner().resolver());
    Ok(Attached { interfaces, resolver })
}

fn interface(container: &Container, attachment: &Attachment, world: &World) -> Option<AttachedInterface> {
    let network = world.network(&attachment.network)?;
    let bridge = network.bridge()?;
    let wiring = EndpointWiring::of(attachment, bridge, container, None)?;
    let gateways = default_gateways(container, |id| world.network(id));
    let default_routes = [gateways.ipv4.map(IpAddr::from), gateways.ipv6.map(IpAddr::from)];
    let is_here = |gateway: &IpAddr| bridge.nets().any(|net| net.contains(gateway));
    let ipv4 = wiring.ipv4.map(|net| (IpNet::from(net), gateway(network, true)));
    let ipv6 = wiring.ipv6.map(|net| (IpNet::from(net), gateway(network, false)));
    Some(AttachedInterface {
        name: wiring.interface,
        mac: wiring.mac,
        mtu: wiring.mtu,
        host_interface: wiring.host_interface,
        network: network.name.clone(),
        addresses: ipv4.into_iter().chain(ipv6).collect(),
        default_routes: default_routes.into_iter().flatten().filter(is_here).collect(),
    })
}

/// The gateway of a network's subnet; none in internal networks.
fn gateway(network: &Network, is_ipv4: bool) -> Option<IpAddr> {
    let bridge = network.bridge().filter(|_| !network.internal)?;
    match is_ipv4 {
        true => bridge.ipv4.as_ref().and_then(|subnet| subnet.default_gateway()).map(IpAddr::from),
        false => bridge.ipv6.as_ref().and_then(|subnet| subnet.default_gateway()).map(IpAddr::from),
    }
}
