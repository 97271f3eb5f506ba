//! The setup of all tests: two networks with their endpoints, real interfaces for them, and a way to send a
//! frame through a program. Everything is in namespaces of one thread, which end with it.
//!
//! | network | host | containers |
//! |---|---|---|
//! | [`RED`] 172.17.0.0/16 | [`GATEWAY`] | [`ANNE`], [`BERT`]; [`CLEO`] with IPv6 |
//! | [`BLUE`] 192.168.0.0/16 | [`BLUE_GATEWAY`] | [`DORA`] |

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use aya::{
    TestRun, TestRunOptions,
    programs::{ProgramInfo, SchedClassifier, TcAttachType},
};
use netbpf::{
    datapath::Datapath,
    model::Mac,
    plan::{Closed, NetworkEntry},
};
use netbpf_common::{
    LAYOUT,
    drops::{DropKey, Drops, HEAD},
    endpoint::{self, Endpoint, NO_ENDPOINT},
    network::{self, Network},
    reason::Reason,
    stats::{Counter, EndpointStats},
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};

use super::frame::Frame;

/// The first network's number.
pub const RED: u32 = 0;
/// The second network's number.
pub const BLUE: u32 = 1;

/// The sender or receiver of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Station {
    /// The ifindex of its interface on the host.
    pub ifindex: u32,
    /// Its IPv4 address.
    pub ip: [u8; 4],
}

impl Station {
    /// Its MAC address.
    pub fn mac(self) -> [u8; 6] {
        Mac::of(self.ip.into()).octets()
    }

    /// Its MAC and IPv4 addresses.
    pub fn at(self) -> ([u8; 6], [u8; 4]) {
        (self.mac(), self.ip)
    }

    /// Its endpoint number; hosts have none.
    pub fn number(self) -> Option<u32> {
        endpoint::number_of(self.ifindex)
    }
}

/// The host in the first network.
pub const GATEWAY: Station = Station { ifindex: network::ifindex_of(RED), ip: [172, 17, 0, 1] };
/// A container in the first network.
pub const ANNE: Station = Station { ifindex: endpoint::ifindex_of(1), ip: [172, 17, 0, 2] };
/// A container in the first network.
pub const BERT: Station = Station { ifindex: endpoint::ifindex_of(2), ip: [172, 17, 0, 3] };
/// A container in the first network, with IPv6.
pub const CLEO: Station = Station { ifindex: endpoint::ifindex_of(3), ip: [172, 17, 0, 4] };
/// The host in the second network.
pub const BLUE_GATEWAY: Station = Station { ifindex: network::ifindex_of(BLUE), ip: [192, 168, 0, 1] };
/// A container in the second network.
pub const DORA: Station = Station { ifindex: endpoint::ifindex_of(4), ip: [192, 168, 0, 2] };

/// Cleo's global address.
pub const CLEO_IPV6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4];
/// Cleo's link-local address.
pub const CLEO_LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4];

/// The verdict `TC_ACT_REDIRECT`.
pub const REDIRECT: u32 = 7;
/// The verdict `TC_ACT_SHOT`.
pub const DROP: u32 = 2;

/// A loaded datapath with the networks above.
pub struct Bench {
    /// The datapath.
    pub datapath: Datapath,
    /// The directory of its pins.
    pub bpffs: PathBuf,
}

/// A program, and the context in which it gets a frame.
pub struct Sent<'a> {
    bench: &'a Bench,
    program: &'static str,
    ifindex: u32,
    ingress_ifindex: u32,
    mark: u32,
}

/// The result of a program run.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The verdict.
    pub verdict: u32,
    /// The reasons whose counters counted the frame.
    pub reasons: Vec<Reason>,
    /// The endpoints that received one.
    pub received: Vec<u32>,
    /// The endpoints of which one was dropped.
    pub dropped: Vec<u32>,
    /// The frame after the program.
    pub frame: Frame,
}

/// Runs a test in its own namespaces: a network namespace without interfaces, and an empty bpf file system.
pub fn alone(test: impl FnOnce() + Send) {
    assert!(
        geteuid().is_root(),
        "these tests load programs into the kernel and need root: `cargo xtask test`"
    );
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces of our own");
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("mounts of our own");
            mount(none, "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), none)
                .expect("a bpf file system of our own");
            // Without IPv6, interfaces send nothing by themselves, such as router solicitations between the frames of a
            // test.
            let ipv6 = Path::new("/proc/sys/net/ipv6/conf/default/disable_ipv6");
            if ipv6.exists() {
                fs::write(ipv6, "1").expect("a setting of our own namespace");
            }
            test();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Runs a test with a [`Bench`].
pub fn bench(test: impl FnOnce(&mut Bench) + Send) {
    alone(|| test(&mut Bench::new()));
}

/// Runs a command such as iproute2's or bpftool, and returns its output.
pub fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let program = words.next().expect("a command");
    let output =
        Command::new(program).args(words).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The programs attached to an interface, with their IDs.
pub fn attached(interface: &str, side: TcAttachType) -> Vec<(String, u32)> {
    if let Ok((_, programs)) = SchedClassifier::query_tcx(interface, side) {
        let name =
            |program: &ProgramInfo| (program.name_as_str().unwrap_or_default().to_owned(), program.id());
        return programs.iter().map(name).collect();
    }
    let side = if side == TcAttachType::Ingress { "ingress" } else { "egress" };
    let filters = run(&format!("tc filter show dev {interface} {side}"));
    let words: Vec<_> = filters.split_whitespace().collect();
    // … handle 0x1 from_container direct-action not_in_hw id 42 name from_container tag …
    let filters = words.windows(4).filter(|words| words[0] == "id" && words[2] == "name");
    filters.map(|words| (words[3].to_owned(), words[1].parse().expect("a number"))).collect()
}

/// Creates a veth pair whose first end has this ifindex.
pub fn veth(name: &str, ifindex: u32) {
    run(&format!("ip link add {name} index {ifindex} type veth peer name {name}-in"));
    run(&format!("ip link set {name} up"));
    run(&format!("ip link set {name}-in up"));
    // Until the kernel has noticed its carrier, an interface drops what it should send.
    while !run(&format!("ip -br link show {name}")).contains(" UP ") {
        thread::yield_now();
    }
}

/// The map entry of a network.
pub fn network_entry(gateway: Station) -> NetworkEntry {
    let network = Network {
        ifindex: gateway.ifindex,
        first: NO_ENDPOINT,
        mac: gateway.mac(),
        prefix: 16,
        gateway: gateway.ip,
        ..Network::default()
    };
    NetworkEntry { network, closed: Closed::default() }
}

/// The datapath's entry for a container.
pub fn endpoint_entry(network: u32, station: Station) -> Endpoint {
    Endpoint {
        ifindex: station.ifindex,
        network,
        next: NO_ENDPOINT,
        mac: Mac::of(station.ip.into()).octets(),
        ipv4: station.ip,
        ..Endpoint::default()
    }
}

impl Bench {
    fn new() -> Self {
        let bpffs = PathBuf::from("/sys/fs/bpf/netbpf");
        let mut datapath = Datapath::open(&bpffs, false).expect("the programs load");
        for (number, gateway, name) in [(RED, GATEWAY, "red"), (BLUE, BLUE_GATEWAY, "blue")] {
            veth(name, gateway.ifindex);
            datapath.write_network(number, &network_entry(gateway)).expect("a network");
        }
        for (network, station, name) in
            [(RED, ANNE, "anne"), (RED, BERT, "bert"), (RED, CLEO, "cleo"), (BLUE, DORA, "dora")]
        {
            veth(name, station.ifindex);
            let mut entry = endpoint_entry(network, station);
            if name == "cleo" {
                entry.ipv6 = CLEO_IPV6;
                entry.ipv6_link_local = CLEO_LINK_LOCAL;
            }
            datapath.write_endpoint(station.number().expect("a container"), &entry).expect("an endpoint");
        }
        Self { datapath, bpffs }
    }

    /// The path of a pin.
    pub fn pin(&self, kind: &str, name: &str) -> PathBuf {
        self.bpffs.join(format!("v{LAYOUT}")).join(kind).join(name)
    }

    /// Sends frames from a container.
    pub fn from(&self, container: Station) -> Sent<'_> {
        Sent {
            bench: self,
            program: "from_container",
            ifindex: container.ifindex,
            ingress_ifindex: 0,
            mark: 0,
        }
    }

    /// Sends frames from the host to a network.
    pub fn host(&self, gateway: Station) -> Sent<'_> {
        Sent { bench: self, program: "from_host", ifindex: gateway.ifindex, ingress_ifindex: 0, mark: 0 }
    }

    /// Sends packets from a container's `lo`.
    pub fn at_lo(&self) -> Sent<'_> {
        Sent { bench: self, program: "at_lo", ifindex: 1, ingress_ifindex: 0, mark: 0 }
    }

    /// Sends packets of other hosts, which an interface to them receives.
    pub fn at_uplink(&self, ifindex: u32) -> Sent<'_> {
        Sent { bench: self, program: "flow_back", ifindex, ingress_ifindex: 0, mark: 0 }
    }

    fn reasons(&self) -> Vec<(Reason, Counter)> {
        self.datapath.reasons().expect("REASONS")
    }

    /// What is remembered of dropped frames.
    pub fn drops(&self) -> BTreeMap<DropKey, Drops> {
        self.datapath.drops().expect("DROPS")
    }

    fn stats(&self) -> Vec<(u32, EndpointStats)> {
        (0..9).map(|port| (port, self.datapath.endpoint_stats(port).expect("ENDPOINT_STATS"))).collect()
    }
}

impl Sent<'_> {
    /// As if the host had received the frame on another device.
    pub fn received_by(self, ifindex: u32) -> Self {
        Self { ingress_ifindex: ifindex, ..self }
    }

    /// As if the frame were none for the short way.
    pub fn the_long_way(self) -> Self {
        Self { program: "long_way", ..self }
    }

    /// As if the host's packet filter had marked the packet.
    pub fn marked(self, mark: u32) -> Self {
        Self { mark, ..self }
    }

    /// Sends a frame, whatever becomes of it.
    pub fn send(&self, frame: &Frame) {
        let _outcome = self.run(frame);
    }

    /// Sends a frame, and returns it as it is afterwards.
    pub fn after(&self, frame: &Frame) -> Frame {
        self.run(frame).1
    }

    /// Runs the program; returns the verdict, and the frame afterwards.
    fn run(&self, frame: &Frame) -> (u32, Frame) {
        let Self { bench, program, ifindex, ingress_ifindex, mark } = *self;
        let path = bench.pin("programs", program);
        let program = SchedClassifier::from_pin(&path).expect("a pinned program");
        // Words 3, 10 and 11 of `struct __sk_buff`.
        let context: Vec<u8> = [0, 0, mark, 0, 0, 0, 0, 0, 0, ingress_ifindex, ifindex]
            .iter()
            .flat_map(|word: &u32| word.to_ne_bytes())
            .collect();
        let mut after = vec![0; 2048];
        let result = program.test_run(TestRunOptions {
            data_in: Some(&frame.0),
            data_out: Some(&mut after),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        });
        let result = result
            .unwrap_or_else(|error| panic!("BPF_PROG_TEST_RUN with {} bytes: {error:?}", frame.0.len()));
        after.truncate(result.data_size_out as usize);
        (result.return_value, Frame(after))
    }

    /// Sends a frame and returns the outcome. Checks that each counter counts the whole frame once, or not at all.
    pub fn frame(&self, frame: &Frame) -> Outcome {
        let bench = self.bench;
        let (reasons, stats) = (bench.reasons(), bench.stats());
        let (verdict, after) = self.run(frame);

        let counted = |before: Counter, after: Counter| {
            let packets = after.packets - before.packets;
            assert_eq!(after.bytes - before.bytes, packets * frame.0.len() as u64, "bytes of whole frames");
            assert!(packets <= 1, "{packets} frames were counted");
            packets == 1
        };
        let mut outcome =
            Outcome { verdict, reasons: Vec::new(), received: Vec::new(), dropped: Vec::new(), frame: after };
        for ((reason, before), (_, after)) in reasons.into_iter().zip(bench.reasons()) {
            if counted(before, after) {
                outcome.reasons.push(reason);
            }
        }
        for ((port, before), (_, after)) in stats.into_iter().zip(bench.stats()) {
            let from_member = counted(before.from_members, after.from_members);
            let from_host = counted(before.from_host, after.from_host);
            if from_member || from_host {
                assert_eq!(from_host, endpoint::number_of(self.ifindex).is_none(), "the sender's kind");
                outcome.received.push(port);
            }
            let passes_host =
                [Reason::Delivered, Reason::Shortcut].iter().any(|way| outcome.reasons.contains(way));
            let went_to_host = passes_host && Some(port) == endpoint::number_of(self.ifindex);
            assert_eq!(counted(before.to_host, after.to_host), went_to_host, "{:?}", outcome.reasons);
            if counted(before.dropped, after.dropped) {
                outcome.dropped.push(port);
            }
        }
        outcome
    }

    /// Sends a frame, and checks that a dropped one is remembered, with its reason and where it was dropped, and no other.
    fn remembered(&self, frame: &Frame, reason: Option<Reason>) -> Outcome {
        let before = self.bench.drops();
        let outcome = self.frame(frame);
        let after = self.bench.drops();
        let more: Vec<_> = after
            .iter()
            .filter(|(key, drops)| before.get(key).map_or(0, |drops| drops.frames) != drops.frames)
            .collect();
        let Some(reason) = reason else {
            assert_eq!(more, [], "a frame that passes is not remembered");
            return outcome;
        };
        let [(key, drops)] = more.as_slice() else { panic!("{reason:?} is one kind of drops: {more:?}") };
        assert_eq!((key.reason, key.ifindex), (reason as u32, self.ifindex));
        let known = before.get(key);
        assert_eq!(drops.frames, 1 + known.map_or(0, |drops| drops.frames));
        assert_eq!(drops.first, known.map_or(drops.last.time, |drops| drops.first));
        assert!(known.is_none_or(|before| before.last.time <= drops.last.time));
        let mut head = frame.0.clone();
        head.resize(HEAD, 0);
        let length = frame.0.len();
        assert_eq!((drops.last.length as usize, drops.last.head_length as usize), (length, length.min(HEAD)));
        assert_eq!(drops.last.head.as_slice(), head);
        outcome
    }

    /// Asserts that the frame passes unchanged, for this reason and to these receivers.
    pub fn passes(&self, says: &str, frame: &Frame, reason: Reason, to: &[Station]) {
        let mut received: Vec<_> = to.iter().filter_map(|station| station.number()).collect();
        received.sort_unstable();
        let outcome = self.remembered(frame, None);
        let expected = Outcome {
            verdict: REDIRECT,
            reasons: vec![reason],
            received,
            dropped: vec![],
            frame: frame.clone(),
        };
        assert_eq!(outcome, expected, "{says}");
    }

    /// Asserts that the frame is dropped for this reason.
    pub fn is_dropped(&self, says: &str, frame: &Frame, reason: Reason) {
        let dropped = endpoint::number_of(self.ifindex).into_iter().collect();
        let outcome = self.remembered(frame, Some(reason));
        let expected =
            Outcome { verdict: DROP, reasons: vec![reason], received: vec![], dropped, frame: frame.clone() };
        assert_eq!(outcome, expected, "{says}");
    }

    /// Asserts that the frame is dropped for this reason, and that the sender, the host, gets no error.
    pub fn is_lost(&self, says: &str, frame: &Frame, reason: Reason) {
        let outcome = self.remembered(frame, Some(reason));
        let reasons = vec![reason];
        let expected =
            Outcome { verdict: REDIRECT, reasons, received: vec![], dropped: vec![], frame: frame.clone() };
        assert_eq!(outcome, expected, "{says}");
    }

    /// Asserts that the frame passes to this station, with its MAC address as the new destination.
    pub fn is_readdressed(&self, says: &str, frame: &Frame, reason: Reason, to: Station) {
        let outcome = self.frame(frame);
        let received = to.number().into_iter().collect();
        let frame = frame.clone().with(0, &to.mac());
        let expected = Outcome { verdict: REDIRECT, reasons: vec![reason], received, dropped: vec![], frame };
        assert_eq!(outcome, expected, "{says}");
    }

    /// Asserts that the frame becomes this answer.
    pub fn is_answered(&self, says: &str, frame: &Frame, answer: &Frame) {
        self.is_answered_as(says, frame, answer, Reason::AnsweredArp);
    }

    /// Asserts that the frame becomes this answer, for this reason.
    pub fn is_answered_as(&self, says: &str, frame: &Frame, answer: &Frame, reason: Reason) {
        let outcome = self.frame(frame);
        let expected = Outcome {
            verdict: REDIRECT,
            reasons: vec![reason],
            received: vec![],
            dropped: vec![],
            frame: answer.clone(),
        };
        assert_eq!(outcome, expected, "{says}");
    }
}
