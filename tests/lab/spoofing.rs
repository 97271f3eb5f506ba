//! Spoofing: frames with a false sender reach nobody, and are counted under their reason.

use netbpf_tests::lab::{
    Lab,
    station::{Arp, BROADCAST, Station, arp, ethernet, ipv4, ipv6, tagged},
};

/// The last bytes of every frame in these tests.
const MARK: &[u8] = b"netbpf spoofing!";

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const VLAN: u16 = 0x8100;
const SERVICE_VLAN: u16 = 0x88a8;
const IPV6: u16 = 0x86dd;

const GATEWAY: [u8; 4] = [10, 1, 0, 1];
const MALLORY: [u8; 4] = [10, 1, 0, 2];
const ALICE: [u8; 4] = [10, 1, 0, 3];
const BOB: [u8; 4] = [10, 1, 0, 4];

struct World {
    mallory: Station,
    alice: Station,
    bob: Station,
    host: Station,
    lab: Lab,
}

impl World {
    fn new() -> Self {
        let lab = Lab::start();
        lab.network("red", "--subnet 10.1.0.0/24");
        for name in ["mallory", "alice", "bob"] {
            lab.run(name, "--net red");
        }
        Self {
            mallory: lab.station("mallory", "eth0"),
            alice: lab.station("alice", "eth0"),
            bob: lab.station("bob", "eth0"),
            host: lab.host_station(&lab.device("red")),
            lab,
        }
    }

    /// Sends a frame from Mallory. Nobody receives it, and it is counted under this reason and no other.
    #[track_caller]
    fn is_dropped(&self, what: &str, frame: &[u8], reason: &str) {
        let before = self.lab.reasons();
        self.mallory.send(frame);
        let drops = self.lab.drops_since(&before);
        assert_eq!(drops, [(reason.to_owned(), 1)].into(), "{what}");
        for (name, station) in [("alice", &self.alice), ("bob", &self.bob), ("the host", &self.host)] {
            assert_eq!(station.heard_ending_in(MARK), 0, "{name} hears {what}");
        }
        assert_eq!(self.mallory.heard_ending_in(MARK), 0, "mallory is answered on {what}");
    }
}

#[test]
fn frames_with_a_false_sender_reach_nobody() {
    let world = World::new();
    a_mac_that_is_not_the_senders(&world);
    an_ipv4_address_that_is_not_the_senders(&world);
    an_ipv6_address_that_is_not_the_senders(&world);
    arp_with_a_false_sender(&world);
    malformed_frames_are_no_way_around(&world);
}

fn a_mac_that_is_not_the_senders(world: &World) {
    let alice = world.alice.mac();
    for (what, source) in [
        ("bob's MAC", world.bob.mac()),
        ("alice's own MAC", alice),
        ("the gateway's MAC", world.host.mac()),
        ("nobody's MAC", [2, 0, 0, 0, 0, 1]),
        ("a group's MAC", BROADCAST),
        ("no MAC", [0; 6]),
    ] {
        for destination in [alice, world.host.mac(), BROADCAST] {
            let frame = ethernet(destination, source, IPV4, &ipv4(MALLORY, ALICE, MARK));
            world.is_dropped(what, &frame, "spoofed-mac");
        }
    }
}

fn an_ipv4_address_that_is_not_the_senders(world: &World) {
    let own = world.mallory.mac();
    for (what, source) in [
        ("bob's address", BOB),
        ("alice's own address", ALICE),
        ("the gateway's address", GATEWAY),
        ("nobody's address", [10, 1, 0, 99]),
        ("a foreign address", [8, 8, 8, 8]),
        ("loopback", [127, 0, 0, 1]),
        ("no address", [0; 4]),
    ] {
        for destination in [world.alice.mac(), world.host.mac(), BROADCAST] {
            let packet = ipv4(source, ALICE, MARK);
            world.is_dropped(what, &ethernet(destination, own, IPV4, &packet), "spoofed-ipv4");
            let smuggled = ethernet(destination, own, VLAN, &tagged(0, IPV4, &packet));
            world.is_dropped(&format!("{what} behind a tag of no VLAN"), &smuggled, "spoofed-ipv4");
        }
    }
}

fn an_ipv6_address_that_is_not_the_senders(world: &World) {
    let own = world.mallory.mac();
    let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let all = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    for source in [link_local, [0; 16]] {
        let packet = ipv6(source, all, MARK);
        for destination in [world.alice.mac(), [0x33, 0x33, 0, 0, 0, 1]] {
            world.is_dropped("an IPv6 address", &ethernet(destination, own, IPV6, &packet), "spoofed-ipv6");
            let smuggled = ethernet(destination, own, VLAN, &tagged(0, IPV6, &packet));
            world.is_dropped("one behind a tag of no VLAN", &smuggled, "spoofed-ipv6");
        }
    }
}

fn arp_with_a_false_sender(world: &World) {
    let (own, alice, bob) = (world.mallory.mac(), world.alice.mac(), world.bob.mac());
    for (what, operation, sender, target) in [
        ("a reply in bob's name", Arp::Reply, (own, BOB), (alice, ALICE)),
        ("a reply in the gateway's name", Arp::Reply, (own, GATEWAY), (alice, ALICE)),
        ("a reply with bob's MAC", Arp::Reply, (bob, MALLORY), (alice, ALICE)),
        ("a reply without an address", Arp::Reply, (own, [0; 4]), (alice, ALICE)),
        ("an announcement of bob's address", Arp::Request, (own, BOB), ([0; 6], BOB)),
        ("an announcement of the gateway's address", Arp::Request, (own, GATEWAY), ([0; 6], GATEWAY)),
        ("a question in bob's name", Arp::Request, (own, BOB), ([0; 6], ALICE)),
        ("a question with bob's MAC", Arp::Request, (bob, MALLORY), ([0; 6], ALICE)),
    ] {
        let packet = [&arp(operation, sender, target), MARK].concat();
        for destination in [alice, world.host.mac(), BROADCAST] {
            world.is_dropped(what, &ethernet(destination, own, ARP, &packet), "spoofed-arp");
            let smuggled = ethernet(destination, own, VLAN, &tagged(0, ARP, &packet));
            world.is_dropped(&format!("{what} behind a tag of no VLAN"), &smuggled, "spoofed-arp");
        }
    }
}

fn malformed_frames_are_no_way_around(world: &World) {
    let (own, alice) = (world.mallory.mac(), world.alice.mac());
    let stolen = ipv4(BOB, ALICE, MARK);
    let twice = tagged(0, VLAN, &tagged(0, IPV4, &stolen));
    world.is_dropped("two tags of no VLAN", &ethernet(alice, own, VLAN, &twice), "malformed");
    let service = tagged(0, SERVICE_VLAN, &tagged(0, IPV4, &stolen));
    world.is_dropped("two tags of two kinds", &ethernet(alice, own, VLAN, &service), "malformed");
    let other_version = [&[0x65][..], &stolen[1..]].concat();
    world.is_dropped("IPv4 that says 6", &ethernet(alice, own, IPV4, &other_version), "malformed");
    world.is_dropped("half an IPv4 header", &ethernet(alice, own, IPV4, &stolen[..12]), "malformed");
    let lie = arp(Arp::Reply, (own, BOB), (alice, ALICE));
    world.is_dropped("half an ARP packet", &ethernet(alice, own, ARP, &lie[..20]), "malformed");
    let long = [&[0, 1, 8, 0, 8, 4][..], &lie[6..], MARK].concat();
    world.is_dropped("ARP with long MACs", &ethernet(alice, own, ARP, &long), "malformed");
}

#[test]
fn neighbours_keep_their_entries_under_attack() {
    let world = World::new();
    let lab = &world.lab;
    let neighbours = |container: &str| {
        lab.exec(container, "ping -c1 10.1.0.4").ok();
        lab.exec(container, "ping -c1 10.1.0.1").ok();
        let table = lab.exec(container, "ip -4 neigh").ok();
        let mut lines: Vec<_> = table
            .text()
            .lines()
            .map(|line| line.split_whitespace().take(5).collect::<Vec<_>>().join(" "))
            .collect();
        lines.sort();
        lines
    };
    let before = neighbours("alice");
    assert_eq!(before.len(), 2, "{before:?}");
    let reasons = lab.reasons();
    lab.in_network_of("mallory", "ip address add 10.1.0.4/24 dev eth0; ip address add 10.1.0.1/24 dev eth0")
        .ok();
    for address in ["10.1.0.4", "10.1.0.1"] {
        for mode in ["-U", "-A"] {
            lab.in_network_of(
                "mallory",
                // It fails if nobody answers; the counters below show what it sent.
                &format!("arping -c2 -w1 {mode} -I eth0 -s {address} {address}; true"),
            )
            .ok();
        }
        lab.in_network_of("mallory", &format!("ping -c1 -W1 -I {address} 10.1.0.3")).fails_with(1, "");
    }
    let drops = lab.drops_since(&reasons);
    assert!(drops.get("spoofed-arp").is_some_and(|lies| *lies >= 4), "{drops:?}");
    assert_eq!(neighbours("alice"), before);
    // Mallory asks for Alice's MAC address with a false sender, and gets no answer.
    lab.in_network_of(
        "mallory",
        "ip address del 10.1.0.4/24 dev eth0; ip address del 10.1.0.1/24 dev eth0; ip neigh flush dev eth0",
    )
    .ok();
    lab.exec("alice", "ping -c1 10.1.0.2").ok();
}

#[test]
fn frames_of_a_container_with_a_changed_mac_are_dropped() {
    let world = World::new();
    let lab = &world.lab;
    lab.exec("mallory", "ping -c1 10.1.0.3").ok();
    lab.in_network_of("mallory", "ip link set eth0 address 02:00:00:00:00:01").ok();
    lab.exec("mallory", "ping -c1 -W1 10.1.0.3").fails_with(1, "");
    lab.in_network_of("mallory", "ip link set eth0 address 02:42:0a:01:00:02").ok();
    lab.exec("mallory", "ping -c1 10.1.0.3").ok();
}
