//! Containers with their endpoints in networks, independent of their owners. Must not know the kinds of owners. Its
//! serde attributes are the format on the disk.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Access, Bridge, EndpointOptions, Id, InterfaceName, Link, Mac, Mapping, Namespace, Network, Subject,
    Sysctl, lookup::Named,
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
    /// The ID and name that users know: its own, or those that its owner has told.
    pub fn shown(&self) -> (Id, &str) {
        self.owner().shown().unwrap_or((self.id, &self.name))
    }

    /// The namespace of its interfaces, while it runs.
    pub fn namespace(&self) -> Option<Namespace> {
        self.owner().namespace(&self.state)
    }

    /// The namespace to which its engine moves its interfaces, once it has said so.
    pub fn moved_to(&self) -> Option<Namespace> {
        self.owner().sandbox_key().map(|path| Namespace::Path(path.to_owned()))
    }

    /// The endpoints that it has now.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.attachments.iter().filter_map(|attachment| attachment.endpoint.as_ref())
    }

    /// Endpoints that `other` does not have, each with its attachment.
    pub fn endpoints_without<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (&'a Attachment, &'a Endpoint)> {
        self.attachments.iter().filter_map(|attachment| {
            let endpoint = attachment.endpoint.as_ref()?;
            let is_kept = other.endpoints().any(|other| other == endpoint);
            (!is_kept).then_some((attachment, endpoint))
        })
    }

    /// Its state as one of Docker's words.
    pub fn status(&self) -> &'static str {
        match self.state {
            State::Running { .. } => "running",
            _ if self.owner().restart().is_some_and(|restart| restart.waiting) => "restarting",
            State::Created { .. } => "created",
            State::Exited { .. } => "exited",
        }
    }
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

    /// What its endpoint may send beyond its lease in the network, which has this bridge, and how frames reach it.
    pub fn access(&self, bridge: &Bridge) -> Access {
        self.request.options.access.within(&bridge.options.access)
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
    /// Whether it gets no IPv6 address although the network has IPv6: its engine has turned IPv6 off in the container.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_ipv6: bool,
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
    /// Its IPv6 address; none in a network of IPv4 only, and [without IPv6](EndpointRequest::without_ipv6).
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
