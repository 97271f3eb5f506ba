//! podman's messages (netavark's `src/network/types.rs`). `null` stands for an absent value.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Deserializer, de::DeserializeOwned};

/// A network as podman defines it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// The name of its device on the host.
    #[serde(deserialize_with = "or_null")]
    pub network_interface: String,
    /// Its subnets.
    #[serde(deserialize_with = "or_null")]
    pub subnets: Vec<Subnet>,
    /// Whether it has IPv6.
    pub ipv6_enabled: bool,
    /// Whether it has no way out.
    pub internal: bool,
    /// `-o`.
    #[serde(deserialize_with = "or_null")]
    pub options: BTreeMap<String, String>,
    /// The driver that leases addresses (`driver`).
    #[serde(deserialize_with = "or_null")]
    pub ipam_options: BTreeMap<String, String>,
    /// `--label`.
    #[serde(deserialize_with = "or_null")]
    pub labels: BTreeMap<String, String>,
    /// `--route`, which netbpf has not.
    #[serde(deserialize_with = "or_null")]
    pub routes: Vec<serde_json::Value>,
    /// `--dns` of the network.
    #[serde(deserialize_with = "or_null")]
    pub network_dns_servers: Vec<IpAddr>,
}

/// A subnet of a network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Subnet {
    /// `10.88.0.0/24`.
    pub subnet: String,
    /// Empty for the first address.
    #[serde(deserialize_with = "or_null")]
    pub gateway: String,
    /// The addresses for containers.
    pub lease_range: Option<LeaseRange>,
}

/// A range of addresses.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LeaseRange {
    /// The lowest.
    #[serde(deserialize_with = "or_null")]
    pub start_ip: Option<IpAddr>,
    /// The highest.
    #[serde(deserialize_with = "or_null")]
    pub end_ip: Option<IpAddr>,
}

/// A container that joins or leaves a network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Join {
    /// podman's ID.
    pub container_id: String,
    /// Its name.
    pub container_name: String,
    /// The ports to publish.
    #[serde(deserialize_with = "or_null")]
    pub port_mappings: Vec<PortMapping>,
    /// The network.
    pub network: Network,
    /// What the user asked for the container in this network.
    pub network_options: JoinOptions,
}

/// A range of ports to publish.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PortMapping {
    /// The first port of the container.
    pub container_port: u16,
    /// The first port of the host.
    pub host_port: u16,
    /// Empty for all addresses.
    #[serde(deserialize_with = "or_null")]
    pub host_ip: String,
    /// `tcp`, `udp`, `sctp`, or several with commas between them.
    #[serde(deserialize_with = "or_null")]
    pub protocol: String,
    /// The number of ports; 0 for one.
    #[serde(deserialize_with = "or_null")]
    pub range: u16,
}

/// Options of a container in a network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct JoinOptions {
    /// Further names.
    #[serde(deserialize_with = "or_null")]
    pub aliases: Vec<String>,
    /// `eth0`.
    pub interface_name: String,
    /// `--ip`, `--ip6`.
    #[serde(deserialize_with = "or_null")]
    pub static_ips: Vec<IpAddr>,
    /// `--mac-address`.
    #[serde(deserialize_with = "or_null")]
    pub static_mac: String,
    /// `--network NET:key=value`.
    #[serde(deserialize_with = "or_null")]
    pub options: BTreeMap<String, String>,
}

/// Reads `null` as the type's empty value.
fn or_null<'de, D: Deserializer<'de>, T: Default + DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
