//! Containers in two networks: a container may use the address of one network on its port in the other.

use netbpf::{datapath::Datapath, model::OwnerNumber};
use netbpf_common::{
    endpoint::{self, Endpoint},
    reason::Reason,
    wire::Arp,
};

use super::{
    bench::{
        ANNE, BERT, BLUE, BLUE_GATEWAY, Bench, CLEO, DORA, GATEWAY, RED, REDIRECT, Station, bench,
        endpoint_entry,
    },
    frame::{BROADCAST, Frame, option, request, solicited_node},
};

/// Anne's port in the second network.
const ANNE_IN_BLUE: Station = Station { ifindex: endpoint::ifindex_of(5), ip: [192, 168, 0, 3] };
const ANNE_IN_BLUE_IPV6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];
const ANNE_IN_BLUE_LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];
const OUTSIDE: [u8; 4] = [1, 1, 1, 1];

/// A [`bench`] where Anne is in both networks. All other containers are in one.
fn bench_of_two(test: impl FnOnce(&mut Bench) + Send) {
    bench(|bench| {
        super::bench::veth("anne-blue", ANNE_IN_BLUE.ifindex);
        for (network, station) in [(RED, BERT), (BLUE, DORA)] {
            give(bench, network, station, station.ip);
        }
        give(bench, RED, ANNE, ANNE.ip);
        let entry = Endpoint {
            ipv6: ANNE_IN_BLUE_IPV6,
            ipv6_link_local: ANNE_IN_BLUE_LINK_LOCAL,
            owner: OwnerNumber::of(&ANNE.ip).number(),
            ..endpoint_entry(BLUE, ANNE_IN_BLUE)
        };
        bench.datapath.write_endpoint(number(ANNE_IN_BLUE), &entry).expect("an endpoint");
        test(bench);
    });
}

/// Assigns a port to a container.
fn give(bench: &mut Bench, network: u32, station: Station, name: [u8; 4]) {
    let entry = Endpoint { owner: OwnerNumber::of(&name).number(), ..endpoint_entry(network, station) };
    bench.datapath.write_endpoint(number(station), &entry).expect("an endpoint");
}

fn number(station: Station) -> u32 {
    station.number().expect("a container")
}

/// A frame from Anne's first port with the address of her second.
fn foreign(to: ([u8; 6], [u8; 4])) -> Frame {
    Frame::ipv4((ANNE.mac(), ANNE_IN_BLUE.ip), to)
}

/// Asserts that the host gets the frame as if it came from Anne's second port.
#[track_caller]
fn enters_by_blue(bench: &Bench, says: &str, frame: &Frame) {
    let outcome = bench.from(ANNE).frame(frame);
    assert_eq!((outcome.verdict, outcome.reasons), (REDIRECT, vec![Reason::Delivered]), "{says}");
    let expected = frame.clone().with(0, &BLUE_GATEWAY.mac()).with(6, &ANNE_IN_BLUE.mac());
    assert_eq!(outcome.frame, expected, "{says}");
}

#[test]
fn a_container_may_use_its_addresses_on_each_port() {
    bench_of_two(|bench| {
        let check = |bench: &Bench| {
            bench.from(ANNE).passes("to a member", &foreign(BERT.at()), Reason::Forwarded, &[BERT]);
            let all = foreign((BROADCAST, [255; 4]));
            bench.from(ANNE).passes("to all", &all, Reason::Flooded, &[BERT, CLEO]);
            enters_by_blue(bench, "to the world", &foreign((GATEWAY.mac(), OUTSIDE)));
            enters_by_blue(bench, "to the host", &foreign(GATEWAY.at()));
            enters_by_blue(bench, "to a member by the host", &foreign((GATEWAY.mac(), BERT.ip)));
            let own = Frame::ipv4(ANNE.at(), (GATEWAY.mac(), OUTSIDE));
            bench.from(ANNE).passes("the own address", &own, Reason::Delivered, &[]);
            let back = Frame::ipv4((ANNE_IN_BLUE.mac(), ANNE.ip), DORA.at());
            bench.from(ANNE_IN_BLUE).passes("the other way", &back, Reason::Forwarded, &[DORA]);
        };
        check(bench);
        bench.datapath = Datapath::open(&bench.bpffs, false).expect("the next daemon");
        check(bench);
        let loopback = foreign((GATEWAY.mac(), [127, 0, 0, 1]));
        bench.from(ANNE).is_dropped("to 127.0.0.1", &loopback, Reason::Loopback);
    });
}

#[test]
fn the_same_holds_for_ipv6_except_link_local_addresses() {
    bench_of_two(|bench| {
        let from = |source, to| Frame::ipv6((ANNE.mac(), source), (to, [9; 16]));
        let to_member = from(ANNE_IN_BLUE_IPV6, BERT.mac());
        bench.from(ANNE).passes("to a member", &to_member, Reason::Forwarded, &[BERT]);
        enters_by_blue(bench, "to the world", &from(ANNE_IN_BLUE_IPV6, GATEWAY.mac()));
        let mapped = u128::from(u32::from_be_bytes(ANNE_IN_BLUE.ip)) | 0xffff << 32;
        for (says, address) in [
            ("a link-local one", ANNE_IN_BLUE_LINK_LOCAL),
            ("an IPv4 address as an IPv6 one", mapped.to_be_bytes()),
            ("none", [0; 16]),
            ("somebody's", [7; 16]),
        ] {
            for to in [GATEWAY.mac(), BERT.mac()] {
                bench.from(ANNE).is_dropped(says, &from(address, to), Reason::SpoofedIpv6);
            }
        }
    });
}

#[test]
fn another_container_s_address_is_refused() {
    bench_of_two(|bench| {
        let is_dropped = |bench: &Bench, says: &str, from: Station, address| {
            for to in [(GATEWAY.mac(), OUTSIDE), (BROADCAST, [255; 4]), CLEO.at()] {
                let frame = Frame::ipv4((from.mac(), address), to);
                bench.from(from).is_dropped(says, &frame, Reason::SpoofedIpv4);
            }
        };
        is_dropped(bench, "of the other network", ANNE, DORA.ip);
        is_dropped(bench, "the other network's gateway", ANNE, BLUE_GATEWAY.ip);
        is_dropped(bench, "of one who is in both", BERT, ANNE_IN_BLUE.ip);
        // The container of this port was never set.
        is_dropped(bench, "of one who is in both, by one of nobody", CLEO, ANNE_IN_BLUE.ip);

        let twin = Station { ifindex: endpoint::ifindex_of(6), ip: ANNE_IN_BLUE.ip };
        super::bench::veth("twin", twin.ifindex);
        give(bench, RED, twin, [6; 4]);
        is_dropped(bench, "where a member has the same address", ANNE, ANNE_IN_BLUE.ip);
        let own = Frame::ipv4(twin.at(), BERT.at());
        bench.from(twin).passes("the member itself", &own, Reason::Forwarded, &[BERT]);
        bench.datapath.remove_endpoint(number(twin), Some("twin")).expect("removed");
        bench.from(ANNE).passes("when it has gone", &foreign(BERT.at()), Reason::Forwarded, &[BERT]);
    });
}

#[test]
fn an_address_is_refused_after_its_port_is_removed() {
    bench_of_two(|bench| {
        let to_bert = foreign(BERT.at());
        give(bench, BLUE, ANNE_IN_BLUE, [5; 4]);
        bench.from(ANNE).is_dropped("it is another's now", &to_bert, Reason::SpoofedIpv4);
        give(bench, BLUE, ANNE_IN_BLUE, ANNE.ip);
        bench.from(ANNE).passes("it is hers again", &to_bert, Reason::Forwarded, &[BERT]);
        bench
            .datapath
            .write_endpoint(number(ANNE_IN_BLUE), &endpoint_entry(BLUE, ANNE_IN_BLUE))
            .expect("an endpoint");
        bench.from(ANNE).is_dropped("it is nobody's", &to_bert, Reason::SpoofedIpv4);
        give(bench, BLUE, ANNE_IN_BLUE, ANNE.ip);
        bench.datapath.remove_endpoint(number(ANNE_IN_BLUE), Some("anne-blue")).expect("removed");
        bench.from(ANNE).is_dropped("it is gone", &to_bert, Reason::SpoofedIpv4);
    });
}

#[test]
fn arp_and_nd_do_not_announce_an_address_of_another_network() {
    bench_of_two(|bench| {
        let asks = request(ANNE.mac(), ANNE_IN_BLUE.ip, GATEWAY.ip);
        let answer = Frame::arp(GATEWAY.mac(), ANNE.mac(), asks.reply(GATEWAY.mac()));
        for to in [BROADCAST, GATEWAY.mac()] {
            bench.from(ANNE).is_answered("a question", &Frame::arp(ANNE.mac(), to, asks), &answer);
        }
        for (says, arp, reason) in [
            ("announced", Arp { tpa: ANNE_IN_BLUE.ip, ..asks }, Reason::UnknownAddress),
            ("as a question for the own address", Arp { tpa: ANNE.ip, ..asks }, Reason::SpoofedArp),
            ("in a reply", Arp { op: Arp::REPLY, ..asks }, Reason::SpoofedArp),
            ("in a reverse request", Arp { op: [0, 3], ..asks }, Reason::SpoofedArp),
            ("with another's MAC", Arp { sha: BERT.mac(), ..asks }, Reason::SpoofedArp),
            ("of somebody else", Arp { spa: DORA.ip, ..asks }, Reason::SpoofedArp),
        ] {
            for to in [BROADCAST, GATEWAY.mac(), BERT.mac()] {
                bench.from(ANNE).is_dropped(says, &Frame::arp(ANNE.mac(), to, arp), reason);
            }
        }
        let (group, mac) = solicited_node(ANNE_IN_BLUE_IPV6);
        let source = (ANNE.mac(), ANNE_IN_BLUE_IPV6);
        for kind in [133, 135, 136] {
            let fixed = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &ANNE_IN_BLUE_IPV6].concat();
            let length = if kind == 133 { 8 } else { 24 };
            let message = [&fixed[..length], &option(if kind == 136 { 2 } else { 1 }, ANNE.mac())].concat();
            let frame = Frame::icmpv6(source, (mac, group), &message);
            let says = format!("neighbour discovery, type {kind}");
            bench.from(ANNE).is_dropped(&says, &frame, Reason::SpoofedNd);
        }
    });
}

#[test]
fn icc_also_applies_to_addresses_of_another_network() {
    bench_of_two(|bench| {
        let entry =
            Endpoint { icc_off: 1, owner: OwnerNumber::of(&ANNE.ip).number(), ..endpoint_entry(RED, ANNE) };
        bench.datapath.write_endpoint(number(ANNE), &entry).expect("an endpoint");
        bench.from(ANNE).is_dropped("to a member", &foreign(BERT.at()), Reason::NoIcc);
        enters_by_blue(bench, "to a member by the host", &foreign((GATEWAY.mac(), BERT.ip)));
        let way = bench.host(GATEWAY).received_by(BLUE_GATEWAY.ifindex);
        let frame = Frame::ipv4((GATEWAY.mac(), ANNE_IN_BLUE.ip), BERT.at());
        way.is_dropped("which is between networks", &frame, Reason::Isolated);
    });
}
