//! Port messages, with Docker's keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::RestartPolicy;

/// Docker's empty object `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Docker's `HostConfig`: the part that applies to a network sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `-p`, by container port (`80/tcp`).
    pub port_bindings: BTreeMap<String, Vec<PortBinding>>,
    /// `-P`.
    pub publish_all_ports: bool,
    /// `--restart`.
    pub restart_policy: RestartPolicy,
    /// `--security-opt`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security_opt: Vec<String>,
    /// In `inspect`: `default`, a network, `host`, `none` or `container:ID`.
    pub network_mode: String,
    /// In `inspect`: `--rm`.
    pub auto_remove: bool,
    /// In `inspect`: `--dns`.
    pub dns: Vec<String>,
    /// In `inspect`: `--dns-option`.
    pub dns_options: Vec<String>,
    /// In `inspect`: `--dns-search`.
    pub dns_search: Vec<String>,
    /// In `inspect`: `--add-host`; null if there is none, as in Docker.
    pub extra_hosts: Option<Vec<String>>,
    /// In `inspect`: `--link` on the default network.
    pub links: Vec<String>,
}

impl HostConfig {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A binding of a container's port to the host: a request, or the result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// An address of the host. Empty for the network's default address, or if the network is routed.
    pub host_ip: String,
    /// A port or port range. Empty for any port, or if the network is routed.
    pub host_port: String,
}

/// A port in [`ContainerSummary`](super::ContainerSummary).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortSummary {
    /// The host's address; empty if the port is not published.
    #[serde(rename = "IP", default, skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// The container's port.
    pub private_port: u16,
    /// The host's port; 0 if the port is not published.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub public_port: u16,
    /// `tcp`, `udp` or `sctp`.
    #[serde(rename = "Type")]
    pub kind: String,
}

fn is_zero(port: &u16) -> bool {
    *port == 0
}
