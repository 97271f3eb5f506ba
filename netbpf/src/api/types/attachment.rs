//! Messages of runtimes that execute netbpf as their network plugin. Docker has none like these; the keys follow its style.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{NetworkAttachment, PortBinding};

/// What a runtime calls an attachment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AttachmentKey {
    /// `cni` or `podman`.
    pub runtime: String,
    /// The runtime's ID of the container.
    pub container: String,
    /// The name of the runtime's configuration.
    pub configuration: String,
    /// The interface in the container, such as `eth0`.
    pub interface: String,
}

/// A request to attach a container to networks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Attach {
    /// What the runtime calls it.
    #[serde(flatten)]
    pub key: AttachmentKey,
    /// The container's name.
    pub name: String,
    /// Whether it is a pod of Kubernetes. If its name is taken, it gets another one: a pod may come before the former
    /// one of its name is gone.
    pub is_pod: bool,
    /// The path of its network namespace.
    pub namespace: String,
    /// The inode of that file as the runtime sees it. The path may lead elsewhere for the daemon, if the runtime has
    /// processes or mounts of its own.
    pub namespace_inode: u64,
    /// The networks. The first one gets the interface of the key, others the next free names.
    pub networks: Vec<NetworkAttachment>,
    /// The ports to publish, by container port (`80/tcp`).
    pub port_bindings: BTreeMap<String, Vec<PortBinding>>,
    /// Whether the runtime has sockets at the host ports, which reserve them.
    pub reserves_ports: bool,
    /// The name servers that the runtime has chosen; empty for the host's.
    pub dns: Vec<String>,
}

/// A request to remove an attachment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Detach {
    /// What the runtime calls it.
    #[serde(flatten)]
    pub key: AttachmentKey,
    /// The path of the container's network namespace; empty if the runtime does not know it any more. A container of
    /// the same ID in another one stays.
    pub namespace: String,
}

/// A request to compare an attachment with what is in the container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CheckAttached {
    /// What the runtime calls it.
    #[serde(flatten)]
    pub key: AttachmentKey,
    /// The path of the container's network namespace.
    pub namespace: String,
}

/// What was attached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Attached {
    /// The interfaces, that of the key first.
    pub interfaces: Vec<AttachedInterface>,
    /// The address in the container at which netbpf resolves names; empty if its networks have no names.
    pub resolver: String,
}

/// An interface of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AttachedInterface {
    /// Its name in the container.
    pub name: String,
    /// Its MAC: lower case, with colons.
    pub mac_address: String,
    /// In bytes.
    pub mtu: u32,
    /// Its other end on the host.
    pub host_interface: String,
    /// The name of its network.
    pub network: String,
    /// Its addresses.
    pub addresses: Vec<AttachedAddress>,
    /// The gateways of the container's default routes that lead through it.
    pub default_routes: Vec<String>,
}

/// An address of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AttachedAddress {
    /// With the subnet's prefix length.
    pub address: String,
    /// The subnet's gateway; empty in an internal network.
    pub gateway: String,
}

/// A request to remove what a configuration attached, except for what the runtime still has.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CollectAttached {
    /// `cni` or `podman`.
    pub runtime: String,
    /// The name of the runtime's configuration.
    pub configuration: String,
    /// What stays.
    pub keep: Vec<KeptAttachment>,
}

/// An attachment that the runtime still has.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct KeptAttachment {
    /// The runtime's ID of the container.
    pub container: String,
    /// The interface in the container.
    pub interface: String,
}
