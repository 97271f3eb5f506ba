//! Reads netbpf's links, their counters, the host's routes, and the interfaces in a namespace. Changes
//! nothing.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope, RouteType},
};
use nix::{
    ifaddrs::{InterfaceAddress, getifaddrs},
    net::if_::{InterfaceFlags, if_nameindex},
    sys::socket::SockaddrStorage,
};
use rtnetlink::RouteMessageBuilder;

use super::{Error, Links, Namespace, socket::Socket};
use crate::model::Mac;

/// One of netbpf's links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedLink {
    /// Its ifindex.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Whether it was set up.
    pub up: bool,
    /// In bytes.
    pub mtu: u32,
    /// Its MAC.
    pub mac: Option<Mac>,
    /// Its queueing discipline: `noqueue`, unless somebody set another.
    pub discipline: String,
}

/// What a link received. On the host side of a container's pair, that is what the container sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Frames.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Links {
    /// All veth ends of a group, by ifindex.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel refuses.
    pub async fn owned(&self, group: u32) -> Result<Vec<OwnedLink>, Error> {
        let mut owned: Vec<_> =
            self.veths(group, vec![LinkExtentMask::SkipStats]).await?.iter().map(owned_link).collect();
        owned.sort_by_key(|link| link.ifindex);
        Ok(owned)
    }

    /// Counters of all veth ends of a group, by ifindex.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel refuses.
    pub async fn received(&self, group: u32) -> Result<HashMap<u32, Received>, Error> {
        let links = self.veths(group, Vec::new()).await?;
        Ok(links
            .iter()
            .filter_map(|link| {
                link.attributes.iter().find_map(|attribute| match attribute {
                    LinkAttribute::Stats64(stats) => {
                        let received = Received { packets: stats.rx_packets, bytes: stats.rx_bytes };
                        Some((link.header.index, received))
                    }
                    _ => None,
                })
            })
            .collect())
    }

    /// Subnets with a direct route on a link of the host. A new network must not overlap them (Docker's rule
    /// since v23; routes over a gateway do not count). Only the table `main` is read.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel refuses.
    pub async fn on_link_routes(&self) -> Result<Vec<Ipv4Net>, Error> {
        let routes = self.routes(RouteMessageBuilder::<Ipv4Addr>::new().build()).await?;
        Ok(routes.iter().filter_map(on_link).collect())
    }

    /// The same for IPv6. Link-local subnets exist on every link and do not count.
    ///
    /// # Errors
    /// [`Error::Failed`], as of [`Links::on_link_routes`].
    pub async fn on_link_routes_ipv6(&self) -> Result<Vec<Ipv6Net>, Error> {
        let routes = self.routes(RouteMessageBuilder::<Ipv6Addr>::new().build()).await?;
        Ok(routes.iter().filter_map(on_link_ipv6).collect())
    }

    /// The destinations of all routes of both families, in all tables; the host's own addresses are in the table
    /// `local`.
    ///
    /// # Errors
    /// [`Error::Failed`], as of [`Links::on_link_routes`].
    pub async fn destinations(&self) -> Result<Vec<IpNet>, Error> {
        let mut routes = self.routes(RouteMessageBuilder::<Ipv4Addr>::new().build()).await?;
        routes.extend(self.routes(RouteMessageBuilder::<Ipv6Addr>::new().build()).await?);
        Ok(routes.iter().filter_map(destination).collect())
    }

    pub(super) async fn routes(&self, request: RouteMessage) -> Result<Vec<RouteMessage>, Error> {
        let routes = self
            .socket
            .dump(RouteNetlinkMessage::GetRoute(request))
            .await
            .map_err(|refusal| Error::failed("list", "routes", refusal))?;
        Ok(routes
            .into_iter()
            .filter_map(|entry| match entry {
                RouteNetlinkMessage::NewRoute(route) => Some(route),
                _ => None,
            })
            .collect())
    }

    /// Names of the interfaces in a namespace, including `lo`.
    ///
    /// # Errors
    /// [`Error::NotANamespace`], or [`Error::Failed`] if the namespace cannot be entered or its interfaces
    /// cannot be listed.
    pub async fn interfaces_in(&self, netns: &Namespace) -> Result<Vec<String>, Error> {
        let names = netns
            .run(|| {
                if_nameindex().map(|interfaces| {
                    interfaces.iter().map(|each| each.name().to_string_lossy().into_owned()).collect()
                })
            })
            .await?;
        names.map_err(|errno| Error::failed("list", format!("interfaces in {netns}"), errno))
    }

    /// The addresses of an interface in a namespace; none if there is no such interface, or it is down.
    ///
    /// # Errors
    /// As of [`Links::interfaces_in`].
    pub async fn addresses_in(
        &self,
        netns: &Namespace,
        interface: &str,
    ) -> Result<Option<Vec<IpNet>>, Error> {
        let all = netns.run(|| getifaddrs().map(Iterator::collect::<Vec<_>>)).await?;
        let all = all.map_err(|errno| Error::failed("list", format!("addresses in {netns}"), errno))?;
        let of_interface: Vec<_> = all.iter().filter(|address| address.interface_name == interface).collect();
        let is_up = of_interface.iter().any(|address| address.flags.contains(InterfaceFlags::IFF_UP));
        Ok(is_up.then(|| of_interface.into_iter().filter_map(net_of).collect()))
    }

    /// The gateways of a namespace's default routes, in the table `main`.
    ///
    /// # Errors
    /// [`Error::NotANamespace`], or [`Error::Failed`] if the namespace cannot be entered or its routes cannot be listed.
    pub async fn default_routes_in(&self, netns: &Namespace) -> Result<Vec<IpAddr>, Error> {
        let (socket, ()) = Socket::open_in(netns, || Ok(())).await?;
        let mut gateways = Vec::new();
        let requests =
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
        for request in requests {
            let routes = socket.dump(RouteNetlinkMessage::GetRoute(request)).await;
            let routes =
                routes.map_err(|refusal| Error::failed("list", format!("routes in {netns}"), refusal))?;
            gateways.extend(routes.iter().filter_map(default_gateway));
        }
        Ok(gateways)
    }

    async fn veths(&self, group: u32, without: Vec<LinkExtentMask>) -> Result<Vec<LinkMessage>, Error> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]));
        request.attributes.push(LinkAttribute::ExtMask(without));
        let mut links = self.list(request).await?;
        links.retain(|link| link.attributes.contains(&LinkAttribute::Group(group)));
        Ok(links)
    }

    /// All links of the namespace that the request asks for.
    pub(super) async fn list(&self, request: LinkMessage) -> Result<Vec<LinkMessage>, Error> {
        let links = self
            .socket
            .dump(RouteNetlinkMessage::GetLink(request))
            .await
            .map_err(|refusal| Error::failed("list", "links", refusal))?;
        // A link that was read twice counts once, as it was last.
        let links: BTreeMap<u32, LinkMessage> = links
            .into_iter()
            .filter_map(|entry| match entry {
                RouteNetlinkMessage::NewLink(link) => Some((link.header.index, link)),
                _ => None,
            })
            .collect();
        Ok(links.into_values().collect())
    }
}

/// The gateway of a default route in the table `main`.
fn default_gateway(entry: &RouteNetlinkMessage) -> Option<IpAddr> {
    let RouteNetlinkMessage::NewRoute(route) = entry else { return None };
    let header = &route.header;
    if (header.table, header.destination_prefix_length) != (RouteHeader::RT_TABLE_MAIN, 0) {
        return None;
    }
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some((*address).into()),
        RouteAttribute::Gateway(RouteAddress::Inet6(address)) => Some((*address).into()),
        _ => None,
    })
}

/// An address with the length of its prefix.
fn net_of(address: &InterfaceAddress) -> Option<IpNet> {
    let ip = |storage: &SockaddrStorage| -> Option<IpAddr> {
        let ipv4 = storage.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        ipv4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
    };
    IpNet::with_netmask(ip(address.address.as_ref()?)?, ip(address.netmask.as_ref()?)?).ok()
}

fn owned_link(message: &LinkMessage) -> OwnedLink {
    let mut link = OwnedLink {
        ifindex: message.header.index,
        name: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        mtu: 0,
        mac: None,
        discipline: String::new(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Qdisc(discipline) => link.discipline.clone_from(discipline),
            LinkAttribute::Address(octets) => {
                let octets = <[u8; 6]>::try_from(octets.as_slice());
                link.mac = octets.ok().and_then(|octets| octets.try_into().ok());
            }
            _ => {}
        }
    }
    link
}

fn on_link(route: &RouteMessage) -> Option<Ipv4Net> {
    let header = &route.header;
    if (header.table, header.scope, header.kind)
        != (RouteHeader::RT_TABLE_MAIN, RouteScope::Link, RouteType::Unicast)
    {
        return None;
    }
    match destination(route)? {
        IpNet::V4(net) => Some(net),
        IpNet::V6(_) => None,
    }
}

/// The destination of a route; none for a default route.
fn destination(route: &RouteMessage) -> Option<IpNet> {
    let address: IpAddr = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some((*address).into()),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some((*address).into()),
        _ => None,
    })?;
    IpNet::new(address, route.header.destination_prefix_length).ok()
}

/// IPv6 routes have no scope: a route without a gateway is on a link.
fn on_link_ipv6(route: &RouteMessage) -> Option<Ipv6Net> {
    let header = &route.header;
    let leads_on = |attribute: &RouteAttribute| {
        matches!(
            attribute,
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_)
        )
    };
    if (header.table, header.kind) != (RouteHeader::RT_TABLE_MAIN, RouteType::Unicast)
        || route.attributes.iter().any(leads_on)
    {
        return None;
    }
    let net = match destination(route)? {
        IpNet::V6(net) => Some(net),
        IpNet::V4(_) => None,
    };
    net.filter(|net| !net.addr().is_unicast_link_local() && !net.addr().is_multicast())
}
