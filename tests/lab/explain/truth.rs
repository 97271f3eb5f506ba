//! Random worlds: what `explain` says of each pair is what a real connection finds. It may leave open only what a foreign
//! rule decides.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use netbpf_tests::lab::{Process, eventually, tell};
use serde_json::Value;

use crate::outside::Neighbourhood;

/// The number of questions in all worlds together.
const QUESTIONS: usize = 500;

/// The port that all servers have.
const PORT: u16 = 80;

/// Options of networks, of which each gets one.
const NETWORKS: [&str; 7] = [
    "",
    "",
    "--internal",
    "-o com.docker.network.bridge.enable_icc=false",
    "-o com.docker.network.bridge.enable_ip_masquerade=false",
    "-o com.docker.network.bridge.gateway_mode_ipv4=routed",
    "-o com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected",
];

/// Rules of others, of which a world has one or none. They stand beside netbpf's.
const RULES: [&str; 5] = [
    "",
    "",
    "add table inet own; add chain inet own f { type filter hook forward priority 5; }; \
     add rule inet own f tcp dport 80 ip saddr 10.0.0.0/15 drop",
    "add table inet own; add chain inet own i { type filter hook input priority 5; policy drop; }; \
     add rule inet own i ct state established accept; add rule inet own i iifname lo accept; \
     add rule inet own i ip protocol icmp accept",
    "add table inet own; add chain inet own f { type filter hook forward priority 5; policy drop; }; \
     add rule inet own f ct state vmap { established : accept, new : accept }",
];

/// Tries to connect to all targets at once, and prints those that answer. Arguments: `ADDRESS:PORT`…
const CLIENT: &str = "
import selectors, socket, sys, time
waiting = selectors.DefaultSelector()
for target in sys.argv[1:]:
    address, port = target.split(':')
    client = socket.socket()
    client.setblocking(False)
    try:
        client.connect((address, int(port)))
    except BlockingIOError:
        pass
    except OSError:
        continue
    waiting.register(client, selectors.EVENT_WRITE, target)
end = time.monotonic() + 2.5
while waiting.get_map() and time.monotonic() < end:
    for key, _ in waiting.select(0.1):
        if key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            print(key.data)
        waiting.unregister(key.fileobj)
        key.fileobj.close()
";

/// A server at an address, which accepts and does nothing. Arguments: address and port.
const SERVER: &str = "
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=256)
while True:
    server.accept()[0].close()
";

/// Random numbers (xorshift), the same ones for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }
}

/// A world, in words for a failure.
struct World {
    lab: Neighbourhood,
    story: String,
    /// Where connections are tried from.
    askers: Vec<String>,
    /// Where to: addresses and ports.
    targets: Vec<String>,
}

impl World {
    fn new(dice: &mut Dice) -> Self {
        let lab = Neighbourhood::start();
        let mut story = String::new();
        let networks: Vec<String> = (0..3)
            .map(|number| {
                let (name, options) = (format!("net{number}"), dice.pick(&NETWORKS));
                lab.network(&name, &format!("--subnet 10.{number}.0.0/24 {options}"));
                let _ = writeln!(story, "network {name} {options}");
                name
            })
            .collect();
        let mut targets = vec![format!("192.0.2.1:{PORT}")];
        let askers: Vec<String> = (0..8)
            .map(|number| {
                let name = format!("c{number}");
                let network = &networks[dice.roll(networks.len())];
                let (address, is_published) =
                    (dice.pick(&["0.0.0.0", "0.0.0.0", "127.0.0.1", ""]), dice.roll(2) == 0);
                let is_inside = story.contains(&format!("{network} --internal"));
                let publish = format!("-p {}:{PORT}", 9000 + number);
                let published = if is_published && !is_inside { publish.as_str() } else { "" };
                let options = format!("-d --name {name} --net {network} {published}");
                let port = PORT.to_string();
                let command = match address {
                    "" => vec!["sleep", "infinity"],
                    address => vec!["python3", "-c", SERVER, address, &port],
                };
                let words = ["run"].into_iter().chain(options.split_whitespace()).chain(["--"]);
                lab.netbpf(words.chain(command)).ok();
                let _ = writeln!(story, "container {name} in {network} {published} listens at {address:?}");
                if !published.is_empty() {
                    targets
                        .extend(["192.0.2.1", "203.0.113.1"].map(|host| format!("{host}:{}", 9000 + number)));
                }
                let second = &networks[dice.roll(networks.len())];
                if second != network && dice.roll(3) == 0 {
                    lab.netbpf(["connect", second, &name]).ok();
                    let _ = writeln!(story, "container {name} in {second}, too");
                    targets.push(format!("{}:{PORT}", lab.address(&name, second)));
                }
                targets.push(format!("{}:{PORT}", lab.address(&name, network)));
                if !address.is_empty() {
                    eventually("the server listens", || {
                        lab.in_network_of(&name, "ss -Hltn")
                            .ok()
                            .stdout
                            .contains(&format!(":{PORT} "))
                            .then_some(())
                    });
                }
                name
            })
            .chain(["host", "outside:192.0.2.2", "outside:203.0.113.2"].map(str::to_owned))
            .collect();
        let rules = dice.pick(&RULES);
        if !rules.is_empty() {
            lab.host(["nft", rules]).ok();
            let _ = writeln!(story, "rules {rules}");
        }
        Self { lab, story, askers, targets }
    }

    /// The targets that each asker reaches. All ask at once, because what is dropped takes time.
    fn reached(&self) -> Vec<Vec<String>> {
        let running: Vec<_> = self.askers.iter().map(|asker| self.client(asker, &self.targets)).collect();
        let lines = |process: Process| process.output().ok().stdout.lines().map(str::to_owned).collect();
        running.into_iter().map(lines).collect()
    }

    /// Whether an asker reaches a target, if it has more time.
    fn reaches(&self, asker: &str, target: &str) -> bool {
        (0..3).any(|_| self.client(asker, &[target.to_owned()]).output().ok().text() == target)
    }

    fn client(&self, asker: &str, targets: &[String]) -> Process {
        let client = ["python3", "-c", CLIENT].into_iter().chain(targets.iter().map(String::as_str));
        match asker {
            "host" => self.lab.spawn(client),
            "outside:192.0.2.2" => self.lab.spawn(["ip", "netns", "exec", "far"].into_iter().chain(client)),
            "outside:203.0.113.2" => {
                self.lab.spawn(["ip", "netns", "exec", "side"].into_iter().chain(client))
            }
            name => self.lab.spawn_netbpf(["exec", name].into_iter().chain(client)),
        }
    }

    fn explained(&self, asker: &str, target: &str) -> Value {
        let (address, port) = target.rsplit_once(':').expect("an address and a port");
        self.lab.ask(&format!("/explain?from={asker}&to={address}&what=tcp/{port}"))[0].take()
    }
}

#[test]
fn explanations_are_true() {
    let given = std::env::var("EXPLAIN_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64);
    let seed: u64 = given.unwrap_or_else(now) | 1;
    let mut dice = Dice(seed);
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut asked = 0;
    while asked < QUESTIONS {
        let world = World::new(&mut dice);
        for (asker, reached) in world.askers.iter().zip(world.reached()) {
            for target in &world.targets {
                let explained = world.explained(asker, target);
                let verdict = explained["Verdict"].as_str().unwrap_or_default();
                let is_true = match verdict {
                    // A busy machine may take longer than a client waits.
                    "passes" => reached.contains(target) || world.reaches(asker, target),
                    "blocked" => !reached.contains(target),
                    "undecided" => world.story.contains("rules"),
                    _ => false,
                };
                let hops = explained["Hops"].as_array().cloned().unwrap_or_default();
                let hops: Vec<_> = hops.iter().map(|hop| format!("{hop}")).collect();
                assert!(
                    is_true,
                    "EXPLAIN_SEED={seed}: {asker} to {target} {verdict}, but a connection {}:\n{}{}",
                    if reached.contains(target) { "is made" } else { "fails" },
                    world.story,
                    hops.join("\n")
                );
                *counts.entry(verdict.to_owned()).or_default() += 1;
                asked += 1;
            }
        }
        world.lab.host(["sh", "-c", "nft delete table inet own 2>/dev/null || true"]).ok();
    }
    for (verdict, count) in &counts {
        tell(&format!("explanations of random pairs: {verdict}"), *count);
    }
    for verdict in ["passes", "blocked"] {
        assert!(counts.get(verdict).is_some_and(|count| *count > 20), "{counts:?}");
    }
}
