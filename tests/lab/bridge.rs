//! Without guard, members receive what a kernel bridge would send them. A real bridge gets the same random frames at
//! ports with the same MACs, and what the ports receive is compared after each frame.
//!
//! The seed is printed. `NETBPF_BRIDGE_SEED` sets it, and `NETBPF_BRIDGE_FRAMES` the number of frames.

mod frames;

use std::{
    collections::BTreeMap,
    env, fs,
    hash::{BuildHasher as _, RandomState},
    panic::resume_unwind,
    thread,
    time::Duration,
};

use frames::Macs;
use netbpf_tests::lab::{
    Lab, Process, eventually,
    station::{BROADCAST, Station, ethernet, text},
};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

const PORTS: usize = 4;
const FRAMES: u64 = 1000;
/// How long a frame may be on its way.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The ethertype for experiments (IEEE 802).
const EXPERIMENT: u16 = 0x88b5;

/// Makes an interface of a port receive frames, and its namespace ignore them.
const SILENT: &str = "
    echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6; echo 0 > /proc/sys/net/ipv4/ip_forward
    ip address flush dev eth0; ip link set eth0 up";

/// Has the packet filter ignore a namespace's bridges. Not all kernels have these settings.
const WITHOUT_NETFILTER: &str = "
    for file in /proc/sys/net/bridge/bridge-nf-call-*; do if [ -e $file ]; then echo 0 > $file; fi; done";

/// Two bridges with such ports.
struct Town {
    macs: Macs,
    netbpf: Side,
    bridge: Side,
}

#[test]
fn without_guard_members_receive_what_a_kernel_bridge_sends_them() {
    let lab = Lab::start();
    let town = Town::on(&lab);
    let captures: Vec<Process> = (0..PORTS).map(|port| capture(&lab, port)).collect();
    let sent = town.compare(chosen("NETBPF_BRIDGE_FRAMES").unwrap_or(FRAMES));
    for (port, capture) in captures.into_iter().enumerate() {
        let _stopped = capture.interrupt();
        assert_whole(&lab, port, &sent);
    }
    leave(&lab);
}

/// The same with a few frames, on a lab that other tests use too.
#[track_caller]
pub fn members_receive_what_a_kernel_bridge_sends_them(lab: &Lab) {
    let _sent = Town::on(lab).compare(FRAMES / 4);
    leave(lab);
}

fn chosen(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect(name))
}

impl Town {
    /// The network `mynet` without guard, whose members are `port0` and so on, and the kernel bridge `br0` with such
    /// ports, in namespaces of their own.
    fn on(lab: &Lab) -> Self {
        let network = "--ipv6 --subnet 10.5.0.0/24 --subnet fd00:5::/64 -o netbpf.guard=off";
        lab.network("mynet", network);
        for port in 0..PORTS {
            lab.run(&format!("port{port}"), "--net mynet");
            lab.in_network_of(&format!("port{port}"), SILENT).ok();
        }
        let netbpf = Side::of("netbpf", |port| lab.station(&format!("port{port}"), "eth0"));
        let ports = netbpf.ports.iter().map(Station::mac).collect();
        let macs = Macs { ports, host: lab.host_station(&lab.device("mynet")).mac() };
        lab.host(["sh", "-ec", &make_bridge(&macs)]).ok();
        eventually("the kernel bridge forwards", || {
            let ports = lab.host("ip -n bridge -d link show master br0".split(' ')).ok().stdout;
            (ports.matches("bridge_slave state forwarding").count() == PORTS).then_some(())
        });
        let bridge = Side::of("the bridge", |port| lab.station_in(&format!("/run/netns/port{port}"), "eth0"));
        Self { macs, netbpf, bridge }
    }

    /// Sends frames on both sides, and compares what is received. Returns the frames.
    #[track_caller]
    fn compare(&self, count: u64) -> Vec<Vec<u8>> {
        let seed = chosen("NETBPF_BRIDGE_SEED");
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(()) % 1_000_000);
        println!("{count} frames with seed {seed}");
        let frames = || self.play(&mut SmallRng::seed_from_u64(seed), count);
        // In a thread of its own, because it stays on one CPU.
        let (sent, receivers) =
            thread::scope(|scope| scope.spawn(frames).join()).unwrap_or_else(|panic| resume_unwind(panic));
        for copies in [0, 1, PORTS - 1] {
            assert!(receivers.get(&copies).is_some_and(|frames| *frames > count / 20), "{receivers:?}");
        }
        sent
    }

    /// Returns the frames, and how many had how many receivers.
    #[track_caller]
    fn play(&self, random: &mut SmallRng, count: u64) -> (Vec<Vec<u8>>, BTreeMap<usize, u64>) {
        stay_on_one_cpu();
        // Until they became silent, the members' systems have sent frames.
        for (port, mac) in self.macs.ports.iter().enumerate() {
            let hello = ethernet(BROADCAST, *mac, EXPERIMENT, b"hello");
            for side in [&self.bridge, &self.netbpf] {
                let _heard = side.send(port, &hello, u32::MAX);
            }
        }
        let (mut sent, mut receivers) = (Vec::new(), BTreeMap::new());
        for number in 0..u32::try_from(count).expect("a number for each frame") {
            let port = random.random_range(0..PORTS);
            let frame = frames::frame(random, &self.macs, port, number);
            let expected = self.bridge.send(port, &frame, number);
            let received = self.netbpf.send(port, &frame, number);
            assert_eq!(received, expected, "frame {number} of port {port}: {frame:02x?}");
            *receivers.entry(received.iter().flatten().count()).or_default() += 1;
            sent.push(frame);
        }
        (sent, receivers)
    }
}

/// The commands that make the kernel bridge. It has the host's MAC in the network, but no address.
fn make_bridge(macs: &Macs) -> String {
    let mut script = format!(
        "ip netns add bridge
         ip netns exec bridge sh -ec '{WITHOUT_NETFILTER}'
         ip -n bridge link add br0 address {} type bridge stp_state 0 forward_delay 0 mcast_snooping 0
         ip netns exec bridge sysctl -qw net.ipv6.conf.br0.disable_ipv6=1
         ip -n bridge link set br0 up
        ",
        text(macs.host)
    );
    for (port, mac) in macs.ports.iter().enumerate() {
        script += &format!(
            "ip netns add port{port}
             ip link add port{port} netns bridge type veth peer name eth0 address {} netns port{port}
             ip netns exec bridge sysctl -qw net.ipv6.conf.port{port}.disable_ipv6=1
             ip -n bridge link set port{port} master br0 up
             ip netns exec port{port} sh -ec '{SILENT}'
            ",
            text(*mac)
        );
    }
    script
}

/// Removes the namespaces of the kernel bridge.
#[track_caller]
fn leave(lab: &Lab) {
    let names = (0..PORTS).map(|port| format!("port{port}")).chain(["bridge".to_owned()]);
    names.for_each(|name| drop(lab.host(["ip", "netns", "delete", &name]).ok()));
}

/// The ports of a bridge.
struct Side {
    name: &'static str,
    ports: Vec<Station>,
}

/// What each port has received of a frame: its kind (`PACKET_HOST` and others) and its bytes.
type Received = Vec<Vec<(u8, Vec<u8>)>>;

impl Side {
    fn of(name: &'static str, port: impl Fn(usize) -> Station) -> Self {
        Self { name, ports: (0..PORTS).map(port).collect() }
    }

    /// Sends a frame of a port, and then a broadcast: who has received that, has received everything before.
    #[track_caller]
    fn send(&self, port: usize, frame: &[u8], count: u32) -> Received {
        let last = [b"last"[..].to_vec(), count.to_be_bytes().to_vec()].concat();
        let from = [2, 2, 0, 0, 0, u8::try_from(port).expect("a few ports")];
        self.ports[port].send(frame);
        self.ports[port].send(&ethernet(BROADCAST, from, EXPERIMENT, &last));
        let heard = self.ports.iter().enumerate().map(|(receiver, station)| {
            let heard = match receiver == port {
                true => Some(Vec::new()),
                false => station.heard_until(&last, TIMEOUT),
            };
            let heard =
                heard.unwrap_or_else(|| panic!("port {receiver} of {} hears the last one", self.name));
            heard.into_iter().filter(|(_, frame)| frames::number(frame).is_some())
        });
        let mut heard: Received = heard.map(Iterator::collect).collect();
        // The others have received the last one, so what came back is there.
        heard[port].extend(
            self.ports[port]
                .heard_with_kinds()
                .into_iter()
                .filter(|(_, frame)| frames::number(frame).is_some()),
        );
        heard.iter_mut().for_each(|frames| frames.sort());
        heard
    }
}

/// Frames that are sent on one CPU arrive in their order.
fn stay_on_one_cpu() {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).expect("the allowed CPUs");
    let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap_or_default());
    let mut one = CpuSet::new();
    one.set(first.expect("a CPU")).expect("its number");
    sched_setaffinity(this, &one).expect("one CPU");
}

fn capture_file(port: usize) -> String {
    format!("/run/port{port}.pcap")
}

/// Captures what a member of the network receives, with VLAN tags, which the kernel takes from the frames of others.
fn capture(lab: &Lab, port: usize) -> Process {
    let (pid, file) = (lab.pid(&format!("port{port}")).to_string(), capture_file(port));
    let tcpdump = ["tcpdump", "-i", "eth0", "-Q", "in", "-s", "0", "-U", "-Z", "root", "-w", &file];
    let process = lab.spawn(["nsenter", "-t", &pid, "-n"].into_iter().chain(tcpdump));
    eventually("tcpdump captures", || lab.path(&file).exists().then_some(()));
    process
}

/// Checks that frames have arrived with each byte that was sent, and removes the capture.
#[track_caller]
fn assert_whole(lab: &Lab, port: usize, sent: &[Vec<u8>]) {
    let captured = fs::read(lab.path(capture_file(port))).expect("a capture");
    fs::remove_file(lab.path(capture_file(port))).expect("a capture");
    // The file has a header of 24 bytes, each frame one of 16, with its length in the third word.
    let mut rest = &captured[24..];
    let mut tags = 0;
    while let Some((header, frames)) = rest.split_first_chunk::<16>() {
        let length = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
        let (frame, others) = frames.split_at(length as usize);
        rest = others;
        if let Some(number) = frames::number(frame) {
            assert_eq!(frame, sent[number as usize], "frame {number} at port {port}");
            tags += usize::from(frame[12..14] == [0x81, 0]);
        }
    }
    assert!(tags > 0, "port {port} receives frames with tags");
}
