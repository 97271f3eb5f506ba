//! Converts messages about networks: requests for the daemon, with Docker's refusals of what cannot be parsed.

use super::error::Error;
use crate::{
    api::types::NetworkCreate,
    daemon::NetworkRequest,
    ipam::{self, Request},
    model::{Options, check_network_name},
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
    let subnets = Request::parse(&requests, ipv4, ipv6)?;
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
