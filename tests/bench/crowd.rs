//! Many members in one network, and a network of two members beside it on the same host; both of netbpf, or kernel
//! bridges. Members are plain namespaces, `m1`, `m2`, …; the two are `s1` and `s2`. Must not know what is measured.

use std::{
    fmt::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use netbpf_tests::lab::{Lab, station::Station};

use crate::{
    measure::go_on,
    pair::{Pair, text},
};

/// The maximum number of ports of a kernel bridge.
pub const BRIDGE_LIMIT: u32 = 1023;

/// A host with two networks, of which one grows.
pub struct Crowd {
    /// The host.
    pub lab: Lab,
    kind: Kind,
    size: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Netbpf,
    Bridge,
}

impl Crowd {
    /// With networks of netbpf, and only the two members of the small one.
    pub fn of_netbpf(program: &Path) -> Result<Self> {
        let mut crowd = Self { lab: Lab::start_program(program).unchecked(), kind: Kind::Netbpf, size: 0 };
        for (network, subnet) in [("big", "10.50.0.0/16"), ("small", "10.51.0.0/16")] {
            text(crowd.lab.netbpf(["network", "create", "--subnet", subnet, network]))?;
        }
        crowd.make_namespaces("s", 1, 2)?;
        for member in ["netns:s1", "netns:s2"] {
            text(crowd.lab.netbpf(["connect", "small", member]))?;
        }
        crowd.grow(2)?;
        Ok(crowd)
    }

    /// With kernel bridges, and only the two members of the small one.
    pub fn of_bridge() -> Result<Self> {
        let mut crowd = Self { lab: Lab::without_daemon().unchecked(), kind: Kind::Bridge, size: 0 };
        // As on a plain host; the kernel's default would turn br_netfilter on.
        crowd.script(
            "for name in big small; do ip link add $name type bridge; ip link set $name up; done
             for family in iptables ip6tables arptables; do sysctl -qw net.bridge.bridge-nf-call-$family=0; done",
        )?;
        crowd.make_namespaces("s", 1, 2)?;
        crowd.plug("small", "s", 51, 1, 2)?;
        crowd.grow(2)?;
        Ok(crowd)
    }

    /// The number of members of the large network.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Whether the large network can have so many members.
    pub fn may_have(&self, members: u32) -> bool {
        self.kind == Kind::Netbpf || members <= BRIDGE_LIMIT
    }

    /// Adds members until there are so many.
    pub fn grow(&mut self, members: u32) -> Result<()> {
        let first = self.size + 1;
        self.make_namespaces("m", first, members)?;
        match self.kind {
            Kind::Bridge => self.plug("big", "m", 50, first, members)?,
            Kind::Netbpf => {
                for number in first..=members {
                    go_on()?;
                    self.connect(number)?;
                }
            }
        }
        self.size = members;
        Ok(())
    }

    /// Connects a member to netbpf's large network with the command line. Returns the time it took.
    pub fn connect(&self, number: u32) -> Result<Duration> {
        self.time(["connect", "big", &format!("netns:m{number}")])
    }

    /// Disconnects a member. Returns the time it took.
    pub fn disconnect(&self, number: u32) -> Result<Duration> {
        self.time(["disconnect", "big", &format!("netns:m{number}")])
    }

    fn time(&self, command: [&str; 3]) -> Result<Duration> {
        let started = Instant::now();
        let output = self.lab.netbpf(command);
        let took = started.elapsed();
        text(output).map(|_| took)
    }

    /// Two members of the large network, and the two of the small one.
    pub fn pairs(&self) -> Result<[Pair<'_>; 2]> {
        let pair = |letter: &str, offset| {
            let (client, server) = (format!("/run/netns/{letter}2"), format!("/run/netns/{letter}1"));
            Ok::<_, anyhow::Error>(Pair::new(
                &self.lab,
                client,
                server,
                self.address(&format!("{letter}1"))?,
                offset,
            ))
        };
        Ok([pair("m", 1000)?, pair("s", 2000)?])
    }

    /// The IPv4 address of a namespace.
    pub fn address(&self, namespace: &str) -> Result<String> {
        let said = text(self.lab.host(["ip", "-n", namespace, "-4", "-o", "addr", "show", "dev", "eth0"]))?;
        let address = said.split_whitespace().find_map(|word| Some(word.split_once('/')?.0.to_owned()));
        address.with_context(|| format!("no address in {said}"))
    }

    /// A raw socket of a member.
    pub fn station(&self, number: u32) -> Station {
        self.lab.station_in(&format!("/run/netns/m{number}"), "eth0")
    }

    /// The number of frames that these members have received so far.
    pub fn received(&self, members: std::ops::RangeInclusive<u32>) -> Result<u64> {
        members
            .map(|number| {
                let read = || std::fs::read_to_string("/proc/thread-self/net/dev");
                let counters = self.lab.in_namespace(&format!("/run/netns/m{number}"), read)?;
                let line = counters.lines().find_map(|line| line.trim_start().strip_prefix("eth0:"));
                let packets = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
                packets.with_context(|| format!("no eth0 in\n{counters}"))
            })
            .sum()
    }

    /// Runs a shell script on the host.
    pub fn script(&self, script: &str) -> Result<String> {
        text(self.lab.spawn(["sh", "-ec", script]).output_within(Duration::from_secs(600)))
    }

    fn make_namespaces(&self, letter: &str, first: u32, last: u32) -> Result<()> {
        self.script(&format!("seq -f 'netns add {letter}%g' {first} {last} | ip -batch -")).map(drop)
    }

    /// Connects namespaces to a bridge. Receivers of packets have addresses in `10.NET.0.0/16`.
    fn plug(&self, bridge: &str, letter: &str, net: u32, first: u32, last: u32) -> Result<()> {
        let mut plugs = String::new();
        for number in first..=last {
            let name = format!("{letter}{number}");
            let _ = writeln!(plugs, "link add p{name} type veth peer name eth0 netns {name}");
            let _ = writeln!(plugs, "link set p{name} master {bridge} up");
        }
        std::fs::write(self.lab.path("/run/plugs"), plugs)?;
        self.script(&format!(
            "ip -batch /run/plugs; for number in $(seq {first} {last}); do ip -n {letter}$number link set eth0 up; done"
        ))?;
        for number in (first..=last).filter(|number| *number <= 2) {
            self.script(&format!("ip -n {letter}{number} addr add 10.{net}.0.{}/16 dev eth0", number + 1))?;
        }
        Ok(())
    }
}
