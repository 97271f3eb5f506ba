//! How the host reaches the world, and what that means for the packets that it is sent.
//!
//! TCP hands over as much in one piece as the device of its route takes. Between containers, large pieces are what makes
//! bulk transfers fast: with four times the usual 64 KB (BIG TCP; both families from Linux 6.3) one CPU moves more than
//! twice as much. But TCP asks its own device only. Where an uplink takes less, the kernel cuts each piece to single
//! frames in software, and traffic to the world loses half of its speed. So a link gets what the uplinks take.

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

/// Addresses of nobody (RFC 5737, RFC 3849): the way to them is the way to the world.
const ELSEWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

impl Links {
    /// The largest packet that a new link should hand over in one piece, in bytes: as wanted, or what all of the host's
    /// uplinks take, but no more than is worth it. 65536 where the kernel knows no more (before 6.3), and where there is
    /// no uplink, because one may come.
    pub async fn gso_max_size(&self, wanted: Option<u32>) -> Result<u32, Error> {
        if let Some(size) = wanted {
            // A kernel that has no such size says none.
            let is_known = limit(&self.link(LOOPBACK).await?).is_some();
            return Ok(if is_known { size } else { GSO_LEGACY_MAX_SIZE });
        }
        let [ipv4, ipv6] = ELSEWHERE;
        let takes = tokio::try_join!(self.taken_to(ipv4), self.taken_to(ipv6))?;
        let smallest = [takes.0, takes.1].into_iter().flatten().min();
        Ok(smallest.unwrap_or(GSO_LEGACY_MAX_SIZE).clamp(GSO_LEGACY_MAX_SIZE, BIG_TCP))
    }

    /// The largest packet that the link takes which leads to an address; none if nothing leads there.
    async fn taken_to(&self, address: IpAddr) -> Result<Option<u32>, Error> {
        let Some(uplink) = self.way_to(address).await else { return Ok(None) };
        Ok(Some(limit(&self.link(uplink).await?).unwrap_or(GSO_LEGACY_MAX_SIZE)))
    }

    /// The number of the link that leads to an address; none if nothing does.
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

    async fn link(&self, ifindex: u32) -> Result<LinkMessage, Error> {
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

/// The largest packet that a link takes of both families; none on a kernel that has one size for all.
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
    fn a_link_takes_what_both_families_may_have() {
        let both = [LinkAttribute::GsoMaxSize(262_144), LinkAttribute::GsoIpv4MaxSize(65536)];
        assert_eq!(limit(&link(both.to_vec())), Some(65536));
        assert_eq!(limit(&link(vec![LinkAttribute::GsoMaxSize(65536)])), None);
    }
}
