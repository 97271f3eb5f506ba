//! The messages of Docker's network driver protocol, key by key as Docker writes them (libnetwork's
//! `drivers/remote/api`). Go writes `null` for an empty list.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Options as Docker passes them on: some are texts that a user typed, some are Docker's own values.
pub type Options = Map<String, Value>;

/// `Plugin.Activate`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Activated {
    pub implements: Vec<&'static str>,
}

/// `NetworkDriver.GetCapabilities`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Capabilities {
    pub scope: &'static str,
    pub connectivity_scope: &'static str,
    pub gw_alloc_checker: bool,
}

/// `NetworkDriver.CreateNetwork`.
#[derive(Debug, Deserialize)]
pub struct CreateNetwork {
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    #[serde(rename = "Options", default, deserialize_with = "or_null")]
    pub options: Options,
    #[serde(rename = "IPv4Data", default, deserialize_with = "or_null")]
    pub ipv4_data: Vec<IpamData>,
    #[serde(rename = "IPv6Data", default, deserialize_with = "or_null")]
    pub ipv6_data: Vec<IpamData>,
}

/// A subnet that Docker's IPAM chose.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IpamData {
    /// `10.1.0.0/24`.
    #[serde(default)]
    pub pool: String,
    /// `10.1.0.1/24`.
    #[serde(default)]
    pub gateway: String,
    /// `10.1.0.5/24` by name.
    #[serde(default, deserialize_with = "or_null")]
    pub aux_addresses: BTreeMap<String, String>,
}

/// `NetworkDriver.DeleteNetwork`, and what else names a network only.
#[derive(Debug, Deserialize)]
pub struct OfNetwork {
    #[serde(rename = "NetworkID")]
    pub network_id: String,
}

/// `NetworkDriver.CreateEndpoint`.
#[derive(Debug, Deserialize)]
pub struct CreateEndpoint {
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    #[serde(rename = "Interface", default, deserialize_with = "or_null")]
    pub interface: Interface,
    #[serde(rename = "Options", default, deserialize_with = "or_null")]
    pub options: Options,
}

/// What Docker has chosen of an interface; in an answer, what it had not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Interface {
    /// With the subnet's prefix length.
    #[serde(rename = "Address", default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// With the subnet's prefix length.
    #[serde(rename = "AddressIPv6", default, skip_serializing_if = "String::is_empty")]
    pub address_ipv6: String,
    #[serde(rename = "MacAddress", default, skip_serializing_if = "String::is_empty")]
    pub mac_address: String,
}

/// The answer to `NetworkDriver.CreateEndpoint`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EndpointCreated {
    pub interface: Interface,
}

/// `NetworkDriver.Join`.
#[derive(Debug, Deserialize)]
pub struct Join {
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    #[serde(rename = "SandboxKey")]
    pub sandbox_key: String,
}

/// The answer to `NetworkDriver.Join`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Joined {
    #[serde(rename = "InterfaceName")]
    pub interface_name: InterfaceName,
    #[serde(rename = "Gateway", skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    #[serde(rename = "GatewayIPv6", skip_serializing_if = "String::is_empty")]
    pub gateway_ipv6: String,
    /// Docker is not to add a way out of its own (`docker_gwbridge`).
    #[serde(rename = "DisableGatewayService", skip_serializing_if = "std::ops::Not::not")]
    pub disable_gateway_service: bool,
}

/// From what to what Docker renames an interface.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InterfaceName {
    pub src_name: String,
    pub dst_prefix: String,
    /// Engines after 29.7 take it instead of the prefix.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dst_name: String,
}

/// `NetworkDriver.ProgramExternalConnectivity`.
#[derive(Debug, Deserialize)]
pub struct ProgramExternalConnectivity {
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    #[serde(rename = "Options", default, deserialize_with = "or_null")]
    pub options: Options,
}

/// `NetworkDriver.Leave`, and what else names an endpoint only.
#[derive(Debug, Deserialize)]
pub struct OfEndpoint {
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
}

/// A port in `com.docker.network.endpoint.exposedports`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TransportPort {
    /// IANA's number.
    pub proto: u8,
    pub port: u16,
}

/// A port in `com.docker.network.portmap`.
#[derive(Debug, Deserialize)]
pub struct PortBinding {
    /// IANA's number.
    #[serde(rename = "Proto")]
    pub proto: u8,
    #[serde(rename = "Port")]
    pub port: u16,
    /// Empty: all addresses.
    #[serde(rename = "HostIP", default)]
    pub host_ip: String,
    /// 0: any.
    #[serde(rename = "HostPort", default)]
    pub host_port: u16,
    /// 0: the same.
    #[serde(rename = "HostPortEnd", default)]
    pub host_port_end: u16,
}

/// The answer to `NetworkDriver.EndpointOperInfo`. Docker shows what is in it, and takes it for the driver's own words
/// where it should be of Docker's types: it is empty.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EndpointOperInfo {
    pub value: Options,
}

/// An answer that says that something was done, and nothing else.
#[derive(Debug, Default, Serialize)]
pub struct Done {}

/// An answer that says that nothing was. Network drivers say why in `Err`, IPAM drivers in `Error`; Docker passes over the
/// other.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Refusal {
    pub err: String,
    pub error: String,
}

/// Go's `null` is what the type is empty.
pub fn or_null<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
