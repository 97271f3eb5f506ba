//! Endpoints that may send more than their leases: with further addresses, or without guard.

use netbpf::{
    model::OwnerNumber,
    plan::{EndpointEntry, NetworkEntry},
};
use netbpf_common::{
    access::{FURTHER, MAX_LEARNT_OF_ENDPOINT, PLAIN, UNGUARDED},
    endpoint::Endpoint,
    network::Network,
    reason::Reason,
    wire::{ALL_NODES, Arp},
};

use super::{
    bench::{
        ANNE, BERT, BLUE, Bench, CLEO, CLEO_IPV6, CLEO_LINK_LOCAL, DORA, GATEWAY, RED, Station, bench,
        endpoint_entry, network_entry, run,
    },
    frame::{BROADCAST, Frame, arp_bytes, ipv4, option, request, solicited_node},
};

/// A MAC and an address that nobody leases.
const OTHER: ([u8; 6], [u8; 4]) = ([2, 0, 0, 0, 0, 9], [172, 17, 0, 200]);
/// A MAC that nobody has.
const NOBODY: [u8; 6] = [2, 0, 0, 0, 0, 7];

fn number(station: Station) -> u32 {
    station.number().expect("a container")
}

fn entry(station: Station, access: u8) -> Endpoint {
    let entry = Endpoint { access, ..endpoint_entry(RED, station) };
    match station.ip == CLEO.ip {
        true => Endpoint { ipv6: CLEO_IPV6, ipv6_link_local: CLEO_LINK_LOCAL, ..entry },
        false => entry,
    }
}

/// Changes what a container may send.
fn grant(bench: &mut Bench, station: Station, access: u8, further: &[&str]) {
    let further = further.iter().map(|subnet| subnet.parse().expect("a subnet")).collect();
    let entry = EndpointEntry { endpoint: entry(station, access), further, ..EndpointEntry::default() };
    bench.datapath.write_endpoint(number(station), entry).expect("written");
}

/// As if the host had the first network's gateway address and a default route, and forwarded packets.
fn route() {
    run("ip addr add 172.17.0.1/16 dev red");
    run("ip addr add 192.168.0.1/16 dev blue");
    run("ip link add uplink type veth peer name far");
    run("ip link set uplink up");
    run("ip link set far up");
    run("ip addr add 198.51.100.1/24 dev uplink");
    run("ip route add default via 198.51.100.2");
    run("sysctl -qw net.ipv4.ip_forward=1");
}

fn gratuitous(mac: [u8; 6], ip: [u8; 4]) -> Frame {
    Frame::arp(mac, BROADCAST, request(mac, ip, ip))
}

fn reply(mac: [u8; 6], ip: [u8; 4], to: Station) -> Frame {
    let arp = Arp { op: Arp::REPLY, tha: to.mac(), ..request(mac, ip, to.ip) };
    Frame::arp(mac, to.mac(), arp)
}

#[test]
fn without_guard_any_mac_and_address_passes() {
    bench(|bench| {
        bench.from(ANNE).is_dropped("with it", &Frame::ipv4(OTHER, BERT.at()), Reason::SpoofedMac);
        grant(bench, ANNE, UNGUARDED, &[]);
        for (says, from) in [
            ("its own", ANNE.at()),
            ("another MAC", (OTHER.0, ANNE.ip)),
            ("another address", (ANNE.mac(), OTHER.1)),
            ("of another network", (OTHER.0, DORA.ip)),
            ("none", (OTHER.0, [0; 4])),
        ] {
            let frame = Frame::ipv4(from, BERT.at());
            bench.from(ANNE).passes(says, &frame, Reason::Forwarded, &[BERT]);
        }
        let other = Frame::ethernet(OTHER.0, BERT.mac(), 0x88cc).then(&[1; 40]);
        bench.from(ANNE).passes("another protocol", &other, Reason::Forwarded, &[BERT]);
        let malformed = Frame::ethernet(OTHER.0, BERT.mac(), 0x0800).then(&[0x60; 40]);
        bench.from(ANNE).passes("which receivers ignore", &malformed, Reason::Forwarded, &[BERT]);
    });
}

#[test]
fn leases_of_guarded_members_and_of_the_host_are_theirs() {
    bench(|bench| {
        grant(bench, ANNE, UNGUARDED, &["0.0.0.0/0"]);
        for (says, owner) in [("a member's", BERT), ("the host's", GATEWAY)] {
            let to = CLEO.at();
            let mac = Frame::ipv4((owner.mac(), OTHER.1), to);
            bench.from(ANNE).is_dropped(says, &mac, Reason::SpoofedMac);
            bench.from(ANNE).is_dropped(says, &Frame::ipv4((OTHER.0, owner.ip), to), Reason::SpoofedIpv4);
            bench.from(ANNE).is_dropped(says, &gratuitous(OTHER.0, owner.ip), Reason::SpoofedArp);
            bench.from(ANNE).is_dropped(says, &reply(ANNE.mac(), owner.ip, CLEO), Reason::SpoofedArp);
        }
        for mac in [BROADCAST, [1, 0, 0x5e, 0, 0, 1], [0; 6]] {
            let frame = Frame::ipv4((mac, OTHER.1), BERT.at());
            bench.from(ANNE).is_dropped("no station's MAC", &frame, Reason::SpoofedMac);
        }
        for address in [[127, 0, 0, 1], [127, 255, 0, 9]] {
            let to = Frame::ipv4(ANNE.at(), (GATEWAY.mac(), address));
            bench.from(ANNE).is_dropped("to the host itself", &to, Reason::Loopback);
            let from = Frame::ipv4((ANNE.mac(), address), BERT.at());
            bench.from(ANNE).is_dropped("from the host itself", &from, Reason::Loopback);
        }
        let reserved = Frame::ethernet(OTHER.0, [1, 0x80, 0xc2, 0, 0, 0], 0x88cc).then(&[1; 40]);
        bench.from(ANNE).is_dropped("a reserved group", &reserved, Reason::Reserved);
    });
}

/// Linux skips any number of tags without a VLAN ID, and takes ARP of hardware type 6 (IEEE 802) on Ethernet.
#[test]
fn frames_that_only_receivers_would_understand_are_malformed() {
    bench(|bench| {
        for (access, further) in [(UNGUARDED, &[][..]), (FURTHER, &["0.0.0.0/0"])] {
            grant(bench, ANNE, access, further);
            let twice = |ethertype: u16| {
                Frame::tagged(ANNE.mac(), BROADCAST, 0, 0x8100).then(&[0, 0]).then(&ethertype.to_be_bytes())
            };
            let spoofed = arp_bytes(request(ANNE.mac(), GATEWAY.ip, GATEWAY.ip));
            for (says, frame) in [
                ("ARP behind two tags", twice(0x0806).then(&spoofed)),
                ("IPv4 behind two tags", twice(0x0800).then(&ipv4(BERT.ip, [127, 0, 0, 1]))),
                ("IPv6 behind two tags", twice(0x86dd).then(&[0x60; 40])),
                ("ARP of other hardware", gratuitous(ANNE.mac(), GATEWAY.ip).with(14, &[0, 6])),
                ("ARP cut short", gratuitous(ANNE.mac(), GATEWAY.ip).cut(14 + 27)),
            ] {
                bench.from(ANNE).is_dropped(says, &frame, Reason::Malformed);
            }
        }
    });
}

/// A message from the address of the container's endpoint in another network would reach the host there.
#[test]
fn neighbour_discovery_does_not_come_from_another_network() {
    const THERE: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
    bench(|bench| {
        let owner = OwnerNumber::of(&"anne").number();
        let anne = Endpoint { owner, ..entry(ANNE, UNGUARDED) };
        bench.datapath.write_endpoint(number(ANNE), &anne).expect("written");
        let sibling = Endpoint { owner, ipv6: THERE, ..endpoint_entry(BLUE, DORA) };
        bench.datapath.write_endpoint(number(DORA), &sibling).expect("written");
        for kind in [133, 135, 136, 137] {
            let message = [&[kind, 0, 0, 0, 0x20, 0, 0, 0][..], &[9; 16]].concat();
            let frame = Frame::icmpv6((ANNE.mac(), THERE), (GATEWAY.mac(), [0xfd; 16]), &message);
            bench.from(ANNE).is_dropped("discovery", &frame, Reason::SpoofedNd);
        }
        let other = Frame::ipv6((ANNE.mac(), THERE), (GATEWAY.mac(), [0xfd; 16]));
        assert_eq!(bench.from(ANNE).frame(&other).reasons, [Reason::Delivered]);
    });
}

#[test]
fn macs_are_learnt_and_move_at_once() {
    bench(|bench| {
        for station in [ANNE, CLEO] {
            grant(bench, station, UNGUARDED, &[]);
        }
        let to_cleo = Frame::ipv4(BERT.at(), CLEO.at());
        bench.from(BERT).passes("silent so far", &to_cleo, Reason::Flooded, &[ANNE, CLEO]);
        bench.from(CLEO).passes(
            "its own MAC",
            &Frame::ipv4(CLEO.at(), BERT.at()),
            Reason::Forwarded,
            &[BERT],
        );
        bench.from(BERT).passes("learnt", &to_cleo, Reason::Forwarded, &[CLEO]);
        let to_other = Frame::ipv4(BERT.at(), OTHER);
        bench.from(BERT).passes("not learnt yet", &to_other, Reason::Flooded, &[ANNE, CLEO]);
        for station in [ANNE, CLEO, ANNE] {
            let frame = Frame::ipv4(OTHER, BERT.at());
            bench.from(station).passes("from its place", &frame, Reason::Forwarded, &[BERT]);
            bench.from(BERT).passes("to its place", &to_other, Reason::Forwarded, &[station]);
            bench.host(GATEWAY).passes(
                "also from the host",
                &Frame::ipv4(GATEWAY.at(), OTHER),
                Reason::Forwarded,
                &[station],
            );
            bench.from(station).is_dropped("back", &Frame::ipv4(station.at(), OTHER), Reason::Hairpin);
        }
    });
}

#[test]
fn an_endpoint_displaces_only_macs_of_its_own() {
    bench(|bench| {
        for station in [ANNE, CLEO] {
            grant(bench, station, UNGUARDED, &[]);
        }
        bench.from(CLEO).passes("Cleo", &Frame::ipv4(OTHER, BERT.at()), Reason::Forwarded, &[BERT]);
        let mac = |index: u32| {
            let [_, a, b, c] = index.to_be_bytes();
            [2, 1, 0, a, b, c]
        };
        let flood = MAX_LEARNT_OF_ENDPOINT + 100;
        for index in 0..flood {
            bench.from(ANNE).send(&Frame::ipv4((mac(index), OTHER.1), BERT.at()));
        }
        let to = |mac| Frame::ipv4(BERT.at(), (mac, OTHER.1));
        bench.from(BERT).passes("Cleo's", &to(OTHER.0), Reason::Forwarded, &[CLEO]);
        for index in [100, 101, flood / 2, flood - 1] {
            bench.from(BERT).passes("a late one", &to(mac(index)), Reason::Forwarded, &[ANNE]);
        }
        for index in [0, 1, 99] {
            bench.from(BERT).passes("an early one", &to(mac(index)), Reason::Flooded, &[ANNE, CLEO]);
        }
        assert_eq!(learnt(bench), (MAX_LEARNT_OF_ENDPOINT + 1) as usize, "learnt of Anne, and one of Cleo");
    });
}

/// The number of learnt MACs.
fn learnt(bench: &Bench) -> usize {
    dump(bench, "LEARNT").matches("seen").count()
}

fn dump(bench: &Bench, map: &str) -> String {
    run(&format!("bpftool map dump pinned {}", bench.pin("maps", map).display()))
}

#[test]
fn nothing_is_left_of_an_endpoint_that_is_removed_or_guarded_again() {
    bench(|bench| {
        let to_other = Frame::ipv4(BERT.at(), OTHER);
        let asked = Frame::arp(BERT.mac(), BROADCAST, request(BERT.mac(), BERT.ip, OTHER.1));
        for remove in [true, false] {
            grant(bench, ANNE, UNGUARDED | FURTHER, &["10.0.0.0/8", "fd00::/8"]);
            bench.from(ANNE).passes("learnt", &Frame::ipv4(OTHER, BERT.at()), Reason::Forwarded, &[BERT]);
            bench.from(BERT).passes("found", &to_other, Reason::Forwarded, &[ANNE]);
            match remove {
                true => bench.datapath.remove_endpoint(number(ANNE), Some("anne")).expect("removed"),
                false => grant(bench, ANNE, 0, &[]),
            }
            bench.from(BERT).is_dropped("unknown", &to_other, Reason::UnknownDestination);
            bench.from(BERT).is_dropped("unknown", &asked, Reason::UnknownAddress);
            bench.host(GATEWAY).is_lost(
                "asked by the host",
                &Frame::arp(GATEWAY.mac(), BROADCAST, request(GATEWAY.mac(), GATEWAY.ip, OTHER.1)),
                Reason::UnknownAddress,
            );
            assert_eq!(learnt(bench), 0);
            let further = dump(bench, "FURTHER");
            assert!(!further.contains("family"), "{further}");
        }
        bench.from(BERT).passes("again", &Frame::ipv4(BERT.at(), ANNE.at()), Reason::Forwarded, &[ANNE]);
    });
}

#[test]
fn requests_for_unknown_addresses_reach_those_who_may_have_them() {
    bench(|bench| {
        grant(bench, ANNE, UNGUARDED, &[]);
        let ask = |from: Station, tpa| Frame::arp(from.mac(), BROADCAST, request(from.mac(), from.ip, tpa));
        bench.from(BERT).passes("by a member", &ask(BERT, OTHER.1), Reason::Flooded, &[ANNE]);
        bench.from(BERT).passes("its own lease", &ask(BERT, ANNE.ip), Reason::Flooded, &[ANNE]);
        bench.host(GATEWAY).passes("by the host", &ask(GATEWAY, ANNE.ip), Reason::Flooded, &[ANNE]);
        bench.from(ANNE).passes("by itself", &ask(ANNE, OTHER.1), Reason::Flooded, &[BERT, CLEO]);
        for (says, frame) in [
            ("a reply", reply(ANNE.mac(), ANNE.ip, BERT)),
            ("for another address", reply(ANNE.mac(), OTHER.1, BERT)),
            ("with another MAC", reply(OTHER.0, OTHER.1, BERT)),
        ] {
            bench.from(ANNE).passes(says, &frame, Reason::Forwarded, &[BERT]);
        }
        let announced = gratuitous(OTHER.0, OTHER.1);
        bench.from(ANNE).passes("announced", &announced, Reason::Flooded, &[BERT, CLEO]);
        let answer = Frame::arp(
            BERT.mac(),
            ANNE.mac(),
            Arp { op: Arp::REPLY, tha: ANNE.mac(), ..request(BERT.mac(), BERT.ip, ANNE.ip) },
        );
        bench.from(ANNE).is_answered("a lease", &ask(ANNE, BERT.ip), &answer);
        // The host learns from it where the sender is.
        bench.from(ANNE).passes("the host's", &ask(ANNE, GATEWAY.ip), Reason::Flooded, &[BERT, CLEO]);
    });
}

#[test]
fn frames_to_unknown_macs_reach_only_endpoints_without_guard() {
    bench(|bench| {
        grant(bench, ANNE, UNGUARDED, &[]);
        let unknown = |from: Station| Frame::ipv4(from.at(), (NOBODY, OTHER.1));
        bench.from(BERT).passes("of a member", &unknown(BERT), Reason::Flooded, &[ANNE]);
        bench.host(GATEWAY).passes("of the host", &unknown(GATEWAY), Reason::Flooded, &[ANNE]);
        bench.from(ANNE).is_dropped("nobody else", &unknown(ANNE), Reason::UnknownDestination);
        grant(bench, CLEO, FURTHER, &["10.0.0.0/8"]);
        bench.from(BERT).passes("with a guard", &unknown(BERT), Reason::Flooded, &[ANNE]);
        grant(bench, CLEO, UNGUARDED, &[]);
        bench.from(ANNE).passes("without", &unknown(ANNE), Reason::Flooded, &[CLEO]);
        bench.from(DORA).is_dropped("another network", &unknown(DORA), Reason::UnknownDestination);
    });
}

#[test]
fn further_addresses_are_used_with_the_own_mac() {
    bench(|bench| {
        grant(bench, ANNE, FURTHER, &["10.5.0.100/32", "10.244.1.0/24", "172.17.0.0/24"]);
        for address in [ANNE.ip, [10, 5, 0, 100], [10, 244, 1, 0], [10, 244, 1, 255], OTHER.1] {
            let frame = Frame::ipv4((ANNE.mac(), address), BERT.at());
            bench.from(ANNE).passes("a further address", &frame, Reason::Forwarded, &[BERT]);
            let mac = Frame::ipv4((OTHER.0, address), BERT.at());
            bench.from(ANNE).is_dropped("with another MAC", &mac, Reason::SpoofedMac);
            let announced = gratuitous(ANNE.mac(), address);
            bench.from(ANNE).passes("announced", &announced, Reason::Flooded, &[BERT, CLEO]);
            let lie = Frame::arp(ANNE.mac(), BROADCAST, request(OTHER.0, address, address));
            bench.from(ANNE).is_dropped("announced with another MAC", &lie, Reason::SpoofedArp);
        }
        for address in [[10, 5, 0, 101], [10, 244, 2, 0], [172, 17, 1, 0], [0; 4], BERT.ip, GATEWAY.ip] {
            let frame = Frame::ipv4((ANNE.mac(), address), BERT.at());
            bench.from(ANNE).is_dropped("not its own", &frame, Reason::SpoofedIpv4);
            if address != [0; 4] {
                let announced = gratuitous(ANNE.mac(), address);
                bench.from(ANNE).is_dropped("announced", &announced, Reason::SpoofedArp);
            }
        }
        let asked = Frame::arp(BERT.mac(), BROADCAST, request(BERT.mac(), BERT.ip, [10, 5, 0, 100]));
        bench.from(BERT).passes("asked", &asked, Reason::Flooded, &[ANNE]);
        let answer = reply(ANNE.mac(), [10, 5, 0, 100], BERT);
        bench.from(ANNE).passes("answered", &answer, Reason::Forwarded, &[BERT]);
        bench.from(BERT).passes("reached", &Frame::ipv4(BERT.at(), ANNE.at()), Reason::Forwarded, &[ANNE]);
    });
}

#[test]
fn a_router_may_send_from_any_address_that_nobody_leases() {
    bench(|bench| {
        grant(bench, ANNE, FURTHER, &["0.0.0.0/0"]);
        for address in [[8, 8, 8, 8], [198, 18, 0, 2], OTHER.1] {
            let frame = Frame::ipv4((ANNE.mac(), address), BERT.at());
            bench.from(ANNE).passes("routed", &frame, Reason::Forwarded, &[BERT]);
        }
        let leased = Frame::ipv4((ANNE.mac(), CLEO.ip), BERT.at());
        bench.from(ANNE).is_dropped("a lease", &leased, Reason::SpoofedIpv4);
        // A subnet of IPv6 has no IPv4 address.
        grant(bench, ANNE, FURTHER, &["::/0"]);
        let routed = Frame::ipv4((ANNE.mac(), [8, 8, 8, 8]), BERT.at());
        bench.from(ANNE).is_dropped("IPv6 only", &routed, Reason::SpoofedIpv4);
        let routed = Frame::ipv6((ANNE.mac(), [0x20; 16]), (BERT.mac(), [9; 16]));
        bench.from(ANNE).passes("IPv6", &routed, Reason::Forwarded, &[BERT]);
        let through = Frame::ipv4(BERT.at(), (ANNE.mac(), [8, 8, 8, 8]));
        bench.from(BERT).passes("through the router", &through, Reason::Forwarded, &[ANNE]);
    });
}

#[test]
fn the_host_believes_only_sources_that_it_would_answer_here_or_outside() {
    bench(|bench| {
        route();
        for (access, further) in [(UNGUARDED, &[][..]), (FURTHER, &["0.0.0.0/0"])] {
            grant(bench, ANNE, access, further);
            let from = |address| Frame::ipv4((ANNE.mac(), address), (GATEWAY.mac(), [198, 51, 100, 2]));
            for (says, address) in [("its lease", ANNE.ip), ("the network", OTHER.1), ("outside", [8; 4])] {
                bench.from(ANNE).passes(says, &from(address), Reason::Delivered, &[]);
            }
            for (says, address) in [
                ("another network's member", DORA.ip),
                ("another network", [192, 168, 7, 7]),
                ("its gateway", [192, 168, 0, 1]),
                ("the host", [198, 51, 100, 1]),
            ] {
                bench.from(ANNE).is_dropped(says, &from(address), Reason::SpoofedIpv4);
                let to_all = Frame::ipv4((ANNE.mac(), address), (BROADCAST, [255; 4]));
                bench.from(ANNE).passes(says, &to_all, Reason::Flooded, &[BERT, CLEO]);
            }
        }
    });
}

#[test]
fn neighbour_discovery_of_open_endpoints() {
    const GATEWAY_IPV6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const FREE: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77];
    bench(|bench| {
        let host = network_entry(GATEWAY);
        let network = Network { gateway_ipv6: GATEWAY_IPV6, prefix_ipv6: 64, ..host.network };
        bench.datapath.write_network(RED, &NetworkEntry { network, ..host }).expect("written");
        let message = |kind: u8, from: [u8; 16], mac: [u8; 6], to: ([u8; 6], [u8; 16]), target: [u8; 16]| {
            let fixed = [&[kind, 0, 0, 0, 0x20, 0, 0, 0][..], &target, &option(kind - 134, mac)].concat();
            Frame::icmpv6((mac, from), to, &fixed)
        };
        let advertised =
            |address, mac| message(136, address, mac, ([0x33, 0x33, 0, 0, 0, 1], ALL_NODES), address);
        let ask = |from, mac, target| {
            let (group, group_mac) = solicited_node(target);
            message(135, from, mac, (group_mac, group), target)
        };
        for (access, further) in [(UNGUARDED, &[][..]), (FURTHER, &["2001:db8::/64"])] {
            grant(bench, ANNE, access, further);
            let own = advertised(FREE, ANNE.mac());
            bench.from(ANNE).passes("a free address", &own, Reason::Flooded, &[BERT, CLEO]);
            let asked = ask(CLEO_IPV6, CLEO.mac(), FREE);
            bench.from(CLEO).passes("asked", &asked, Reason::Flooded, &[ANNE]);
            for leased in [CLEO_IPV6, GATEWAY_IPV6] {
                let spoofed = advertised(leased, ANNE.mac());
                bench.from(ANNE).is_dropped("a lease", &spoofed, Reason::SpoofedIpv6);
                let to = ([0x33, 0x33, 0, 0, 0, 1], ALL_NODES);
                let spoofed = message(136, FREE, ANNE.mac(), to, leased);
                bench.from(ANNE).is_dropped("a lease", &spoofed, Reason::SpoofedNd);
            }
            let asked = bench.from(ANNE).frame(&ask(FREE, ANNE.mac(), CLEO_IPV6));
            assert_eq!(asked.reasons, [Reason::AnsweredNd]);
        }
        let router = [&[134, 0, 0, 0, 64, 0, 0, 30][..], &[0; 8]].concat();
        let advertisement =
            |mac| Frame::icmpv6((mac, CLEO_LINK_LOCAL), ([0x33, 0x33, 0, 0, 0, 1], ALL_NODES), &router);
        grant(bench, CLEO, FURTHER, &["::/0"]);
        bench.from(CLEO).is_dropped("with a guard", &advertisement(CLEO.mac()), Reason::SpoofedNd);
        grant(bench, CLEO, UNGUARDED, &[]);
        bench.from(CLEO).is_dropped("nobody", &advertisement(CLEO.mac()), Reason::UnknownDestination);
        grant(bench, ANNE, UNGUARDED, &[]);
        bench.from(CLEO).passes("a router", &advertisement(CLEO.mac()), Reason::Flooded, &[ANNE]);
        let to_bert = Frame::icmpv6((CLEO.mac(), CLEO_LINK_LOCAL), (BERT.mac(), FREE), &router);
        bench.from(CLEO).is_dropped("to a guarded member", &to_bert, Reason::SpoofedNd);
    });
}

#[test]
fn members_that_must_not_talk_to_each_other_do_not_without_guard_either() {
    bench(|bench| {
        route();
        let host = network_entry(GATEWAY);
        let network = Network { icc_off: 1, ..host.network };
        bench.datapath.write_network(RED, &NetworkEntry { network, ..host }).expect("written");
        for station in [ANNE, BERT, CLEO] {
            let access = if station.ip == CLEO.ip { 0 } else { UNGUARDED };
            let entry = Endpoint { icc_off: 1, ..entry(station, access) };
            bench.datapath.write_endpoint(number(station), &entry).expect("written");
        }
        for to in [BERT.at(), CLEO.at()] {
            let says = "to a member";
            bench.from(ANNE).is_dropped(says, &Frame::ipv4(ANNE.at(), to), Reason::NoIcc);
            bench.from(ANNE).is_dropped(says, &Frame::ipv4(OTHER, to), Reason::NoIcc);
        }
        let unknown = Frame::ipv4(ANNE.at(), (NOBODY, OTHER.1));
        bench.from(ANNE).is_dropped("unknown", &unknown, Reason::NoIcc);
        bench.from(CLEO).is_dropped("unknown", &Frame::ipv4(CLEO.at(), OTHER), Reason::NoIcc);
        let to_all = Frame::ipv4(ANNE.at(), (BROADCAST, [255; 4]));
        bench.from(ANNE).passes("to all: the host", &to_all, Reason::Delivered, &[]);
        let back = Frame::ipv4((GATEWAY.mac(), OTHER.1), CLEO.at());
        bench.host(GATEWAY).received_by(GATEWAY.ifindex).is_dropped("through the host", &back, Reason::NoIcc);
        // Leases are answered, so that linked members find each other.
        let asked = Frame::arp(ANNE.mac(), BROADCAST, request(ANNE.mac(), ANNE.ip, BERT.ip));
        assert_eq!(bench.from(ANNE).frame(&asked).reasons, [Reason::AnsweredArp]);
    });
}

#[test]
fn what_an_endpoint_may_send_changes_in_place() {
    bench(|bench| {
        let list =
            |bench: &Bench| bench.from(BERT).frame(&Frame::ipv4(BERT.at(), (BROADCAST, [255; 4]))).received;
        let before = list(bench);
        for access in [UNGUARDED, FURTHER, PLAIN, PLAIN | UNGUARDED, 0] {
            grant(bench, ANNE, access, &[]);
            assert_eq!(list(bench), before);
            assert_eq!(bench.datapath.observed().endpoints[&number(ANNE)].endpoint.access, access);
            let frame = Frame::ipv4(BERT.at(), ANNE.at());
            let found = bench.from(BERT).frame(&frame);
            assert_eq!(found.received, [number(ANNE)], "with {access}");
        }
    });
}
