//! Converts messages about networks: requests for the daemon, with Docker's refusals of what cannot be parsed, and
//! `inspect`.

use std::collections::BTreeMap;

use super::{container::nanoseconds, error::Error};
use crate::{
    api::types::{ConfigFrom, Ipam, IpamConfig, NetworkContainer, NetworkCreate, NetworkResource},
    daemon::{MemberView, NetworkRequest, NetworkView},
    ipam::{self, Request},
    model::{Block, Bridge, NeedlessGateways, Network, Options, Subnet, check_network_name},
};

/// Parses `network create`.
pub fn parse(message: NetworkCreate) -> Result<NetworkRequest, Error> {
    check_network_name(&message.name)?;
    if !matches!(message.driver.as_str(), "" | "bridge" | "netbpf") {
        return Err(Error::NoPlugin(message.driver));
    }
    if !matches!(message.scope.as_str(), "" | "local") {
        return Err(Error::Invalid(format!("invalid scope {}: netbpf's networks are local", message.scope)));
    }
    if !matches!(message.ipam.driver.as_str(), "" | "default") {
        return Err(Error::NoPlugin(message.ipam.driver));
    }
    ipam::check_options(&message.ipam.options.unwrap_or_default())?;
    let options = Options::parse(&message.options, message.internal)?;
    let requests: Vec<_> = message
        .ipam
        .config
        .iter()
        .map(|config| Request {
            subnet: &config.subnet,
            range: &config.ip_range,
            gateway: &config.gateway,
            auxiliary: &config.auxiliary_addresses,
        })
        .collect();
    let ipv4 = message.enable_ipv4.or(options.enable_ipv4).unwrap_or(true);
    let ipv6 = message.enable_ipv6.or(options.enable_ipv6).unwrap_or(false);
    let subnets =
        Request::parse(&requests, ipv4, ipv6)?.without(NeedlessGateways::of(&options, message.internal));
    Ok(NetworkRequest {
        name: message.name,
        internal: message.internal,
        attachable: message.attachable,
        options,
        given: message.options,
        labels: message.labels,
        subnets,
    })
}

/// `network inspect`.
pub fn resource(NetworkView { network, members }: NetworkView) -> NetworkResource {
    let bridge = network.bridge();
    let config = |bridge: &Bridge| {
        let ipv4 = bridge.ipv4.as_ref().map(ipam_config);
        ipv4.into_iter().chain(bridge.ipv6.as_ref().map(ipam_config)).collect()
    };
    let member = |MemberView { id, name, endpoint }: &MemberView| {
        let member = NetworkContainer {
            name: name.clone(),
            endpoint_id: endpoint.id.to_string(),
            mac_address: endpoint.mac.to_string(),
            ipv4_address: cidr(endpoint.ipv4, bridge?.ipv4.as_ref()),
            ipv6_address: cidr(endpoint.ipv6, bridge?.ipv6.as_ref()),
        };
        Some((id.to_string(), member))
    };
    NetworkResource {
        name: network.name.clone(),
        id: network.id.to_string(),
        created: nanoseconds(network.created),
        scope: "local".into(),
        driver: network.driver_name().into(),
        // The two that are no bridges have what the host has.
        enable_ipv4: bridge.is_none_or(|bridge| bridge.ipv4.is_some()),
        enable_ipv6: bridge.is_some_and(|bridge| bridge.ipv6.is_some()),
        ipam: Ipam {
            driver: "default".into(),
            options: None,
            config: bridge.map(config).unwrap_or_default(),
        },
        internal: network.internal,
        attachable: network.attachable,
        ingress: false,
        config_from: ConfigFrom::default(),
        config_only: false,
        containers: members.iter().filter_map(member).collect(),
        options: shown_options(&network),
        labels: network.labels.clone(),
    }
}

/// The user's options; for the default network, also those that Docker shows.
fn shown_options(network: &Network) -> BTreeMap<String, String> {
    let bridge = network.bridge().filter(|_| network.name == Network::DEFAULT);
    let Some(bridge) = bridge else { return network.options.clone() };
    let options = [
        ("bridge.default_bridge", "true".to_owned()),
        ("bridge.enable_icc", bridge.options.icc.to_string()),
        ("bridge.enable_ip_masquerade", bridge.options.masquerade.to_string()),
        ("bridge.host_binding_ipv4", "0.0.0.0".to_owned()),
        ("bridge.name", bridge.device.to_string()),
        ("driver.mtu", bridge.options.mtu.to_string()),
    ];
    let shown = options.map(|(key, value)| (format!("com.docker.network.{key}"), value));
    shown.into_iter().chain(network.options.clone()).collect()
}

fn ipam_config<Net: Block>(subnet: &Subnet<Net>) -> IpamConfig {
    let auxiliary = subnet.auxiliary.iter().map(|(name, address)| (name.clone(), address.to_string()));
    IpamConfig {
        subnet: subnet.net.to_string(),
        ip_range: subnet.range.map(|range| range.to_string()).unwrap_or_default(),
        gateway: subnet.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
        auxiliary_addresses: auxiliary.collect(),
    }
}

/// An endpoint's address with the prefix length of its subnet; empty without one.
fn cidr<Net: Block>(address: Option<Net::Address>, subnet: Option<&Subnet<Net>>) -> String {
    let net = address.zip(subnet).map(|(address, subnet)| subnet.net.with_host(address));
    net.map(|net| net.to_string()).unwrap_or_default()
}
