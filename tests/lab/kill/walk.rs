//! A random walk: commands in any order, with faults at random points. After each command, the daemon's
//! networks and containers must match a small model, and the kernel, the maps and the names must match the
//! daemon.
//!
//! The seed is printed. `NETBPF_WALK_SEED` sets it, and `NETBPF_WALK_STEPS` the number of commands.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    hash::{BuildHasher, RandomState},
    io::Write,
    thread,
    time::{Duration, Instant},
};

use netbpf_tests::lab::{Lab, tell};

use super::{ask, clear_up, faulty_lab, give, outcome};
use crate::shape::{self, Shape};

/// Duration of the walk, if the number of commands is not set.
const TIME: Duration = Duration::from_secs(30);

const NETWORKS: [(&str, &str); 3] = [
    ("n0", "--subnet 10.100.0.0/24 -o netbpf.max_flows=1000"),
    ("n1", "--ipv6 --subnet 10.101.0.0/24 --subnet fd00:101::/64 -o com.docker.network.driver.mtu=1400"),
    ("n2", "--subnet 10.102.0.0/24 -o com.docker.network.bridge.enable_icc=false"),
];
/// No beginnings of IDs, which would name other containers.
const CONTAINERS: [&str; 4] = ["web0", "web1", "web2", "web3"];
const NAMESPACE: &str = "netns:blue";

/// The expected networks and containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    networks: BTreeSet<String>,
    containers: BTreeMap<String, Container>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Container {
    runs: bool,
    networks: BTreeSet<String>,
}

/// A command with the expected model afterwards; none if it must be refused.
struct Step {
    line: String,
    after: Option<Model>,
    /// If the line is several commands: the models between them.
    between: Vec<Model>,
}

#[test]
fn random_commands_with_faults_leave_what_they_should() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seed = number("NETBPF_WALK_SEED").unwrap_or_else(|| RandomState::new().hash_one(()) % 1_000_000);
    let steps = number("NETBPF_WALK_STEPS");
    let lab = faulty_lab();
    lab.start_daemon();
    lab.host(["ip", "netns", "add", "blue"]).ok();
    let mut walk = Walk::start(&lab, seed, Faults::All);
    let begun = Instant::now();
    while steps.map_or(begun.elapsed() < TIME, |steps| walk.steps < steps) {
        walk.step();
    }
    walk.assert_nothing_to_mend();
    tell("kills survived", walk.kills + walk.responder_kills);
    tell("failed steps survived", walk.failures);
    println!("{} steps of the walk with seed {seed}", walk.steps);
    tell("random commands with faults", walk.steps);
    walk.leave();
    clear_up(&lab);
}

/// Which faults there are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    All,
    /// The daemon and the responder stay the same processes.
    WithoutKills,
}

/// A walk on a host that may have other networks and containers, which stay as they are.
pub struct Walk<'a> {
    lab: &'a Lab,
    seed: u64,
    faults: Faults,
    random: Random,
    model: Model,
    pub steps: u64,
    pub kills: u64,
    pub responder_kills: u64,
    pub failures: u64,
    /// Each port is used only once.
    next_port: u16,
    /// All steps so far, to explain a failure.
    done: Vec<String>,
}

impl<'a> Walk<'a> {
    /// Begins on a host with the namespace `blue` and a daemon that follows orders.
    #[track_caller]
    pub fn start(lab: &'a Lab, seed: u64, faults: Faults) -> Self {
        Self {
            lab,
            seed,
            faults,
            random: Random(seed),
            model: observe(lab),
            steps: 0,
            kills: 0,
            responder_kills: 0,
            failures: 0,
            next_port: 8000,
            done: Vec::new(),
        }
    }

    /// Runs a command, perhaps with a fault, and checks the result.
    #[track_caller]
    pub fn step(&mut self) {
        self.steps += 1;
        let Step { line, after, between } = self.choose();
        let order = self.choose_fault();
        give(self.lab, &order);
        self.done.push(format!("{line}    # {order}"));
        let answer = ask(self.lab, &line);
        let hit = outcome(self.lab).unwrap_or_default();
        self.done.push(format!("    {answer:?} {hit}"));
        let is_killed = hit.starts_with("killed");
        let is_daemon_killed = is_killed && !order.ends_with("responder");
        if is_daemon_killed {
            self.kills += 1;
            self.lab.await_daemon_end();
            self.lab.start_daemon();
        } else if is_killed {
            self.responder_kills += 1;
        } else if !hit.is_empty() {
            self.failures += 1;
        }
        let before = self.model.clone();
        let expected: Vec<Model> = match (&answer, hit.is_empty()) {
            (Ok(()), _) => vec![after.expect("what is to be refused")],
            (Err(_), true) => {
                assert!(after.is_none(), "it is refused: {answer:?}");
                vec![before]
            }
            (Err(_), false) if is_daemon_killed => {
                [Some(before), after].into_iter().flatten().chain(between).collect()
            }
            (Err(_), false) => [before].into_iter().chain(between).collect(),
        };
        let observed = observe(self.lab);
        assert!(expected.contains(&observed), "there is {observed:#?}, expected one of {expected:#?}");
        self.model = observed;
        self.assert_consistent();
        if self.random.below(8) == 0 && self.faults == Faults::All {
            self.assert_nothing_to_mend();
        }
    }

    fn choose(&mut self) -> Step {
        let model = self.model.clone();
        let (network, options) = NETWORKS[self.random.below(NETWORKS.len())];
        let container = CONTAINERS[self.random.below(CONTAINERS.len())];
        let other = CONTAINERS[self.random.below(CONTAINERS.len())];
        let known = model.containers.get(container);
        let has_network = model.networks.contains(network);
        let changed = |is_possible: bool, change: &dyn Fn(&mut Model)| {
            is_possible.then(|| {
                let mut model = model.clone();
                change(&mut model);
                model
            })
        };
        let set_running = |runs: bool| {
            move |model: &mut Model| {
                model.containers.entry(container.to_owned()).and_modify(|it| it.runs = runs);
            }
        };
        let new = |runs: bool| {
            move |model: &mut Model| {
                let networks = [network.to_owned()].into();
                model.containers.insert(container.to_owned(), Container { runs, networks });
            }
        };
        let in_network = model.containers.values().filter(|it| it.networks.contains(network));
        let (running, stopped): (Vec<_>, Vec<_>) = in_network.partition(|it| it.runs);
        let step = |line: String, after| Step { line, after, between: Vec::new() };
        let of_two = |line: String, after, between: Option<Model>| Step {
            line,
            after,
            between: between.into_iter().collect(),
        };
        match self.random.below(16) {
            // Networks that a stopped container will miss are left alone.
            0 if !stopped.is_empty() => self.choose(),
            0 => step(
                format!("network rm {network}"),
                changed(has_network && running.is_empty(), &|model| {
                    model.networks.remove(network);
                }),
            ),
            1..=3 => step(
                format!("network create {options} {network}"),
                changed(!has_network, &|model| {
                    model.networks.insert(network.to_owned());
                }),
            ),
            4..=7 => {
                self.next_port += 1;
                let line = format!(
                    "run -d --name {container} --net {network} -p {}:80 -- sleep infinity",
                    self.next_port
                );
                let is_possible = has_network && known.is_none();
                of_two(line, changed(is_possible, &new(true)), changed(is_possible, &new(false)))
            }
            8 => of_two(
                format!("rm -f {container}"),
                changed(true, &|model| {
                    model.containers.remove(container);
                }),
                changed(known.is_some(), &set_running(false)),
            ),
            9 => step(format!("stop -t 0 {container}"), changed(known.is_some(), &set_running(false))),
            10 => step(format!("start {container}"), changed(known.is_some(), &set_running(true))),
            11 => of_two(
                format!("restart -t 0 {container}"),
                changed(known.is_some(), &set_running(true)),
                changed(known.is_some(), &set_running(false)),
            ),
            12 => {
                let name = if self.random.below(3) == 0 { NAMESPACE } else { container };
                let known = model.containers.get(name);
                let is_possible =
                    has_network && known.map_or(name == NAMESPACE, |it| !it.networks.contains(network));
                step(
                    format!("network connect {network} {name}"),
                    changed(is_possible, &|model| {
                        let it = model.containers.entry(name.to_owned()).or_default();
                        it.runs |= name == NAMESPACE;
                        it.networks.insert(network.to_owned());
                    }),
                )
            }
            13 => {
                let name = if self.random.below(3) == 0 { NAMESPACE } else { container };
                let is_possible =
                    has_network && model.containers.get(name).is_some_and(|it| it.networks.contains(network));
                step(
                    format!("network disconnect {network} {name}"),
                    changed(is_possible, &|model| {
                        let Some(it) = model.containers.get_mut(name) else { return };
                        it.networks.remove(network);
                        if name == NAMESPACE && it.networks.is_empty() {
                            model.containers.remove(name);
                        }
                    }),
                )
            }
            14 => step(
                format!("rename {container} {other}"),
                changed(known.is_some() && !model.containers.contains_key(other), &|model| {
                    let it = model.containers.remove(container);
                    model.containers.extend(it.map(|it| (other.to_owned(), it)));
                }),
            ),
            _ => {
                let is_used =
                    |network: &String| model.containers.values().any(|it| it.networks.contains(network));
                let is_missed = |network: &&String| {
                    !model.containers.values().any(|it| it.runs && it.networks.contains(*network))
                };
                if model.networks.iter().filter(is_missed).any(is_used) {
                    return self.choose();
                }
                let mut unused: Vec<&String> = model.networks.iter().filter(|it| !is_used(it)).collect();
                // Networks are removed one by one.
                let kept = |kept: &[&String]| {
                    let mut model = model.clone();
                    model.networks.retain(|network| is_used(network) || kept.contains(&network));
                    model
                };
                let mut between = Vec::new();
                for _ in 0..unused.len() {
                    between.extend((0..unused.len()).map(|count| kept(&unused[count..])));
                    unused.rotate_left(1);
                    between.extend((0..unused.len()).map(|count| kept(&unused[..count])));
                }
                Step { line: "network prune -f".to_owned(), after: Some(kept(&[])), between }
            }
        }
    }

    fn choose_fault(&mut self) -> String {
        let point = 1 + self.random.below(30);
        match self.random.below(10) {
            0..=3 | 6 if self.faults == Faults::WithoutKills => String::new(),
            0 | 1 => format!("kill step {point}"),
            2 | 3 => format!("kill call {point}"),
            4 => format!("fail step {point}"),
            5 => format!("fail call {point}"),
            6 => format!("kill step {point} responder"),
            _ => String::new(),
        }
    }

    /// Checks that kernel and maps match the daemon, that each address is used once, and that names and
    /// addresses lead to running containers.
    #[track_caller]
    fn assert_consistent(&self) {
        let members = members(self.lab, &self.model);
        let addresses: Vec<&String> = members.iter().map(|member| &member.address).collect();
        let mut in_maps: Vec<String> =
            shape::endpoint_addresses(self.lab).iter().map(ToString::to_string).collect();
        in_maps.sort();
        let mut expected: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        expected.sort();
        assert_eq!(in_maps, expected, "addresses in the map of endpoints");
        assert_eq!(expected.iter().collect::<BTreeSet<_>>().len(), expected.len(), "each address once");
        let running = self.model.containers.iter().filter(|(name, it)| it.runs && *name != NAMESPACE).count();
        assert_eq!(self.lab.processes("netbpf supervise").len(), running, "supervisors");
        let pings: String = addresses
            .iter()
            .map(|address| format!("ping -q -c1 -W5 {address} >/dev/null || echo {address} & "))
            .collect();
        let lost = self.lab.host(["sh", "-c", &format!("{pings}wait")]).ok().stdout;
        assert_eq!(lost, "", "addresses that do not answer");
        self.assert_names(&members);
    }

    /// Checks that each member of a network resolves all other members, and no other container.
    #[track_caller]
    fn assert_names(&self, members: &[Member]) {
        for network in &self.model.networks {
            let inside = || members.iter().filter(|it| it.network == *network && it.name != NAMESPACE);
            let Some(asker) = inside().next() else { continue };
            let others = self.model.containers.keys().map(String::as_str).filter(|name| *name != NAMESPACE);
            let names: BTreeSet<&str> = CONTAINERS.into_iter().chain(others).collect();
            let script: String = names
                .iter()
                .map(|name| format!("getent ahostsv4 {name}.{network} | sed -n 's/ .*STREAM.*/ {name}/p'; "))
                .collect();
            let found = self.lab.exec_script(&asker.name, &script);
            let expected: BTreeSet<String> =
                inside().map(|it| format!("{} {}", it.address, it.name)).collect();
            let answers: BTreeSet<String> = found
                .stdout
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect();
            assert_eq!(answers, expected, "names in {network}: {found}");
        }
    }

    /// Checks that a start of the daemon changes nothing.
    #[track_caller]
    fn assert_nothing_to_mend(&mut self) {
        self.done.push("a restart of the daemon".to_owned());
        let before = Shape::of(self.lab);
        if self.model == Model::default() {
            // A daemon that is stopped without containers removes everything from the host.
            self.lab.kill_daemon();
            self.lab.start_daemon();
        } else {
            self.lab.restart_daemon();
        }
        let now = Shape::of(self.lab);
        assert!(now == before, "a restart changes something:\n{}", now.since(&before));
    }

    /// The namespace leaves all networks, which no command about containers does.
    #[track_caller]
    pub fn leave(self) {
        if let Some(blue) = self.model.containers.get(NAMESPACE) {
            for network in &blue.networks {
                ask(self.lab, &format!("network disconnect {network} {NAMESPACE}"))
                    .expect("a namespace leaves");
            }
        }
        give(self.lab, "");
    }
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        tell("kills tried", self.kills + self.responder_kills);
        tell("failed steps tried", self.failures);
        if thread::panicking() {
            let text = format!(
                "{}\nthe last of {} steps; walk the same way again with NETBPF_WALK_SEED={} NETBPF_WALK_STEPS={}",
                self.done.join("\n"),
                self.steps,
                self.seed,
                self.steps
            );
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }
}

/// A container in a network, while it runs.
struct Member {
    name: String,
    network: String,
    address: String,
}

/// The addresses of running containers, as the daemon reports them.
#[track_caller]
fn members(lab: &Lab, model: &Model) -> Vec<Member> {
    let running = model.containers.iter().filter(|(_, it)| it.runs);
    running
        .flat_map(|(name, it)| {
            let inspected = lab.ask(&format!("/containers/{}/json", name.replace(':', "%3A")));
            it.networks.iter().map(move |network| Member {
                name: name.clone(),
                network: network.clone(),
                address: inspected["NetworkSettings"]["Networks"][network]["IPAddress"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            })
        })
        .collect()
}

/// The daemon's networks and containers.
#[track_caller]
fn observe(lab: &Lab) -> Model {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let all = |value: serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let predefined = ["bridge", "host", "none"];
    let networks =
        all(lab.ask("/networks")).iter().map(|network| text(&network["Name"])).collect::<BTreeSet<_>>();
    let container = |it: &serde_json::Value| {
        let name = text(&it["Names"][0]).trim_start_matches('/').to_owned();
        let networks = all(it["Networks"].clone()).iter().map(text).collect();
        (name, Container { runs: it["State"] == "running", networks })
    };
    Model {
        networks: networks.into_iter().filter(|name| !predefined.contains(&name.as_str())).collect(),
        containers: all(lab.ask("/containers/json?all=true")).iter().map(container).collect(),
    }
}

/// Pseudo-random numbers from a seed (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
