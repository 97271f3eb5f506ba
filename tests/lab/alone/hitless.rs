//! Restarts and upgrades of the daemon under traffic: no packet is lost, no connection ends or is refused, every name is
//! answered, and bulk traffic goes on. Afterwards each interface has the program of the new daemon and no other.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    time::Instant,
};

use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType};
use netbpf_common::LAYOUT;
use netbpf_tests::lab::{Lab, Process, accept, connect, eventually, tell};

use super::bulk::Bulk;
use crate::{
    outside::Neighbourhood,
    pins::{ROOT, folder_of, pin},
    traffic::{Asker, Probe, Tally, echo, echo_connections},
};

/// A way in which one daemon takes the place of another.
pub type Replacement = (&'static str, fn(&Lab));

pub const REPLACEMENTS: &[Replacement] = &[
    ("a restart", Lab::restart_daemon),
    ("a restart after a crash", |lab| {
        lab.kill_daemon();
        lab.start_daemon();
    }),
    ("an upgrade to other programs", |lab| {
        lab.stop_daemon();
        lab.tell_daemons("--program-logs");
        lab.start_daemon();
    }),
    ("the way back", |lab| {
        lab.kill_daemon();
        lab.tell_daemons("");
        lab.start_daemon();
    }),
    ("an upgrade to other map layouts", |lab| {
        lab.stop_daemon();
        pins_are_of(lab, LAYOUT - 1);
        lab.start_daemon();
    }),
    ("a downgrade to other map layouts", |lab| {
        lab.kill_daemon();
        pins_are_of(lab, LAYOUT + 1);
        lab.start_daemon();
    }),
];

/// Makes what is pinned that of another version: the next daemon must not read its maps.
fn pins_are_of(lab: &Lab, layout: u32) {
    let [own, other] = [LAYOUT, layout].map(|layout| lab.path(folder_of(layout)));
    fs::rename(own, other).expect("the pins of another version");
}

/// The programs at an interface of the host, by name and number.
#[track_caller]
fn programs_at(lab: &Lab, interface: &str, side: TcAttachType) -> Vec<(String, u32)> {
    let (_, programs) =
        lab.on_host(|| SchedClassifier::query_tcx(interface, side)).expect("the programs at an interface");
    programs
        .iter()
        .map(|program| (program.name_as_str().unwrap_or_default().to_owned(), program.id()))
        .collect()
}

/// Each interface has the present daemon's program and no other, and there are no pins of other versions.
#[track_caller]
pub fn only_present_programs_are_attached(lab: &Lab) {
    let versions: Vec<_> = fs::read_dir(lab.path(ROOT))
        .expect("pins")
        .map(|entry| entry.expect("a pin").file_name())
        .filter(|name| name != "lock")
        .collect();
    assert_eq!(versions, [format!("v{LAYOUT}").as_str()]);
    let links = fs::read_dir(lab.path(pin("links"))).expect("links");
    let links: Vec<_> = links.map(|link| link.expect("a link").file_name()).collect();
    assert!(links.len() >= 4, "two devices and two containers: {links:?}");
    for link in links {
        let interface = link.to_str().expect("a name");
        let (name, side) = match interface.starts_with("veth") {
            true => ("from_container", TcAttachType::Ingress),
            false => ("from_host", TcAttachType::Egress),
        };
        let own = ProgramInfo::from_pin(lab.path(pin(&format!("programs/{name}"))));
        let own = own.expect("a pinned program").id();
        // The kernel ends a link without a pin after a grace period.
        eventually(&format!("{interface} has the present program only"), || {
            (programs_at(lab, interface, side) == [(name.to_owned(), own)]).then_some(())
        });
    }
}

/// Two ways for bulk traffic: between containers, and from the host to another host, past netbpf.
#[track_caller]
fn bulk(lab: &Neighbourhood, server: Ipv4Addr) -> Bulk {
    let port = 5201;
    let listen = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a listener");
    let [inside, far] = [lab.inside("server", listen), lab.in_namespace("/run/netns/far", listen)];
    let through = lab.inside("client", || connect((server, port).into()));
    let past = lab.on_host(|| connect((Ipv4Addr::new(192, 0, 2, 2), port).into()));
    Bulk::start((through, accept(&inside)), (past, accept(&far)))
}

/// `ping`, two hundred times per second until it is ended.
struct Pings(Process);

impl Pings {
    #[track_caller]
    fn start(lab: &Lab, from: &str, to: Ipv4Addr) -> Self {
        let (pid, to) = (lab.pid(from).to_string(), to.to_string());
        Self(lab.spawn(["nsenter", "-t", &pid, "-n", "ping", "-n", "-i", "0.005", &to]))
    }

    /// How many were answered, and how many not. One that was sent after the last answer may still be answered.
    #[track_caller]
    fn end(self) -> (u64, u64) {
        let output = self.0.interrupt();
        let answers = output.stdout.lines().filter(|line| line.contains(" bytes from "));
        let numbers =
            answers.filter_map(|line| line.split_once("icmp_seq=")?.1.split(' ').next()?.parse().ok());
        let numbers: BTreeSet<u64> = numbers.collect();
        let sent = numbers.last().copied().unwrap_or_default();
        (numbers.len() as u64, sent - numbers.len() as u64)
    }
}

#[test]
fn nothing_is_lost_when_one_daemon_takes_the_place_of_another() {
    let lab = Neighbourhood::start_alone();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    lab.run("server", "--net mynet -p 8080:80 -p 7000:7000/udp");
    lab.run("client", "--net mynet");
    let server = Ipv4Addr::new(10, 1, 0, 2);
    assert_eq!(lab.address("server", "mynet"), server.to_string());
    let echoes = [
        echo(lab.inside("server", || UdpSocket::bind("0.0.0.0:7000")).expect("a socket")),
        echo(lab.in_namespace("/run/netns/far", || UdpSocket::bind("0.0.0.0:7000")).expect("a socket")),
    ];
    let connections =
        echo_connections(lab.inside("server", || TcpListener::bind("0.0.0.0:80")).expect("a listener"));

    let probes = Asker::often(&lab).in_all_ways(server, [7000, 8080]);
    let pings = Pings::start(&lab, "client", server);
    let bulk = bulk(&lab, server);
    for (what, replace) in REPLACEMENTS {
        let began = Instant::now();
        replace(&lab);
        println!("{what}: {:?}", began.elapsed());
        only_present_programs_are_attached(&lab);
    }
    let (pings_answered, pings_lost) = pings.end();
    bulk.went_on();
    let tallies = probes.map(|probe| (probe.what(), Probe::end(probe)));
    drop((echoes, connections));
    for (what, Tally { done, lost, longest, .. }) in &tallies {
        println!("{what}: {done} answered, {lost} not; the slowest took {longest:?}");
    }
    let total = |count: fn(&Tally) -> u64| tallies.iter().map(|(_, tally)| count(tally)).sum::<u64>();
    tell("restarts under traffic", REPLACEMENTS.len() as u64);
    tell("packets lost", total(|tally| tally.lost) + pings_lost);
    tell("longest outage of names in ms", tallies[tallies.len() - 1].1.longest.as_millis() as u64);
    assert!(pings_lost == 0 && pings_answered > 100, "pings: {pings_answered} answered, {pings_lost} not");
    for (what, Tally { done, lost, why, .. }) in &tallies {
        assert!(*lost == 0 && *done > 100, "{what}: {done} answered, {lost} not: {why:?}");
    }
}

/// What a version leaves whose containers and records are all gone.
#[test]
fn programs_of_a_version_that_nobody_has_any_more_are_detached() {
    for layout in [LAYOUT - 1, LAYOUT + 1] {
        let lab = Lab::start();
        lab.network("mynet", "--subnet 10.1.0.0/24");
        lab.run("web", "--net mynet");
        let device = lab.device("mynet");
        lab.kill_daemon();
        pins_are_of(&lab, layout);
        // A folder that only that version knows.
        let folder = lab.path(folder_of(layout)).join("others");
        fs::create_dir(&folder).expect("a folder");
        fs::rename(lab.path(folder_of(layout)).join("links").join(&device), folder.join(&device))
            .expect("a pin");
        let supervisor = lab.processes("netbpf supervise")[0].to_string();
        lab.host(["kill", "-9", &supervisor]).ok();
        eventually("web has ended", || lab.processes("netbpf supervise").is_empty().then_some(()));
        lab.start_daemon();
        only_own_devices_are_left(&lab, &device);
        lab.netbpf(["rm", "web"]).ok();
    }
}

#[track_caller]
fn only_own_devices_are_left(lab: &Lab, device: &str) {
    let versions = fs::read_dir(lab.path(ROOT)).expect("pins").count();
    assert_eq!(versions, 2, "the lock and one version");
    let own = ProgramInfo::from_pin(lab.path(pin("programs/from_host")));
    let own = own.expect("a pinned program").id();
    eventually("the device has the present program only", || {
        (programs_at(lab, device, TcAttachType::Egress) == [("from_host".to_owned(), own)]).then_some(())
    });
}
