//! Unused addresses: packets of containers to them through the host, which would start to resolve them.

use std::{fs, thread};

use netbpf::plan::NetworkEntry;
use netbpf_common::{network::Network, reason::Reason};

use super::{
    bench::{ANNE, BERT, Bench, CLEO, CLEO_IPV6, CLEO_LINK_LOCAL, GATEWAY, RED, bench, network_entry, run},
    frame::Frame,
};

/// The host's address in the red network.
const GATEWAY_IPV6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// A bench whose host forwards, and has its addresses in the red network.
fn host(test: impl FnOnce(&mut Bench) + Send) {
    bench(|bench| {
        let entry = network_entry(GATEWAY);
        let network = Network { gateway_ipv6: GATEWAY_IPV6, prefix_ipv6: 64, ..entry.network };
        bench.datapath.write_network(RED, &NetworkEntry { network, ..entry }).expect("written");
        // The bench has no IPv6 unless it is asked for.
        for name in ["red", "blue"] {
            fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "0").expect("IPv6");
        }
        forward("1");
        run("ip link set lo up");
        run("ip address add 172.17.0.1/16 broadcast + dev red");
        run("ip address add 192.168.0.1/16 dev blue");
        run("ip address add 2001:db8::1/64 dev red nodad");
        // The kernel accepts packets for an IPv6 address some time after it was added.
        while !run("ip -6 route show table local").contains("local 2001:db8::1 ") {
            thread::yield_now();
        }
        test(bench);
    });
}

fn forward(on: &str) {
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        fs::write(format!("/proc/sys/net/{setting}"), on).expect("a setting of our own namespace");
    }
}

/// A packet to an address through the host.
fn to(ip: [u8; 4]) -> Frame {
    Frame::ipv4(ANNE.at(), (GATEWAY.mac(), ip))
}

fn to_ipv6(address: &str) -> Frame {
    let address: std::net::Ipv6Addr = address.parse().expect("an address");
    Frame::ipv6((CLEO.mac(), CLEO_IPV6), (GATEWAY.mac(), address.octets()))
}

#[test]
fn packets_to_unused_addresses_are_dropped() {
    host(|bench| {
        for ip in [[172, 17, 0, 9], [172, 17, 9, 9], [172, 17, 255, 254]] {
            bench.from(ANNE).is_dropped("an address of the subnet", &to(ip), Reason::UnknownAddress);
        }
        for address in ["2001:db8::99", "2001:db8::ffff:ffff:ffff:ffff", "fe80::99"] {
            bench.from(CLEO).is_dropped(address, &to_ipv6(address), Reason::UnknownAddress);
        }
        for address in ["2001:db8::99", "fe80::99"] {
            let from_link_local = to_ipv6(address).with(22, &CLEO_LINK_LOCAL);
            let says = format!("from a link-local address to {address}");
            bench.from(CLEO).is_dropped(&says, &from_link_local, Reason::UnknownAddress);
        }
        let fragment = to([172, 17, 9, 9]).with(20, &[0x20, 0xb9]);
        bench.from(ANNE).is_dropped("a fragment", &fragment, Reason::UnknownAddress);
    });
}

#[test]
fn packets_to_used_addresses_go_to_the_host() {
    host(|bench| {
        run("ip address add 172.17.5.5/32 dev lo");
        run("ip address add 172.17.6.6/16 dev red");
        for (says, ip) in [
            ("the gateway's address", GATEWAY.ip),
            ("a member's", BERT.ip),
            ("an address of the host's at another device", [172, 17, 5, 5]),
            ("a second one at this device", [172, 17, 6, 6]),
            ("the subnet's broadcast address", [172, 17, 255, 255]),
            ("all", [255; 4]),
            ("the world", [1, 1, 1, 1]),
            ("another network", [192, 168, 9, 9]),
        ] {
            bench.from(ANNE).passes(says, &to(ip), Reason::Delivered, &[]);
        }
        for address in ["2001:db8::1", "2001:db8::4", "2001:db8:0:1::1", "ff02::1"] {
            bench.from(CLEO).passes(address, &to_ipv6(address), Reason::Delivered, &[]);
        }
    });
}

#[test]
fn the_host_s_own_routes_and_neighbours_are_respected() {
    host(|bench| {
        for command in [
            "route add 172.17.128.0/17 dev blue",
            "route add 172.17.64.0/18 via 172.17.0.3",
            "route add 172.17.32.0/24 via inet6 fe80::3 dev red",
            "route add blackhole 172.17.33.0/24",
            "rule add iif red to 172.17.34.0/24 lookup 77",
            "route add 172.17.34.0/24 dev blue table 77",
            "neighbour add 172.17.35.1 lladdr 02:42:ac:11:00:03 nud permanent dev red",
            "-6 route add 2001:db8::1:0/112 dev blue",
            "-6 route add 2001:db8::2:0/112 via 2001:db8::3 dev red",
            "-6 neighbour add 2001:db8::3:1 lladdr 02:42:ac:11:00:03 nud permanent dev red",
        ] {
            run(&format!("ip {command}"));
        }
        for (says, ip) in [
            ("by another device", [172, 17, 128, 9]),
            ("by a member", [172, 17, 64, 9]),
            ("by a router with an IPv6 address", [172, 17, 32, 9]),
            ("to nowhere", [172, 17, 33, 9]),
            ("by a rule", [172, 17, 34, 9]),
            ("to a MAC that somebody told the host", [172, 17, 35, 1]),
        ] {
            bench.from(ANNE).passes(says, &to(ip), Reason::Delivered, &[]);
        }
        for address in ["2001:db8::1:9", "2001:db8::2:9", "2001:db8::3:1"] {
            bench.from(CLEO).passes(address, &to_ipv6(address), Reason::Delivered, &[]);
        }
        bench.from(ANNE).is_dropped("beside them", &to([172, 17, 35, 2]), Reason::UnknownAddress);
        bench.from(CLEO).is_dropped("beside them", &to_ipv6("2001:db8::3:2"), Reason::UnknownAddress);
        forward("0");
        let says = "a host that does not forward looks for nobody";
        bench.from(ANNE).passes(says, &to([172, 17, 35, 2]), Reason::Delivered, &[]);
        bench.from(CLEO).passes(says, &to_ipv6("2001:db8::3:2"), Reason::Delivered, &[]);
    });
}

/// A network without subnets on a host with addresses in it: its packets pass.
#[test]
fn a_network_without_a_subnet_is_not_checked() {
    host(|bench| {
        let entry = network_entry(GATEWAY);
        let network = Network { gateway: [0; 4], prefix: 0, ..entry.network };
        bench.datapath.write_network(RED, &NetworkEntry { network, ..entry }).expect("written");
        bench.from(ANNE).passes("without IPv4", &to([172, 17, 9, 9]), Reason::Delivered, &[]);
        bench.from(CLEO).passes("without IPv6", &to_ipv6("2001:db8::99"), Reason::Delivered, &[]);
    });
}
