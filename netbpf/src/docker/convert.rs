//! Converts Docker's messages into the daemon's requests, and the daemon's answers into Docker's messages. Pure: parses
//! and refuses, makes no calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::wire;
use crate::{
    api::types::IpamConfig,
    daemon::{DockerEndpointRequest, DockerNetwork, Joined},
    model::{ContainerPort, Endpoint, EndpointOptions, Id, PortRange, Protocol, Publish, one_line},
};

const GENERIC: &str = "com.docker.network.generic";
const INTERNAL: &str = "com.docker.network.internal";
const EXPOSED: &str = "com.docker.network.endpoint.exposedports";
const PORTMAP: &str = "com.docker.network.portmap";
/// The prefix of options with a meaning to Docker. Options of other prefixes are the user's.
const DOCKER_PREFIX: &str = "com.docker.network.";
/// The options with this prefix that a user may set for an interface.
const INTERFACE_OPTIONS: [&str; 2] =
    ["com.docker.network.endpoint.ifname", "com.docker.network.endpoint.sysctls"];

/// A message with an invalid field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    /// A field that cannot be parsed.
    #[error("invalid {field}: {}", one_line(.value))]
    Field {
        /// The field's name in Docker's message.
        field: &'static str,
        /// The value as received.
        value: String,
    },
    /// More than one subnet of a family; with Docker's message.
    #[error("bridge driver doesn't support multiple subnets")]
    MultipleSubnets,
    /// An option of `--ipam-opt`; none is supported.
    #[error("unknown IPAM option {}: none is known", .0.escape_debug())]
    IpamOption(String),
    /// An invalid endpoint option.
    #[error(transparent)]
    Option(#[from] crate::model::BadEndpointOption),
}

/// The error about an invalid field.
pub fn invalid(field: &'static str, value: impl ToString) -> InvalidMessage {
    InvalidMessage::Field { field, value: value.to_string() }
}

/// Parses a network ID of Docker's.
pub fn network_id(text: &str) -> Result<Id, InvalidMessage> {
    text.parse().map_err(|_| invalid("NetworkID", text))
}

/// Parses an endpoint ID of Docker's.
pub fn endpoint_id(text: &str) -> Result<Id, InvalidMessage> {
    text.parse().map_err(|_| invalid("EndpointID", text))
}

impl TryFrom<wire::CreateNetwork> for DockerNetwork {
    type Error = InvalidMessage;

    fn try_from(message: wire::CreateNetwork) -> Result<Self, InvalidMessage> {
        let wire::CreateNetwork { network_id: id, options, ipv4_data, ipv6_data } = message;
        if ipv4_data.len() > 1 || ipv6_data.len() > 1 {
            return Err(InvalidMessage::MultipleSubnets);
        }
        let internal = match options.get(INTERNAL) {
            None | Some(Value::Null) => false,
            Some(value) => value.as_bool().ok_or_else(|| invalid(INTERNAL, value))?,
        };
        let subnets = |data: Vec<wire::IpamData>| data.into_iter().map(subnet).collect::<Result<_, _>>();
        Ok(Self {
            id: network_id(&id)?,
            internal,
            options: option::<BTreeMap<String, String>>(&options, GENERIC)?,
            ipv4: subnets(ipv4_data)?,
            ipv6: subnets(ipv6_data)?,
        })
    }
}

/// Docker writes addresses with the prefix length of the subnet.
fn subnet(data: wire::IpamData) -> Result<IpamConfig, InvalidMessage> {
    let address = |field, text: String| match text.as_str() {
        "" => Ok(text),
        _ => text.parse::<IpNet>().map(|net| net.addr().to_string()).map_err(|_| invalid(field, text)),
    };
    let auxiliary = data.aux_addresses.into_iter();
    Ok(IpamConfig {
        subnet: data.pool.parse::<IpNet>().map_err(|_| invalid("Pool", &data.pool))?.to_string(),
        ip_range: String::new(),
        gateway: address("Gateway", data.gateway)?,
        auxiliary_addresses: auxiliary
            .map(|(name, text)| Ok::<_, InvalidMessage>((name, address("AuxAddresses", text)?)))
            .collect::<Result<_, _>>()?,
    })
}

impl TryFrom<wire::CreateEndpoint> for DockerEndpointRequest {
    type Error = InvalidMessage;

    fn try_from(message: wire::CreateEndpoint) -> Result<Self, InvalidMessage> {
        let wire::Interface { address, address_ipv6, mac_address } = message.interface;
        Ok(Self {
            network: network_id(&message.network_id)?,
            endpoint: endpoint_id(&message.endpoint_id)?,
            ipv4: given("Address", &address)?,
            ipv6: given("AddressIPv6", &address_ipv6)?,
            mac: given("MacAddress", &mac_address)?,
            options: endpoint_options(&message.options)?,
            exposed: exposed(&message.options)?,
        })
    }
}

/// Parses a text; `None` if it is empty.
pub fn given<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<Option<T>, InvalidMessage> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| invalid(field, text)),
    }
}

/// Parses the options of `--driver-opt`, which Docker mixes with its own.
fn endpoint_options(options: &wire::Options) -> Result<EndpointOptions, InvalidMessage> {
    let typed = options
        .iter()
        .filter(|(key, _)| !key.starts_with(DOCKER_PREFIX) || INTERFACE_OPTIONS.contains(&key.as_str()))
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    Ok(EndpointOptions::parse(&typed)?)
}

fn exposed(options: &wire::Options) -> Result<BTreeSet<ContainerPort>, InvalidMessage> {
    option::<Vec<wire::TransportPort>>(options, EXPOSED)?
        .into_iter()
        .map(|port| container_port(port.proto, port.port))
        .collect()
}

/// The published ports in a `ProgramExternalConnectivity` message.
pub fn publish(options: &wire::Options) -> Result<Vec<Publish>, InvalidMessage> {
    option::<Vec<wire::PortBinding>>(options, PORTMAP)?.into_iter().map(binding).collect()
}

fn binding(binding: wire::PortBinding) -> Result<Publish, InvalidMessage> {
    let last = binding.host_port_end.max(binding.host_port);
    let host_ports = match binding.host_port {
        0 => None,
        first => Some(PortRange::new(first, last).ok_or_else(|| invalid("HostPort", first))?),
    };
    Ok(Publish {
        container: container_port(binding.proto, binding.port)?,
        host: given::<IpAddr>("HostIP", &binding.host_ip)?,
        host_ports,
    })
}

fn container_port(proto: u8, port: u16) -> Result<ContainerPort, InvalidMessage> {
    let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let protocol = known.into_iter().find(|protocol| protocol.number() == proto);
    let protocol = protocol.ok_or_else(|| invalid("Proto", proto))?;
    if port == 0 {
        return Err(invalid("Port", port));
    }
    Ok(ContainerPort { number: port, protocol })
}

/// Parses an option's value; the default if it is absent.
fn option<T: Default + DeserializeOwned>(
    options: &wire::Options,
    key: &'static str,
) -> Result<T, InvalidMessage> {
    match options.get(key) {
        None | Some(Value::Null) => Ok(T::default()),
        Some(value) => serde_json::from_value(value.clone()).map_err(|_| invalid(key, value)),
    }
}

/// The interface for the answer to `CreateEndpoint`. Contains only what Docker left open, because Docker refuses an
/// answer with values that it chose itself.
pub fn chosen(
    endpoint: &Endpoint,
    prefixes: (Option<u8>, Option<u8>),
    asked: &wire::Interface,
) -> wire::Interface {
    let net = |address: Option<IpAddr>, prefix: Option<u8>| {
        let net = address.zip(prefix).map(|(address, prefix)| format!("{address}/{prefix}"));
        net.unwrap_or_default()
    };
    let open = |asked: &str, value: String| if asked.is_empty() { value } else { String::new() };
    wire::Interface {
        address: open(&asked.address, net(endpoint.ipv4.map(IpAddr::from), prefixes.0)),
        address_ipv6: open(&asked.address_ipv6, net(endpoint.ipv6.map(IpAddr::from), prefixes.1)),
        mac_address: open(&asked.mac_address, endpoint.mac.to_string()),
    }
}

impl From<Joined> for wire::Joined {
    fn from(joined: Joined) -> Self {
        let text = |address: Option<String>| address.unwrap_or_default();
        Self {
            interface_name: wire::InterfaceName {
                src_name: joined.interface,
                dst_prefix: joined.prefix,
                dst_name: joined.name.unwrap_or_default(),
            },
            // Without an IPv4 gateway Docker would add another way out, except for internal networks.
            disable_gateway_service: joined.gateway.is_none() && !joined.internal,
            gateway: text(joined.gateway.map(|address| address.to_string())),
            gateway_ipv6: text(joined.gateway_ipv6.map(|address| address.to_string())),
        }
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
