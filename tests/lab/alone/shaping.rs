//! Limited containers: TCP and UDP have the rate of the limit in both directions, other containers are not slower, and a
//! container that removes its queueing discipline has little more.

use std::thread;

use netbpf_tests::{
    lab::{Lab, eventually},
    rate::{Server, TCP_PAYLOAD, TOLERANCE},
};

/// The payload of a datagram in bytes, and its share.
const DATAGRAM: &str = "1400";
const UDP_PAYLOAD: f64 = 1400.0 / 1442.0;

/// The containers `server`, `other` and `limited`, of which the last has a limit in both directions.
struct Town {
    lab: Lab,
}

const SERVER: &str = "10.60.0.2";
const LIMITED: &str = "10.60.0.4";

impl Town {
    fn new(rate: &str) -> Self {
        let lab = Lab::start_alone();
        // Without a way out, pieces of TCP are as large as possible.
        lab.network("mynet", "--internal --subnet 10.60.0.0/24");
        let limits =
            format!("--driver-opt netbpf.ingress_rate={rate} --driver-opt netbpf.egress_rate={rate}");
        for (name, options) in [("server", ""), ("other", ""), ("limited", &*limits)] {
            lab.host(["ip", "netns", "add", name]).ok();
            lab.host(["ip", "-n", name, "link", "set", "lo", "up"]).ok();
            let words = ["connect"].into_iter().chain(options.split_whitespace());
            lab.netbpf(words.chain(["mynet", &format!("netns:{name}")])).ok();
        }
        Self { lab }
    }

    fn command(container: &str, command: &str) -> Vec<String> {
        ["ip", "netns", "exec", container].into_iter().chain(command.split(' ')).map(str::to_owned).collect()
    }

    fn namespace(container: &str) -> String {
        format!("/run/netns/{container}")
    }

    /// The servers of the container `server` at a port.
    fn server(&self, port: u16) -> Server<'_> {
        Server { lab: &self.lab, namespace: Self::namespace("server"), address: SERVER, port }
    }

    /// The payload in bits per second that the receiver of a client's transfer got.
    fn received(&self, client: &str, options: &str) -> f64 {
        self.server(5201).received(&Self::namespace(client), options)
    }

    /// A transfer of the limited container has a rate.
    #[track_caller]
    fn has_rate(&self, options: &str, expected: f64) {
        self.server(5201).has_rate(&Self::namespace("limited"), options, expected);
    }

    fn dropped(&self) -> u64 {
        let stats = self.lab.ask("/stats");
        let reasons = stats["Reasons"].as_array().expect("reasons");
        let reason = reasons.iter().find(|reason| reason["Reason"] == "egress-limit").expect("the reason");
        reason["Packets"].as_u64().expect("a number")
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        for name in ["server", "other", "limited"] {
            self.lab.host(["ip", "netns", "del", name]).ok();
        }
        eventually("namespaces that have gone are forgotten", || {
            self.lab.netbpf(["ps", "-aq"]).ok().stdout.is_empty().then_some(())
        });
    }
}

#[test]
fn tcp_and_udp_have_the_rate_of_the_limit_in_both_directions() {
    for (rate, bits) in [("10mbit", 10e6), ("100mbit", 100e6)] {
        let town = Town::new(rate);
        for way in ["", " -R"] {
            // The first second is TCP's search for the rate.
            town.has_rate(&format!("-O 1 -t 3{way}"), bits * TCP_PAYLOAD);
            let twice = format!("-u -l {DATAGRAM} -b {} -t 3{way}", 2.0 * bits);
            town.has_rate(&twice, bits * UDP_PAYLOAD);
        }
        assert_eq!(town.dropped(), 0, "what is shaped is not dropped by the programs");
    }
}

#[test]
fn a_container_without_its_queueing_discipline_has_a_quarter_more_at_most() {
    let town = Town::new("20mbit");
    town.lab.host(Town::command("limited", "tc qdisc del dev eth0 root")).ok();
    for options in ["-t 3 -P 2", "-u -l 1400 -b 200M -t 3"] {
        let received = town.received("limited", options);
        assert!(received <= 25e6 * (1.0 + TOLERANCE), "{options}: {received} bit/s");
    }
    assert!(town.dropped() > 0);
    // It still receives by its limit.
    town.has_rate("-O 1 -t 3 -R", 20e6 * TCP_PAYLOAD);
    // The next daemon gives it a new one.
    town.lab.kill_daemon();
    town.lab.start_daemon();
    let shown = town.lab.host(Town::command("limited", "tc qdisc show dev eth0")).ok();
    assert!(shown.stdout.contains("qdisc tbf 6e62: root"), "{shown}");
    town.has_rate("-O 1 -t 3", 20e6 * TCP_PAYLOAD);
}

/// Thirty times as much as the limited container has, which any machine moves.
#[test]
fn other_containers_have_their_own_rate_and_reach_the_limited_one() {
    let town = Town::new("10mbit");
    let mut seen = Vec::new();
    for _ in 0..4 {
        let _server = town.server(5202).start();
        let busy = town.lab.spawn(Town::command("limited", &format!("iperf3 -c {SERVER} -p 5202 -t 4")));
        eventually("the limited container sends", || {
            let queue = town.lab.host(Town::command("limited", "tc -s qdisc show dev eth0")).stdout;
            (!queue.contains("overlimits 0 ")).then_some(())
        });
        seen.push(town.received("other", "-b 300M -t 2"));
        town.lab.host(Town::command("other", &format!("ping -c3 -i0.1 -W2 {LIMITED}"))).ok();
        busy.output().ok();
        if seen.last().is_some_and(|rate| *rate >= 300e6 * (1.0 - TOLERANCE)) {
            return;
        }
    }
    panic!("{seen:?} of 300 Mbit/s beside a limited container");
}
