//! The daemon may stop, start, or be killed at any moment: containers, traffic and names go on, and nothing is left
//! over.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread::{self, JoinHandle},
    time::Duration,
};

use netbpf_tests::lab::{Lab, Process, accept, connect, eventually};
use serde_json::Value;

use super::pins::pin;

/// Everything that users see of networks and containers.
#[track_caller]
fn inspect_all(lab: &Lab) -> BTreeMap<String, Value> {
    let ids = [["network", "ls", "-q", "--no-trunc"], ["ps", "-a", "-q", "--no-trunc"]]
        .map(|list| lab.netbpf(list).ok().stdout)
        .concat();
    let things = lab.netbpf(["inspect"].into_iter().chain(ids.lines())).ok().json();
    let things = things.as_array().into_iter().flatten();
    things.map(|thing| (text(&thing["Id"]), thing.clone())).collect()
}

/// A ping that runs for some seconds with a hundred packets per second.
fn ping(lab: &Lab, from: &str, to: &str) -> Process {
    lab.spawn_netbpf(["exec", from, "ping", "-i", "0.01", "-c", "500", to])
}

#[track_caller]
fn lost_nothing(ping: Process) {
    let output = ping.output().ok();
    assert!(output.stdout.contains("500 received, 0% packet loss"), "{output}");
}

/// A TCP connection between two containers that carries data for some seconds.
struct Stream {
    sender: JoinHandle<()>,
    receiver: JoinHandle<Vec<u8>>,
}

impl Stream {
    const CHUNKS: u8 = 200;
    const CHUNK: usize = 64 * 1024;

    #[track_caller]
    fn start(lab: &Lab, from: &str, to: &str) -> Self {
        let listener = lab.inside(to, || TcpListener::bind("0.0.0.0:9000")).expect("a listener");
        let address = lab.address(to, "mynet");
        let mut sending =
            lab.inside(from, || connect(SocketAddr::new(address.parse().expect("an address"), 9000)));
        let mut receiving = accept(&listener);
        let sender = thread::spawn(move || {
            for number in 0..Self::CHUNKS {
                sending.write_all(&[number; Self::CHUNK]).expect("a chunk goes out");
                thread::sleep(Duration::from_millis(20));
            }
        });
        let receiver = thread::spawn(move || {
            let mut received = Vec::new();
            receiving.read_to_end(&mut received).expect("the stream has an end");
            received
        });
        Self { sender, receiver }
    }

    #[track_caller]
    fn arrives_whole(self) {
        self.sender.join().expect("all is sent");
        let received = self.receiver.join().expect("all is received");
        assert_eq!(received.len(), usize::from(Self::CHUNKS) * Self::CHUNK);
        for (number, chunk) in (0..Self::CHUNKS).zip(received.chunks(Self::CHUNK)) {
            assert!(*chunk == [number; Self::CHUNK], "chunk {number} arrives as it was sent");
        }
    }
}

#[test]
fn traffic_names_and_leases_outlive_the_daemon() {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24 --label team=red");
    lab.run("tomcat01", "");
    lab.run("tomcat02", "");
    lab.run("web01", "--net mynet --ip 10.1.0.50 --network-alias www");
    lab.run("web02", "--net mynet --mac-address 02:00:00:00:00:05");
    lab.netbpf(["connect", "mynet", "tomcat01"]).ok();
    lab.netbpf(["create", "--subnet", "10.3.0.0/24", "empty"]).ok();
    let before = inspect_all(&lab);

    let stream = Stream::start(&lab, "web01", "web02");
    let pings = [
        ping(&lab, "web01", "web02"),
        ping(&lab, "tomcat01", "172.17.0.3"),
        ping(&lab, "tomcat02", "172.17.0.1"),
        lab.spawn(["ping", "-i", "0.01", "-c", "500", "10.1.0.50"]),
    ];
    eventually("pings run", || (lab.processes("ping -i 0.01 -c 500").len() == pings.len()).then_some(()));
    lab.restart_daemon();
    assert_eq!(inspect_all(&lab), before);
    lab.kill_daemon();
    lab.start_daemon();
    assert_eq!(inspect_all(&lab), before);
    lab.kill_daemon();
    lab.start_daemon();
    pings.into_iter().for_each(lost_nothing);
    stream.arrives_whole();

    assert_eq!(inspect_all(&lab), before);
    lab.exec("web02", "ping -c1 www.mynet").ok();
    lab.exec("tomcat02", "ping -c1 -W1 10.1.0.50").fails_with(1, "");
    lab.run("web03", "--net mynet");
    assert_eq!(lab.address("web03", "mynet"), "10.1.0.4");
    lab.netbpf(["stop", "-t", "0", "web01"]).ok();
    lab.restart_daemon();
    lab.netbpf(["start", "web01"]).ok();
    assert_eq!(lab.address("web01", "mynet"), "10.1.0.50");
    assert_consistent(&lab);
}

#[test]
fn a_container_that_ends_by_itself_leaves_nothing_in_its_networks() {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    lab.run("watcher", "--net mynet");
    let script = "until [ -e /run/end ]; do sleep 0.02; done; exit 7";
    lab.netbpf(["run", "-d", "--name", "brief", "--net", "mynet", "--", "sh", "-c", script]).ok();
    lab.netbpf(["connect", "bridge", "brief"]).ok();
    lab.exec("watcher", "ping -c1 brief").ok();
    fs::write(lab.path("/run/end"), "").expect("a file");
    let state = eventually("brief has ended", || {
        let state = lab.inspect("brief")["State"].take();
        (state["Status"] == "exited").then_some(state)
    });
    assert_eq!(state["ExitCode"], 7);
    let listed = lab.netbpf(["ps", "-a"]).ok();
    assert!(listed.text().contains("Exited (7)"), "{listed}");
    assert_consistent(&lab);
    assert!(!lab.exec("watcher", "ping -c1 -W1 brief").status.success(), "its name is gone");
    assert_eq!(lab.address("brief", "mynet"), "");
    lab.run("next", "--net mynet");
    assert_eq!(lab.address("next", "mynet"), "10.1.0.3", "its address is free again");
    fs::remove_file(lab.path("/run/end")).expect("the file goes");
}

#[test]
fn a_container_that_ends_while_no_daemon_runs_is_cleaned_up_by_the_next() {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    lab.run("watcher", "--net mynet");
    let script = "until [ -e /run/end ]; do sleep 0.02; done; exit 9";
    lab.netbpf(["run", "-d", "--name", "brief", "--net", "mynet", "--", "sh", "-c", script]).ok();
    lab.netbpf(["run", "-d", "--rm", "--name", "fleeting", "--net", "mynet", "--", "sh", "-c", script]).ok();
    lab.kill_daemon();
    fs::write(lab.path("/run/end"), "").expect("a file");
    eventually("only one supervisor is left", || {
        (lab.processes("netbpf supervise").len() == 1).then_some(())
    });
    lab.start_daemon();
    let listed = lab.netbpf(["ps", "-a"]).ok();
    assert!(listed.text().contains("Exited (9)"), "{listed}");
    assert!(!listed.text().contains("fleeting"), "{listed}");
    assert_consistent(&lab);
    lab.run("next", "--net mynet");
    assert_eq!(lab.address("next", "mynet"), "10.1.0.3");
    fs::remove_file(lab.path("/run/end")).expect("the file goes");
}

#[test]
fn a_daemon_killed_during_commands_leaves_the_old_or_the_new_state() {
    const ROUNDS: u64 = 30;
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    lab.network("other", "--subnet 10.2.0.0/24");
    for name in ["steady01", "steady02"] {
        lab.run(name, "--net mynet");
    }
    let steady = [lab.inspect("steady01"), lab.inspect("steady02")];
    for round in 0..ROUNDS {
        let name = format!("victim{round}");
        let last = format!("victim{}", round.saturating_sub(1));
        let new = format!("net{round}");
        let old = format!("net{}", round.saturating_sub(1));
        let commands: [&[&str]; 6] = [
            &["run", "-d", "--name", &name, "--net", "mynet", "--", "sleep", "infinity"],
            &["network", "create", &new],
            &["connect", "other", &last],
            &["rm", "-f", &last],
            &["network", "rm", &old],
            &["disconnect", "mynet", &last],
        ];
        // The outcome of each command is open, but it must leave nothing behind.
        let running: Vec<_> = commands
            .into_iter()
            .enumerate()
            .filter(|(index, _)| [0, 1, 2 + round as usize % 4].contains(index))
            .map(|(index, command)| (index, lab.spawn_netbpf(command)))
            .collect();
        thread::sleep(Duration::from_millis(round * 37 % 251));
        lab.kill_daemon();
        let done: Vec<_> = running
            .into_iter()
            .filter_map(|(index, command)| command.output().status.success().then_some(index))
            .collect();
        lab.start_daemon();
        if round % 4 == 1 && !done.contains(&3) {
            // It may be ending just now, killed in the last moment of the old daemon.
            let _ = lab.netbpf(["rm", "-f", &last]);
        }
        assert_consistent(&lab);
        // A command that reported success must have taken effect.
        for index in done {
            match index {
                0 => assert_eq!(lab.inspect(&name)["State"]["Running"], true),
                1 => assert_eq!(lab.inspect(&new)["Driver"], "bridge"),
                2 => assert!(lab.inspect(&last)["NetworkSettings"]["Networks"]["other"].is_object()),
                3 => assert!(!lab.netbpf(["inspect", &last]).status.success(), "{last} is gone"),
                4 => assert!(!lab.netbpf(["inspect", &old]).status.success(), "{old} is gone"),
                _ => assert!(lab.inspect(&last)["NetworkSettings"]["Networks"]["mynet"].is_null()),
            }
        }
        // The fate of these is open; they may exist or not.
        let _ = lab.netbpf(["rm", "-f", &last]);
        let _ = lab.netbpf(["network", "rm", "-f", &old]);
    }
    assert_eq!([lab.inspect("steady01"), lab.inspect("steady02")], steady);
    lab.exec("steady01", "ping -c1 steady02").ok();
}

/// Checks that inspect, processes, links and maps agree.
#[track_caller]
pub fn assert_consistent(lab: &Lab) {
    let all = inspect_all(lab);
    let mut links = BTreeSet::from(["lo".to_owned()]);
    let mut stations = BTreeSet::new();
    let mut gateways = 0;
    for (id, thing) in &all {
        if let Some(config) = thing["IPAM"]["Config"].get(0) {
            let name = thing["Name"].as_str().expect("a name");
            links.insert(if name == "bridge" { "netbpf0".into() } else { format!("nb-{}", &id[..12]) });
            links.insert(format!("nbp{}", &id[..12]));
            assert!(config["Gateway"].is_string());
            gateways += 1;
            for (member, endpoint) in thing["Containers"].as_object().expect("containers") {
                let networks = &all[member]["NetworkSettings"]["Networks"];
                assert_eq!(networks[name]["EndpointID"], endpoint["EndpointID"], "{thing:#}");
            }
        }
        let Some(networks) = thing["NetworkSettings"]["Networks"].as_object() else { continue };
        let is_running = thing["State"]["Running"] == true;
        let mut addresses = BTreeSet::new();
        for network in networks.values() {
            let endpoint = network["EndpointID"].as_str().unwrap_or_default();
            assert_eq!(!endpoint.is_empty(), is_running, "{thing:#}");
            if is_running {
                links.insert(format!("veth{}", &endpoint[..7]));
                let (mac, address) = (&network["MacAddress"], &network["IPAddress"]);
                stations.insert((text(mac), text(address)));
                addresses.insert(format!("{}/{}", text(address), network["IPPrefixLen"]));
            }
        }
        if is_running {
            let output = lab.exec(id, "ip -o -4 address show scope global").ok();
            let inside: BTreeSet<_> = output
                .text()
                .lines()
                .filter_map(|line| Some(line.split_whitespace().nth(3)?.to_owned()))
                .collect();
            assert_eq!(inside, addresses, "{thing:#}");
        }
    }
    let running: BTreeSet<_> =
        all.iter().filter(|(_, thing)| thing["State"]["Running"] == true).map(|(id, _)| id.clone()).collect();
    let expected = format!("the supervisors of {running:?}, not {:?}", supervised(lab));
    eventually(&expected, || (supervised(lab) == running).then_some(()));
    eventually("the links of networks and containers, and no others", || {
        (links_of(lab) == links).then_some(())
    });
    let pins: BTreeSet<_> = names_in(lab, &pin("links"));
    let attached: BTreeSet<_> =
        links.iter().filter(|name| *name != "lo" && !name.starts_with("nbp")).cloned().collect();
    assert_eq!(pins, attached);
    assert_eq!(ports(lab), stations);
    assert_eq!(entries(lab, "FDB").len(), stations.len() + gateways);
    assert_eq!(entries(lab, "NEIGHBOURS").len(), stations.len() + gateways);
    let folders = |path: &str| names_in(lab, path).len();
    let containers = all.values().filter(|thing| !thing["State"].is_null()).count();
    assert_eq!(folders("/run/state/containers"), containers);
    assert_eq!(lab.processes("netbpf responder").len(), 1);
}

/// The containers that have a supervisor: its last argument is their directory.
fn supervised(lab: &Lab) -> BTreeSet<String> {
    let lines = lab.processes("netbpf supervise").into_iter().filter_map(|pid| {
        let line = fs::read_to_string(lab.path(format!("/proc/{pid}/cmdline"))).ok()?;
        Some(line.trim_end_matches('\0').rsplit('/').next()?.to_owned())
    });
    lines.collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn names_in(lab: &Lab, folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(lab.path(folder)).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[track_caller]
fn links_of(lab: &Lab) -> BTreeSet<String> {
    let links = lab.host(["ip", "-j", "link"]).ok().json();
    links.as_array().into_iter().flatten().map(|link| text(&link["ifname"])).collect()
}

#[track_caller]
fn entries(lab: &Lab, map: &str) -> Vec<Value> {
    let path = pin(&format!("maps/{map}"));
    let dump = lab.host(["bpftool", "-j", "map", "dump", "pinned", &path]).ok().json();
    dump.as_array().into_iter().flatten().map(|entry| entry["formatted"].clone()).collect()
}

/// The MAC address and IPv4 address of every port in use.
#[track_caller]
fn ports(lab: &Lab) -> BTreeSet<(String, String)> {
    let join = |bytes: &Value, by: &str, hex: bool| {
        let byte = |byte: &Value| match (byte.as_u64().unwrap_or_default(), hex) {
            (byte, true) => format!("{byte:02x}"),
            (byte, false) => byte.to_string(),
        };
        bytes.as_array().into_iter().flatten().map(byte).collect::<Vec<_>>().join(by)
    };
    let used = entries(lab, "ENDPOINTS").into_iter().map(|mut entry| entry["value"].take());
    used.filter(|port| port["ifindex"] != 0)
        .map(|port| (join(&port["mac"], ":", true), join(&port["ipv4"], ".", false)))
        .collect()
}

/// A program is pinned under another name, which is then renamed: a daemon may be killed in between.
#[test]
fn pins_that_a_killed_daemon_has_not_renamed_are_removed() {
    let lab = Lab::start();
    lab.run("web", "");
    lab.kill_daemon();
    for name in ["from_container", "from_open"] {
        let (known, new) = (pin("programs/from_container"), pin(&format!("programs/{name}_new")));
        lab.host(["bpftool", "prog", "pin", "pinned", &known, &new]).ok();
    }
    lab.start_daemon();
    let expected = ["flood", "from_container", "from_host", "long_way", "remember"].map(str::to_owned);
    assert_eq!(names_in(&lab, &pin("programs")), expected.into());
}

#[test]
fn an_address_requested_by_a_stopped_container_is_leased_last() {
    let lab = Lab::start();
    lab.network("m", "--subnet 10.5.0.0/29 --ipv6 --subnet fd05::/64");
    lab.run("db", "--net m --ip 10.5.0.2 --ip6 fd05::2");
    lab.netbpf(["stop", "-t", "0", "db"]).ok();
    lab.run("web", "--net m");
    assert_eq!(lab.address("web", "m"), "10.5.0.3");
    assert_eq!(lab.inspect("web")["NetworkSettings"]["Networks"]["m"]["GlobalIPv6Address"], "fd05::3");
    lab.restart_daemon();
    lab.run("more", "--net m");
    assert_eq!(lab.address("more", "m"), "10.5.0.4");
    lab.netbpf(["start", "db"]).ok();
    assert_eq!(lab.address("db", "m"), "10.5.0.2");
    // A container gets it if there is no other.
    lab.netbpf(["stop", "-t", "0", "db"]).ok();
    for (name, address) in [("third", "10.5.0.5"), ("fourth", "10.5.0.6"), ("fifth", "10.5.0.2")] {
        lab.run(name, "--net m");
        assert_eq!(lab.address(name, "m"), address);
    }
    // No container wishes for it any more.
    lab.netbpf(["rm", "-f", "db", "third", "fifth"]).ok();
    lab.run("sixth", "--net m");
    assert_eq!(lab.address("sixth", "m"), "10.5.0.2");
}

#[test]
fn the_reason_for_a_failed_restart_is_logged_once() {
    let lab = Lab::start();
    // A copy of busybox acts by its file name.
    let make = || lab.host(["sh", "-c", "cp $(command -v busybox) /run/sleep"]).ok();
    let program = lab.path("/run/sleep");
    make();
    lab.netbpf(["run", "-d", "--name", "again", "--restart", "always", "--", "/run/sleep", "1000"]).ok();
    fs::remove_file(&program).expect("a file");
    lab.host(["kill", "-9", &lab.pid("again").to_string()]).ok();
    let tries = || lab.inspect("again")["RestartCount"].as_u64();
    eventually("four tries", || tries().filter(|tries| *tries > 4));
    let log = lab.daemon_log();
    let said = log.lines().filter(|line| line.contains("WARN") && line.contains("start again")).count();
    assert_eq!(said, 1, "{log}");
    make();
    eventually("it runs", || (lab.inspect("again")["State"]["Running"] == true).then_some(()));
    lab.netbpf(["rm", "-f", "again"]).ok();
    fs::remove_file(&program).expect("a file");
}
