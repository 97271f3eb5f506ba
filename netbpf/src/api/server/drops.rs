//! `GET /drops`: converts what was dropped into messages.

use std::{convert::Infallible, fmt::Write as _};

use axum::{
    extract::{Query, State},
    response::Response,
};
use futures::stream;
use netbpf_common::wire::{EtherType, Icmpv6, protocol};
use serde::Deserialize;

use super::{Error, Shared, lines, parse_tail, parse_time};
use crate::{
    api::types::{DropParty, Dropped},
    daemon::{self, DroppedBy, DroppedKind, PartyKind},
};

#[derive(Deserialize)]
pub struct DropsQuery {
    #[serde(default)]
    containers: String,
    #[serde(default)]
    since: String,
    #[serde(default)]
    tail: String,
}

pub async fn list(State(daemon): Shared, Query(query): Query<DropsQuery>) -> Result<Response, Error> {
    let containers: Vec<&str> = query.containers.split(',').filter(|name| !name.is_empty()).collect();
    let (since, tail) = (parse_time("since", &query.since)?, parse_tail(&query.tail)?);
    let dropped = daemon.drops(&containers, since, tail).await?;
    Ok(lines(stream::iter(dropped.into_iter().map(|dropped| Ok::<_, Infallible>(message(dropped))))))
}

fn message(daemon::Dropped { reason, frames, by, kind, why }: daemon::Dropped) -> Dropped {
    let by = match by {
        DroppedBy::Programs => "programs",
        DroppedBy::Filter => "packet filter",
    };
    let counted = Dropped {
        kind: "drop".into(),
        time: None,
        first: None,
        reason: reason.name().into(),
        frames,
        why,
        by: by.into(),
        source: None,
        destination: None,
        protocol: String::new(),
        interface: String::new(),
        network: String::new(),
        length: None,
        head: String::new(),
    };
    let Some(kind) = kind else { return counted };
    let has_ports = matches!(kind.protocol, protocol::TCP | protocol::UDP | protocol::SCTP);
    Dropped {
        protocol: protocol_of(&kind),
        time: Some(kind.last),
        first: Some(kind.first),
        source: Some(party(kind.source, has_ports)),
        destination: Some(party(kind.destination, has_ports)),
        interface: kind.interface,
        network: kind.network,
        length: Some(kind.length),
        head: kind.head.iter().fold(String::new(), |mut digits, byte| {
            let _never_fails = write!(digits, "{byte:02x}");
            digits
        }),
        ..counted
    }
}

fn party(party: daemon::DropParty, has_ports: bool) -> DropParty {
    let (kind, name, id, network) = match party.kind {
        PartyKind::Container { id, name, network } => ("container", name, id.to_string(), network),
        PartyKind::Gone => ("gone", String::new(), String::new(), String::new()),
        PartyKind::Host => ("host", "host".to_owned(), String::new(), String::new()),
        PartyKind::Other => ("other", String::new(), String::new(), String::new()),
    };
    let port = (has_ports && party.port != 0).then_some(party.port);
    DropParty { kind: kind.into(), name, id, network, address: party.address, port }
}

fn protocol_of(kind: &DroppedKind) -> String {
    let family = match EtherType(kind.ethertype) {
        EtherType::ARP => return "arp".into(),
        EtherType::IPV4 => "ip",
        EtherType::IPV6 => "ipv6",
        EtherType([0, 0]) => return "vlan".into(),
        EtherType([high, low]) => return format!("0x{high:02x}{low:02x}"),
    };
    match kind.protocol {
        protocol::TCP => "tcp".into(),
        protocol::UDP => "udp".into(),
        protocol::SCTP => "sctp".into(),
        protocol::ICMP => "icmp".into(),
        Icmpv6::PROTOCOL => "ipv6-icmp".into(),
        other => format!("{family}-{other}"),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use netbpf_common::reason::Reason;

    use super::*;
    use crate::model::Id;

    fn kind() -> DroppedKind {
        let id: Id = "ab".repeat(32).parse().expect("an ID");
        let web = PartyKind::Container { id, name: "web".into(), network: "shop".into() };
        DroppedKind {
            first: Timestamp::from_second(1).expect("a time"),
            last: "2026-01-31T12:00:00.000000001Z".parse().expect("a time"),
            source: daemon::DropParty { kind: web, address: "10.0.0.9".into(), port: 4321 },
            destination: daemon::DropParty { kind: PartyKind::Other, address: "10.0.0.1".into(), port: 53 },
            ethertype: EtherType::IPV4.0,
            protocol: protocol::UDP,
            interface: "veth0000001".into(),
            network: "shop".into(),
            length: 60,
            head: vec![2, 0x42, 0xac],
        }
    }

    #[test]
    fn a_drop_has_exactly_this_text() {
        let dropped = daemon::Dropped {
            reason: Reason::SpoofedIpv4,
            frames: u64::MAX,
            by: DroppedBy::Programs,
            kind: Some(kind()),
            why: "because: do \"this\"".into(),
        };
        let id = "ab".repeat(32);
        let expected = format!(
            "{{\"Type\":\"drop\",\"Time\":\"2026-01-31T12:00:00.000000001Z\",\"First\":\"1970-01-01T00:00:01Z\",\
             \"Reason\":\"spoofed-ipv4\",\"Frames\":18446744073709551615,\"Why\":\"because: do \\\"this\\\"\",\
             \"By\":\"programs\",\"Source\":{{\"Kind\":\"container\",\"Name\":\"web\",\"ID\":\"{id}\",\
             \"Network\":\"shop\",\"Address\":\"10.0.0.9\",\"Port\":4321}},\"Destination\":{{\"Kind\":\"other\",\
             \"Address\":\"10.0.0.1\",\"Port\":53}},\"Protocol\":\"udp\",\"Interface\":\"veth0000001\",\
             \"Network\":\"shop\",\"Length\":60,\"Head\":\"0242ac\"}}"
        );
        assert_eq!(serde_json::to_string(&message(dropped)).expect("JSON"), expected);
    }

    #[test]
    fn protocols_have_names_or_numbers() {
        for (ethertype, number, name) in [
            ([8, 0], 6, "tcp"),
            ([8, 0], 47, "ip-47"),
            ([0x86, 0xdd], 58, "ipv6-icmp"),
            ([0x86, 0xdd], 44, "ipv6-44"),
            ([8, 6], 0, "arp"),
            ([0x88, 0xcc], 0, "0x88cc"),
            ([0, 0], 0, "vlan"),
        ] {
            assert_eq!(protocol_of(&DroppedKind { ethertype, protocol: number, ..kind() }), name);
        }
    }
}
