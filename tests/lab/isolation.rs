//! Frames stay within their network, and reach every member that they are for.

use netbpf_tests::lab::{
    Lab,
    station::{Arp, BROADCAST, Mac, Station, arp, ethernet, ipv4, ipv6, tagged},
};

/// The last bytes of every frame in these tests.
const MARK: &[u8] = b"netbpf isolation";

/// The ethertype for experiments (IEEE 802).
const EXPERIMENT: u16 = 0x88b5;
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const VLAN: u16 = 0x8100;
const IPV6: u16 = 0x86dd;

const RED01: [u8; 4] = [10, 1, 0, 2];
const BLUE01: [u8; 4] = [10, 2, 0, 2];
/// No host answers packets to this address.
const NOBODY: [u8; 4] = [10, 1, 0, 99];

/// Two networks. `both` is a member of both.
struct World<'a> {
    red01: Station,
    red02: Station,
    blue01: Station,
    both_red: Station,
    both_blue: Station,
    host_red: Station,
    host_blue: Station,
    lab: &'a Lab,
}

impl<'a> World<'a> {
    fn on(lab: &'a Lab) -> Self {
        lab.network("red", "--subnet 10.1.0.0/24");
        lab.network("blue", "--subnet 10.2.0.0/24");
        lab.run("red01", "--net red");
        lab.run("red02", "--net red");
        lab.run("blue01", "--net blue");
        lab.run("both", "--net red");
        lab.netbpf(["connect", "blue", "both"]).ok();
        // New namespaces copy the setting from the machine: one that forwards would send frames back that are not for
        // it.
        for name in ["red01", "red02", "blue01", "both"] {
            lab.in_network_of(name, "echo 0 > /proc/sys/net/ipv4/ip_forward").ok();
        }
        Self {
            red01: lab.station("red01", "eth0"),
            red02: lab.station("red02", "eth0"),
            blue01: lab.station("blue01", "eth0"),
            both_red: lab.station("both", "eth0"),
            both_blue: lab.station("both", "eth1"),
            host_red: lab.host_station(&lab.device("red")),
            host_blue: lab.host_station(&lab.device("blue")),
            lab,
        }
    }

    /// The number of marked frames that each station has received.
    fn heard(&self) -> Vec<(&'static str, usize)> {
        [
            ("red01", &self.red01),
            ("red02", &self.red02),
            ("blue01", &self.blue01),
            ("both in red", &self.both_red),
            ("both in blue", &self.both_blue),
            ("host in red", &self.host_red),
            ("host in blue", &self.host_blue),
        ]
        .into_iter()
        .map(|(name, station)| (name, station.heard_ending_in(MARK)))
        .filter(|(_, count)| *count > 0)
        .collect()
    }

    /// Sends frames from `red01`, and waits until all are dropped for this reason and no other.
    #[track_caller]
    fn send_and_lose(&self, frames: &[Vec<u8>], reason: &str) {
        let before = self.lab.reasons();
        for frame in frames {
            self.red01.send(frame);
        }
        let drops = self.lab.drops_since(&before);
        assert_eq!(drops, [(reason.to_owned(), frames.len() as u64)].into());
        assert_eq!(self.heard(), []);
    }
}

/// One frame of each kind from one address to another.
fn frames_of_all_kinds(destination: Mac, source: Mac, to: [u8; 4]) -> Vec<Vec<u8>> {
    let address = ipv4(RED01, to, MARK);
    vec![
        ethernet(destination, source, IPV4, &address),
        ethernet(destination, source, EXPERIMENT, MARK),
        ethernet(destination, source, 0xfffe, MARK),
        ethernet(destination, source, VLAN, &tagged(5, IPV4, &address)),
        ethernet(destination, source, VLAN, &tagged(0, IPV4, &address)),
        ethernet(destination, source, VLAN, &tagged(5, IPV6, &ipv6([0; 16], [0xff; 16], MARK))),
    ]
}

#[test]
fn frames_reach_their_target_and_no_other_network() {
    let lab = Lab::start();
    frames_reach_their_target(&World::on(&lab));
}

/// All tests of this module on a lab that other tests use too. Kills the daemon once.
pub fn networks_are_isolated(lab: &Lab) {
    let world = World::on(lab);
    frames_reach_their_target(&world);
    the_host_does_not_route(&world);
    a_container_does_not_route(&world);
    lab.netbpf(["rm", "-f", "red01", "red02", "blue01", "both", "tomcat01"]).ok();
    the_same_mac_is_two_stations(lab);
    lab.netbpf(["rm", "-f", "red01", "red07", "blue07"]).ok();
    lab.netbpf(["network", "rm", "red", "blue"]).ok();
}

fn frames_reach_their_target(world: &World) {
    broadcast_and_multicast_reach_all_members_and_the_host(world);
    every_protocol_passes_between_two_members_only(world);
    a_frame_for_a_mac_of_another_network_is_dropped(world);
    a_frame_never_comes_back_to_its_sender(world);
    the_reserved_group_is_not_forwarded(world);
}

fn broadcast_and_multicast_reach_all_members_and_the_host(world: &World) {
    let everybody_else = [("red02", 1), ("both in red", 1), ("host in red", 1)];
    for destination in [BROADCAST, [0x01, 0x00, 0x5e, 0, 0, 0xfb], [0x33, 0x33, 0, 0, 0, 1]] {
        for frame in frames_of_all_kinds(destination, world.red01.mac(), [255; 4]) {
            let before = world.lab.reasons();
            world.red01.send(&frame);
            assert_eq!(world.lab.drops_since(&before), [].into());
            assert_eq!(world.heard(), everybody_else, "{frame:02x?}");
        }
    }
    let from_host = ethernet(BROADCAST, world.host_blue.mac(), EXPERIMENT, MARK);
    world.host_blue.send(&from_host);
    world.lab.reasons();
    assert_eq!(world.heard(), [("blue01", 1), ("both in blue", 1)]);
}

fn every_protocol_passes_between_two_members_only(world: &World) {
    for frame in frames_of_all_kinds(world.red02.mac(), world.red01.mac(), NOBODY) {
        world.red01.send(&frame);
        world.lab.reasons();
        assert_eq!(world.heard(), [("red02", 1)], "{frame:02x?}");
    }
    let to_host = ethernet(world.host_red.mac(), world.red01.mac(), EXPERIMENT, MARK);
    world.red01.send(&to_host);
    world.lab.reasons();
    assert_eq!(world.heard(), [("host in red", 1)]);
    let from_host = ethernet(world.red02.mac(), world.host_red.mac(), EXPERIMENT, MARK);
    world.host_red.send(&from_host);
    world.lab.reasons();
    assert_eq!(world.heard(), [("red02", 1)]);
}

fn a_frame_for_a_mac_of_another_network_is_dropped(world: &World) {
    let own = world.red01.mac();
    for station in [&world.blue01, &world.both_blue, &world.host_blue] {
        let mac = station.mac();
        let mut frames = frames_of_all_kinds(mac, own, BLUE01);
        let reply = arp(Arp::Reply, (own, RED01), (mac, BLUE01));
        frames.push(ethernet(mac, own, ARP, &[&reply, MARK].concat()));
        world.send_and_lose(&frames, "unknown-destination");
    }
    let question = arp(Arp::Request, (own, RED01), ([0; 6], BLUE01));
    let question = ethernet(BROADCAST, own, ARP, &[&question, MARK].concat());
    world.send_and_lose(&[question], "unknown-address");
}

#[test]
fn the_same_mac_in_two_networks_is_two_stations() {
    let lab = Lab::start();
    lab.network("red", "--subnet 10.1.0.0/24");
    lab.network("blue", "--subnet 10.2.0.0/24");
    the_same_mac_is_two_stations(&lab);
}

fn the_same_mac_is_two_stations(lab: &Lab) {
    let mac = "--mac-address 02:00:00:00:00:07";
    lab.run("blue07", &format!("--net blue {mac}"));
    lab.run("red07", &format!("--net red {mac}"));
    lab.run("red01", "--net red");
    let [red01, red07, blue07] = ["red01", "red07", "blue07"].map(|name| lab.station(name, "eth0"));
    assert_eq!(red07.mac(), blue07.mac());
    red01.send(&ethernet(blue07.mac(), red01.mac(), EXPERIMENT, MARK));
    lab.reasons();
    assert_eq!((red07.heard_ending_in(MARK), blue07.heard_ending_in(MARK)), (1, 0));
    lab.exec("red01", "ping -c1 10.1.0.2").ok();
}

#[test]
fn the_host_routes_nothing_between_networks() {
    let lab = Lab::start();
    the_host_does_not_route(&World::on(&lab));
}

fn the_host_does_not_route(world: &World) {
    let lab = world.lab;
    assert_eq!(lab.host(["cat", "/proc/sys/net/ipv4/ip_forward"]).ok().text(), "1");
    let frame = ethernet(world.host_red.mac(), world.red01.mac(), IPV4, &ipv4(RED01, BLUE01, MARK));
    let before = lab.reasons();
    world.red01.send(&frame);
    assert_eq!(lab.drops_since(&before), [("unpublished".to_owned(), 1)].into());
    let heard = || world.heard().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(heard(), ["host in red"]);

    lab.in_network_of("red01", "ip route add 10.2.0.0/24 via 10.1.0.1").ok();
    lab.in_network_of("blue01", "ip route add 10.1.0.0/24 via 10.2.0.1").ok();
    lab.exec("red01", "ping -c1 -W1 10.2.0.2").fails_with(1, "");
    lab.exec("blue01", "ping -c1 -W1 10.1.0.2").fails_with(1, "");
    // The default network is isolated in the same way.
    lab.run("tomcat01", "");
    lab.exec("tomcat01", "ping -c1 -W1 10.1.0.2").fails_with(1, "");
    lab.exec("red01", "ping -c1 -W1 172.17.0.2").fails_with(1, "");
    // A gateway address belongs to the host, whichever network it is of.
    lab.exec("red01", "ping -c1 10.1.0.1").ok();
    lab.exec("red01", "ping -c1 10.2.0.1").ok();
    // The programs isolate networks even without the packet filter and the daemon.
    let pid = lab.pid("red01").to_string();
    let isolated = || lab.reasons().get("isolated").copied().unwrap_or_default();
    let before = isolated();
    lab.kill_daemon();
    lab.host(["nft", "flush", "ruleset"]).ok();
    world.red01.send(&frame);
    lab.host(["nsenter", "-t", &pid, "-n", "ping", "-c1", "-W1", "10.2.0.2"]).fails_with(1, "");
    lab.start_daemon();
    assert_eq!(heard(), ["host in red"]);
    assert_eq!(isolated(), before + 2);
}

#[test]
fn a_container_in_two_networks_is_no_router_between_them() {
    let lab = Lab::start();
    a_container_does_not_route(&World::on(&lab));
}

fn a_container_does_not_route(world: &World) {
    let lab = world.lab;
    let [red, blue] = ["red", "blue"].map(|network| lab.address("both", network));
    lab.in_network_of("both", "echo 1 > /proc/sys/net/ipv4/ip_forward").ok();
    lab.in_network_of("red01", &format!("ip route replace 10.2.0.0/24 via {red}")).ok();
    lab.in_network_of("blue01", &format!("ip route replace 10.1.0.0/24 via {blue}")).ok();
    let before = lab.reasons();
    lab.exec("red01", "ping -c1 -W1 10.2.0.2").fails_with(1, "");
    lab.exec("blue01", "ping -c1 -W1 10.1.0.2").fails_with(1, "");
    assert_eq!(lab.drops_since(&before), [("spoofed-ipv4".to_owned(), 2)].into());
    lab.exec("both", "ping -c1 10.1.0.2").ok();
    lab.exec("both", "ping -c1 10.2.0.2").ok();
}

fn a_frame_never_comes_back_to_its_sender(world: &World) {
    let own = world.red01.mac();
    let mut frames = frames_of_all_kinds(own, own, RED01);
    let reply = arp(Arp::Reply, (own, RED01), (own, RED01));
    frames.push(ethernet(own, own, ARP, &[&reply, MARK].concat()));
    world.send_and_lose(&frames, "hairpin");
}

fn the_reserved_group_is_not_forwarded(world: &World) {
    let frames: Vec<_> = [0x00, 0x02, 0x0e]
        .map(|last| ethernet([0x01, 0x80, 0xc2, 0, 0, last], world.red01.mac(), EXPERIMENT, MARK))
        .into();
    world.send_and_lose(&frames, "reserved");
}
