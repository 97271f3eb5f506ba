//! Which of a container's networks gives its default route.

use std::{cmp::Reverse, net::Ipv4Addr};

use crate::model::{Container, Endpoint, Id, Network};

/// What gives a container its default route.
#[derive(Clone, Copy, Debug)]
pub struct Gateway<'a> {
    /// Where the route leads.
    pub address: Ipv4Addr,
    /// The network.
    pub network: &'a Network,
    /// The container's endpoint in it: the one that ports are published at.
    pub endpoint: &'a Endpoint,
}

/// The gateway by Docker's rule: highest `--gw-priority`, then networks that are not internal, then the first name.
/// Internal networks never give one.
pub fn default_gateway<'a>(
    container: &'a Container,
    network: impl Fn(&Id) -> Option<&'a Network>,
) -> Option<Gateway<'a>> {
    container
        .attachments
        .iter()
        .filter_map(|attachment| {
            Some((attachment, attachment.endpoint.as_ref()?, network(&attachment.network)?))
        })
        .filter(|(_, _, network)| !network.internal)
        .min_by_key(|(attachment, _, network)| {
            (Reverse(attachment.request.gateway_priority), network.name.clone())
        })
        .and_then(|(_, endpoint, network)| {
            Some(Gateway { address: network.bridge()?.subnet.default_gateway(), network, endpoint })
        })
}
