//! Converts the settings of a container's endpoint in a network: requests for the daemon, and `inspect`.

use super::error::Error;
use crate::{
    api::types::{EndpointIpam, EndpointSettings},
    daemon::AttachmentView,
    model::{Attachment, EndpointOptions, EndpointRequest, Link, Mac, Network, check_alias},
};

/// Parses a request for an endpoint, with Docker's messages.
pub fn parse(settings: EndpointSettings) -> Result<EndpointRequest, Error> {
    let invalid = |message: String| Error::Invalid(format!("invalid endpoint settings:\n{message}"));
    let addresses = settings.ipam_config.unwrap_or_default();
    let ipv4 = match addresses.ipv4_address.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| invalid(format!("invalid IPv4 address: {text}")))?),
    };
    let ipv6 = match addresses.ipv6_address.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| invalid(format!("invalid IPv6 address: {text}")))?),
    };
    let aliases = settings.aliases.unwrap_or_default();
    for alias in &aliases {
        check_alias(alias).map_err(|error| invalid(error.to_string()))?;
    }
    let mac = match settings.mac_address.as_str() {
        "" => None,
        text => Some(text.parse::<Mac>()?),
    };
    let links = settings.links.unwrap_or_default();
    let links = links.iter().map(|text| Link::parse(text).map_err(|error| invalid(error.to_string())));
    let links = links.collect::<Result<_, _>>()?;
    let options = EndpointOptions::parse(&settings.driver_opts.unwrap_or_default())
        .map_err(|error| invalid(error.to_string()))?;
    Ok(EndpointRequest {
        ipv4,
        ipv6,
        without_ipv6: false,
        mac,
        aliases,
        links,
        options,
        gateway_priority: settings.gw_priority,
    })
}

/// The endpoint in `inspect`.
pub fn settings(attachment: &Attachment, view: &AttachmentView) -> EndpointSettings {
    let Attachment { request, endpoint, .. } = attachment;
    let bridge = endpoint.as_ref().and(view.network.as_ref()).and_then(Network::bridge);
    let (ipv4, ipv6) =
        (bridge.and_then(|bridge| bridge.ipv4.as_ref()), bridge.and_then(|bridge| bridge.ipv6.as_ref()));
    let list = |names: Vec<String>| (!names.is_empty()).then_some(names);
    EndpointSettings {
        ipam_config: (request.ipv4.is_some() || request.ipv6.is_some())
            .then(|| EndpointIpam { ipv4_address: text(request.ipv4), ipv6_address: text(request.ipv6) }),
        links: list(view.links.iter().map(ToString::to_string).collect()),
        aliases: list(request.aliases.clone()),
        mac_address: text(endpoint.as_ref().map(|endpoint| endpoint.mac).or(request.mac)),
        driver_opts: (!request.options.is_default()).then(|| request.options.given()),
        gw_priority: request.gateway_priority,
        network_id: attachment.network.to_string(),
        endpoint_id: text(endpoint.as_ref().map(|endpoint| endpoint.id)),
        gateway: text(ipv4.and_then(|subnet| subnet.default_gateway())),
        ip_address: text(endpoint.as_ref().and_then(|endpoint| endpoint.ipv4)),
        ip_prefix_len: ipv4.map_or(0, |subnet| subnet.net.prefix_len()),
        ipv6_gateway: text(ipv6.and_then(|subnet| subnet.default_gateway())),
        global_ipv6_address: text(endpoint.as_ref().and_then(|endpoint| endpoint.ipv6)),
        global_ipv6_prefix_len: ipv6.map_or(0, |subnet| subnet.net.prefix_len()),
        dns_names: view.network.as_ref().is_some_and(Network::has_names).then(|| view.names.clone()),
    }
}

/// The text of a value; empty if there is none.
fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
