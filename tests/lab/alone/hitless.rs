//! Restarts and upgrades of the daemon under traffic: no packet is lost, no connection ends or is refused, every name is
//! answered, and bulk traffic goes on. Afterwards each interface has the program of the new daemon and no other.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType};
use netbpf_common::LAYOUT;
use netbpf_tests::lab::{Lab, Process, eventually, tell};

use crate::{
    outside::Neighbourhood,
    pins::{ROOT, folder_of, pin},
    traffic::{Asker, Probe, Tally, echo, echo_connections},
};

/// How long traffic runs before the first restart, for comparison.
const CALM: Duration = Duration::from_millis(1200);

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

/// Bulk traffic at a steady rate that leaves processor time for others, measured where it arrives.
struct Bulk {
    server: Process,
    client: Process,
}

impl Bulk {
    #[track_caller]
    fn start(lab: &Lab, from: &str, to: &str) -> Self {
        let inside = |container: &str, words: &[&str]| {
            let pid = lab.pid(container).to_string();
            lab.spawn(["nsenter", "-t", &pid, "-n"].iter().chain(words))
        };
        let server = inside(from, &["iperf3", "-s"]);
        eventually("iperf3 listens", || {
            lab.in_network_of(from, "ss -Hltn").ok().stdout.contains(":5201 ").then_some(())
        });
        let address = lab.address(from, "mynet");
        let words = ["iperf3", "-c", &address, "-R", "-b", "200M", "-i", "0.1", "-t", "300", "--json"];
        Self { server, client: inside(to, &words) }
    }

    /// No tenth of a second had less than half of the mean, unless one before the first restart had no more: this
    /// machine may be busy.
    #[track_caller]
    fn went_on(self) {
        let report = self.client.interrupt().json();
        drop(self.server);
        let intervals = report["intervals"].as_array().expect("intervals").iter().map(|interval| {
            let number = |name: &str| interval["sum"][name].as_f64().expect("a number");
            (number("end"), number("bytes"))
        });
        // The first begins slowly, and the last is a part of one.
        let mut intervals: Vec<_> = intervals.skip(1).collect();
        intervals.pop();
        let mean = intervals.iter().map(|(_, bytes)| bytes).sum::<f64>() / intervals.len() as f64;
        let least = |is_meant: fn(f64) -> bool| {
            let meant = intervals.iter().filter(|(end, _)| is_meant(*end)).map(|(_, bytes)| *bytes);
            meant.reduce(f64::min).expect("an interval")
        };
        let calm = least(|end| end <= CALM.as_secs_f64());
        let disturbed = least(|end| end > CALM.as_secs_f64());
        assert!(
            disturbed >= mean / 2.0 || disturbed >= calm,
            "{disturbed} bytes in one tenth of a second, {calm} before the restarts, {mean} on average"
        );
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
    let bulk = Bulk::start(&lab, "server", "client");
    thread::sleep(CALM);
    for (what, replace) in REPLACEMENTS {
        let began = Instant::now();
        replace(&lab);
        println!("{what}: {:?}", began.elapsed());
        only_present_programs_are_attached(&lab);
    }
    bulk.went_on();
    let tallies = probes.map(|probe| (probe.what(), Probe::end(probe)));
    drop((echoes, connections));
    for (what, Tally { done, lost, longest, .. }) in &tallies {
        println!("{what}: {done} answered, {lost} not; the slowest took {longest:?}");
    }
    let total = |count: fn(&Tally) -> u64| tallies.iter().map(|(_, tally)| count(tally)).sum::<u64>();
    tell("restarts under traffic", REPLACEMENTS.len() as u64);
    tell("packets lost", total(|tally| tally.lost));
    tell("longest outage of names in ms", tallies[tallies.len() - 1].1.longest.as_millis() as u64);
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
