//! Containers that an engine starts and stops, and that netbpf connects to further networks. Must not know
//! the engine's API.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Files, Owner, OwnerNumber};
use crate::model::{EndpointRequest, Id};

/// The responder's address beside an engine's own resolver: the engine's rules in the namespace redirect queries to
/// [`RESOLVER`](super::RESOLVER).
pub const RESOLVER_BESIDE_ENGINE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 12);

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

impl Owner for EngineContainer {
    fn image(&self) -> Cow<'_, str> {
        self.image.as_str().into()
    }

    fn command(&self) -> &[String] {
        &self.command
    }

    fn hostname(&self) -> Option<&str> {
        Some(&self.hostname)
    }

    /// The number of the namespace, which it may share with endpoints of Docker.
    fn number(&self, id: &Id) -> Option<OwnerNumber> {
        Some(self.sandbox.as_ref().map_or_else(|| OwnerNumber::of(id), OwnerNumber::of))
    }

    /// Requests the last addresses unless the user chose others.
    fn request_again(&self, network: &Id, request: &EndpointRequest) -> Option<EndpointRequest> {
        let last = self.addresses.iter().find(|last| last.network == *network);
        Some(EndpointRequest {
            ipv4: request.ipv4.or(last.and_then(|last| last.ipv4)),
            ipv6: request.ipv6.or(last.and_then(|last| last.ipv6)),
            ..request.clone()
        })
    }

    fn resolver(&self) -> Ipv4Addr {
        RESOLVER_BESIDE_ENGINE
    }

    /// The engine's resolver, and other servers that the engine wrote there.
    fn name_servers(&self) -> Option<&[IpAddr]> {
        Some(&self.servers)
    }

    fn files(&self) -> Files<'_> {
        Files::ResolvConf(self.resolv_conf.as_deref().map(Path::new))
    }
}
