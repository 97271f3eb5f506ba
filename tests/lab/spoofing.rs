//! Spoofing: frames with a false sender reach nobody, and are counted under their reason.

use std::collections::BTreeMap;

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

struct World<'a> {
    mallory: Station,
    alice: Station,
    bob: Station,
    host: Station,
    lab: &'a Lab,
}

/// A frame with a false sender, and the reason for which it is dropped.
struct Spoofed {
    what: String,
    frame: Vec<u8>,
    reason: &'static str,
}

impl<'a> World<'a> {
    fn on(lab: &'a Lab) -> Self {
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

    fn spoofed_frames(&self) -> Vec<Spoofed> {
        let kinds = [
            self.false_macs(),
            self.false_ipv4_addresses(),
            self.false_ipv6_addresses(),
            self.arp_with_a_false_sender(),
            self.malformed_frames(),
        ];
        kinds.into_iter().flatten().collect()
    }

    /// Sends frames from Mallory. Nobody receives any, and each is counted under its reason and no other.
    #[track_caller]
    fn are_dropped(&self, frames: &[Spoofed]) {
        let what = if let [frame] = frames { &frame.what } else { "one of many spoofed frames" };
        let mut expected = BTreeMap::new();
        for frame in frames {
            *expected.entry(frame.reason.to_owned()).or_default() += 1;
        }
        let before = self.lab.reasons();
        for frame in frames {
            self.mallory.send(&frame.frame);
        }
        assert_eq!(self.lab.drops_since(&before), expected, "{what}");
        for (name, station) in [("alice", &self.alice), ("bob", &self.bob), ("the host", &self.host)] {
            assert_eq!(station.heard_ending_in(MARK), 0, "{name} receives {what}");
        }
        assert_eq!(self.mallory.heard_ending_in(MARK), 0, "mallory is answered on {what}");
    }

    fn false_macs(&self) -> Vec<Spoofed> {
        let mut frames = Vec::new();
        let alice = self.alice.mac();
        for (what, source) in [
            ("bob's MAC", self.bob.mac()),
            ("alice's own MAC", alice),
            ("the gateway's MAC", self.host.mac()),
            ("nobody's MAC", [2, 0, 0, 0, 0, 1]),
            ("a group's MAC", BROADCAST),
            ("no MAC", [0; 6]),
        ] {
            for destination in [alice, self.host.mac(), BROADCAST] {
                let frame = ethernet(destination, source, IPV4, &ipv4(MALLORY, ALICE, MARK));
                frames.push(Spoofed::new(what, frame, "spoofed-mac"));
            }
        }
        frames
    }

    fn false_ipv4_addresses(&self) -> Vec<Spoofed> {
        let mut frames = Vec::new();
        let own = self.mallory.mac();
        for (what, source) in [
            ("bob's address", BOB),
            ("alice's own address", ALICE),
            ("the gateway's address", GATEWAY),
            ("nobody's address", [10, 1, 0, 99]),
            ("a foreign address", [8, 8, 8, 8]),
            ("loopback", [127, 0, 0, 1]),
            ("no address", [0; 4]),
        ] {
            for destination in [self.alice.mac(), self.host.mac(), BROADCAST] {
                let packet = ipv4(source, ALICE, MARK);
                frames.push(Spoofed::new(what, ethernet(destination, own, IPV4, &packet), "spoofed-ipv4"));
                let smuggled = ethernet(destination, own, VLAN, &tagged(0, IPV4, &packet));
                frames.push(Spoofed::new(
                    format!("{what} behind a tag of no VLAN"),
                    smuggled,
                    "spoofed-ipv4",
                ));
            }
        }
        frames
    }

    fn false_ipv6_addresses(&self) -> Vec<Spoofed> {
        let mut frames = Vec::new();
        let own = self.mallory.mac();
        let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        let all = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        for source in [link_local, [0; 16]] {
            let packet = ipv6(source, all, MARK);
            for destination in [self.alice.mac(), [0x33, 0x33, 0, 0, 0, 1]] {
                frames.push(Spoofed::new(
                    "an IPv6 address",
                    ethernet(destination, own, IPV6, &packet),
                    "spoofed-ipv6",
                ));
                let smuggled = ethernet(destination, own, VLAN, &tagged(0, IPV6, &packet));
                frames.push(Spoofed::new("one behind a tag of no VLAN", smuggled, "spoofed-ipv6"));
            }
        }
        frames
    }

    fn arp_with_a_false_sender(&self) -> Vec<Spoofed> {
        let mut frames = Vec::new();
        let (own, alice, bob) = (self.mallory.mac(), self.alice.mac(), self.bob.mac());
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
            for destination in [alice, self.host.mac(), BROADCAST] {
                frames.push(Spoofed::new(what, ethernet(destination, own, ARP, &packet), "spoofed-arp"));
                let smuggled = ethernet(destination, own, VLAN, &tagged(0, ARP, &packet));
                frames.push(Spoofed::new(format!("{what} behind a tag of no VLAN"), smuggled, "spoofed-arp"));
            }
        }
        frames
    }

    fn malformed_frames(&self) -> Vec<Spoofed> {
        let mut frames = Vec::new();
        let (own, alice) = (self.mallory.mac(), self.alice.mac());
        let stolen = ipv4(BOB, ALICE, MARK);
        let twice = tagged(0, VLAN, &tagged(0, IPV4, &stolen));
        frames.push(Spoofed::new("two tags of no VLAN", ethernet(alice, own, VLAN, &twice), "malformed"));
        let service = tagged(0, SERVICE_VLAN, &tagged(0, IPV4, &stolen));
        frames.push(Spoofed::new("two tags of two kinds", ethernet(alice, own, VLAN, &service), "malformed"));
        let other_version = [&[0x65][..], &stolen[1..]].concat();
        frames.push(Spoofed::new(
            "IPv4 that says 6",
            ethernet(alice, own, IPV4, &other_version),
            "malformed",
        ));
        frames.push(Spoofed::new(
            "half an IPv4 header",
            ethernet(alice, own, IPV4, &stolen[..12]),
            "malformed",
        ));
        let lie = arp(Arp::Reply, (own, BOB), (alice, ALICE));
        frames.push(Spoofed::new("half an ARP packet", ethernet(alice, own, ARP, &lie[..20]), "malformed"));
        let long = [&[0, 1, 8, 0, 8, 4][..], &lie[6..], MARK].concat();
        frames.push(Spoofed::new("ARP with long MACs", ethernet(alice, own, ARP, &long), "malformed"));
        frames
    }
}

impl Spoofed {
    fn new(what: impl Into<String>, frame: Vec<u8>, reason: &'static str) -> Self {
        Self { what: what.into(), frame, reason }
    }
}

#[test]
fn frames_with_a_false_sender_reach_nobody() {
    let lab = Lab::start();
    let world = World::on(&lab);
    // One by one, so that a failure names the frame.
    world.spoofed_frames().chunks(1).for_each(|frame| world.are_dropped(frame));
}

/// All tests of this module on a lab that other tests use too.
pub fn spoofing_is_prevented(lab: &Lab) {
    let world = World::on(lab);
    world.are_dropped(&world.spoofed_frames());
    neighbours_keep_their_entries(&world);
    frames_with_a_changed_mac_are_dropped(&world);
    lab.netbpf(["rm", "-f", "mallory", "alice", "bob"]).ok();
    lab.netbpf(["network", "rm", "red"]).ok();
}

#[test]
fn neighbours_keep_their_entries_under_attack() {
    let lab = Lab::start();
    neighbours_keep_their_entries(&World::on(&lab));
}

fn neighbours_keep_their_entries(world: &World) {
    let lab = world.lab;
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
    let lab = Lab::start();
    frames_with_a_changed_mac_are_dropped(&World::on(&lab));
}

fn frames_with_a_changed_mac_are_dropped(world: &World) {
    let lab = world.lab;
    lab.exec("mallory", "ping -c1 10.1.0.3").ok();
    lab.in_network_of("mallory", "ip link set eth0 address 02:00:00:00:00:01").ok();
    lab.exec("mallory", "ping -c1 -W1 10.1.0.3").fails_with(1, "");
    lab.in_network_of("mallory", "ip link set eth0 address 02:42:0a:01:00:02").ok();
    lab.exec("mallory", "ping -c1 10.1.0.3").ok();
}
