//! Containers: sandboxes that netbpf starts, network namespaces of others that it connects, containers of an
//! engine, and endpoints of Docker.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ContainerPort, DockerEndpoint, EndpointOptions, Id, InterfaceName, Link, Mac, Mapping, Network, Publish,
    Restart, Sysctl, lookup::Named,
};

/// A container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// Its ID.
    pub id: Id,
    /// Unique among containers.
    pub name: String,
    /// Time of its creation.
    pub created: Timestamp,
    /// Its kind.
    pub subject: Subject,
    /// Its state.
    pub state: State,
    /// Its networks, in the order of connecting.
    pub attachments: Vec<Attachment>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// Its published ports, while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mappings: Vec<Mapping>,
}

impl Named for Container {
    fn id(&self) -> Id {
        self.id
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Container {
    /// The ID and name that users know: Docker's, if Docker's API has told them.
    pub fn shown(&self) -> (Id, &str) {
        match &self.subject {
            Subject::Docker(docker) => match &docker.container {
                Some(docker) => (docker.id, &docker.name),
                None => (self.id, &self.name),
            },
            Subject::Sandbox(_) | Subject::Foreign(_) | Subject::Engine(_) => (self.id, &self.name),
        }
    }

    /// Endpoints that `other` does not have, each with its network.
    pub fn endpoints_without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a Id, &'a Endpoint)> {
        self.attachments.iter().filter_map(|attachment| {
            let endpoint = attachment.endpoint.as_ref()?;
            let is_kept = other.attachments.iter().any(|other| other.endpoint.as_ref() == Some(endpoint));
            (!is_kept).then_some((&attachment.network, endpoint))
        })
    }

    /// The state of its restart policy; only sandboxes have one.
    pub fn restart(&self) -> Option<&Restart> {
        match &self.subject {
            Subject::Sandbox(sandbox) => Some(&sandbox.restart),
            Subject::Foreign(_) | Subject::Engine(_) | Subject::Docker(_) => None,
        }
    }

    /// The text for the column of images: the root file system, as a directory or `host`.
    pub fn image(&self) -> String {
        match &self.subject {
            Subject::Sandbox(sandbox) => {
                sandbox.rootfs.as_ref().map_or_else(|| "host".into(), |rootfs| rootfs.display().to_string())
            }
            Subject::Foreign(_) => "-".into(),
            Subject::Engine(engine) => engine.image.clone(),
            Subject::Docker(_) => "docker".into(),
        }
    }

    /// Its state as one of Docker's words.
    pub fn status(&self) -> &'static str {
        match (&self.state, &self.subject) {
            (State::Running { .. }, _) => "running",
            (_, Subject::Sandbox(sandbox)) if sandbox.restart.waiting => "restarting",
            (State::Created { .. }, _) => "created",
            (State::Exited { .. }, _) => "exited",
        }
    }
}

/// The kind of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Subject {
    /// A container that netbpf starts and stops.
    Sandbox(Box<Sandbox>),
    /// A network namespace of somebody else, as long as it exists.
    Foreign(Namespace),
    /// A container of an engine, under the engine's ID: from its first connection until its last is removed,
    /// or until the engine removes it.
    Engine(Box<EngineContainer>),
    /// An endpoint that Docker requested from netbpf as its network driver, under the endpoint's ID: one for
    /// each network of a container.
    Docker(Box<DockerEndpoint>),
}

/// A container that an engine starts and stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineContainer {
    /// Its image.
    pub image: String,
    /// Its first process, with arguments.
    pub command: Vec<String>,
    /// Its UTS host name.
    pub hostname: String,
    /// The file on the host that is its `/etc/resolv.conf`.
    pub resolv_conf: Option<PathBuf>,
    /// The file that holds its network namespace, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<PathBuf>,
    /// The engine's name servers in that file.
    pub servers: Vec<IpAddr>,
    /// Its addresses when it ran last: it gets them again if they are free.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<LastAddress>,
}

impl EngineContainer {
    /// The request for a network, with its last addresses there unless the user chose others.
    pub fn request_again(&self, network: &Id, request: &EndpointRequest) -> EndpointRequest {
        let last = self.addresses.iter().find(|last| last.network == *network);
        EndpointRequest {
            ipv4: request.ipv4.or(last.and_then(|last| last.ipv4)),
            ipv6: request.ipv6.or(last.and_then(|last| last.ipv6)),
            ..request.clone()
        }
    }
}

/// The last addresses of a container in a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastAddress {
    /// The network.
    pub network: Id,
    /// Its address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its address.
    pub ipv6: Option<Ipv6Addr>,
}

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// The namespace of a file (`netns:NAME` is `/run/netns/NAME`).
    Path(PathBuf),
    /// The namespace of a process. `start_time` (field 22 of `/proc/N/stat`) distinguishes it from a later
    /// process with the same PID.
    Process {
        /// The PID.
        pid: u32,
        /// Clock ticks since boot.
        start_time: u64,
    },
}

/// The configuration of a sandbox, and its restart state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sandbox {
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    /// Working directory of the command.
    pub working_dir: PathBuf,
    /// Its UTS host name.
    pub hostname: String,
    /// Its root file system; the host's if absent.
    pub rootfs: Option<PathBuf>,
    /// Whether it is removed when it exits.
    pub auto_remove: bool,
    /// Restart policy and its state.
    #[serde(default, skip_serializing_if = "Restart::is_default")]
    pub restart: Restart,
    /// Its network mode.
    pub mode: Mode,
    /// The name of the network that it was created in. As in Docker (`HostConfig.NetworkMode`), it stays when
    /// the container leaves that network. Records of earlier versions have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_in: String,
    /// `--add-host` lines, name to address.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// `--dns`; the host's servers if empty.
    pub dns: Vec<IpAddr>,
    /// `--dns-search`; the host's if empty, none if `.`.
    pub dns_search: Vec<String>,
    /// `--dns-option`.
    pub dns_options: Vec<String>,
    /// `-p`: one entry for each container port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
    /// `--expose`, and the published ports.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed: BTreeSet<ContainerPort>,
    /// `-P`: whether all exposed ports are published.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub publish_all: bool,
    /// `--security-opt no-new-privileges`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_new_privileges: bool,
}

/// Network mode of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Its own namespace, attached to networks.
    Networks,
    /// Its own namespace, with `lo` only.
    None,
    /// The host's namespace.
    Host,
    /// The namespace of another sandbox.
    Container(Id),
}

/// State of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// Never started.
    Created {
        /// The error of the last attempt to start it, if any.
        error: String,
    },
    /// Running. Always the state of a foreign namespace.
    Running {
        /// PID and start time of the process that holds its namespaces: a sandbox's supervisor, or the first
        /// process of an engine's container.
        supervisor: Option<(u32, u64)>,
        /// Time of the start.
        started: Timestamp,
    },
    /// Exited.
    Exited {
        /// Exit code; 128 + n after signal n.
        code: i32,
        /// Time of the start.
        started: Timestamp,
        /// Time of the end.
        finished: Timestamp,
        /// The error of the last attempt to start it again, if any.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        error: String,
    },
}

/// A container's membership in a network. It stays while the container is stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network. It may be removed while the container is stopped.
    pub network: Id,
    /// The network's name, so that the user can name it even after its removal.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network_name: String,
    /// The user's request.
    pub request: EndpointRequest,
    /// The endpoint, while the container runs.
    pub endpoint: Option<Endpoint>,
}

impl Attachment {
    /// A membership without an endpoint.
    pub fn new(network: &Network, request: EndpointRequest) -> Self {
        Self { network: network.id, network_name: network.name.clone(), request, endpoint: None }
    }
}

/// A user's request for an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRequest {
    /// `--ip`: kept across restarts.
    pub ipv4: Option<Ipv4Addr>,
    /// `--ip6`: kept across restarts.
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
    /// `--mac-address`.
    pub mac: Option<Mac>,
    /// `--alias`, `--network-alias`.
    pub aliases: Vec<String>,
    /// `--link`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// `--driver-opt`.
    #[serde(default, skip_serializing_if = "EndpointOptions::is_default")]
    pub options: EndpointOptions,
    /// `--gw-priority`: the highest gives the default route.
    pub gateway_priority: i64,
}

/// Endpoint of a running container in a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its ID.
    pub id: Id,
    /// Its number, unique among all endpoints of the daemon, from 0. Records call it `port`.
    #[serde(rename = "port")]
    pub number: u32,
    /// Its IPv4 address; none in a network of IPv6 only.
    #[serde(default)]
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address; none in a network of IPv4 only.
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
    /// Its MAC.
    pub mac: Mac,
    /// The host side of its veth pair: `veth` and 7 hex digits.
    pub host_interface: InterfaceName,
    /// The container's side: `eth0`, `eth1`, …
    pub interface: InterfaceName,
    /// Settings of that side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sysctls: Vec<Sysctl>,
}

impl Endpoint {
    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.ipv4.map(IpAddr::from).into_iter().chain(self.ipv6.map(IpAddr::from))
    }
}
