//! Finds interfaces that use router advertisements: those with an address or a route from one (RFC 4861
//! section 4.2). Also lists bridges. Changes nothing.

use std::{collections::BTreeSet, net::Ipv6Addr};

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol},
    link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage},
    route::{RouteAttribute, RouteMessage, RouteProtocol},
};
use rtnetlink::RouteMessageBuilder;

use super::{Error, Links};

impl Links {
    /// Names of the interfaces where the kernel itself configured an IPv6 address or route from a router
    /// advertisement.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel does not list its addresses, routes or links.
    pub async fn listening_to_routers(&self) -> Result<Vec<String>, Error> {
        let mut addresses = AddressMessage::default();
        addresses.header.family = AddressFamily::Inet6;
        let addresses = self
            .socket
            .dump(RouteNetlinkMessage::GetAddress(addresses))
            .await
            .map_err(|refusal| Error::failed("list", "addresses", refusal))?;
        let of_addresses = addresses.iter().filter_map(|entry| match entry {
            RouteNetlinkMessage::NewAddress(address) if is_announced(address) => Some(address.header.index),
            _ => None,
        });
        let routes = self.routes(RouteMessageBuilder::<Ipv6Addr>::new().build()).await?;
        let listening: BTreeSet<u32> = of_addresses.chain(routes.iter().filter_map(announced_by)).collect();
        let links = self.list(LinkMessage::default()).await?;
        Ok(links.iter().filter(|link| listening.contains(&link.header.index)).filter_map(name).collect())
    }

    /// Names of the kernel's bridges: networks of other engines, of virtual machines, of the administrator.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel refuses.
    pub async fn bridges(&self) -> Result<Vec<String>, Error> {
        let is_bridge = |link: &&LinkMessage| {
            link.attributes.iter().any(|attribute| {
                matches!(attribute, LinkAttribute::LinkInfo(info) if info.contains(&LinkInfo::Kind(InfoKind::Bridge)))
            })
        };
        Ok(self.list(LinkMessage::default()).await?.iter().filter(is_bridge).filter_map(name).collect())
    }
}

/// Since Linux 5.18 the kernel tells the origin of an address. Before, an address from an announced prefix
/// can be recognized by its flag: temporary addresses are made from it.
fn is_announced(address: &AddressMessage) -> bool {
    address.attributes.iter().any(|attribute| match attribute {
        AddressAttribute::Protocol(protocol) => *protocol == AddressProtocol::RouterAnnouncement,
        AddressAttribute::Flags(flags) => flags.contains(AddressFlags::Managetempaddr),
        _ => false,
    })
}

/// The ifindex of a route from a router advertisement.
fn announced_by(route: &RouteMessage) -> Option<u32> {
    if route.header.protocol != RouteProtocol::Ra {
        return None;
    }
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(ifindex) => Some(*ifindex),
        _ => None,
    })
}

fn name(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}
