//! What Docker's messages mean, and the daemon's answers in Docker's words. Pure: parses and refuses, asks nobody.

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
    model::{ContainerPort, Endpoint, EndpointOptions, Id, PortRange, Protocol, Publish},
};

const GENERIC: &str = "com.docker.network.generic";
const INTERNAL: &str = "com.docker.network.internal";
const EXPOSED: &str = "com.docker.network.endpoint.exposedports";
const PORTMAP: &str = "com.docker.network.portmap";
/// What options begin with that Docker has given a meaning; those of others are the user's own.
const DOCKERS: &str = "com.docker.network.";
/// The two of these that a user types for an interface.
const OF_INTERFACE: [&str; 2] = ["com.docker.network.endpoint.ifname", "com.docker.network.endpoint.sysctls"];

/// A message that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// A field that does not read as what it should be.
    #[error("invalid {field}: {value}")]
    Field {
        /// Docker's name of it.
        field: &'static str,
        /// As it came.
        value: String,
    },
    /// Docker's words.
    #[error("bridge driver doesn't support multiple subnets")]
    MultipleSubnets,
    /// `--ipam-opt`.
    #[error("unknown IPAM option {0}: none is known")]
    IpamOption(String),
    /// An endpoint's option.
    #[error(transparent)]
    Option(#[from] crate::model::BadEndpointOption),
}

/// A field that means nothing.
pub fn bad(field: &'static str, value: impl ToString) -> Bad {
    Bad::Field { field, value: value.to_string() }
}

/// An ID that Docker made.
pub fn network_id(text: &str) -> Result<Id, Bad> {
    text.parse().map_err(|_| bad("NetworkID", text))
}

/// An ID that Docker made.
pub fn endpoint_id(text: &str) -> Result<Id, Bad> {
    text.parse().map_err(|_| bad("EndpointID", text))
}

impl TryFrom<wire::CreateNetwork> for DockerNetwork {
    type Error = Bad;

    fn try_from(message: wire::CreateNetwork) -> Result<Self, Bad> {
        let wire::CreateNetwork { network_id: id, options, ipv4_data, ipv6_data } = message;
        if ipv4_data.len() > 1 || ipv6_data.len() > 1 {
            return Err(Bad::MultipleSubnets);
        }
        let internal = match options.get(INTERNAL) {
            None | Some(Value::Null) => false,
            Some(value) => value.as_bool().ok_or_else(|| bad(INTERNAL, value))?,
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

/// Docker writes addresses with the prefix length of their subnet.
fn subnet(data: wire::IpamData) -> Result<IpamConfig, Bad> {
    let address = |field, text: String| match text.as_str() {
        "" => Ok(text),
        _ => text.parse::<IpNet>().map(|net| net.addr().to_string()).map_err(|_| bad(field, text)),
    };
    let auxiliary = data.aux_addresses.into_iter();
    Ok(IpamConfig {
        subnet: data.pool.parse::<IpNet>().map_err(|_| bad("Pool", &data.pool))?.to_string(),
        ip_range: String::new(),
        gateway: address("Gateway", data.gateway)?,
        auxiliary_addresses: auxiliary
            .map(|(name, text)| Ok::<_, Bad>((name, address("AuxAddresses", text)?)))
            .collect::<Result<_, _>>()?,
    })
}

impl TryFrom<wire::CreateEndpoint> for DockerEndpointRequest {
    type Error = Bad;

    fn try_from(message: wire::CreateEndpoint) -> Result<Self, Bad> {
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

/// Nothing where the text is empty, else what it reads as.
pub fn given<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<Option<T>, Bad> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| bad(field, text)),
    }
}

/// `--driver-opt`: Docker puts them among its own.
fn endpoint_options(options: &wire::Options) -> Result<EndpointOptions, Bad> {
    let typed = options
        .iter()
        .filter(|(key, _)| !key.starts_with(DOCKERS) || OF_INTERFACE.contains(&key.as_str()))
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    Ok(EndpointOptions::parse(&typed)?)
}

fn exposed(options: &wire::Options) -> Result<BTreeSet<ContainerPort>, Bad> {
    option::<Vec<wire::TransportPort>>(options, EXPOSED)?
        .into_iter()
        .map(|port| container_port(port.proto, port.port))
        .collect()
}

/// What `ProgramExternalConnectivity` asks for.
pub fn publish(options: &wire::Options) -> Result<Vec<Publish>, Bad> {
    option::<Vec<wire::PortBinding>>(options, PORTMAP)?.into_iter().map(binding).collect()
}

fn binding(binding: wire::PortBinding) -> Result<Publish, Bad> {
    let last = binding.host_port_end.max(binding.host_port);
    let host_ports = match binding.host_port {
        0 => None,
        first => Some(PortRange::new(first, last).ok_or_else(|| bad("HostPort", first))?),
    };
    Ok(Publish {
        container: container_port(binding.proto, binding.port)?,
        host: given::<IpAddr>("HostIP", &binding.host_ip)?,
        host_ports,
    })
}

fn container_port(proto: u8, port: u16) -> Result<ContainerPort, Bad> {
    let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let protocol = known.into_iter().find(|protocol| protocol.number() == proto);
    let protocol = protocol.ok_or_else(|| bad("Proto", proto))?;
    if port == 0 {
        return Err(bad("Port", port));
    }
    Ok(ContainerPort { number: port, protocol })
}

/// A value among options; nothing where it is absent.
fn option<T: Default + DeserializeOwned>(options: &wire::Options, key: &'static str) -> Result<T, Bad> {
    match options.get(key) {
        None | Some(Value::Null) => Ok(T::default()),
        Some(value) => serde_json::from_value(value.clone()).map_err(|_| bad(key, value)),
    }
}

/// Docker refuses an answer to what it has chosen itself: only what was left open is answered.
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
            // Docker looks for a way out elsewhere where it is given no IPv4 one, but for internal networks.
            disable_gateway_service: joined.gateway.is_none() && !joined.internal,
            gateway: text(joined.gateway.map(|address| address.to_string())),
            gateway_ipv6: text(joined.gateway_ipv6.map(|address| address.to_string())),
        }
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
