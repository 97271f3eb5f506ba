//! Neighbour discovery: answered, forwarded and dropped messages. Answers are compared byte by byte with frames whose
//! checksums are computed independently.

use netbpf::plan::NetworkEntry;
use netbpf_common::{endpoint::Endpoint, network::Network, reason::Reason, wire::ALL_NODES};

use super::{
    bench::{
        ANNE, BERT, Bench, CLEO, CLEO_IPV6, CLEO_LINK_LOCAL, GATEWAY, RED, Station, bench, endpoint_entry,
        network_entry,
    },
    frame::{Frame, icmpv6_checksum, option, solicited_node},
};

type Ip = [u8; 16];

const NONE: Ip = [0; 16];
const GATEWAY_IPV6: Ip = global(1);
const BERT_IPV6: Ip = global(3);
const NOBODY: Ip = global(99);

const fn global(last: u8) -> Ip {
    [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
}

fn link_local(station: Station) -> Ip {
    netbpf::model::Mac::of(station.ip.into()).link_local().octets()
}

/// A [`bench`] where the host and Bert have IPv6, too.
fn bench_ipv6(test: impl FnOnce(&mut Bench) + Send) {
    bench(|bench| {
        let entry = network_entry(GATEWAY);
        let network = Network {
            gateway_ipv6: GATEWAY_IPV6,
            prefix_ipv6: 64,
            ipv6_link_local: link_local(GATEWAY),
            ..entry.network
        };
        bench.datapath.write_network(RED, &NetworkEntry { network, ..entry }).expect("written");
        let bert =
            Endpoint { ipv6: BERT_IPV6, ipv6_link_local: link_local(BERT), ..endpoint_entry(RED, BERT) };
        bench.datapath.write_endpoint(BERT.number().expect("a container"), &bert).expect("written");
        test(bench);
    });
}

/// A neighbour solicitation to the address's solicited-node group.
fn solicitation(from: (Station, Ip), target: Ip, options: &[u8]) -> Frame {
    let (ip, mac) = solicited_node(target);
    message(135, 0, (from.0.mac(), from.1), (mac, ip), target, options)
}

/// A neighbour solicitation or advertisement.
fn message(
    kind: u8,
    flags: u8,
    source: ([u8; 6], Ip),
    destination: ([u8; 6], Ip),
    target: Ip,
    options: &[u8],
) -> Frame {
    Frame::icmpv6(source, destination, &[&[kind, 0, 0, 0, flags, 0, 0, 0], &target[..], options].concat())
}

fn source(station: Station) -> Vec<u8> {
    option(1, station.mac())
}

fn target(station: Station) -> Vec<u8> {
    option(2, station.mac())
}

/// The owner's answer to a solicitation from an address.
fn answer(owner: Station, address: Ip, asker: ([u8; 6], Ip)) -> Frame {
    message(136, 0x60, (owner.mac(), address), asker, address, &target(owner))
}

#[test]
fn solicitations_are_answered_on_the_spot() {
    bench_ipv6(|bench| {
        let owners = [
            (BERT, BERT_IPV6),
            (BERT, link_local(BERT)),
            (GATEWAY, GATEWAY_IPV6),
            (GATEWAY, link_local(GATEWAY)),
        ];
        for (owner, address) in owners {
            for from in [CLEO_IPV6, CLEO_LINK_LOCAL] {
                let answer = answer(owner, address, (CLEO.mac(), from));
                let asked = solicitation((CLEO, from), address, &source(CLEO));
                bench.from(CLEO).is_answered_as("asked of all", &asked, &answer, Reason::AnsweredNd);
                let to_owner =
                    message(135, 0, (CLEO.mac(), from), (owner.mac(), address), address, &source(CLEO));
                bench.from(CLEO).is_answered_as("of the owner", &to_owner, &answer, Reason::AnsweredNd);
                let short = solicitation((CLEO, from), address, &[]);
                bench.from(CLEO).is_answered_as("without an option", &short, &answer, Reason::AnsweredNd);
                let padded = short.then(&[0xff; 18]);
                bench.from(CLEO).is_answered_as("with padding", &padded, &answer, Reason::AnsweredNd);
            }
        }
        for (owner, address) in [(BERT, BERT_IPV6), (CLEO, CLEO_IPV6), (CLEO, CLEO_LINK_LOCAL)] {
            for from in [GATEWAY_IPV6, link_local(GATEWAY)] {
                let asked = solicitation((GATEWAY, from), address, &source(GATEWAY));
                let answer = answer(owner, address, (GATEWAY.mac(), from));
                bench.host(GATEWAY).is_answered_as("by the host", &asked, &answer, Reason::AnsweredNd);
            }
        }
    });
}

#[test]
fn a_damaged_solicitation_gets_a_damaged_answer() {
    bench_ipv6(|bench| {
        let asked = solicitation((CLEO, CLEO_IPV6), BERT_IPV6, &source(CLEO));
        let [high, low] = [asked.0[56], asked.0[57]];
        let outcome = bench.from(CLEO).frame(&asked.with(56, &[high ^ 1, low]));
        assert_eq!(outcome.reasons, [Reason::AnsweredNd]);
        assert_ne!(icmpv6_checksum(&outcome.frame), [0, 0], "the sum over all is not what it should be");
        let right = bench.from(CLEO).frame(&solicitation((CLEO, CLEO_IPV6), BERT_IPV6, &source(CLEO)));
        assert_eq!(icmpv6_checksum(&right.frame), [0, 0]);
    });
}

#[test]
fn a_solicitation_with_a_priority_tag_is_answered() {
    bench_ipv6(|bench| {
        let tagged = |frame: Frame| {
            let addresses = frame.0[..12].to_vec();
            Frame(addresses).then(&[0x81, 0, 0xa0, 0]).then(&frame.0[12..])
        };
        let asked = tagged(solicitation((CLEO, CLEO_IPV6), BERT_IPV6, &source(CLEO)));
        let answer = tagged(answer(BERT, BERT_IPV6, (CLEO.mac(), CLEO_IPV6)));
        bench.from(CLEO).is_answered_as("with a priority", &asked, &answer, Reason::AnsweredNd);
        let lie = tagged(solicitation((CLEO, CLEO_IPV6), BERT_IPV6, &source(ANNE)));
        bench.from(CLEO).is_dropped("a lie with a priority", &lie, Reason::SpoofedNd);
    });
}

#[test]
fn a_probe_finds_an_existing_duplicate_only() {
    bench_ipv6(|bench| {
        let nonce = option(14, [1, 2, 3, 4, 5, 6]);
        let all_nodes = ([0x33, 0x33, 0, 0, 0, 1], ALL_NODES);
        for options in [&[][..], &nonce] {
            for (owner, address) in [(BERT, BERT_IPV6), (BERT, link_local(BERT)), (GATEWAY, GATEWAY_IPV6)] {
                let probe = solicitation((CLEO, NONE), address, options);
                let told = message(136, 0x20, (owner.mac(), address), all_nodes, address, &target(owner));
                bench.from(CLEO).is_answered_as("another's address", &probe, &told, Reason::AnsweredNd);
            }
            for (says, address) in
                [("the own address", CLEO_IPV6), ("the own one", CLEO_LINK_LOCAL), ("nobody's", NOBODY)]
            {
                let probe = solicitation((CLEO, NONE), address, options);
                bench.from(CLEO).is_dropped(says, &probe, Reason::UnknownAddress);
            }
            let probe = solicitation((GATEWAY, NONE), CLEO_IPV6, options);
            let told = message(136, 0x20, (CLEO.mac(), CLEO_IPV6), all_nodes, CLEO_IPV6, &target(CLEO));
            bench.host(GATEWAY).is_answered_as("by the host", &probe, &told, Reason::AnsweredNd);
            for own in [GATEWAY_IPV6, link_local(GATEWAY), NOBODY] {
                let probe = solicitation((GATEWAY, NONE), own, options);
                bench.host(GATEWAY).is_lost("by the host, its own", &probe, Reason::UnknownAddress);
            }
        }
    });
}

#[test]
fn solicitations_are_never_flooded() {
    bench_ipv6(|bench| {
        for address in [NOBODY, CLEO_IPV6] {
            let asked = solicitation((CLEO, CLEO_IPV6), address, &source(CLEO));
            bench.from(CLEO).is_dropped("nobody else's address", &asked, Reason::UnknownAddress);
        }
        let asked = solicitation((GATEWAY, GATEWAY_IPV6), NOBODY, &source(GATEWAY));
        bench.host(GATEWAY).is_lost("nobody's address", &asked, Reason::UnknownAddress);
        let without_ipv6 = solicitation((ANNE, NONE), NOBODY, &[]);
        bench.from(ANNE).is_dropped("by one without IPv6", &without_ipv6, Reason::SpoofedIpv6);
    });
}

#[test]
fn true_messages_pass() {
    bench_ipv6(|bench| {
        let all_nodes = ([0x33, 0x33, 0, 0, 0, 1], ALL_NODES);
        let bert = (BERT.mac(), BERT_IPV6);
        for own in [CLEO_IPV6, CLEO_LINK_LOCAL] {
            for options in [&[][..], &target(CLEO)] {
                let reply = message(136, 0x60, (CLEO.mac(), own), bert, own, options);
                bench.from(CLEO).passes("an advertisement", &reply, Reason::Forwarded, &[BERT]);
                let unasked = message(136, 0x20, (CLEO.mac(), own), all_nodes, own, options);
                bench.from(CLEO).passes("an announcement", &unasked, Reason::Flooded, &[ANNE, BERT]);
            }
        }
        let announced =
            message(136, 0x20, (GATEWAY.mac(), GATEWAY_IPV6), all_nodes, GATEWAY_IPV6, &target(GATEWAY));
        bench.host(GATEWAY).passes("the host's", &announced, Reason::Flooded, &[ANNE, BERT, CLEO]);
    });
}

#[test]
fn router_solicitations_reach_the_host_only() {
    bench_ipv6(|bench| {
        let all_routers = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
        let asked = |from, options: &[u8]| {
            let message = [&[133, 0, 0, 0, 0, 0, 0, 0][..], options].concat();
            Frame::icmpv6((CLEO.mac(), from), ([0x33, 0x33, 0, 0, 0, 2], all_routers), &message)
        };
        for frame in [asked(NONE, &[]), asked(CLEO_LINK_LOCAL, &[]), asked(CLEO_LINK_LOCAL, &source(CLEO))] {
            bench.from(CLEO).passes("a router solicitation", &frame, Reason::Delivered, &[]);
        }
        let lie = asked(CLEO_LINK_LOCAL, &source(BERT));
        bench.from(CLEO).is_dropped("with another's MAC", &lie, Reason::SpoofedNd);
    });
}

#[test]
fn false_messages_are_dropped() {
    bench_ipv6(|bench| {
        let own = (CLEO.mac(), CLEO_IPV6);
        let bert = (BERT.mac(), BERT_IPV6);
        let nobody = (CLEO.mac(), NONE);
        let router = |kind: u8, length: usize| {
            Frame::icmpv6(
                (CLEO.mac(), CLEO_LINK_LOCAL),
                bert,
                &[&[kind, 0, 0, 0][..], &vec![0; length]].concat(),
            )
        };
        for (says, frame) in [
            ("another's MAC in a solicitation", solicitation((CLEO, CLEO_IPV6), BERT_IPV6, &source(ANNE))),
            ("the owner's MAC in a solicitation", solicitation((CLEO, CLEO_IPV6), BERT_IPV6, &source(BERT))),
            ("a MAC in a probe", solicitation((CLEO, NONE), BERT_IPV6, &source(CLEO))),
            ("another's MAC in a probe", solicitation((CLEO, NONE), BERT_IPV6, &source(BERT))),
            (
                "an advertisement of another's address",
                message(136, 0x60, own, bert, BERT_IPV6, &target(CLEO)),
            ),
            ("of the gateway's", message(136, 0x20, own, bert, GATEWAY_IPV6, &target(CLEO))),
            ("of the gateway's link-local one", message(136, 0x20, own, bert, link_local(GATEWAY), &[])),
            ("of nobody's address", message(136, 0x20, own, bert, NOBODY, &target(CLEO))),
            ("of no address", message(136, 0x20, own, bert, NONE, &target(CLEO))),
            ("with another's MAC", message(136, 0x60, own, bert, CLEO_IPV6, &target(ANNE))),
            ("a router's advertisement", router(134, 12)),
            ("a router's advertisement with options", router(134, 44)),
            ("a redirect", router(137, 36)),
        ] {
            bench.from(CLEO).is_dropped(says, &frame, Reason::SpoofedNd);
        }
        let nameless = message(136, 0x20, nobody, bert, CLEO_IPV6, &[]);
        bench.from(CLEO).is_dropped("from no address", &nameless, Reason::SpoofedIpv6);
        let false_name = message(136, 0x60, (CLEO.mac(), BERT_IPV6), bert, CLEO_IPV6, &target(CLEO));
        bench.from(CLEO).is_dropped("from another's address", &false_name, Reason::SpoofedIpv6);
    });
}

#[test]
fn neighbour_discovery_does_not_hide_behind_extension_headers() {
    bench_ipv6(|bench| {
        let lie =
            message(136, 0x60, (CLEO.mac(), CLEO_IPV6), (BERT.mac(), BERT_IPV6), BERT_IPV6, &target(CLEO));
        let truth = message(136, 0x60, (CLEO.mac(), CLEO_IPV6), (BERT.mac(), BERT_IPV6), CLEO_IPV6, &[]);
        // Next header, reserved or length, and six more bytes.
        let padding = |next: u8| vec![next, 0, 1, 4, 0, 0, 0, 0];
        let fragment = |next: u8, offset: u8| vec![next, 0, 0, offset, 0, 0, 0, 7];
        let long = |next: u8| [&[next, 3, 1, 28][..], &[0; 28]].concat();
        let authentication = |next: u8| [&[next, 4][..], &[0; 22]].concat();
        for (says, first, headers) in [
            ("hop-by-hop options", 0, padding(58)),
            ("destination options", 60, padding(58)),
            ("long destination options", 60, long(58)),
            ("a routing header", 43, padding(58)),
            ("a fragment header", 44, fragment(58, 1)),
            ("an authentication header", 51, authentication(58)),
            ("two headers", 0, [padding(60), padding(58)].concat()),
            ("three headers", 0, [long(44), fragment(60, 0), padding(58)].concat()),
            ("four headers", 0, [long(43), padding(44), fragment(60, 0), long(58)].concat()),
        ] {
            for frame in [&lie, &truth] {
                let hidden = frame.clone().behind(first, &headers);
                bench.from(CLEO).is_dropped(says, &hidden, Reason::SpoofedNd);
            }
        }
        let five = [padding(60), padding(60), padding(60), padding(60), padding(58)].concat();
        bench.from(CLEO).is_dropped("five headers", &lie.clone().behind(60, &five), Reason::Malformed);
        let cut = lie.clone().behind(60, &long(58)).cut(14 + 40 + 20);
        bench.from(CLEO).is_dropped("options beyond the end", &cut, Reason::Malformed);

        let echo =
            Frame::icmpv6((CLEO.mac(), CLEO_IPV6), (BERT.mac(), BERT_IPV6), &[128, 0, 0, 0, 0, 1, 0, 1]);
        let udp = Frame::ipv6((CLEO.mac(), CLEO_IPV6), (BERT.mac(), BERT_IPV6));
        for (says, first, headers, frame) in [
            ("an echo request behind options", 60, padding(58), &echo),
            ("UDP behind options", 60, padding(17), &udp),
            ("UDP behind three headers", 0, [long(44), fragment(60, 1), padding(17)].concat(), &udp),
            ("the rest of a fragmented message", 44, fragment(58, 8), &lie),
        ] {
            let frame = frame.clone().behind(first, &headers);
            bench.from(CLEO).passes(says, &frame, Reason::Forwarded, &[BERT]);
        }
        bench.from(CLEO).passes("an echo request", &echo, Reason::Forwarded, &[BERT]);
        // How hosts join groups: behind a router alert.
        let all_mld = ([0x33, 0x33, 0, 0, 0, 0x16], [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16]);
        let report = Frame::icmpv6((CLEO.mac(), NONE), all_mld, &[143, 0, 0, 0, 0, 0, 0, 0])
            .behind(0, &[58, 0, 5, 2, 0, 0, 1, 0]);
        bench.from(CLEO).passes("a report of groups", &report, Reason::Flooded, &[ANNE, BERT]);
    });
}

/// Ethernet pads short frames: bytes behind the length in a packet's header are padding, whatever they look like.
#[test]
fn bytes_behind_the_end_of_a_packet_are_not_read() {
    bench_ipv6(|bench| {
        let echo =
            Frame::icmpv6((CLEO.mac(), CLEO_IPV6), (BERT.mac(), BERT_IPV6), &[128, 0, 0, 0, 0, 1, 0, 1]);
        let fragment = |next: u8| vec![next, 0, 0, 1, 0, 0, 0, 7];
        let padding = |next: u8| vec![next, 0, 1, 4, 0, 0, 0, 0];
        let beyond = |frame: Frame, length: u8| frame.with(14 + 5, &[length]);
        for (says, frame) in [
            ("a message without a packet", beyond(echo.clone(), 0)),
            ("half a type", beyond(echo.clone(), 3)),
            ("options", beyond(echo.clone().behind(60, &padding(58)), 4)),
            ("a message behind options", beyond(echo.clone().behind(60, &padding(58)), 8)),
            (
                "a message behind options in a fragment",
                beyond(echo.clone().behind(44, &[fragment(60), padding(58)].concat()), 16),
            ),
            (
                "options in a fragment",
                beyond(echo.clone().behind(44, &[fragment(60), padding(58)].concat()), 8),
            ),
        ] {
            bench.from(CLEO).is_dropped(says, &frame, Reason::Malformed);
        }
        let padded = echo.clone().behind(60, &padding(58)).then(&[0; 6]);
        bench.from(CLEO).passes("a padded frame", &padded, Reason::Forwarded, &[BERT]);
        let tcp = Frame::ipv6((CLEO.mac(), CLEO_IPV6), (BERT.mac(), BERT_IPV6)).with(14 + 6, &[6]);
        let big = tcp.clone().behind(0, &[6, 0, 0xc2, 4, 0, 1, 0, 0]);
        bench.from(CLEO).passes("BIG TCP", &beyond(big, 0), Reason::Forwarded, &[BERT]);
        bench.from(CLEO).passes("BIG TCP of Linux 7", &beyond(tcp, 0), Reason::Forwarded, &[BERT]);
    });
}

#[test]
fn a_message_that_receivers_must_ignore_is_malformed() {
    bench_ipv6(|bench| {
        let asked = || solicitation((CLEO, CLEO_IPV6), BERT_IPV6, &source(CLEO));
        let with_options = |options: &[u8]| solicitation((CLEO, CLEO_IPV6), BERT_IPV6, options);
        let advertised = |options: &[u8]| {
            message(136, 0x60, (CLEO.mac(), CLEO_IPV6), (BERT.mac(), BERT_IPV6), CLEO_IPV6, options)
        };
        for (says, frame) in [
            ("from another network", asked().with(14 + 7, &[254])),
            ("of an unknown code", asked().with(14 + 40 + 1, &[1])),
            ("with two options", with_options(&[source(CLEO), option(14, [0; 6])].concat())),
            ("with half an option", with_options(&source(CLEO)[..4])),
            ("with an option of 16 bytes", with_options(&[&[1, 2][..], &CLEO.mac(), &[0; 8]].concat())),
            ("with an option of no length", with_options(&[&[1, 0][..], &CLEO.mac()].concat())),
            ("a solicitation with a target's MAC", with_options(&target(CLEO))),
            ("an advertisement with a source's MAC", advertised(&source(CLEO))),
            ("an advertisement with a nonce", advertised(&option(14, [0; 6]))),
            ("shorter than its header says", asked().cut(14 + 40 + 30)),
            ("without a target", asked().with(14 + 5, &[8]).cut(14 + 40 + 8)),
            ("with no type", asked().cut(14 + 40 + 3)),
        ] {
            bench.from(CLEO).is_dropped(says, &frame, Reason::Malformed);
        }
    });
}
