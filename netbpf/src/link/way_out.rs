//! Finds the uplink of packets to another host, if nothing but its route decides where they go, and tells whether rules of
//! routing could. IPv4 only. Changes nothing.

use std::{io, net::Ipv4Addr};

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{LinkAttribute, LinkLayerType, LinkMessage},
    route::{RouteAttribute, RouteMessage, RouteMetric, RouteType},
    rule::{RuleAction, RuleAttribute, RuleMessage},
    tc::{TcAttribute, TcMessage},
};
use rtnetlink::{RouteMessageBuilder, sys::protocols::NETLINK_ROUTE};

use super::{Error, Links, links::with_index};
use crate::multicast::Listener;

/// The routing tables `default`, `main` and `local`.
const USUAL_TABLES: [u32; 3] = [253, 254, 255];

/// `RTNLGRP_TC`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV4_ROUTE` and `RTNLGRP_IPV4_RULE`.
const GROUPS: [u32; 4] = [4, 5, 7, 8];

/// An interface to other hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayOut {
    /// Its ifindex.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
}

/// Changes of addresses, routes and rules of IPv4, and of queueing disciplines and filters, in the host's namespace, from the
/// creation of this value on.
pub struct RouteChanges(Listener);

impl RouteChanges {
    /// Listens in the namespace of the calling thread, which must be in a tokio runtime.
    ///
    /// # Errors
    /// If the kernel gives no netlink socket.
    pub fn watch() -> io::Result<Self> {
        Listener::open(NETLINK_ROUTE, &GROUPS).map(Self)
    }

    /// Waits for a change. That some were lost counts as one.
    ///
    /// # Errors
    /// If the socket is broken.
    pub async fn next(&mut self) -> io::Result<()> {
        self.0.next().await.map(drop)
    }
}

impl Links {
    /// The Ethernet interface by which the host sends packets to an address. None if there is none, or if the route has
    /// more than a next hop: an MTU, an encapsulation.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel does not tell.
    pub async fn way_out(&self, address: Ipv4Addr) -> Result<Option<WayOut>, Error> {
        let request = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32).build();
        let route = match self.socket.get(RouteNetlinkMessage::GetRoute(request)).await {
            Ok(RouteNetlinkMessage::NewRoute(route)) => route,
            // There is none.
            Ok(_) | Err(_) => return Ok(None),
        };
        let Some(ifindex) = plain_interface(&route) else { return Ok(None) };
        let failed = |refusal| Error::failed("look at", format!("link {ifindex}"), refusal);
        let link =
            self.socket.get(RouteNetlinkMessage::GetLink(with_index(ifindex))).await.map_err(failed)?;
        let RouteNetlinkMessage::NewLink(link) = link else { return Ok(None) };
        Ok(ethernet_name(&link).map(|name| WayOut { ifindex, name }))
    }

    /// The queueing disciplines of all interfaces, by ifindex and kind; not `noqueue`, which does nothing.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel does not list them.
    pub async fn disciplines(&self) -> Result<Vec<(u32, String)>, Error> {
        let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        let all = self.socket.dump(request).await;
        let all = all.map_err(|refusal| Error::failed("list", "queueing disciplines", refusal))?;
        Ok(all.iter().filter_map(discipline).filter(|(_, kind)| kind != "noqueue").collect())
    }

    /// Whether rules of routing (`ip rule`) lead packets another way than by their route.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel does not list them.
    pub async fn has_routing_rules(&self) -> Result<bool, Error> {
        let mut request = RuleMessage::default();
        request.header.family = AddressFamily::Inet;
        let rules = self.socket.dump(RouteNetlinkMessage::GetRule(request)).await;
        let rules = rules.map_err(|refusal| Error::failed("list", "routing rules", refusal))?;
        Ok(rules.iter().any(|entry| match entry {
            RouteNetlinkMessage::NewRule(rule) => !is_usual(rule),
            _ => false,
        }))
    }
}

fn discipline(entry: &RouteNetlinkMessage) -> Option<(u32, String)> {
    let RouteNetlinkMessage::NewQueueDiscipline(found) = entry else { return None };
    let kind = found.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind.clone()),
        _ => None,
    })?;
    Some((found.header.index.cast_unsigned(), kind))
}

/// The interface of a route that has nothing but a next hop.
fn plain_interface(route: &RouteMessage) -> Option<u32> {
    let is_plain = route.header.kind == RouteType::Unicast
        && route.attributes.iter().all(|attribute| match attribute {
            RouteAttribute::Metrics(metrics) => {
                !metrics.iter().any(|metric| matches!(metric, RouteMetric::Mtu(_) | RouteMetric::Lock(_)))
            }
            RouteAttribute::Encap(_) | RouteAttribute::EncapType(_) | RouteAttribute::Via(_) => false,
            _ => true,
        });
    let interface = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(ifindex) => Some(*ifindex),
        _ => None,
    });
    interface.filter(|_| is_plain)
}

fn ethernet_name(link: &LinkMessage) -> Option<String> {
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    name.filter(|_| link.header.link_layer_type == LinkLayerType::Ether)
}

/// Whether a rule leads all packets to one of the tables that every host has.
fn is_usual(rule: &RuleMessage) -> bool {
    let header = &rule.header;
    header.action == RuleAction::ToTable
        && (header.src_len, header.dst_len, header.tos) == (0, 0, 0)
        && rule.attributes.iter().all(|attribute| match attribute {
            RuleAttribute::Table(table) => USUAL_TABLES.contains(table),
            // All bits are set if nothing is suppressed.
            RuleAttribute::SuppressPrefixLen(length) => *length == u32::MAX,
            RuleAttribute::Priority(_) | RuleAttribute::Protocol(_) => true,
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(attributes: Vec<RuleAttribute>) -> RuleMessage {
        let mut rule = RuleMessage::default();
        rule.header.action = RuleAction::ToTable;
        rule.attributes = attributes;
        rule
    }

    #[test]
    fn a_rule_that_selects_packets_or_leads_to_another_table_is_unusual() {
        let usual = || {
            vec![
                RuleAttribute::Table(254),
                RuleAttribute::Priority(32766),
                RuleAttribute::SuppressPrefixLen(u32::MAX),
            ]
        };
        assert!(is_usual(&rule(usual())));
        for more in [
            RuleAttribute::Table(100),
            RuleAttribute::FwMark(1),
            RuleAttribute::L3MDev(true),
            RuleAttribute::Iifname("eth0".to_owned()),
            RuleAttribute::SuppressPrefixLen(0),
        ] {
            assert!(!is_usual(&rule([usual(), vec![more.clone()]].concat())), "{more:?}");
        }
        let mut from = rule(usual());
        from.header.src_len = 24;
        assert!(!is_usual(&from));
        let mut blackhole = rule(usual());
        blackhole.header.action = RuleAction::Blackhole;
        assert!(!is_usual(&blackhole));
    }

    #[test]
    fn a_route_with_an_mtu_or_an_encapsulation_is_not_plain() {
        let route = |kind, attributes| {
            let mut route = RouteMessage::default();
            (route.header.kind, route.attributes) = (kind, attributes);
            plain_interface(&route)
        };
        let metrics = |metric| RouteAttribute::Metrics(vec![metric]);
        let oif = || RouteAttribute::Oif(7);
        assert_eq!(route(RouteType::Unicast, vec![oif(), metrics(RouteMetric::Hoplimit(9))]), Some(7));
        assert_eq!(route(RouteType::Local, vec![oif()]), None);
        assert_eq!(route(RouteType::Unicast, vec![oif(), metrics(RouteMetric::Mtu(1400))]), None);
        assert_eq!(route(RouteType::Unicast, vec![]), None);
    }
}
