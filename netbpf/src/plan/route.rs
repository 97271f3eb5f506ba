//! Which of a container's networks gives its default route.

use std::{cmp::Reverse, net::Ipv4Addr};

use crate::model::{Container, Id, Network};

/// The gateway by Docker's rule: highest `--gw-priority`, then networks that are not internal, then the first name.
/// Internal networks never give one.
pub fn default_gateway<'a>(
    container: &Container,
    network: impl Fn(&Id) -> Option<&'a Network>,
) -> Option<Ipv4Addr> {
    container
        .attachments
        .iter()
        .filter(|attachment| attachment.endpoint.is_some())
        .filter_map(|attachment| Some((attachment, network(&attachment.network)?)))
        .filter(|(_, network)| !network.internal)
        .min_by_key(|(attachment, network)| {
            (Reverse(attachment.request.gateway_priority), network.name.clone())
        })
        .and_then(|(_, network)| Some(network.bridge()?.subnet.gateway))
}
