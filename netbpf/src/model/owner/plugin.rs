//! Containers whose runtime executes netbpf as its network plugin: by CNI, or as podman's (netavark's) driver. The runtime
//! asks for each interface, and netbpf creates it in the namespace that the runtime made. Must not know the protocols.

use std::{borrow::Cow, collections::BTreeSet, fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Manager, Namespace, Owner, OwnerNumber};
use crate::model::{ContainerPort, Id, InterfaceName, Publish, State};

/// The kind of a runtime. What one kind asks for, the others cannot remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// A runtime that executes CNI plugins: containerd, CRI-O, nerdctl, podman 4.
    Cni,
    /// podman with netavark, which executes drivers as plugins.
    Podman,
}

/// A container of a runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginContainer {
    /// The runtime's kind.
    pub runtime: Runtime,
    /// The runtime's ID, which need not be one of 64 digits.
    pub runtime_id: String,
    /// Its namespace, which the runtime made before the first request.
    pub namespace: Namespace,
    /// The namespace's inode: another namespace may get the same path.
    pub inode: u64,
    /// The requests whose interfaces it has, in their order.
    pub requests: Vec<PluginRequest>,
    /// Whether the runtime has sockets at its host ports, as podman has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reserves_ports: bool,
    /// The name servers that the runtime has chosen for it; none for the host's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<IpAddr>,
}

/// A request of a runtime. It is removed as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginRequest {
    /// The name of the runtime's configuration.
    pub configuration: String,
    /// The interface that the runtime asked for.
    pub interface: InterfaceName,
    /// The networks of its interfaces; the first one has the interface that was asked for.
    pub networks: Vec<Id>,
    /// The ports to publish.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
}

impl Runtime {
    /// The ID here of the container that has this ID in such a runtime.
    pub fn container(self, runtime_id: &str) -> Id {
        Id::from_bytes(Sha256::digest(format!("{self}\0{runtime_id}")).into())
    }
}

/// Not the name of a kind of runtimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown runtime: expected cni or podman")]
pub struct NotARuntime;

impl FromStr for Runtime {
    type Err = NotARuntime;

    fn from_str(text: &str) -> Result<Self, NotARuntime> {
        [Self::Cni, Self::Podman].into_iter().find(|runtime| runtime.to_string() == text).ok_or(NotARuntime)
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cni => "cni",
            Self::Podman => "podman",
        })
    }
}

impl PluginContainer {
    /// The request for an interface.
    pub fn request(&self, configuration: &str, interface: &str) -> Option<&PluginRequest> {
        self.requests
            .iter()
            .find(|request| request.configuration == configuration && *request.interface == *interface)
    }
}

impl Owner for PluginContainer {
    fn image(&self) -> Cow<'_, str> {
        self.runtime.to_string().into()
    }

    fn namespace(&self, _: &State) -> Option<Namespace> {
        Some(self.namespace.clone())
    }

    fn number(&self, id: &Id) -> Option<OwnerNumber> {
        Some(OwnerNumber::of(id))
    }

    fn manager(&self) -> Option<Manager> {
        Some(match self.runtime {
            Runtime::Cni => Manager { name: "a CNI runtime", program: "its own commands instead of" },
            Runtime::Podman => Manager { name: "podman", program: "podman" },
        })
    }

    fn has_our_default_routes(&self) -> bool {
        true
    }

    /// The runtime has written its `resolv.conf`.
    fn asks_elsewhere(&self) -> bool {
        true
    }

    fn name_servers(&self) -> Option<&[IpAddr]> {
        (!self.servers.is_empty()).then_some(&self.servers)
    }

    fn publishes(&self) -> Vec<Publish> {
        let all: BTreeSet<&Publish> = self.requests.iter().flat_map(|request| &request.publish).collect();
        all.into_iter().cloned().collect()
    }

    /// A relay would need the sockets that the runtime has.
    fn may_be_relayed(&self) -> bool {
        !self.reserves_ports
    }

    fn reserves_host_ports(&self) -> bool {
        self.reserves_ports
    }

    fn exposed(&self, _: &State) -> BTreeSet<ContainerPort> {
        self.requests.iter().flat_map(|request| &request.publish).map(|publish| publish.container).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_one_id_for_each_kind_of_runtime() {
        let [cni, podman] = [Runtime::Cni, Runtime::Podman].map(|runtime| runtime.container("c1"));
        assert_ne!(cni, podman);
        assert_eq!(cni, Runtime::Cni.container("c1"));
        assert_ne!(cni, Runtime::Cni.container("c2"));
        // It is in records on the disk.
        assert_eq!(cni.short(), "aaf7c1256ab8");
    }
}
