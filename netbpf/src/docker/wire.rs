//! The messages of Docker's network driver protocol, with the keys that Docker uses (libnetwork's
//! `drivers/remote/api`). Go writes `null` for an empty list.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Options in Docker's messages: texts that a user typed, and values of Docker's own.
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
    /// Whether Docker may send `NetworkDriver.GwAllocCheck`; engines up to 27 do not.
    pub gw_alloc_checker: bool,
}

/// `NetworkDriver.GwAllocCheck`: which gateways would a network with these options need?
#[derive(Debug, Deserialize)]
pub struct GwAllocCheck {
    /// As in [`CreateNetwork`].
    #[serde(rename = "Options", default, deserialize_with = "or_null")]
    pub options: Options,
}

/// The answer to `NetworkDriver.GwAllocCheck`: for these, Docker leases no address, unless the user requests one.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct SkippedGateways {
    #[serde(rename = "SkipIPv4")]
    pub ipv4: bool,
    #[serde(rename = "SkipIPv6")]
    pub ipv6: bool,
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

/// A subnet chosen by Docker's IPAM driver.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IpamData {
    /// `10.1.0.0/24`.
    #[serde(default)]
    pub pool: String,
    /// `10.1.0.1/24`.
    #[serde(default)]
    pub gateway: String,
    /// Addresses such as `10.1.0.5/24`, by name.
    #[serde(default, deserialize_with = "or_null")]
    pub aux_addresses: BTreeMap<String, String>,
}

/// `NetworkDriver.DeleteNetwork`, and other messages with only a network.
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

/// The interface of an endpoint: in a request, what Docker has chosen; in an answer, what it left open.
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
    /// Tells Docker not to add a way out of its own (`docker_gwbridge`).
    #[serde(rename = "DisableGatewayService", skip_serializing_if = "std::ops::Not::not")]
    pub disable_gateway_service: bool,
}

/// The name of an interface, and how Docker renames it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InterfaceName {
    pub src_name: String,
    pub dst_prefix: String,
    /// The full name; engines after 29.7 use it instead of the prefix.
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

/// `NetworkDriver.Leave`, and other messages with only an endpoint.
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
    /// The protocol's IANA number.
    pub proto: u8,
    pub port: u16,
}

/// A port in `com.docker.network.portmap`.
#[derive(Debug, Deserialize)]
pub struct PortBinding {
    /// The protocol's IANA number.
    #[serde(rename = "Proto")]
    pub proto: u8,
    #[serde(rename = "Port")]
    pub port: u16,
    /// Empty: all addresses.
    #[serde(rename = "HostIP", default)]
    pub host_ip: String,
    /// 0: any port.
    #[serde(rename = "HostPort", default)]
    pub host_port: u16,
    /// 0: the same as `host_port`.
    #[serde(rename = "HostPortEnd", default)]
    pub host_port_end: u16,
}

/// The answer to `NetworkDriver.EndpointOperInfo`. Docker displays its content and would overwrite some of its own values
/// with it, so netbpf sends none.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EndpointOperInfo {
    pub value: Options,
}

/// The answer to a successful request without a result.
#[derive(Debug, Default, Serialize)]
pub struct Done {}

/// The answer to a failed request. Network drivers put the message into `Err`, IPAM drivers into `Error`; Docker
/// ignores the other one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Refusal {
    pub err: String,
    pub error: String,
}

/// Reads Go's `null` as the type's empty value.
pub fn or_null<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
