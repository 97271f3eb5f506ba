//! Network messages, and a container's endpoint in a network, with Docker's keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Docker's `IPAM` object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ipam {
    /// `default`.
    pub driver: String,
    /// `--ipam-opt`.
    pub options: Option<BTreeMap<String, String>>,
    /// One entry for each subnet.
    pub config: Vec<IpamConfig>,
}

/// One subnet of a network; texts as the user typed them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamConfig {
    /// `192.168.0.0/16`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subnet: String,
    /// `192.168.1.0/24`.
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    pub ip_range: String,
    /// `192.168.0.1`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Addresses by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub auxiliary_addresses: BTreeMap<String, String>,
}

/// `network create`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkCreate {
    /// The new network's name.
    pub name: String,
    /// `bridge` or `netbpf`; empty for `bridge`.
    pub driver: String,
    /// `local` or empty.
    pub scope: String,
    /// Whether the network has no way out.
    pub internal: bool,
    /// Stored without effect, as in Docker for local networks.
    pub attachable: bool,
    /// `--ipv4`; absent for true.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: Option<bool>,
    /// `--ipv6`.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: Option<bool>,
    /// The subnets.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// `-o key=value`.
    pub options: BTreeMap<String, String>,
    /// `--label key=value`.
    pub labels: BTreeMap<String, String>,
}

/// The answer to `network create`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkCreated {
    /// The new ID, 64 hex digits.
    pub id: String,
    /// Warnings for the user, one per line.
    pub warning: String,
}

/// The answer to `network connect`. Docker's is empty, and its clients ignore it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkConnected {
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// `network inspect`: Docker's keys in Docker's order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkResource {
    /// The name, which is unique.
    pub name: String,
    /// 64 hex digits.
    pub id: String,
    /// RFC 3339, nanoseconds, UTC.
    pub created: String,
    /// `local`.
    pub scope: String,
    /// `bridge`; `netbpf` if Docker created it; `host` or `null`.
    pub driver: String,
    /// Whether it has IPv4.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    /// Whether it has IPv6.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// The subnets.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// Whether the network has no way out.
    pub internal: bool,
    /// As requested.
    pub attachable: bool,
    /// Always false: for swarm networks only.
    pub ingress: bool,
    /// Always empty: for swarm networks only.
    pub config_from: ConfigFrom,
    /// Always false: for swarm networks only.
    pub config_only: bool,
    /// Its running containers by ID.
    pub containers: BTreeMap<String, NetworkContainer>,
    /// `-o`.
    pub options: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
}

impl NetworkResource {
    /// Whether containers can have endpoints in it.
    pub fn has_endpoints(&self) -> bool {
        !matches!(self.driver.as_str(), "host" | "null")
    }
}

/// Docker's `ConfigFrom`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConfigFrom {
    /// Always empty.
    pub network: String,
}

/// A running container in [`NetworkResource`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkContainer {
    /// The container's name.
    pub name: String,
    /// The ID of the endpoint, 64 hex digits.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Lower case, with colons.
    pub mac_address: String,
    /// With prefix length, or empty.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// With prefix length, or empty.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// `network connect`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkConnect {
    /// Name, ID, `netns:NAME`, `netns:/PATH` or `pid:N`.
    pub container: String,
    /// The requests for the endpoint.
    pub endpoint_config: EndpointSettings,
}

/// The settings of an endpoint: the user's requests, and the result.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSettings {
    /// `--ip`, `--ip6`.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpam>,
    /// `--link`, as `CONTAINER:ALIAS`.
    pub links: Option<Vec<String>>,
    /// `--alias`.
    pub aliases: Option<Vec<String>>,
    /// `--mac-address`; in an answer, the MAC address in use.
    pub mac_address: String,
    /// `--driver-opt`.
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// `--gw-priority`.
    pub gw_priority: i64,
    /// The ID of the network, 64 hex digits.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// The ID of the endpoint, 64 hex digits; empty while not running.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// The network's gateway address.
    pub gateway: String,
    /// The IPv4 address in use.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Prefix length of `IPAddress`.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// The network's IPv6 gateway.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// The IPv6 address in use.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Prefix length of `GlobalIPv6Address`.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// The names by which other containers in the network find it.
    #[serde(rename = "DNSNames")]
    pub dns_names: Option<Vec<String>>,
}

/// Requested addresses, as the user typed them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointIpam {
    /// `--ip`.
    #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty")]
    pub ipv4_address: String,
    /// `--ip6`.
    #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty")]
    pub ipv6_address: String,
}

/// `network disconnect`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkDisconnect {
    /// As in [`NetworkConnect`].
    pub container: String,
    /// Whether to succeed even if the container is gone.
    pub force: bool,
}

/// `network update`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkUpdate {
    /// `-o key=value`; an empty value removes the option.
    pub options: BTreeMap<String, String>,
}

/// `network prune`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworksPruned {
    /// The names of the removed networks.
    pub networks_deleted: Vec<String>,
}
