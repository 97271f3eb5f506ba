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
    daemon::{DockerEndpointRequest, DockerNetwork, DockerPorts, Joined},
    ipam::{self, Request},
    model::{
        BadEndpointOption, BadOption, ContainerPort, Endpoint, EndpointOptions, Id, NeedlessGateways,
        Options, PortRange, Protocol, Publish, one_line,
    },
};

const GENERIC: &str = "com.docker.network.generic";
const INTERNAL: &str = "com.docker.network.internal";
const EXPOSED: &str = "com.docker.network.endpoint.exposedports";
const PORTMAP: &str = "com.docker.network.portmap";
/// Whether host ports at IPv6 must not lead to the endpoint's IPv4 address, because another endpoint has the container's
/// IPv6 default route. Engines up to 27 do not send it.
const NO_RELAY: &str = "com.docker.network.driver.private.no_proxy_6to4";
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
    /// An invalid subnet or IPAM option.
    #[error(transparent)]
    Ipam(#[from] ipam::Error),
    /// An invalid option of a network.
    #[error(transparent)]
    NetworkOption(#[from] BadOption),
    /// An invalid option of an endpoint.
    #[error(transparent)]
    EndpointOption(#[from] BadEndpointOption),
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
            return Err(ipam::Error::MultipleSubnets.into());
        }
        let id = network_id(&id)?;
        let (internal, given, options) = network_options(&options)?;
        let data: Vec<_> = ipv4_data.iter().chain(&ipv6_data).collect();
        let auxiliary = data.iter().map(|data| auxiliary(data)).collect::<Result<Vec<_>, _>>()?;
        let requests = data.iter().zip(&auxiliary).map(|(data, auxiliary)| subnet(data, auxiliary));
        let requests = requests.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            id,
            internal,
            subnets: Request::parse(&requests, !ipv4_data.is_empty(), !ipv6_data.is_empty())?
                .without(NeedlessGateways::of(&options, internal)),
            options,
            given,
        })
    }
}

/// Whether a network is internal, and the user's options as typed and parsed.
fn network_options(
    options: &wire::Options,
) -> Result<(bool, BTreeMap<String, String>, Options), InvalidMessage> {
    let internal = match options.get(INTERNAL) {
        None | Some(Value::Null) => false,
        Some(value) => value.as_bool().ok_or_else(|| invalid(INTERNAL, value))?,
    };
    let given: BTreeMap<String, String> = option(options, GENERIC)?;
    let parsed = Options::parse(&given, internal)?;
    Ok((internal, given, parsed))
}

/// The gateways for which Docker need not lease an address.
pub fn skipped_gateways(message: &wire::GwAllocCheck) -> Result<wire::SkippedGateways, InvalidMessage> {
    let (internal, _, options) = network_options(&message.options)?;
    let NeedlessGateways { ipv4, ipv6 } = NeedlessGateways::of(&options, internal);
    Ok(wire::SkippedGateways { ipv4, ipv6 })
}

fn subnet<'a>(
    data: &'a wire::IpamData,
    auxiliary: &'a BTreeMap<String, String>,
) -> Result<Request<'a>, InvalidMessage> {
    let _: IpNet = data.pool.parse().map_err(|_| invalid("Pool", &data.pool))?;
    Ok(Request { subnet: &data.pool, range: "", gateway: address("Gateway", &data.gateway)?, auxiliary })
}

fn auxiliary(data: &wire::IpamData) -> Result<BTreeMap<String, String>, InvalidMessage> {
    let addresses = data.aux_addresses.iter();
    addresses.map(|(name, text)| Ok((name.clone(), address("AuxAddresses", text)?.to_owned()))).collect()
}

/// Docker writes an address with the prefix length of the subnet.
fn address<'a>(field: &'static str, text: &'a str) -> Result<&'a str, InvalidMessage> {
    given::<IpNet>(field, text)?;
    Ok(text.split_once('/').map_or(text, |(address, _)| address))
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
pub fn ports(options: &wire::Options) -> Result<DockerPorts, InvalidMessage> {
    let publish = option::<Vec<wire::PortBinding>>(options, PORTMAP)?.into_iter().map(binding);
    Ok(DockerPorts { publish: publish.collect::<Result<_, _>>()?, without_relay: option(options, NO_RELAY)? })
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
