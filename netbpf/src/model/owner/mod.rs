//! The owner of a container starts and ends it. It determines properties of the container's networks, names
//! and ports, which the rest of netbpf gets from [`Owner`] without knowing the kind of owner. What happens
//! when a container starts and ends is in `daemon/owners`.
//!
//! | file | owner |
//! |---|---|
//! | `sandbox` | netbpf itself (`netbpf run`) |
//! | `namespace` | others, who created a network namespace |
//! | `engine` | an engine whose container netbpf connects (`netbpf connect mynet tomcat01`) |
//! | `docker` | Docker, for which netbpf is the network driver |
//! | `plugin` | a runtime that executes netbpf as its network plugin (CNI, netavark) |

mod docker;
mod engine;
mod namespace;
mod number;
mod plugin;
mod sandbox;

use std::{
    borrow::Cow,
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use serde::{Deserialize, Serialize};

pub use docker::{DockerContainer, DockerEndpoint};
pub use engine::{EngineContainer, LastAddress, RESOLVER_BESIDE_ENGINE};
pub use namespace::Namespace;
pub use number::OwnerNumber;
pub use plugin::{PluginContainer, PluginRequest, Runtime};
pub use sandbox::{Mode, Sandbox};

use super::{Container, ContainerPort, Endpoint, EndpointRequest, Id, Publish, Restart, State};

/// The responder's address in the network namespaces of containers; in those of an engine, the engine's own resolver.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The owner of a container, with its data about the container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Subject {
    /// A container that netbpf starts and stops.
    Sandbox(Box<Sandbox>),
    /// A network namespace of others, as long as it exists.
    #[serde(rename = "Foreign")]
    Namespace(Namespace),
    /// A container of an engine, under the engine's ID: from its first connection until its last is removed,
    /// or until the engine removes it.
    Engine(Box<EngineContainer>),
    /// An endpoint that Docker requested from netbpf as its network driver, under the endpoint's ID: one for
    /// each network of a container.
    Docker(Box<DockerEndpoint>),
    /// A container of a runtime that executes netbpf as its network plugin, under an ID made of the runtime's: from its
    /// first interface until its last is removed, or its namespace is gone.
    Plugin(Box<PluginContainer>),
}

/// The files of a container that name its resolver and its hosts.
#[derive(Clone, Copy, Debug)]
pub enum Files<'a> {
    /// netbpf writes none.
    None,
    /// netbpf writes all of them.
    Own(&'a Sandbox),
    /// netbpf writes the resolver's address into this file of the host, while the container is in a network with names.
    /// None: the container has no such file.
    ResolvConf(Option<&'a Path>),
}

/// A program that alone changes a container or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manager {
    /// Its name in messages.
    pub name: &'static str,
    /// The program of its commands.
    pub program: &'static str,
}

/// Docker, for which netbpf is the network driver.
pub const DOCKER: Manager = Manager { name: "Docker", program: "docker" };

/// Why a container cannot join a network, whichever network it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotJoin {
    /// It shares the network namespace of another container or of the host.
    SharedNamespace,
    /// It has no networks (`--network none`), or the network is `none`.
    Private,
}

/// The properties of a container that depend on its owner. Most have a default, for a container of which
/// netbpf knows only the network namespace.
pub trait Owner {
    /// The ID and name that users know, if they differ from those here.
    fn shown(&self) -> Option<(Id, &str)> {
        None
    }

    /// The text for the name of an image.
    fn image(&self) -> Cow<'_, str>;

    /// The first process with its arguments; empty if unknown.
    fn command(&self) -> &[String] {
        &[]
    }

    /// The UTS host name.
    fn hostname(&self) -> Option<&str> {
        None
    }

    /// Its network mode; only a sandbox can have another's network.
    fn mode(&self) -> Option<&Mode> {
        None
    }

    /// The state of its restart policy.
    fn restart(&self) -> Option<&Restart> {
        None
    }

    /// The network namespace of its interfaces.
    fn namespace(&self, state: &State) -> Option<Namespace> {
        match state {
            State::Running { supervisor: Some((pid, start_time)), .. } => {
                Some(Namespace::Process { pid: *pid, start_time: *start_time })
            }
            State::Running { supervisor: None, .. } | State::Created { .. } | State::Exited { .. } => None,
        }
    }

    /// The file of its network namespace, if the owner has told it (`SandboxKey` in `inspect`).
    fn sandbox_key(&self) -> Option<&Path> {
        None
    }

    /// Its number in the eBPF maps; none for an endpoint that is in no container.
    fn number(&self, id: &Id) -> Option<OwnerNumber> {
        Some(OwnerNumber::of(id))
    }

    /// The program whose commands change it, because it would not know of other changes; none if netbpf's do.
    fn manager(&self) -> Option<Manager> {
        None
    }

    /// Whether it can join a network, which may be `none`.
    ///
    /// # Errors
    /// [`CannotJoin::SharedNamespace`] if its network namespace is not its own; [`CannotJoin::Private`] if it has mode
    /// `none`, or the network is `none`.
    fn may_join(&self, is_none: bool) -> Result<(), CannotJoin> {
        if is_none { Err(CannotJoin::Private) } else { Ok(()) }
    }

    /// Whether its record stays when it leaves its last network.
    fn outlives_networks(&self) -> bool {
        false
    }

    /// Whether the owner moves, configures and deletes the interface. netbpf creates it in the host's namespace.
    fn places_interface(&self) -> bool {
        false
    }

    /// An endpoint that netbpf leased for the container `id`, with what its owner determines of it.
    fn determine(&self, _id: &Id, leased: Endpoint) -> Endpoint {
        leased
    }

    /// Whether netbpf sets the default routes. Otherwise the owner has chosen routes, and netbpf's would replace them.
    fn has_our_default_routes(&self) -> bool {
        false
    }

    /// The request with the container's previous addresses in this network. None if the owner does not keep
    /// them.
    fn request_again(&self, _network: &Id, _request: &EndpointRequest) -> Option<EndpointRequest> {
        None
    }

    /// Its name for others in a network; `name` is its name here.
    fn name_in_networks<'a>(&'a self, name: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(name)
    }

    /// Whether netbpf's responder resolves names for it.
    fn asks_our_responder(&self) -> bool {
        true
    }

    /// Names by which others resolve it, besides those in its requests for networks.
    fn aliases(&self) -> &[String] {
        &[]
    }

    /// Whether it asks a name server that netbpf does not choose, so that the programs answer on the way there.
    fn asks_elsewhere(&self) -> bool {
        false
    }

    /// The address at which its clients ask the responder, at port 53.
    fn resolver(&self) -> Ipv4Addr {
        RESOLVER
    }

    /// The name servers that are asked from its namespace; none if the host's servers are asked from the
    /// host.
    fn name_servers(&self) -> Option<&[IpAddr]> {
        None
    }

    /// The files that netbpf writes for it.
    fn files(&self) -> Files<'_> {
        Files::None
    }

    /// The ports to publish while it runs.
    fn publishes(&self) -> Vec<Publish> {
        Vec::new()
    }

    /// Whether its ports may be published at the host's IPv6 addresses too if it has IPv4 only.
    fn may_be_relayed(&self) -> bool {
        true
    }

    /// Whether the owner has sockets at the container's host ports: they are reserved, and netbpf has none there.
    fn reserves_host_ports(&self) -> bool {
        false
    }

    /// The ports that it shows, published or not.
    fn exposed(&self, _state: &State) -> BTreeSet<ContainerPort> {
        BTreeSet::new()
    }
}

impl Container {
    /// Its owner.
    pub fn owner(&self) -> &dyn Owner {
        match &self.subject {
            Subject::Sandbox(sandbox) => &**sandbox,
            Subject::Namespace(namespace) => namespace,
            Subject::Engine(container) => &**container,
            Subject::Docker(endpoint) => &**endpoint,
            Subject::Plugin(container) => &**container,
        }
    }

    /// Its number in the eBPF maps. A container of Docker may have several records here, one for each endpoint that
    /// Docker created, and one if netbpf connected it too: all of them have one number, that of the namespace.
    pub fn owner_number(&self) -> Option<OwnerNumber> {
        self.owner().number(&self.id)
    }

    /// The sandbox, if it is one.
    pub fn sandbox(&self) -> Option<&Sandbox> {
        match &self.subject {
            Subject::Sandbox(sandbox) => Some(sandbox),
            Subject::Namespace(_) | Subject::Engine(_) | Subject::Docker(_) | Subject::Plugin(_) => None,
        }
    }

    /// The namespace of others with which it ends.
    pub fn adopted_namespace(&self) -> Option<&Namespace> {
        match &self.subject {
            Subject::Namespace(namespace) => Some(namespace),
            Subject::Plugin(container) => Some(&container.namespace),
            Subject::Sandbox(_) | Subject::Engine(_) | Subject::Docker(_) => None,
        }
    }

    /// The engine's container, if it is one.
    pub fn engine_container(&self) -> Option<&EngineContainer> {
        match &self.subject {
            Subject::Engine(container) => Some(container),
            Subject::Sandbox(_) | Subject::Namespace(_) | Subject::Docker(_) | Subject::Plugin(_) => None,
        }
    }

    /// Docker's endpoint, if it is one.
    pub fn docker_endpoint(&self) -> Option<&DockerEndpoint> {
        match &self.subject {
            Subject::Docker(endpoint) => Some(endpoint),
            Subject::Sandbox(_) | Subject::Namespace(_) | Subject::Engine(_) | Subject::Plugin(_) => None,
        }
    }

    /// The runtime's container, if it is one.
    pub fn plugin_container(&self) -> Option<&PluginContainer> {
        match &self.subject {
            Subject::Plugin(container) => Some(container),
            Subject::Sandbox(_) | Subject::Namespace(_) | Subject::Engine(_) | Subject::Docker(_) => None,
        }
    }
}
