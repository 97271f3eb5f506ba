//! Finds the largest packet that a new link should pass on in one piece (GSO), from the host's uplinks.
//!
//! TCP sends pieces as large as the device of its route takes. Between containers, large pieces make bulk
//! transfers fast: with four times the usual 64 KB (BIG TCP; both families from Linux 6.3) one CPU moves more
//! than twice as much. But TCP looks only at its own device. If an uplink takes less, the kernel cuts each
//! piece into single frames in software, and traffic to other hosts loses half of its speed. So a new link
//! gets the limit of the uplinks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage},
    route::{RouteAttribute, RouteMessage},
};
use rtnetlink::RouteMessageBuilder;

use super::{
    Error, Links,
    links::{LOOPBACK, with_index},
};
use crate::model::{BIG_TCP, GSO_LEGACY_MAX_SIZE};

/// Documentation addresses (RFC 5737, RFC 3849): their route is the default route.
const ELSEWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

impl Links {
    /// The largest packet in bytes that a new link should pass on in one piece: `wanted`, or what all of the
    /// host's uplinks take, up to [`BIG_TCP`]. 65536 on kernels without larger sizes (before Linux 6.3), and
    /// if there is no uplink, because one may come.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel does not tell about an uplink: `ENODEV` if it is deleted meanwhile.
    pub async fn gso_max_size(&self, wanted: Option<u32>) -> Result<u32, Error> {
        if let Some(size) = wanted {
            // Older kernels do not report this size.
            let is_known = limit(&self.link(LOOPBACK).await?).is_some();
            return Ok(if is_known { size } else { GSO_LEGACY_MAX_SIZE });
        }
        let [ipv4, ipv6] = ELSEWHERE;
        let takes = tokio::try_join!(self.taken_to(ipv4), self.taken_to(ipv6))?;
        let smallest = [takes.0, takes.1].into_iter().flatten().min();
        Ok(smallest.unwrap_or(GSO_LEGACY_MAX_SIZE).clamp(GSO_LEGACY_MAX_SIZE, BIG_TCP))
    }

    /// The largest packet that the link towards an address takes; none if there is no route.
    async fn taken_to(&self, address: IpAddr) -> Result<Option<u32>, Error> {
        let Some(uplink) = self.way_to(address).await else { return Ok(None) };
        Ok(Some(limit(&self.link(uplink).await?).unwrap_or(GSO_LEGACY_MAX_SIZE)))
    }

    /// The ifindex of the route to an address; none if there is no route.
    async fn way_to(&self, address: IpAddr) -> Option<u32> {
        let route = match address {
            IpAddr::V4(address) => {
                RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32).build()
            }
            IpAddr::V6(address) => {
                RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(address, 128).build()
            }
        };
        match self.socket.get(RouteNetlinkMessage::GetRoute(route)).await {
            Ok(RouteNetlinkMessage::NewRoute(route)) => link_of(&route),
            // Unreachable, or forbidden.
            Ok(_) | Err(_) => None,
        }
    }

    pub(super) async fn link(&self, ifindex: u32) -> Result<LinkMessage, Error> {
        let failed = |refusal| Error::failed("look at", format!("link {ifindex}"), refusal);
        match self.socket.get(RouteNetlinkMessage::GetLink(with_index(ifindex))).await.map_err(failed)? {
            RouteNetlinkMessage::NewLink(link) => Ok(link),
            _ => Ok(LinkMessage::default()),
        }
    }
}

fn link_of(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(ifindex) => Some(*ifindex),
        _ => None,
    })
}

/// The attributes of a link that takes packets of this size in bytes.
pub(super) fn sizes(size: u32) -> [LinkAttribute; 4] {
    [
        LinkAttribute::GsoMaxSize(size),
        LinkAttribute::GroMaxSize(size),
        LinkAttribute::GsoIpv4MaxSize(size),
        LinkAttribute::GroIpv4MaxSize(size),
    ]
}

/// The largest packet of either family that a link takes; none on kernels without a limit for each family.
fn limit(link: &LinkMessage) -> Option<u32> {
    let mut sizes = (None, None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::GsoMaxSize(size) => sizes.0 = Some(*size),
            LinkAttribute::GsoIpv4MaxSize(size) => sizes.1 = Some(*size),
            _ => {}
        }
    }
    Some(sizes.0?.min(sizes.1?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(attributes: Vec<LinkAttribute>) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.attributes = attributes;
        link
    }

    #[test]
    fn the_limit_is_the_smaller_one_of_both_families() {
        let both = [LinkAttribute::GsoMaxSize(262_144), LinkAttribute::GsoIpv4MaxSize(65536)];
        assert_eq!(limit(&link(both.to_vec())), Some(65536));
        assert_eq!(limit(&link(vec![LinkAttribute::GsoMaxSize(65536)])), None);
    }
}
