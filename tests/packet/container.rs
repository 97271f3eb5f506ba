//! Frames from containers.

use netbpf_common::{endpoint, reason::Reason, wire::Arp};

use super::{
    bench::{
        ANNE, BERT, CLEO, CLEO_IPV6, CLEO_LINK_LOCAL, DORA, GATEWAY, RED, Station, bench, endpoint_entry,
    },
    frame::{BROADCAST, Frame, request},
};

const NOBODY: Station = Station { ifindex: 0, ip: [172, 17, 9, 9] };

#[test]
fn unicast_goes_to_its_container() {
    bench(|bench| {
        let to = |station: Station| Frame::ipv4(ANNE.at(), station.at());
        bench.from(ANNE).passes("to a container", &to(BERT), Reason::Forwarded, &[BERT]);
        bench.from(ANNE).passes("to the host", &to(GATEWAY), Reason::Delivered, &[]);
        let outside = Frame::ipv4(ANNE.at(), (GATEWAY.mac(), [1, 1, 1, 1]));
        bench.from(ANNE).passes("to the world, by the host", &outside, Reason::Delivered, &[]);
        bench.from(ANNE).is_dropped("to nobody", &to(NOBODY), Reason::UnknownDestination);
        bench.from(ANNE).is_dropped("to itself", &to(ANNE), Reason::Hairpin);
        let fragment = to(BERT).with(20, &[0x20, 0xb9]);
        bench.from(ANNE).passes("a fragment", &fragment, Reason::Forwarded, &[BERT]);
    });
}

/// `FDB_SLOTS` has one slot for all MAC addresses with the same last bytes, of this and other networks.
#[test]
fn mac_addresses_that_share_a_slot_are_distinguished() {
    bench(|bench| {
        let twin = Station { ifindex: endpoint::ifindex_of(5), ip: [10, 0, BERT.ip[2], BERT.ip[3]] };
        let to = |station: Station| Frame::ipv4(ANNE.at(), station.at());
        super::bench::veth("twin", twin.ifindex);
        bench.from(ANNE).is_dropped("to the twin, who is not there", &to(twin), Reason::UnknownDestination);
        bench.datapath.write_endpoint(5, &endpoint_entry(RED, twin)).expect("an endpoint");
        bench.from(ANNE).passes("to the last one in the slot", &to(twin), Reason::Forwarded, &[twin]);
        bench.from(ANNE).passes("to the first one", &to(BERT), Reason::Forwarded, &[BERT]);
        bench.datapath.remove_endpoint(5, None).expect("an endpoint");
        bench.from(ANNE).is_dropped("to the twin, who is gone", &to(twin), Reason::UnknownDestination);
        bench.from(ANNE).passes("to the one who stayed", &to(BERT), Reason::Forwarded, &[BERT]);
        let gateway = Station { ip: [10, 0, GATEWAY.ip[2], GATEWAY.ip[3]], ..twin };
        bench.datapath.write_endpoint(5, &endpoint_entry(RED, gateway)).expect("an endpoint");
        bench.from(ANNE).passes("to the gateway", &to(GATEWAY), Reason::Delivered, &[]);
        bench.from(ANNE).passes("to its twin", &to(gateway), Reason::Forwarded, &[gateway]);
    });
}

#[test]
fn another_network_is_unreachable() {
    bench(|bench| {
        let frame = Frame::ipv4(ANNE.at(), DORA.at());
        bench.from(ANNE).is_dropped("to a container of another network", &frame, Reason::UnknownDestination);
        let arp = Frame::arp(ANNE.mac(), BROADCAST, request(ANNE.mac(), ANNE.ip, DORA.ip));
        bench.from(ANNE).is_dropped("asking for one", &arp, Reason::UnknownAddress);
    });
}

#[test]
fn frames_from_an_unknown_port_are_dropped() {
    bench(|bench| {
        let stranger = Station { ifindex: endpoint::ifindex_of(7), ip: ANNE.ip };
        super::bench::veth("stranger", stranger.ifindex);
        let frame = Frame::ipv4(ANNE.at(), BERT.at());
        bench.from(stranger).is_dropped("from a vacant port", &frame, Reason::UnknownEndpoint);
        let lo = Station { ifindex: 1, ip: ANNE.ip };
        bench.from(lo).is_dropped("from an interface that is no port", &frame, Reason::UnknownEndpoint);
    });
}

#[test]
fn a_container_sends_with_its_own_addresses_only() {
    bench(|bench| {
        let from = |source| Frame::ipv4(source, BERT.at());
        bench.from(ANNE).is_dropped("another's MAC", &from((CLEO.mac(), ANNE.ip)), Reason::SpoofedMac);
        bench.from(ANNE).is_dropped("the gateway's MAC", &from((GATEWAY.mac(), ANNE.ip)), Reason::SpoofedMac);
        bench.from(ANNE).is_dropped("another's address", &from((ANNE.mac(), CLEO.ip)), Reason::SpoofedIpv4);
        bench.from(ANNE).is_dropped(
            "the gateway's address",
            &from((ANNE.mac(), GATEWAY.ip)),
            Reason::SpoofedIpv4,
        );
        bench.from(ANNE).is_dropped("no address", &from((ANNE.mac(), [0; 4])), Reason::SpoofedIpv4);
        for destination in [GATEWAY.mac(), BERT.mac(), BROADCAST] {
            let loopback = Frame::ipv4(ANNE.at(), (destination, [127, 0, 0, 1]));
            bench.from(ANNE).is_dropped("to 127.0.0.1", &loopback, Reason::Loopback);
        }
        let broadcast = Frame::ipv4((ANNE.mac(), CLEO.ip), (BROADCAST, [255; 4]));
        bench.from(ANNE).is_dropped("another's address to all", &broadcast, Reason::SpoofedIpv4);
        let fragment = from((ANNE.mac(), CLEO.ip)).with(20, &[0x20, 0xb9]);
        bench.from(ANNE).is_dropped("another's address in a fragment", &fragment, Reason::SpoofedIpv4);
    });
}

#[test]
fn a_container_without_ipv6_sends_no_ipv6() {
    bench(|bench| {
        let from = |station: Station, source| Frame::ipv6((station.mac(), source), (BERT.mac(), [9; 16]));
        let ours = [("global", CLEO_IPV6), ("link-local", CLEO_LINK_LOCAL)];
        for (kind, address) in ours {
            let says = format!("the own {kind} address");
            bench.from(CLEO).passes(&says, &from(CLEO, address), Reason::Forwarded, &[BERT]);
            let says = format!("the {kind} address by somebody without IPv6");
            bench.from(ANNE).is_dropped(&says, &from(ANNE, address), Reason::SpoofedIpv6);
        }
        bench.from(CLEO).is_dropped("another's address", &from(CLEO, [7; 16]), Reason::SpoofedIpv6);
    });
}

#[test]
fn without_an_address_only_address_detection_may_be_sent() {
    const ALL: ([u8; 6], [u8; 16]) =
        ([0x33, 0x33, 0, 0, 0, 1], [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    /// Next header, length, a router alert (RFC 2711), padding.
    const ROUTER_ALERT: [u8; 8] = [58, 0, 5, 2, 0, 0, 1, 0];
    bench(|bench| {
        let none = (CLEO.mac(), [0; 16]);
        for kind in [131, 132, 143] {
            let plain = Frame::icmpv6(none, ALL, &[kind, 0, 0, 0, 0, 0, 0, 0]);
            let report = plain.clone().behind(0, &ROUTER_ALERT);
            let says = format!("a message of type {kind} on groups");
            bench.from(CLEO).passes(&says, &report, Reason::Flooded, &[ANNE, BERT]);
            let (says, short) = (format!("{says}, cut off by its header"), report.clone().with(14 + 5, &[8]));
            bench.from(CLEO).is_dropped(&says, &short, Reason::Malformed);
            let says = format!("a message of type {kind} without a router alert");
            bench.from(CLEO).is_dropped(&says, &plain, Reason::SpoofedIpv6);
            let other = Frame::icmpv6((ANNE.mac(), [0; 16]), ALL, &[kind, 0, 0, 0, 0, 0, 0, 0]);
            let other = other.behind(0, &ROUTER_ALERT);
            bench.from(ANNE).is_dropped("one of somebody without IPv6", &other, Reason::SpoofedIpv6);
        }
        for kind in [1, 3, 128, 129, 130, 134, 136, 137, 144] {
            let plain = Frame::icmpv6(none, ALL, &[kind, 0, 0, 0, 0, 0, 0, 0]);
            let says = format!("a message of type {kind}");
            bench.from(CLEO).is_dropped(&says, &plain, Reason::SpoofedIpv6);
            let behind = plain.behind(0, &ROUTER_ALERT);
            bench.from(CLEO).is_dropped(&says, &behind, Reason::SpoofedIpv6);
        }
        for to in [(BERT.mac(), [9; 16]), (GATEWAY.mac(), [9; 16]), ALL] {
            let udp = Frame::ipv6(none, to);
            bench.from(CLEO).is_dropped("UDP", &udp, Reason::SpoofedIpv6);
            let behind = udp.behind(0, &[17, 0, 5, 2, 0, 0, 1, 0]);
            bench.from(CLEO).is_dropped("UDP behind options", &behind, Reason::SpoofedIpv6);
        }
    });
}

/// Senders may have an old neighbour entry for an address.
#[test]
fn frames_for_an_outdated_mac_go_to_the_owner_of_the_address() {
    bench(|bench| {
        let gone = [2, 0x52, 0x1a, 0x16, 0x9f, 0x75];
        let ipv4 = |source, ip| Frame::ipv4(source, (gone, ip));
        let says = "from a container";
        bench.from(ANNE).is_readdressed(says, &ipv4(ANNE.at(), BERT.ip), Reason::Forwarded, BERT);
        let says = "to the host";
        bench.from(ANNE).is_readdressed(says, &ipv4(ANNE.at(), GATEWAY.ip), Reason::Delivered, GATEWAY);
        let says = "from the host";
        bench.host(GATEWAY).is_readdressed(says, &ipv4(GATEWAY.at(), ANNE.ip), Reason::Forwarded, ANNE);
        let ipv6 = |source| Frame::ipv6(source, (gone, CLEO_IPV6));
        let (says, frame) = ("IPv6 from the host", ipv6((GATEWAY.mac(), [9; 16])));
        bench.host(GATEWAY).is_readdressed(says, &frame, Reason::Forwarded, CLEO);
        let own = ipv4(ANNE.at(), ANNE.ip);
        bench.from(ANNE).is_dropped("to the sender's own address", &own, Reason::Hairpin);
        for (says, ip) in [("nobody's address", NOBODY.ip), ("another network's", DORA.ip)] {
            bench.from(ANNE).is_dropped(says, &ipv4(ANNE.at(), ip), Reason::UnknownDestination);
        }
        let other = Frame::ethernet(ANNE.mac(), gone, 0x88b5);
        bench.from(ANNE).is_dropped("another protocol", &other, Reason::UnknownDestination);
    });
}

#[test]
fn the_reserved_groups_of_bridges_are_not_flooded() {
    bench(|bench| {
        for last in 0..=0x10_u8 {
            let frame = Frame::ethernet(ANNE.mac(), [1, 0x80, 0xc2, 0, 0, last], 0x88cc);
            let says = format!("01:80:c2:00:00:{last:02x}");
            if last <= 0x0f {
                bench.from(ANNE).is_dropped(&says, &frame, Reason::Reserved);
            } else {
                bench.from(ANNE).passes(&says, &frame, Reason::Flooded, &[BERT, CLEO]);
            }
        }
    });
}

#[test]
fn arp_requests_are_answered_on_the_spot() {
    bench(|bench| {
        for owner in [BERT, CLEO, GATEWAY] {
            let request = request(ANNE.mac(), ANNE.ip, owner.ip);
            let answer = Frame::arp(owner.mac(), ANNE.mac(), request.reply(owner.mac()));
            for (says, to) in [("asked of all", BROADCAST), ("asked of the owner", owner.mac())] {
                bench.from(ANNE).is_answered(says, &Frame::arp(ANNE.mac(), to, request), &answer);
            }
        }
        let padded = |frame: Frame| frame.then(&[0; 18]);
        let request = request(ANNE.mac(), ANNE.ip, BERT.ip);
        let answer = Frame::arp(BERT.mac(), ANNE.mac(), request.reply(BERT.mac()));
        let asked = Frame::arp(ANNE.mac(), BROADCAST, request);
        bench.from(ANNE).is_answered("with padding", &padded(asked), &padded(answer));
    });
}

#[test]
fn arp_requests_for_unused_addresses_are_dropped() {
    bench(|bench| {
        let arp = Frame::arp(ANNE.mac(), BROADCAST, request(ANNE.mac(), ANNE.ip, NOBODY.ip));
        bench.from(ANNE).is_dropped("an address that nobody has", &arp, Reason::UnknownAddress);
        let arp = Frame::arp(ANNE.mac(), BROADCAST, request(ANNE.mac(), [0; 4], [0; 4]));
        bench.from(ANNE).is_dropped("no address", &arp, Reason::UnknownAddress);
    });
}

#[test]
fn announcements_are_flooded_and_replies_go_to_the_requester() {
    bench(|bench| {
        let gratuitous = request(ANNE.mac(), ANNE.ip, ANNE.ip);
        let all = [BERT, CLEO];
        let frame = Frame::arp(ANNE.mac(), BROADCAST, gratuitous);
        bench.from(ANNE).passes("a gratuitous request", &frame, Reason::Flooded, &all);
        let frame = Frame::arp(ANNE.mac(), BROADCAST, gratuitous.reply(ANNE.mac()));
        bench.from(ANNE).passes("a gratuitous reply", &frame, Reason::Flooded, &all);
        let frame = Frame::arp(ANNE.mac(), BROADCAST, request(ANNE.mac(), [0; 4], ANNE.ip));
        bench.from(ANNE).passes("a probe for the own address", &frame, Reason::Flooded, &all);
        let reply = request(BERT.mac(), BERT.ip, ANNE.ip).reply(ANNE.mac());
        let frame = Frame::arp(ANNE.mac(), BERT.mac(), reply);
        bench.from(ANNE).passes("a reply", &frame, Reason::Forwarded, &[BERT]);

        let probe = request(ANNE.mac(), [0; 4], BERT.ip);
        let answer = Frame::arp(BERT.mac(), ANNE.mac(), probe.reply(BERT.mac()));
        let frame = Frame::arp(ANNE.mac(), BROADCAST, probe);
        bench.from(ANNE).is_answered("a probe for another's address", &frame, &answer);
    });
}

#[test]
fn arp_with_false_sender_addresses_is_dropped() {
    bench(|bench| {
        let own = request(ANNE.mac(), ANNE.ip, BERT.ip);
        let lies = [
            ("another's MAC", Arp { sha: CLEO.mac(), ..own }),
            ("another's address", Arp { spa: CLEO.ip, ..own }),
            ("the gateway's address", Arp { spa: GATEWAY.ip, ..own }),
            ("another's address, announced", Arp { spa: CLEO.ip, tpa: CLEO.ip, ..own }),
            ("another's address, in a reply", Arp { op: Arp::REPLY, spa: CLEO.ip, ..own }),
            ("no address, in a reply", Arp { op: Arp::REPLY, spa: [0; 4], ..own }),
            ("another's address, in a reverse request", Arp { op: [0, 3], spa: CLEO.ip, ..own }),
        ];
        for (says, arp) in lies {
            for to in [BROADCAST, BERT.mac()] {
                bench.from(ANNE).is_dropped(says, &Frame::arp(ANNE.mac(), to, arp), Reason::SpoofedArp);
            }
        }
    });
}
