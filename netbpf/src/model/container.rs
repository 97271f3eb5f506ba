//! Containers: sandboxes that netbpf started, network namespaces that it was asked to connect, and endpoints that Docker
//! asked for.

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
    /// What refers to it.
    pub id: Id,
    /// Unique among containers.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// What it is.
    pub subject: Subject,
    /// What it does.
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
    /// What users know it by: Docker's ID and name of it, where Docker has told.
    pub fn shown(&self) -> (Id, &str) {
        match &self.subject {
            Subject::Docker(docker) => match &docker.container {
                Some(docker) => (docker.id, &docker.name),
                None => (self.id, &self.name),
            },
            Subject::Sandbox(_) | Subject::Foreign(_) | Subject::Engine(_) => (self.id, &self.name),
        }
    }

    /// Endpoints that it has and `other` has not, each with its network.
    pub fn endpoints_without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a Id, &'a Endpoint)> {
        self.attachments.iter().filter_map(|attachment| {
            let endpoint = attachment.endpoint.as_ref()?;
            let is_kept = other.attachments.iter().any(|other| other.endpoint.as_ref() == Some(endpoint));
            (!is_kept).then_some((&attachment.network, endpoint))
        })
    }

    /// Where it is with its restart policy; only sandboxes have one.
    pub fn restart(&self) -> Option<&Restart> {
        match &self.subject {
            Subject::Sandbox(sandbox) => Some(&sandbox.restart),
            Subject::Foreign(_) | Subject::Engine(_) | Subject::Docker(_) => None,
        }
    }

    /// What stands where engines have an image: the root file system, a directory or `host`.
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

    /// What it does, in one of Docker's words.
    pub fn status(&self) -> &'static str {
        match (&self.state, &self.subject) {
            (State::Running { .. }, _) => "running",
            (_, Subject::Sandbox(sandbox)) if sandbox.restart.waiting => "restarting",
            (State::Created { .. }, _) => "created",
            (State::Exited { .. }, _) => "exited",
        }
    }
}

/// What a container is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Subject {
    /// A process that netbpf starts and ends.
    Sandbox(Box<Sandbox>),
    /// A network namespace of somebody else's, for as long as it exists.
    Foreign(Namespace),
    /// A container of an engine's, under the engine's ID, from its first connection to its last or until the engine
    /// removes it.
    Engine(Box<EngineContainer>),
    /// An endpoint of Docker's, whose network driver netbpf is, under the endpoint's ID: one for each network that a
    /// container of Docker's is in.
    Docker(Box<DockerEndpoint>),
}

/// A container that an engine starts and ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineContainer {
    /// What it was made of.
    pub image: String,
    /// Its first process, with arguments.
    pub command: Vec<String>,
    /// Its UTS host name.
    pub hostname: String,
    /// The host's file that is its `/etc/resolv.conf`.
    pub resolv_conf: Option<PathBuf>,
    /// The file that holds its network namespace while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<PathBuf>,
    /// The name servers that the engine has put there.
    pub servers: Vec<IpAddr>,
    /// What it had in networks when it ran last: it gets that again if it is free.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<LastAddress>,
}

impl EngineContainer {
    /// What is asked for in a network, with the addresses that it had there where the user did not say which.
    pub fn request_again(&self, network: &Id, request: &EndpointRequest) -> EndpointRequest {
        let last = self.addresses.iter().find(|last| last.network == *network);
        EndpointRequest {
            ipv4: request.ipv4.or(last.and_then(|last| last.ipv4)),
            ipv6: request.ipv6.or(last.and_then(|last| last.ipv6)),
            ..request.clone()
        }
    }
}

/// What a container had in a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastAddress {
    /// Where.
    pub network: Id,
    /// Its address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its address.
    pub ipv6: Option<Ipv6Addr>,
}

/// A network namespace of somebody else's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// A file that holds it (`netns:NAME` is `/run/netns/NAME`).
    Path(PathBuf),
    /// The one of a process; `start_time` (field 22 of `/proc/N/stat`) tells it from a later process of the same number.
    Process {
        /// The process.
        pid: u32,
        /// Clock ticks since boot.
        start_time: u64,
    },
}

/// How a sandbox was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sandbox {
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    /// Where the command starts.
    pub working_dir: PathBuf,
    /// Its UTS host name.
    pub hostname: String,
    /// Its root; the host's if absent.
    pub rootfs: Option<PathBuf>,
    /// Removed when it ends.
    pub auto_remove: bool,
    /// Whether it is started again when it ends.
    #[serde(default, skip_serializing_if = "Restart::is_default")]
    pub restart: Restart,
    /// Whose network it has.
    pub mode: Mode,
    /// The network that it was created in, by name. As in Docker (`HostConfig.NetworkMode`), it stays when the container
    /// leaves that network. Records of earlier versions have none.
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
    /// `-p`: by container port, one entry for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
    /// `--expose`, and what is published.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed: BTreeSet<ContainerPort>,
    /// `-P`: all that is exposed is published.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub publish_all: bool,
    /// `--security-opt no-new-privileges`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_new_privileges: bool,
}

/// Whose network a sandbox has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Its own, attached to networks.
    Networks,
    /// Its own, `lo` only.
    None,
    /// The host's.
    Host,
    /// Another sandbox's.
    Container(Id),
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum State {
    /// Never started.
    Created {
        /// Why it could not start; empty if nobody tried.
        error: String,
    },
    /// It runs. A foreign namespace always does.
    Running {
        /// The process that holds its namespaces, and its start time: a sandbox's supervisor, the first process of an
        /// engine's container.
        supervisor: Option<(u32, u64)>,
        /// Since when.
        started: Timestamp,
    },
    /// It ended.
    Exited {
        /// 128 + n after signal n.
        code: i32,
        /// From when.
        started: Timestamp,
        /// Till when.
        finished: Timestamp,
        /// Why it could not start again; empty if nobody tried.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        error: String,
    },
}

/// A container's place in a network. It outlives a stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network. It may be removed while the container is stopped.
    pub network: Id,
    /// The network's name, by which the user can still name it when it is removed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network_name: String,
    /// What the user asked for.
    pub request: EndpointRequest,
    /// What it has while the container runs.
    pub endpoint: Option<Endpoint>,
}

impl Attachment {
    /// A place in `network` that has no endpoint yet.
    pub fn new(network: &Network, request: EndpointRequest) -> Self {
        Self { network: network.id, network_name: network.name.clone(), request, endpoint: None }
    }
}

/// What a user asks of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRequest {
    /// `--ip`: kept over restarts.
    pub ipv4: Option<Ipv4Addr>,
    /// `--ip6`: kept over restarts.
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

/// What a running container has in a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// What refers to it.
    pub id: Id,
    /// Its number among all endpoints of the daemon, from 0. Records call it `port`.
    #[serde(rename = "port")]
    pub number: u32,
    /// Its address; none in a network of IPv6 only.
    #[serde(default)]
    pub ipv4: Option<Ipv4Addr>,
    /// Its address; none in a network of IPv4 only.
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
    /// Its MAC.
    pub mac: Mac,
    /// The host side of its veth pair: `veth` and 7 hex digits.
    pub host_interface: InterfaceName,
    /// The other side: `eth0`, `eth1`, …
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
