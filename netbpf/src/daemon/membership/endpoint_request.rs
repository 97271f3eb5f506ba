//! Parses a user's request for an endpoint, with Docker's rules. Must not know leases.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    api::types::EndpointSettings,
    daemon::Error,
    ipam,
    model::{EndpointOptions, EndpointRequest, Link, Mac, Network, check_alias},
};

/// Parses a user's request for an endpoint in `network`.
pub(in crate::daemon) fn parse_request(
    settings: &EndpointSettings,
    network: &Network,
) -> Result<EndpointRequest, Error> {
    let invalid = |message: String| Error::Invalid(format!("invalid endpoint settings:\n{message}"));
    let addresses = settings.ipam_config.clone().unwrap_or_default();
    let ipv4: Option<Ipv4Addr> = match addresses.ipv4_address.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| invalid(format!("invalid IPv4 address: {text}")))?),
    };
    let ipv6: Option<Ipv6Addr> = match addresses.ipv6_address.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| invalid(format!("invalid IPv6 address: {text}")))?),
    };
    let aliases = settings.aliases.clone().unwrap_or_default();
    if network.name == Network::DEFAULT {
        if ipv4.is_some() || ipv6.is_some() {
            return Err(Error::AddressOnDefaultNetwork);
        }
        if !aliases.is_empty() {
            return Err(Error::AliasOnDefaultNetwork);
        }
    }
    if let Some(bridge) = network.bridge() {
        let stray = [
            ipv4.filter(|_| bridge.ipv4.is_none()).map(IpAddr::from),
            ipv6.filter(|_| bridge.ipv6.is_none()).map(IpAddr::from),
        ];
        if let Some(address) = stray.into_iter().flatten().next() {
            return Err(ipam::Error::Outside(address).into());
        }
    }
    for alias in &aliases {
        check_alias(alias).map_err(|error| invalid(error.to_string()))?;
    }
    let mac = match settings.mac_address.as_str() {
        "" => None,
        text => Some(text.parse::<Mac>()?),
    };
    let links = settings
        .links
        .iter()
        .flatten()
        .map(|text| Link::parse(text).map_err(|error| invalid(error.to_string())))
        .collect::<Result<Vec<_>, _>>()?;
    if network.name == Network::DEFAULT && !links.is_empty() {
        return Err(Error::LinkOnDefaultNetwork);
    }
    let options = settings.driver_opts.as_ref().map_or_else(
        || Ok(EndpointOptions::default()),
        |given| EndpointOptions::parse(given).map_err(|error| invalid(error.to_string())),
    )?;
    Ok(EndpointRequest { ipv4, ipv6, mac, aliases, links, options, gateway_priority: settings.gw_priority })
}
