//! What netbpf's table of the packet filter (`firewall/table.nft`) does with a packet, by the sets that it is in. The chains
//! here have the names of those there. Pure. A flow's first packet, and its answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    model::Mapping,
    plan::{Inbound, NetworkRules, Source as Address},
};

use super::packet::{Packet, Payload};

/// An interface of the host, as the table sees it.
#[derive(Clone, Copy, Debug)]
pub enum Side<'a> {
    /// The host device of a network.
    Network(&'a NetworkRules),
    /// Any other interface, by its name.
    Other(&'a str),
    /// The host itself.
    Own,
}

impl Side<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Network(rules) => &rules.device,
            Self::Other(name) => name,
            Self::Own => "",
        }
    }

    fn is(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

/// What is known of a packet's flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Whether the packet is an answer.
    pub is_reply: bool,
    /// Whether the destination of the first packet was replaced.
    pub dnat: bool,
}

/// What the table does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It accepts the packet; `mark` if it may go from one network to another.
    Accepts {
        /// Whether it sets the mark.
        mark: bool,
        /// The rule or the set that decided.
        by: String,
    },
    /// It drops the packet, and counts it under this name.
    Drops {
        /// `internal`, `unpublished`.
        counter: &'static str,
        /// The rule or the set that decided.
        by: String,
    },
}

fn accepts(by: impl Into<String>) -> Ruling {
    Ruling::Accepts { mark: false, by: by.into() }
}

fn drops(counter: &'static str, by: impl Into<String>) -> Ruling {
    Ruling::Drops { counter, by: by.into() }
}

/// The published port that a packet to one of the host's addresses is translated for, and the map that has it.
pub fn published<'a>(
    mappings: &'a [Mapping],
    packet: &Packet,
    from: &Side<'_>,
) -> Option<(&'a Mapping, String)> {
    let (protocol, port) = packet.port()?;
    let is_outsider = !matches!(from, Side::Own);
    let is_for_loopback = packet.destination.is_loopback();
    let cannot_return = matches!(packet.source, IpAddr::V6(source) if source.is_unicast_link_local());
    if (is_outsider && is_for_loopback) || cannot_return || packet.destination == Ipv6Addr::LOCALHOST {
        return None;
    }
    let candidates = || {
        mappings.iter().filter(move |mapping| {
            mapping.is_translated()
                && (mapping.protocol, mapping.host_port) == (protocol, port)
                && mapping.host.is_ipv4() == packet.destination.is_ipv4()
        })
    };
    let at = candidates().find(|mapping| mapping.host == packet.destination);
    let any = || candidates().find(|mapping| mapping.host.is_unspecified());
    let family = if packet.destination.is_ipv4() { 4 } else { 6 };
    let found = at.map(|mapping| (mapping, format!("at{family} {{ {} . {protocol} . {port}", mapping.host)));
    found.or_else(|| any().map(|mapping| (mapping, format!("any{family} {{ {protocol} . {port}")))).map(
        |(mapping, key)| {
            let text = format!("{key} : {} . {} }}", mapping.container, mapping.container_port);
            (mapping, text)
        },
    )
}

/// The relayed port that a packet to the host is for: the host itself accepts its clients.
pub fn relayed<'a>(mappings: &'a [Mapping], packet: &Packet) -> Option<&'a Mapping> {
    let (protocol, port) = packet.port()?;
    mappings.iter().find(|mapping| {
        mapping.is_relayed()
            && (mapping.protocol, mapping.host_port) == (protocol, port)
            && mapping.host.is_ipv6()
            && packet.destination.is_ipv6()
            && (mapping.host.is_unspecified() || mapping.host == packet.destination)
    })
}

/// Chain `input`: to the host itself.
pub fn input(mappings: &[Mapping], packet: &Packet, from: &Side<'_>) -> Option<Ruling> {
    let Side::Network(rules) = from else { return None };
    if rules.internal && relayed(mappings, packet).is_some() {
        return Some(drops("internal", format!("internal {{ {} }}", rules.device)));
    }
    None
}

/// Chain `forward`.
pub fn forward(
    mappings: &[Mapping],
    packet: &Packet,
    flow: Flow,
    from: &Side<'_>,
    to: &Side<'_>,
) -> Option<Ruling> {
    let is_ours = |side: &Side<'_>| matches!(side, Side::Network(_));
    if !is_ours(from) && !is_ours(to) {
        return None;
    }
    if flow.is_reply {
        return Some(if is_ours(to) { admitted(packet, flow, from, to, "known") } else { accepts("known") });
    }
    if from.is(to) {
        return Some(accepts(format!("own {{ {0} . {0} }}", from.name())));
    }
    for side in [from, to] {
        if let Side::Network(rules) = side
            && rules.internal
        {
            return Some(drops("internal", format!("internal {{ {} }}", rules.device)));
        }
    }
    let Side::Network(rules) = to else { return Some(accepts("forward")) };
    Some(match inbound(mappings, packet, flow, from, rules) {
        Some(by) => admitted(packet, flow, from, to, &by),
        None => drops("unpublished", "inbound"),
    })
}

/// Chain `inbound`: why a packet may go into a network.
fn inbound(
    mappings: &[Mapping],
    packet: &Packet,
    flow: Flow,
    from: &Side<'_>,
    to: &NetworkRules,
) -> Option<String> {
    if flow.dnat {
        return Some("inbound: ct status dnat".to_owned());
    }
    let family = if packet.destination.is_ipv4() { 4 } else { 6 };
    let way = way(to, packet.destination);
    if way == Inbound::All {
        return Some(format!("unprotected{family} {{ {} }}", to.device));
    }
    let is_trusted =
        matches!(from, Side::Other(name) if to.trusted.iter().any(|trusted| &**trusted == *name));
    if way != Inbound::Open && !is_trusted {
        return None;
    }
    if way == Inbound::Open && packet.payload == Payload::Echo {
        return Some(format!("routed{family} {{ {} }}", to.device));
    }
    let (protocol, port) = packet.port()?;
    let is_open = mappings.iter().any(|mapping| {
        mapping.is_translated()
            && (mapping.container, mapping.container_port) == (packet.destination, port)
            && mapping.protocol == protocol
    });
    is_open.then(|| format!("open{family} {{ {} . {protocol} . {port} }}", packet.destination))
}

/// Chain `admitted`: into a network.
fn admitted(packet: &Packet, flow: Flow, from: &Side<'_>, to: &Side<'_>, by: &str) -> Ruling {
    let Side::Network(rules) = from else { return accepts(by) };
    if from.is(to) {
        return accepts(by);
    }
    // The first packet's entry in conntrack is not confirmed yet.
    if flow.is_reply
        && let Some(ruling) = inconsistent(packet, flow, rules)
    {
        return ruling;
    }
    Ruling::Accepts { mark: true, by: by.to_owned() }
}

/// Chain `consistent`, for answers.
fn inconsistent(packet: &Packet, flow: Flow, from: &NetworkRules) -> Option<Ruling> {
    if from.internal {
        return Some(drops("internal", format!("internal {{ {} }}", from.device)));
    }
    let is_consistent = flow.dnat || way(from, packet.source) != Inbound::Published;
    (!is_consistent).then(|| drops("unpublished", "consistent"))
}

/// The new source of a flow's first packet: an address, or that of the outgoing interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewSource {
    /// That of the outgoing interface.
    Interface,
    /// This one.
    Chosen(IpAddr),
}

/// Chain `postrouting`: the new source of a flow's first packet, and the set that decided.
pub fn postrouting(
    networks: &[&NetworkRules],
    packet: &Packet,
    flow: Flow,
    from: &Side<'_>,
    to: &Side<'_>,
) -> Option<(NewSource, String)> {
    match (from, to) {
        (Side::Network(rules), _) if from.is(to) => {
            flow.dnat.then(|| (NewSource::Interface, format!("own {{ {0} . {0} }}", rules.device)))
        }
        (Side::Network(rules), _) => leaving(rules, packet.source),
        (_, Side::Network(_)) => {
            if packet.source.is_loopback() && packet.source.is_ipv4() {
                return Some((NewSource::Interface, "from_host: 127.0.0.0/8".to_owned()));
            }
            let is_gateway = networks.iter().any(|rules| rules.gateways.contains(&packet.source));
            let family = if packet.source.is_ipv4() { 4 } else { 6 };
            (flow.dnat && is_gateway)
                .then(|| (NewSource::Interface, format!("gateways{family} {{ {} }}", packet.source)))
        }
        _ => None,
    }
}

fn leaving(from: &NetworkRules, source: IpAddr) -> Option<(NewSource, String)> {
    let (chosen, is_translated) = match source {
        IpAddr::V4(_) => of(from.ipv4.source),
        IpAddr::V6(_) => of(from.ipv6.source),
    };
    let family = if source.is_ipv4() { 4 } else { 6 };
    match chosen {
        Some(address) => {
            Some((NewSource::Chosen(address), format!("source{family} {{ {} : {address} }}", from.device)))
        }
        None => {
            is_translated.then(|| (NewSource::Interface, format!("masquerade{family} {{ {} }}", from.device)))
        }
    }
}

/// A chosen address, and whether there is any translation.
fn of<T: Into<IpAddr>>(source: Address<T>) -> (Option<IpAddr>, bool) {
    match source {
        Address::Own => (None, false),
        Address::Interface => (None, true),
        Address::Chosen(address) => (Some(address.into()), true),
    }
}

fn way(rules: &NetworkRules, address: IpAddr) -> Inbound {
    if address.is_ipv4() { rules.ipv4.inbound } else { rules.ipv6.inbound }
}

/// The address of all interfaces of a family.
pub fn unspecified(is_ipv4: bool) -> IpAddr {
    if is_ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Protocol,
        plan::{Way, explain::packet::CLIENT_PORT},
    };

    fn rules(device: &str, internal: bool) -> NetworkRules {
        NetworkRules {
            device: device.parse().unwrap(),
            gateways: vec!["10.1.0.1".parse().unwrap()],
            internal,
            max_flows: None,
            trusted: Vec::new(),
            ipv4: Way { source: Address::Interface, inbound: Inbound::Published },
            ipv6: Way { source: Address::Own, inbound: Inbound::Published },
        }
    }

    fn packet(destination: &str, port: u16) -> Packet {
        Packet {
            source: "10.2.0.2".parse().unwrap(),
            destination: destination.parse().unwrap(),
            payload: Payload::Ports { protocol: Protocol::Tcp, source: CLIENT_PORT, destination: port },
        }
    }

    fn web(host: &str) -> Mapping {
        Mapping {
            protocol: Protocol::Tcp,
            host: host.parse().unwrap(),
            host_port: 8080,
            container: "10.1.0.2".parse().unwrap(),
            container_port: 80,
        }
    }

    #[test]
    fn one_address_is_found_before_all_addresses() {
        let mappings = [web("0.0.0.0"), web("192.0.2.1"), web("127.0.0.1")];
        let found =
            |to: &str, port, from: &Side<'_>| published(&mappings, &packet(to, port), from).map(|(_, by)| by);
        let outside = Side::Other("eth0");
        let at = "at4 { 192.0.2.1 . tcp . 8080 : 10.1.0.2 . 80 }";
        assert_eq!(found("192.0.2.1", 8080, &outside).as_deref(), Some(at));
        let any = "any4 { tcp . 8080 : 10.1.0.2 . 80 }";
        assert_eq!(found("203.0.113.1", 8080, &outside).as_deref(), Some(any));
        assert_eq!(found("203.0.113.1", 8081, &outside), None);
        assert_eq!(found("127.0.0.1", 8080, &outside), None);
        assert!(found("127.0.0.1", 8080, &Side::Own).is_some_and(|by| by.starts_with("at4 { 127.0.0.1")));
    }

    #[test]
    fn a_packet_goes_from_one_network_to_another_by_a_published_port_only() {
        let (red, blue, inner) = (rules("red", false), rules("blue", false), rules("inner", true));
        let [red, blue, inner] = [&red, &blue, &inner].map(Side::Network);
        let to = packet("10.1.0.2", 80);
        let new = Flow::default();
        let translated = Flow { dnat: true, ..new };
        assert_eq!(forward(&[], &to, new, &blue, &red), Some(drops("unpublished", "inbound")));
        let marked = Ruling::Accepts { mark: true, by: "inbound: ct status dnat".to_owned() };
        assert_eq!(forward(&[], &to, translated, &blue, &red), Some(marked));
        let is_internal = |ruling| matches!(ruling, Some(Ruling::Drops { counter: "internal", .. }));
        assert!(is_internal(forward(&[], &to, translated, &blue, &inner)));
        assert!(is_internal(forward(&[], &to, new, &inner, &Side::Other("eth0"))));
        assert_eq!(
            forward(&[], &to, translated, &red, &red),
            Some(accepts("own { red . red }")),
            "a network's own published port"
        );
        let reply = Flow { is_reply: true, ..translated };
        assert!(matches!(forward(&[], &to, reply, &red, &blue), Some(Ruling::Accepts { mark: true, .. })));
        assert_eq!(
            forward(&[], &to, Flow { dnat: false, ..reply }, &red, &blue),
            Some(drops("unpublished", "consistent"))
        );
        assert_eq!(forward(&[], &to, new, &Side::Other("eth0"), &Side::Other("eth1")), None);
    }

    #[test]
    fn what_leaves_a_network_gets_an_address_of_the_host() {
        let red = rules("red", false);
        let chosen = NetworkRules {
            ipv4: Way { source: Address::Chosen([192, 0, 2, 9].into()), ..red.ipv4 },
            ..red.clone()
        };
        let networks = [&red];
        let to = packet("198.51.100.1", 443);
        let out = Side::Other("eth0");
        let new = |from: &Side<'_>, to_side: &Side<'_>, flow| {
            postrouting(&networks, &to, flow, from, to_side).map(|(source, _)| source)
        };
        let flow = Flow::default();
        assert_eq!(new(&Side::Network(&red), &out, flow), Some(NewSource::Interface));
        let address = NewSource::Chosen([192, 0, 2, 9].into());
        assert_eq!(new(&Side::Network(&chosen), &out, flow), Some(address));
        assert_eq!(new(&Side::Network(&red), &Side::Network(&red), flow), None);
        let hairpin = Flow { dnat: true, ..flow };
        assert_eq!(new(&Side::Network(&red), &Side::Network(&red), hairpin), Some(NewSource::Interface));
        assert_eq!(new(&out, &Side::Network(&red), hairpin), None);
    }
}
