//! The host forwards for netbpf's networks only, if it did not forward before.

use std::net::Ipv6Addr;

use netbpf_tests::lab::{
    Lab, eventually,
    station::{ethernet, icmpv6, ipv6},
};

use super::outside::Neighbourhood;

const IPV4: &str = "net.ipv4.ip_forward";
const IPV6: &str = "net.ipv6.conf.all.forwarding";

/// The value of a sysctl of the host.
#[track_caller]
fn setting(lab: &Lab, name: &str) -> String {
    lab.host(["sysctl", "-n", name]).ok().text().to_owned()
}

#[track_caller]
fn set(lab: &Lab, name: &str, value: &str) {
    lab.host(["sysctl", "-qw", &format!("{name}={value}")]).ok();
}

/// A host with neighbours that does not forward, without a daemon.
fn closed_host() -> Neighbourhood {
    let lab = Neighbourhood::start();
    lab.stop_daemon();
    set(&lab, IPV4, "0");
    set(&lab, IPV6, "0");
    lab
}

/// Whether `far` reaches `side` through the host, over IPv4 and over IPv6.
fn passes(lab: &Neighbourhood) -> [bool; 2] {
    ["203.0.113.2", "2001:db8:3::2"]
        .map(|address| lab.on("far", &format!("ping -c1 -W1 {address}")).status.success())
}

#[test]
fn a_host_that_forwards_for_netbpf_forwards_for_no_others() {
    let lab = closed_host();
    lab.start_daemon();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    lab.run("web", "--net red -p 8080:80");
    let is_closed = |lab: &Neighbourhood| {
        let before = lab.reasons();
        assert_eq!(passes(lab), [false, false]);
        assert_eq!(lab.drops_since(&before), [("transit".to_owned(), 2)].into());
        for address in ["192.0.2.2", "203.0.113.2", "2001:db8:1::2", "2001:db8:3::2"] {
            lab.exec("web", &format!("ping -c1 -W2 {address}")).ok();
        }
    };
    assert_eq!((setting(&lab, IPV4), setting(&lab, IPV6)), ("1".to_owned(), "1".to_owned()));
    is_closed(&lab);
    // A killed daemon has stored the former setting for the next one.
    lab.kill_daemon();
    lab.start_daemon();
    is_closed(&lab);
    // Traffic that another program masquerades passes.
    let nat = "add table ip theirs; add chain ip theirs post { type nat hook postrouting priority 100; }; \
               add rule ip theirs post ip saddr 192.0.2.2 masquerade";
    lab.host(["nft", nat]).ok();
    assert_eq!(passes(&lab), [true, false]);
    lab.host(["nft", "delete", "table", "ip", "theirs"]).ok();

    lab.stop_daemon();
    lab.tell_daemons("--ip-forward-no-drop");
    lab.start_daemon();
    assert_eq!(passes(&lab), [true, true]);

    // The last daemon restores the setting.
    lab.netbpf(["rm", "-f", "web"]).ok();
    lab.netbpf(["network", "rm", "red"]).ok();
    lab.stop_daemon();
    assert_eq!((setting(&lab, IPV4), setting(&lab, IPV6)), ("0".to_owned(), "0".to_owned()));
    lab.tell_daemons("");
}

#[test]
fn a_host_stays_closed_after_its_last_ipv6_network() {
    let lab = closed_host();
    lab.start_daemon();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    lab.netbpf(["network", "rm", "red"]).ok();
    assert_eq!(passes(&lab), [false, false]);
    lab.kill_daemon();
    lab.start_daemon();
    assert_eq!(setting(&lab, IPV6), "1");
    assert_eq!(passes(&lab), [false, false]);
}

#[test]
fn forwarded_packets_with_an_address_of_the_host_are_dropped() {
    let lab = closed_host();
    lab.start_daemon();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    let [far, side] = ["far", "side"].map(|name| lab.station_in(&format!("/run/netns/{name}"), "eth0"));
    let uplink = lab.host_station("uplink").mac();
    let octets = |address: &str| address.parse::<Ipv6Addr>().expect("an address").octets();
    let before = lab.reasons();
    let sources = ["2001:db8:1::2", "2001:db8:1::1", "2001:db8:3::1", "fd00:1::1"];
    for source in sources {
        let packet = ipv6(octets(source), octets("2001:db8:3::2"), b"netbpf");
        far.send(&ethernet(uplink, far.mac(), 0x86dd, &packet));
    }
    // A neighbour advertisement is for its link only (RFC 4861 section 7.1.2).
    let (far_address, side_address) = (octets("2001:db8:1::2"), octets("2001:db8:3::2"));
    let message = [&[136, 0, 0, 0, 0x60, 0, 0, 0][..], &far_address, &[2, 1], b"netbpf"].concat();
    let packet = icmpv6(far_address, side_address, &message);
    far.send(&ethernet(uplink, far.mac(), 0x86dd, &packet));
    // Frames stay in order, so everything sent before this ping has arrived after it.
    lab.on("far", "ping -c1 -W2 2001:db8:1::1").ok();
    assert_eq!(lab.drops_since(&before), [("transit".to_owned(), sources.len() as u64 + 1)].into());
    assert_eq!(side.heard_ending_in(b"netbpf"), 0);
    // The host's own packets pass.
    lab.host(["ping", "-c1", "-W2", "2001:db8:3::2"]).ok();
}

#[test]
fn a_host_that_forwarded_before_still_forwards_for_others() {
    let lab = closed_host();
    set(&lab, IPV4, "1");
    set(&lab, IPV6, "1");
    lab.start_daemon();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    assert_eq!(passes(&lab), [true, true]);
    lab.restart_daemon();
    assert_eq!(passes(&lab), [true, true]);
    lab.netbpf(["network", "rm", "red"]).ok();
    lab.stop_daemon();
    assert_eq!((setting(&lab, IPV4), setting(&lab, IPV6)), ("1".to_owned(), "1".to_owned()));
    set(&lab, IPV4, "0");
}

#[test]
fn forwarding_stays_on_if_others_may_need_it() {
    let lab = closed_host();
    lab.start_daemon();
    lab.host(["ip", "link", "add", "theirs", "type", "bridge"]).ok();
    lab.stop_daemon();
    assert_eq!(setting(&lab, IPV4), "1");
    lab.host(["ip", "link", "del", "theirs"]).ok();
}

#[test]
fn forwarding_is_turned_on_again_when_it_is_turned_off() {
    let lab = Neighbourhood::start();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    lab.run("web", "--net red");
    let device = lab.device("red");
    for name in [
        IPV4.to_owned(),
        IPV6.to_owned(),
        format!("net.ipv4.conf.{device}.forwarding"),
        format!("net.ipv6.conf.{device}.forwarding"),
    ] {
        set(&lab, &name, "0");
        eventually("it is on again", || (setting(&lab, &name) == "1").then_some(()));
        lab.exec("web", "ping -c1 -W2 192.0.2.2").ok();
        lab.exec("web", "ping -c1 -W2 2001:db8:1::2").ok();
    }
    let said = lab.daemon_log();
    assert!(said.contains("somebody set net.ipv4.ip_forward to 0"), "{said}");
}

/// A Python program that sends a router advertisement with a prefix, and itself as default router. Argument: the
/// interface.
const ADVERTISE: &str = r"
import socket, struct, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((sys.argv[1], 0))
mac = wire.getsockname()[4]
own = bytes.fromhex('fe80000000000000') + bytes([mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]])
everybody = bytes.fromhex('ff020000000000000000000000000001')
prefix = struct.pack('!BBBBIII', 3, 4, 64, 0xc0, 3600, 3600, 0) + bytes.fromhex('2001066600000000') + bytes(8)
message = struct.pack('!BBHBBHII', 134, 0, 0, 64, 0, 1800, 0, 0) + b'\x01\x01' + mac + prefix
covered = own + everybody + struct.pack('!II', len(message), 58) + message
total = sum(struct.unpack('!%dH' % (len(covered) // 2), covered))
while total >> 16: total = (total & 0xffff) + (total >> 16)
message = message[:2] + struct.pack('!H', ~total & 0xffff) + message[4:]
header = struct.pack('!IHBB', 0x60000000, len(message), 58, 255) + own + everybody
wire.send(b'\x33\x33\0\0\0\x01' + mac + b'\x86\xdd' + header + message)
";

#[test]
fn only_interfaces_configured_by_a_router_still_accept_router_advertisements() {
    let lab = closed_host();
    let advertise = |namespace: &str| {
        lab.host(["ip", "netns", "exec", namespace, "python3", "-c", ADVERTISE, "eth0"]).ok();
    };
    let has_route = |interface: &str| {
        lab.host(["ip", "-6", "route", "show", "default", "dev", interface]).ok().stdout.contains("proto ra")
    };
    advertise("far");
    eventually("the router is heard", || has_route("uplink").then_some(()));
    lab.start_daemon();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    let accepts = |name: &str| setting(&lab, &format!("net.ipv6.conf.{name}.accept_ra"));
    assert_eq!(["uplink", "second", "default", "lo"].map(accepts), ["2", "1", "1", "1"]);
    assert!(has_route("uplink"), "the host keeps its own way out");

    // The host does not accept router advertisements on an interface that is created later.
    lab.host(["ip", "netns", "add", "later"]).ok();
    lab.host(["ip", "link", "add", "newcomer", "type", "veth", "peer", "name", "eth0", "netns", "later"])
        .ok();
    lab.host(["ip", "link", "set", "newcomer", "up"]).ok();
    lab.host(["ip", "-n", "later", "link", "set", "eth0", "up"]).ok();
    advertise("later");
    advertise("far");
    lab.on("far", "ping -c1 -W2 2001:db8:1::1").ok();
    assert!(!has_route("newcomer"));
    lab.host(["ip", "netns", "del", "later"]).ok();
    lab.netbpf(["network", "rm", "red"]).ok();
    lab.stop_daemon();
    assert_eq!((accepts("uplink"), setting(&lab, IPV4)), ("1".to_owned(), "0".to_owned()));
}
