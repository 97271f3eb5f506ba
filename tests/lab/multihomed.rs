//! Containers in several networks: a request through one network is answered even if the default route leads through
//! another.

use netbpf_tests::lab::{
    Lab,
    station::{Arp, BROADCAST, Station, arp, ethernet, ipv4},
};

use super::outside::{Neighbourhood, ask};

/// Options for networks without masquerade, into which all traffic may pass.
const OPEN: &str = "-o com.docker.network.bridge.enable_ip_masquerade=false \
    -o com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected \
    -o com.docker.network.bridge.gateway_mode_ipv6=nat-unprotected";

const OPEN_SUBNETS: &str = "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64";
const NAT_SUBNETS: &str = "--ipv6 --subnet 10.2.0.0/24 --subnet fd00:2::/64";

/// The last bytes of every frame in the attacks.
const MARK: &[u8] = b"netbpf multihome";
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;

/// Turns reverse path filtering off in a container, which copies the setting from its host: it would drop packets that
/// arrive on another interface than the reply takes.
fn take_what_comes_by_any_interface(lab: &Lab, container: &str) {
    let script =
        "for name in all eth0 eth1; do echo 0 >/proc/sys/net/ipv4/conf/$name/rp_filter || exit 1; done";
    lab.in_network_of(container, script).ok();
}

#[test]
fn a_request_to_an_address_outside_the_default_route_s_network_is_answered() {
    let lab = Neighbourhood::start();
    // Even with strict reverse path filtering on the host.
    lab.host(["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.default.rp_filter=1"]).ok();
    lab.network("open", &format!("{OPEN_SUBNETS} {OPEN}"));
    lab.network("nat", NAT_SUBNETS);
    lab.run("web", "--net nat --net open -p 8080:80");
    take_what_comes_by_any_interface(&lab, "web");
    let routes = lab.exec("web", "ip route show default").ok();
    assert!(routes.text().starts_with("default via 10.2.0.1"), "{routes}");
    lab.in_network_of("web", "socat TCP6-LISTEN:80,fork,ipv6only=0 SYSTEM:'echo web' >/dev/null 2>&1 &").ok();
    netbpf_tests::lab::eventually("the server listens", || {
        let sockets = lab.exec("web", "ss -Hltn sport = :80").ok().stdout;
        (!sockets.is_empty()).then_some(())
    });
    for address in ["10.1.0.2", "fd00:1::2"] {
        lab.on("far", &format!("ping -c2 -i0.2 -W1 {address}")).ok();
    }
    for address in ["10.1.0.2", "[fd00:1::2]"] {
        assert_eq!(lab.on("far", &ask(&format!("{address}:80"))).ok().text(), "web", "{address}");
    }
    assert_eq!(lab.on("far", &ask("192.0.2.1:8080")).ok().text(), "web", "the published port");
    lab.host(["pkill", "-f", "TCP6-LISTEN:80"]).ok();

    // Requests of the container itself leave through the network of their source address, by Docker's rules.
    let _far = lab.serve("far", 81);
    for (address, source, seen) in [
        ("192.0.2.2", "10.1.0.2", "10.1.0.2"),
        ("192.0.2.2", "10.2.0.2", "192.0.2.1"),
        ("[2001:db8:1::2]", "[fd00:1::2]", "fd00:1::2"),
        ("[2001:db8:1::2]", "[fd00:2::2]", "2001:db8:1::1"),
    ] {
        let ask = format!("timeout 3 socat -t3 -T2 - TCP:{address}:81,bind={source} </dev/null");
        assert_eq!(lab.exec_script("web", &ask).ok().text(), seen, "from {source}");
    }
    let neighbours = lab.host(["ip", "neigh", "show", "dev", &lab.device("nat")]).ok().stdout;
    assert!(!neighbours.contains("10.1.0.2"), "{neighbours}");
}

#[test]
fn an_address_of_a_masqueraded_network_does_not_leave_through_another_network() {
    let lab = Neighbourhood::start();
    lab.network("free", &format!("{OPEN_SUBNETS} {OPEN}"));
    lab.network("nat", NAT_SUBNETS);
    lab.network("closed", "--internal --subnet 10.3.0.0/24");
    lab.run("web", "--net free --net nat --net closed");
    let routes = lab.exec("web", "ip route show default").ok();
    assert!(routes.text().starts_with("default via 10.1.0.1"), "{routes}");
    take_what_comes_by_any_interface(&lab, "web");
    let _far = lab.serve("far", 81);
    for (source, seen) in [("10.1.0.2", "10.1.0.2"), ("10.2.0.2", "192.0.2.1")] {
        let ask = format!("timeout 3 socat -t3 -T2 - TCP:192.0.2.2:81,bind={source} </dev/null");
        assert_eq!(lab.exec_script("web", &ask).ok().text(), seen, "from {source}");
    }
    let before = lab.reasons();
    lab.exec("web", "ping -c1 -W1 -I 10.3.0.2 192.0.2.2").fails_with(1, "");
    assert_eq!(lab.drops_since(&before).get("internal"), Some(&1), "{:?}", lab.drops_since(&before));
}

/// Mallory is in both networks, Alice in one and Bob in the other. Members of the first one may not talk to each other.
struct World {
    mallory: Station,
    listeners: [(&'static str, Station); 4],
    gateway: [u8; 6],
    lab: Lab,
}

impl World {
    fn new() -> Self {
        let lab = Lab::start();
        lab.network("apart", "--subnet 10.1.0.0/24 -o com.docker.network.bridge.enable_icc=false");
        lab.network("other", &format!("--subnet 10.2.0.0/24 {OPEN}"));
        lab.run("mallory", "--net apart --net other");
        lab.run("alice", "--net apart");
        lab.run("bob", "--net other");
        let listeners = [
            ("alice", lab.station("alice", "eth0")),
            ("bob", lab.station("bob", "eth0")),
            ("the host", lab.host_station(&lab.device("apart"))),
            ("the host's other device", lab.host_station(&lab.device("other"))),
        ];
        let gateway = listeners[2].1.mac();
        Self { mallory: lab.station("mallory", "eth0"), listeners, gateway, lab }
    }

    fn ipv4(&self, to: [u8; 6], source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
        ethernet(to, self.mallory.mac(), IPV4, &ipv4(source, destination, MARK))
    }

    /// Sends a frame from Mallory's first interface. Only these stations receive it, and these drops are counted.
    #[track_caller]
    fn is_heard_by(&self, what: &str, frame: &[u8], by: &[&str], drops: &[&str]) {
        let before = self.lab.reasons();
        self.mallory.send(frame);
        let counted = self.lab.drops_since(&before);
        let expected = drops.iter().map(|reason| ((*reason).to_owned(), 1)).collect();
        assert_eq!(counted, expected, "{what}");
        for (name, station) in &self.listeners {
            // ICMP errors of the host quote it, with the mark.
            assert_eq!(station.heard_ending_in(MARK) > 0, by.contains(name), "{name} hears {what}");
        }
    }
}

#[test]
fn an_address_in_another_network_gives_no_access() {
    let world = World::new();
    let (alice, gateway) = (world.listeners[0].1.mac(), world.gateway);
    let [own, bob, alices] = [[10, 2, 0, 2], [10, 2, 0, 3], [10, 1, 0, 3]];
    let outside = [203, 0, 113, 9];
    // The host gets it through the network of the source address, and nobody else does.
    let other_device = ["the host's other device"];
    let frame = world.ipv4(gateway, own, [10, 1, 0, 1]);
    world.is_heard_by("what is for the host", &frame, &other_device, &[]);
    let frame = world.ipv4(gateway, own, alices);
    world.is_heard_by("what is for Alice by the host", &frame, &other_device, &["unpublished"]);
    world.is_heard_by("what is for Alice", &world.ipv4(alice, own, alices), &[], &["no-icc"]);
    for (what, source) in [("Bob's address", bob), ("a gateway's address", [10, 2, 0, 1])] {
        for to in [gateway, alice, BROADCAST] {
            world.is_heard_by(what, &world.ipv4(to, source, outside), &[], &["spoofed-ipv4"]);
        }
    }
    let mac = world.mallory.mac();
    let said = |operation, target| {
        let arp = arp(operation, (mac, own), ([0; 6], target));
        [ethernet(BROADCAST, mac, ARP, &arp), MARK.to_vec()].concat()
    };
    for (what, frame, reason) in [
        ("an announcement", said(Arp::Request, own), "unknown-address"),
        ("a question for the own address", said(Arp::Request, [10, 1, 0, 2]), "spoofed-arp"),
        ("a reply", said(Arp::Reply, own), "spoofed-arp"),
    ] {
        world.is_heard_by(what, &frame, &[], &[reason]);
    }
    world.lab.netbpf(["disconnect", "other", "mallory"]).ok();
    let frame = world.ipv4(gateway, own, outside);
    world.is_heard_by("an address that she has lost", &frame, &[], &["spoofed-ipv4"]);
}
