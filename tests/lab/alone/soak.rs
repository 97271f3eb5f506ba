//! Hours of everything that other tests do once, on one host: rounds of commands with faults, kills, restarts, upgrades,
//! changes by others, many clients and limits, while members that nobody touches exchange packets. After each round, the
//! host is as it was before; at the end, memory, descriptors and entries are what they were at the beginning.
//!
//! `cargo xtask soak --hours N` sets `NETBPF_SOAK_SECONDS`; without it, there is one short round of each kind.
//! `NETBPF_SOAK_SEED` sets the seed, which is printed.

mod gauges;
mod rounds;

use std::{
    collections::BTreeMap,
    env,
    hash::{BuildHasher, RandomState},
    io::Write,
    net::{TcpListener, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use gauges::Gauges;
use netbpf_tests::lab::{Lab, eventually, tell};
use rounds::{CALM, ROUGH, Round};

use crate::{
    kill::{self, Random},
    outside::Neighbourhood,
    shape::Shape,
    traffic::{Asker, Probe, Server, Tally, echo, echo_connections},
};

/// How much of the time there are rounds; the rest is for other work on this machine.
const SHARE_OF_ROUNDS: u32 = 3;

/// How long the host may take to settle after a round or a change.
const SETTLING: Duration = Duration::from_secs(10);

/// Stretches with and without kills, and their shares of the time. Only a long one without kills shows whether the daemon's
/// memory grows.
const STRETCHES: [(&[Round], u32); 4] = [(CALM, 7), (ROUGH, 2), (CALM, 2), (ROUGH, 1)];

/// Networks and containers that no round touches.
const STANDING: [&str; 8] = ["bridge", "host", "none", "mynet", "six", "neighbour", "server", "client"];

#[test]
fn everything_for_hours() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seed = number("NETBPF_SOAK_SEED").unwrap_or_else(|| RandomState::new().hash_one(()) % 1_000_000);
    let time = number("NETBPF_SOAK_SECONDS").map(Duration::from_secs);
    let lab = Neighbourhood::around(Lab::alone_without_daemon());
    // Questions for names that netbpf does not know have no way to other name servers, and are answered at once.
    lab.host(["sh", "-ec", "ip route del default; ip -6 route del default"]).ok();
    kill::obey(&lab);
    kill::furnish(&lab);
    lab.run("server", "--net mynet -p 9080:80 -p 9000:7000/udp");
    lab.run("client", "--net mynet");
    let mut soak = Soak::start(&lab, seed, time);
    match time {
        None => [CALM, ROUGH].iter().for_each(|kinds| kinds.iter().for_each(|round| soak.round(round))),
        Some(time) => {
            let all: u32 = STRETCHES.iter().map(|(_, share)| share).sum();
            let mut past = 0;
            for (kinds, share) in STRETCHES {
                past += share;
                let end = soak.began + time * past / all;
                while Instant::now() < end {
                    kinds.iter().for_each(|round| soak.round(round));
                }
            }
        }
    }
    soak.end();
    kill::clear_up(&lab);
}

/// A host during the soak.
struct Soak<'a> {
    lab: &'a Lab,
    seed: u64,
    random: Random,
    /// The time that it is to take; none for one short round of each kind.
    time: Option<Duration>,
    began: Instant,
    traffic: Traffic,
    /// The host between rounds.
    quiet: Shape,
    gauges: Gauges,
    counts: Counts,
    round: &'static str,
}

/// What the rounds have done.
#[derive(Default)]
struct Counts {
    rounds: u64,
    operations: u64,
    kills: u64,
    responder_kills: u64,
    failures: u64,
    replacements: u64,
    repairs: u64,
    longest_repair: Duration,
}

impl<'a> Soak<'a> {
    #[track_caller]
    fn start(lab: &'a Lab, seed: u64, time: Option<Duration>) -> Self {
        let quiet = Shape::of(lab);
        let traffic = Traffic::start(lab);
        let mut soak = Self {
            lab,
            seed,
            random: Random(seed),
            time,
            began: Instant::now(),
            traffic,
            quiet,
            gauges: Gauges::default(),
            counts: Counts::default(),
            round: "the start",
        };
        soak.say(&format!("seed {seed}"));
        soak.gauges.read(lab);
        soak
    }

    /// One round; afterwards the host is as it was.
    #[track_caller]
    fn round(&mut self, round: &Round) {
        let began = Instant::now();
        self.round = round.name;
        self.counts.rounds += 1;
        (round.run)(self);
        self.clear();
        let lost = self.traffic.settle(round);
        let log = self.lab.daemon_log();
        assert!(!log.contains("panicked at"), "{log}");
        self.lab.forget_daemon_log();
        self.gauges.read(self.lab);
        let took = began.elapsed();
        let Counts { rounds, kills, responder_kills, .. } = &self.counts;
        let killed = kills + responder_kills;
        self.say(&format!(
            "round {rounds}, {}: {took:.1?}; {killed} kills; {}{}",
            round.name,
            self.gauges.line(),
            lost
        ));
        if self.time.is_some() {
            thread::sleep(took * (SHARE_OF_ROUNDS - 1));
        }
    }

    /// The first of two doses in a short soak, the second in a long one.
    fn dose(&self, short: u64, long: u64) -> u64 {
        if self.time.is_some() { long } else { short }
    }

    /// Removes what a round has left, and checks that the host is as it was before the first.
    #[track_caller]
    fn clear(&self) {
        kill::remove_all_of_docker(self.lab);
        self.remove_containers();
        let names = |list: &str, name: &str| -> Vec<String> {
            let listed = self.lab.ask(list);
            listed
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|it| it[name].as_str().map(str::to_owned))
                .collect()
        };
        for network in names("/networks", "Name").iter().filter(|name| !STANDING.contains(&name.as_str())) {
            self.lab.netbpf(["network", "rm", network]).ok();
        }
        self.await_state(&self.quiet, self.round);
    }

    /// Waits until the host is in this state: the kernel deletes the links of a namespace some time after its processes.
    #[track_caller]
    fn await_state(&self, state: &Shape, after: &str) {
        let give_up = Instant::now() + SETTLING;
        loop {
            let now = Shape::of(self.lab);
            if now == *state {
                return;
            }
            assert!(Instant::now() < give_up, "after {after}:\n{}", now.since(state));
        }
    }

    /// Removes the containers of a round.
    #[track_caller]
    fn remove_containers(&self) {
        let listed = self.lab.ask("/containers/json?all=true");
        let names: Vec<&str> = listed
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|it| it["Names"][0].as_str().map(|name| name.trim_start_matches('/')))
            .filter(|name| !STANDING.contains(name))
            .collect();
        if !names.is_empty() {
            self.lab.netbpf(["rm", "-f"].into_iter().chain(names)).ok();
        }
    }

    /// Prints a line at once: the test runner keeps what `println` prints.
    fn say(&self, line: &str) {
        if self.time.is_some() {
            let _ = writeln!(std::io::stdout(), "{:>6} s  {line}", self.began.elapsed().as_secs());
        }
    }

    /// Prints what happened, and checks that nothing has grown.
    #[track_caller]
    fn end(mut self) {
        self.round = "the end";
        let lost = self.traffic.end();
        let Counts {
            rounds,
            operations,
            kills,
            responder_kills,
            failures,
            replacements,
            repairs,
            longest_repair,
        } = &self.counts;
        tell("kills survived", kills + responder_kills);
        tell("failed steps survived", *failures);
        tell("restarts under traffic", *replacements);
        tell("changes by others undone", *repairs);
        tell("longest repair in ms", longest_repair.as_millis() as u64);
        tell("operations done", *operations);
        tell("packets lost", lost.values().map(|(_, tally)| tally.lost).sum());
        let (table, grown) = self.gauges.judge();
        if self.time.is_some() {
            let mut out = std::io::stdout();
            let _ = writeln!(
                out,
                "\n{rounds} rounds in {} s, seed {}\n",
                self.began.elapsed().as_secs(),
                self.seed
            );
            for (what, (while_changed, Tally { done, lost, longest, .. })) in &lost {
                let _ = writeln!(
                    out,
                    "{what}: {done} answered, {lost} not; the slowest took {longest:?}; {while_changed} not while \
                     others had changed what leads there"
                );
            }
            let _ = writeln!(out, "\n{table}");
        }
        assert!(grown.is_empty(), "grown: {grown:#?}\n{table}");
        for (what, (_, Tally { done, lost, why, .. })) in &lost {
            // A responder that is killed has perhaps read one question.
            let allowed = if *what == "names" { *responder_kills } else { 0 };
            assert!(*lost <= allowed && *done > 100, "{what}: {done} answered, {lost} not: {why:?}");
        }
    }
}

impl Drop for Soak<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let after = self.began.elapsed().as_secs();
            let text = format!(
                "after {after} s and {} rounds, in {}; soak the same way again with NETBPF_SOAK_SEED={}",
                self.counts.rounds, self.round, self.seed
            );
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }
}

/// Traffic between the members that no round touches, and from and to others.
struct Traffic {
    probes: Vec<Probe>,
    /// By probe: what was lost while others had changed what leads there, and everything else.
    tallies: BTreeMap<&'static str, (u64, Tally)>,
    _servers: Vec<Server>,
}

impl Traffic {
    #[track_caller]
    fn start(lab: &Lab) -> Self {
        let server = lab.address("server", "mynet").parse().expect("an address");
        let socket = || UdpSocket::bind("0.0.0.0:7000").expect("a socket");
        let listener = || TcpListener::bind("0.0.0.0:80").expect("a listener");
        let servers = vec![
            echo(lab.inside("server", socket)),
            echo(lab.in_namespace("/run/netns/far", socket)),
            echo_connections(lab.inside("server", listener)),
        ];
        let probes = Asker::seldom(lab).in_all_ways(server, [9000, 9080]).into();
        Self { probes, tallies: BTreeMap::new(), _servers: servers }
    }

    /// Adds what came of asking since the last round. Returns what is to be said of it.
    #[track_caller]
    fn settle(&mut self, round: &Round) -> String {
        let mut said = String::new();
        if !round.cuts.is_empty() {
            self.probes.iter().for_each(Probe::await_next);
        }
        for probe in &self.probes {
            let mut tally = probe.take();
            if tally.lost > 0 {
                said += &format!("; {}: {} lost ({:?})", probe.what(), tally.lost, tally.why);
            }
            let (while_changed, sum) = self.tallies.entry(probe.what()).or_default();
            if round.cuts.contains(&probe.what()) {
                *while_changed += tally.lost;
                tally = Tally { done: tally.done, ..Tally::default() };
            }
            sum.join(tally);
        }
        said
    }

    #[track_caller]
    fn end(&mut self) -> BTreeMap<&'static str, (u64, Tally)> {
        for probe in self.probes.drain(..) {
            self.tallies.entry(probe.what()).or_default().1.join(probe.end());
        }
        std::mem::take(&mut self.tallies)
    }
}
