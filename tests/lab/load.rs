//! Many clients at once, and limits that are reached: no request hangs, no address is lost or given twice, each limit has
//! its message, and everything works again afterwards. Requests go to the API's socket directly: 64 command lines would
//! measure themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use netbpf_tests::lab::{Lab, eventually, tell};

use super::persistence::assert_consistent;

/// How long the mixed load lasts, unless this variable says another number of seconds.
const SECONDS: (&str, u64) = ("NETBPF_TEST_LOAD_SECONDS", 8);

const CLIENTS: u64 = 64;

/// A request that takes longer hangs.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The longest request of all clients, in milliseconds.
static LONGEST: AtomicU64 = AtomicU64::new(0);

/// One client of the API.
struct Client(PathBuf);

impl Client {
    fn of(lab: &Lab) -> Self {
        Self(lab.path("/run/netbpf/netbpf.sock"))
    }

    fn connect(path: &Path) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(stream)
    }

    /// The status and the body of the answer.
    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let began = Instant::now();
        let asked = Self::connect(&self.0).and_then(|mut stream| {
            let length = body.len();
            let head = format!("{method} {path} HTTP/1.1\r\nHost: netbpf\r\nConnection: close\r\n");
            stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        });
        let answer = asked.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        LONGEST.fetch_max(began.elapsed().as_millis() as u64, Ordering::Relaxed);
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("{method} {path}: {answer:?}"));
        (status, answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
    }

    #[track_caller]
    fn run(&self, name: &str, network: &str) -> (u16, String) {
        let body = format!(r#"{{"Cmd":["sleep","infinity"],"NetworkMode":"{network}"}}"#);
        match self.ask("POST", &format!("/containers/create?name={name}"), &body) {
            (201, _) => self.ask("POST", &format!("/containers/{name}/start"), ""),
            refused => refused,
        }
    }

    #[track_caller]
    fn member(&self, network: &str, verb: &str, name: &str) -> (u16, String) {
        let body = format!(r#"{{"Container":"{name}","Force":true}}"#);
        self.ask("POST", &format!("/networks/{network}/{verb}"), &body)
    }
}

/// Numbers in an order that is the same each time (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// One operation of one client, chosen by `numbers`. Others may work on the same things at the same time.
fn operate(client: &Client, numbers: &mut Numbers) -> (&'static str, (u16, String)) {
    // No beginning of an ID, which would be another container's.
    let name = format!("user{}", numbers.below(24));
    let network = format!("n{}", numbers.below(4));
    let path = |what: &str| format!("/containers/{name}/{what}");
    match numbers.below(16) {
        0..3 => ("run", client.run(&name, &network)),
        3 | 4 => ("rm", client.ask("DELETE", &format!("/containers/{name}?force=true"), "")),
        5 | 6 => ("connect", client.member(&network, "connect", &name)),
        7 | 8 => ("disconnect", client.member(&network, "disconnect", &name)),
        9 => ("stop", client.ask("POST", &path("stop?t=0"), "")),
        10 => ("start", client.ask("POST", &path("start"), "")),
        11 => {
            let new = format!("user{}", numbers.below(24));
            ("rename", client.ask("POST", &path(&format!("rename?name={new}")), ""))
        }
        12 => ("inspect", client.ask("GET", &path("json"), "")),
        13 => ("ps", client.ask("GET", "/containers/json?all=true", "")),
        14 => match numbers.below(2) {
            0 => ("stats", client.ask("GET", "/stats", "")),
            _ => ("drops", client.ask("GET", "/drops", "")),
        },
        _ => {
            let new = format!("x{}", numbers.below(4));
            let made = client.ask("POST", "/networks/create", &format!(r#"{{"Name":"{new}"}}"#));
            let _ = client.ask("DELETE", &format!("/networks/{new}"), "");
            ("network create", made)
        }
    }
}

/// Many clients do everything for some time. Returns the number of operations.
#[track_caller]
pub fn mixed(lab: &Lab, time: Duration) -> u64 {
    for number in 0..3 {
        lab.network(&format!("n{number}"), &format!("--subnet 10.20{number}.0.0/24"));
    }
    // Five addresses.
    lab.network("n3", "--subnet 10.203.0.0/29");
    let end = Instant::now() + time;
    let outcomes: Vec<BTreeMap<(&str, u16, String), u64>> = thread::scope(|scope| {
        let clients: Vec<_> = (1..=CLIENTS)
            .map(|number| {
                let client = Client::of(lab);
                scope.spawn(move || {
                    let mut numbers = Numbers(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                    let mut outcomes = BTreeMap::new();
                    while Instant::now() < end {
                        let (what, (status, body)) = operate(&client, &mut numbers);
                        let body = if status >= 500 { body } else { String::new() };
                        *outcomes.entry((what, status, body)).or_insert(0) += 1;
                    }
                    outcomes
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("a client ends")).collect()
    });
    let mut counts = BTreeMap::new();
    let mut broken = Vec::new();
    for ((what, status, body), count) in outcomes.into_iter().flatten() {
        *counts.entry((what, status)).or_insert(0) += count;
        if status >= 500 {
            broken.push(format!("{what}: {body}"));
        }
    }
    println!("{counts:?}, the longest took {} ms", LONGEST.load(Ordering::Relaxed));
    assert!(broken.is_empty(), "{broken:#?}\n{}", lab.daemon_log());
    counts.values().sum()
}

/// Takes each address of `n3`, where there is no container yet, and asks for one more.
#[track_caller]
pub fn fill_the_small_subnet(lab: &Lab) {
    let client = Client::of(lab);
    for number in 2..=6 {
        let (status, body) = client.run(&format!("full{number}"), "n3");
        assert_eq!((status, body.as_str()), (204, ""));
    }
    let (_, body) = client.run("late", "n3");
    assert!(body.contains("no available IPv4 addresses on this network's address pools: n3"), "{body}");
}

#[test]
fn many_clients_at_once_leave_everything_consistent() {
    let seconds = std::env::var(SECONDS.0).map_or(SECONDS.1, |text| text.parse().expect("seconds"));
    let lab = Lab::start();
    tell("operations done", mixed(&lab, Duration::from_secs(seconds)));
    tell("longest operation in ms", LONGEST.load(Ordering::Relaxed));
    assert_consistent(&lab);
    lab.kill_daemon();
    lab.start_daemon();
    assert_consistent(&lab);

    // All addresses are free again.
    let containers = lab.netbpf(["ps", "-aq"]).ok().stdout;
    lab.netbpf(["rm", "-f"].into_iter().chain(containers.split_whitespace())).ok();
    fill_the_small_subnet(&lab);
    assert_consistent(&lab);
}

/// Eight clients start, stop and remove containers, each so many. Returns the number of operations.
#[track_caller]
pub fn start_and_stop(lab: &Lab, rounds: u64) -> u64 {
    lab.network("big", "--subnet 10.50.0.0/16");
    thread::scope(|scope| {
        for number in 0..8 {
            let client = Client::of(lab);
            scope.spawn(move || {
                for round in 0..rounds {
                    let name = format!("c{number}-{round}");
                    let (status, body) = client.run(&name, "big");
                    assert_eq!((status, body.as_str()), (204, ""), "{name}");
                    if round % 2 == 0 {
                        let (status, body) = client.ask("POST", &format!("/containers/{name}/stop?t=0"), "");
                        assert_eq!((status, body.as_str()), (204, ""), "{name}");
                    }
                    let (status, body) = client.ask("DELETE", &format!("/containers/{name}?force=true"), "");
                    assert_eq!((status, body.as_str()), (204, ""), "{name}");
                }
            });
        }
    });
    8 * rounds * 3
}

#[test]
fn two_hundred_containers_start_and_stop() {
    let lab = Lab::start();
    tell("operations done", start_and_stop(&lab, 25));
    assert_consistent(&lab);
    lab.run("next", "--net big");
    assert_eq!(lab.inspect("big")["Containers"].as_object().map(serde_json::Map::len), Some(1));
}

#[test]
fn a_daemon_without_free_descriptors_refuses_and_goes_on() {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    tell("limits reached", without_descriptors(&lab, assert_consistent));
}

/// On a host with the network `mynet`. Returns how often something was refused; `check` is called after each time.
#[track_caller]
pub fn without_descriptors(lab: &Lab, check: impl Fn(&Lab)) -> u64 {
    for name in ["one", "two"] {
        lab.run(name, "--net mynet");
    }
    let daemon = lab.processes("netbpf daemon")[0].to_string();
    let client = Client::of(lab);
    let used = || {
        let folder = std::fs::read_dir(lab.path(format!("/proc/{daemon}/fd"))).expect("descriptors");
        let numbers = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        numbers.collect::<BTreeSet<u64>>()
    };
    // Only the soft limit, which may be raised again.
    let limit = |soft: u64| {
        lab.host(["prlimit", "--pid", &daemon, &format!("--nofile={soft}:")]).ok();
    };
    // The limit bounds the numbers, not how many there are.
    let leave = |free: usize| {
        let used = used();
        limit((0..).filter(|number| !used.contains(number)).nth(free).expect("a free number"));
    };
    let shown = lab.host(["prlimit", "--pid", &daemon, "--nofile", "--output", "SOFT", "--noheadings"]);
    let all = shown.ok().text().trim().parse().expect("a limit");
    let base = used().len();
    let mut refused = 0;
    // From one free descriptor, for the connection, to enough for everything.
    for free in [1, 2, 3, 4, 6, 8, 16, 32, 48, 56, 80] {
        leave(free);
        let (status, body) = client.run("three", "mynet");
        limit(all);
        if status != 204 {
            refused += 1;
            let said = "the daemon has no file descriptors left: Too many open files";
            assert!(body.contains(said), "{free} free: {status} {body}");
        }
        // It was created where only its start was refused.
        let _ = lab.netbpf(["rm", "-f", "three"]);
        check(lab);
    }
    assert!(refused > 0);
    lab.exec("one", "ping -c1 -W2 two").ok();
    eventually("no descriptor is lost", || (used().len() <= base + 2).then_some(()));
    refused
}

/// Connections of clients that have sent a part of a request.
#[track_caller]
pub fn half_requests(lab: &Lab) -> Vec<UnixStream> {
    let path = lab.path("/run/netbpf/netbpf.sock");
    let halves = [
        "P",
        "POST /networks/create HTT",
        "GET /info HTTP/1.1\r\nHost: net",
        "POST /networks/create HTTP/1.1\r\nHost: netbpf\r\nContent-Length: 100\r\n\r\n{\"Name\":",
    ];
    let connect = |half: &&str| {
        let mut stream = Client::connect(&path).expect("a connection");
        stream.write_all(half.as_bytes()).expect("half a request");
        stream
    };
    halves.iter().cycle().take(16).map(connect).collect()
}

#[test]
fn slow_clients_delay_nobody() {
    let lab = Lab::start();
    let slow = half_requests(&lab);
    let began = Instant::now();
    lab.run("web", "");
    lab.exec("web", "ping -c1 -W2 172.17.0.1").ok();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let began = Instant::now();
    lab.stop_daemon();
    let took = began.elapsed();
    println!("the end took {took:?}");
    assert!(took < Duration::from_secs(2), "the daemon ends within 2 s, not {took:?}");
    drop(slow);
    lab.start_daemon();
    lab.exec("web", "ping -c1 -W2 172.17.0.1").ok();
}
