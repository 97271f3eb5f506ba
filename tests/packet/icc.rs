//! Networks whose members may not talk to each other (`enable_icc=false`), and links that permit it.

use std::collections::BTreeSet;

use netbpf::plan::NetworkEntry;
use netbpf_common::{allowed::AllowedKey, endpoint::Endpoint, network::Network, reason::Reason};

use super::{
    bench::{
        ANNE, BERT, Bench, CLEO, CLEO_IPV6, CLEO_LINK_LOCAL, DORA, GATEWAY, RED, Station, bench,
        endpoint_entry, network_entry,
    },
    frame::{BROADCAST, Frame, ipv4, request},
};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// Offsets in an IPv4 frame.
const VERSION: usize = 14;
const FRAGMENT: usize = 20;
const PROTOCOL: usize = 23;
const PORTS: usize = 34;

/// Turns `enable_icc` off for the first network and all its members.
fn apart(bench: &mut Bench) {
    let entry = network_entry(GATEWAY);
    let network = Network { icc_off: 1, ..entry.network };
    bench.datapath.write_network(RED, &NetworkEntry { network, ..entry }).expect("a network");
    for station in [ANNE, BERT, CLEO] {
        let mut entry = Endpoint { icc_off: 1, ..endpoint_entry(RED, station) };
        if station.ip == CLEO.ip {
            entry.ipv6 = CLEO_IPV6;
            entry.ipv6_link_local = CLEO_LINK_LOCAL;
        }
        bench.datapath.write_endpoint(number(station), &entry).expect("an endpoint");
    }
}

fn number(station: Station) -> u32 {
    station.number().expect("a container")
}

/// Anne is linked to Bert, who exposes 80/tcp and 53/udp.
fn link(bench: &mut Bench) {
    let key = |protocol, port: u16| AllowedKey {
        from: number(ANNE),
        to: number(BERT),
        protocol,
        reserved: 0,
        port: port.to_be_bytes(),
    };
    let links = BTreeSet::from([key(TCP, 80), key(TCP, 0), key(UDP, 53), key(UDP, 0)]);
    bench.datapath.set_allowed(&links).expect("links");
}

/// A packet of a protocol with these ports.
fn packet(from: Station, to: Station, protocol: u8, ports: [u16; 2]) -> Frame {
    Frame::ipv4(from.at(), to.at())
        .with(PROTOCOL, &[protocol])
        .with(PORTS, &ports[0].to_be_bytes())
        .with(PORTS + 2, &ports[1].to_be_bytes())
}

#[test]
fn no_frame_passes_between_members() {
    bench(|bench| {
        apart(bench);
        let reply = request(BERT.mac(), BERT.ip, ANNE.ip).reply(ANNE.mac());
        for (says, frame) in [
            ("IPv4", Frame::ipv4(ANNE.at(), BERT.at())),
            ("TCP", packet(ANNE, BERT, TCP, [40000, 80])),
            ("ICMP", packet(ANNE, BERT, ICMP, [8, 0])),
            ("a fragment", Frame::ipv4(ANNE.at(), BERT.at()).with(FRAGMENT, &[0x20, 0xb9])),
            ("an ARP reply", Frame::arp(ANNE.mac(), BERT.mac(), reply)),
            ("any other protocol", Frame::ethernet(ANNE.mac(), BERT.mac(), 0x88b5).then(&[0; 50])),
            ("a priority", Frame::tagged(ANNE.mac(), BERT.mac(), 0, 0x0800).then(&ipv4(ANNE.ip, BERT.ip))),
            ("a VLAN", Frame::tagged(ANNE.mac(), BERT.mac(), 5, 0x0800).then(&[0; 50])),
        ] {
            bench.from(ANNE).is_dropped(says, &frame, Reason::NoIcc);
        }
        let ipv6 = Frame::ipv6((CLEO.mac(), CLEO_IPV6), (BERT.mac(), [9; 16]));
        bench.from(CLEO).is_dropped("IPv6", &ipv6, Reason::NoIcc);
    });
}

#[test]
fn broadcast_reaches_the_host_only() {
    bench(|bench| {
        apart(bench);
        let multicast = [0x01, 0x00, 0x5e, 0, 0, 0xfb];
        let broadcast = Frame::ipv4(ANNE.at(), (BROADCAST, [255; 4]));
        let announcement = Frame::arp(ANNE.mac(), BROADCAST, request(ANNE.mac(), ANNE.ip, ANNE.ip));
        for (says, frame) in [
            ("a broadcast", broadcast.clone()),
            ("a multicast", Frame::ipv4(ANNE.at(), (multicast, [224, 0, 0, 251]))),
            ("an announcement", announcement),
            ("a group of another protocol", Frame::ethernet(ANNE.mac(), multicast, 0x88b5)),
        ] {
            bench.from(ANNE).passes(says, &frame, Reason::Delivered, &[]);
        }
        let host = Frame::ipv4(GATEWAY.at(), (BROADCAST, [255; 4]));
        bench.host(GATEWAY).passes("the host's broadcast", &host, Reason::Flooded, &[ANNE, BERT, CLEO]);
    });
}

#[test]
fn members_and_the_host_may_talk() {
    bench(|bench| {
        apart(bench);
        let to_host = Frame::ipv4(ANNE.at(), GATEWAY.at());
        bench.from(ANNE).passes("to the host", &to_host, Reason::Delivered, &[]);
        let outside = Frame::ipv4(ANNE.at(), (GATEWAY.mac(), [1, 1, 1, 1]));
        bench.from(ANNE).passes("to the world", &outside, Reason::Delivered, &[]);
        let from_host = Frame::ipv4(GATEWAY.at(), ANNE.at());
        bench.host(GATEWAY).passes("from the host", &from_host, Reason::Forwarded, &[ANNE]);
        let asked = request(ANNE.mac(), ANNE.ip, GATEWAY.ip);
        let answer = Frame::arp(GATEWAY.mac(), ANNE.mac(), asked.reply(GATEWAY.mac()));
        let asked = Frame::arp(ANNE.mac(), BROADCAST, asked);
        bench.from(ANNE).is_answered("ARP for the gateway", &asked, &answer);
    });
}

#[test]
fn the_host_is_no_way_around() {
    bench(|bench| {
        let direct = Frame::ipv4((GATEWAY.mac(), ANNE.ip), BERT.at());
        let back = |bench: &Bench, says: &str, frame: &Frame| {
            let sent = bench.host(GATEWAY).received_by(GATEWAY.ifindex);
            sent.passes(says, frame, Reason::Forwarded, &[BERT]);
        };
        back(bench, "where members talk", &direct);
        apart(bench);
        let sent = bench.host(GATEWAY).received_by(GATEWAY.ifindex);
        sent.is_dropped("a member's packet", &direct, Reason::NoIcc);
        let ipv6 = Frame::ipv6((GATEWAY.mac(), CLEO_IPV6), (BERT.mac(), [9; 16]));
        sent.is_dropped("a member's IPv6 packet", &ipv6, Reason::NoIcc);
        let other = Frame::ethernet(GATEWAY.mac(), BERT.mac(), 0x88b5).then(&[0; 50]);
        sent.is_dropped("what has no address", &other, Reason::NoIcc);
        let published = Frame::ipv4(GATEWAY.at(), BERT.at());
        back(bench, "to a published port, with the gateway's address", &published);
        let answer = Frame::ipv4((GATEWAY.mac(), [10, 0, 2, 15]), BERT.at());
        back(bench, "an answer of a published port, with the host's address", &answer);
        let world = Frame::ipv4((GATEWAY.mac(), [1, 1, 1, 1]), BERT.at());
        bench.host(GATEWAY).received_by(2).passes("from the world", &world, Reason::Forwarded, &[BERT]);
    });
}

#[test]
fn a_link_opens_only_the_exposed_ports() {
    bench(|bench| {
        apart(bench);
        link(bench);
        let passes = |from: Station, to: Station, protocol, ports, says: &str| {
            let frame = packet(from, to, protocol, ports);
            bench.from(from).passes(says, &frame, Reason::Forwarded, &[to]);
        };
        passes(ANNE, BERT, TCP, [40000, 80], "a question");
        passes(BERT, ANNE, TCP, [80, 40000], "its answer");
        passes(ANNE, BERT, UDP, [40000, 53], "a question of another protocol");
        for (from, to, protocol, ports, says) in [
            (ANNE, BERT, TCP, [40000, 81], "another port"),
            (ANNE, BERT, UDP, [40000, 80], "the port of another protocol"),
            (ANNE, BERT, SCTP, [40000, 80], "a protocol without exposed ports"),
            (ANNE, BERT, ICMP, [8, 80], "a ping"),
            (ANNE, BERT, TCP, [80, 40000], "from the port that the other exposes"),
            (BERT, ANNE, TCP, [40000, 80], "the way back"),
            (ANNE, CLEO, TCP, [40000, 80], "to another member"),
            (CLEO, BERT, TCP, [40000, 80], "from another member"),
            (ANNE, BERT, TCP, [40000, 0], "to port 0, which stands for fragments"),
            (BERT, ANNE, TCP, [0, 40000], "from port 0"),
        ] {
            bench.from(from).is_dropped(says, &packet(from, to, protocol, ports), Reason::NoIcc);
        }
        let options = packet(ANNE, BERT, TCP, [40000, 80]).with(VERSION, &[0x46]);
        bench.from(ANNE).is_dropped("with options", &options, Reason::NoIcc);
        let later = |protocol| packet(ANNE, BERT, protocol, [1, 2]).with(FRAGMENT, &[0x20, 0xb9]);
        bench.from(ANNE).passes("a later fragment", &later(UDP), Reason::Forwarded, &[BERT]);
        bench.from(ANNE).is_dropped("one of another protocol", &later(SCTP), Reason::NoIcc);
        let cut = packet(ANNE, BERT, TCP, [40000, 80]).cut(36);
        bench.from(ANNE).is_dropped("without its ports", &cut, Reason::Malformed);
    });
}

#[test]
fn a_link_is_removed_with_either_port() {
    bench(|bench| {
        apart(bench);
        link(bench);
        let question = packet(ANNE, BERT, TCP, [40000, 80]);
        bench.datapath.remove_endpoint(number(BERT), Some("bert")).expect("removed");
        // Somebody else gets the number.
        let entry = Endpoint { icc_off: 1, ..endpoint_entry(RED, BERT) };
        bench.datapath.write_endpoint(number(BERT), &entry).expect("an endpoint");
        bench.from(ANNE).is_dropped("after the other went", &question, Reason::NoIcc);
        link(bench);
        bench.from(ANNE).passes("once more", &question, Reason::Forwarded, &[BERT]);
        bench.datapath.set_allowed(&BTreeSet::new()).expect("nothing");
        bench.from(ANNE).is_dropped("without links", &question, Reason::NoIcc);
        let other = Frame::ipv4(ANNE.at(), DORA.at());
        bench.from(ANNE).is_dropped("to another network", &other, Reason::UnknownDestination);
    });
}
