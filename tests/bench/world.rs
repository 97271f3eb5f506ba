//! The hosts to measure: one for the bare veth pair, one for Docker's engine with both of its bridges, and one for each
//! netbpf, with the same pair of containers on each. Must not know how anything is measured.
//!
//! Each host is made of its own namespaces, so packet filters do not interfere. One engine serves both baselines:
//! br_netfilter is off for its host and on for one bridge (the kernel uses it if either is on). If br_netfilter is
//! loaded or built in, its hook is called for the other bridge, too, and returns at once; a host without it is faster
//! by that.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use netbpf_tests::{
    engine::{Engine, IMAGE},
    lab::Lab,
};

use crate::{
    figures::Subject,
    pair::{self, Cpus, Pair, Way},
};

/// The host's address on its uplink.
pub const UPLINK: &str = "198.51.100.1";
/// The namespace behind the uplink, which represents another host.
const OUTSIDE: &str = "/run/netns/outside";

/// The offsets of published ports for the pairs of a host.
const OFFSETS: [u16; 2] = [10_000, 20_000];

/// The engine's networks, by their names and subjects.
const BRIDGES: [(Subject, &str); 2] = [(Subject::Bridge, "plain"), (Subject::Filtered, "filtered")];

/// The hosts.
pub struct Hosts {
    /// The host for a veth pair.
    pub bare: Lab,
    /// The host for Docker's engine.
    pub docker: Option<Lab>,
    /// The host for netbpf.
    pub netbpf: Lab,
    /// The host for the netbpf to compare with.
    pub against: Option<Lab>,
    /// The programs of both netbpfs.
    pub programs: (PathBuf, Option<PathBuf>),
}

/// Everything that can be measured.
pub struct World<'a> {
    /// The CPUs of both ends.
    pub cpus: Cpus,
    /// Docker's engine.
    pub engine: Option<&'a Engine<'a>>,
    /// The hosts on which a netbpf is running.
    pub netbpfs: Vec<(Subject, &'a Lab)>,
    hosts: &'a Hosts,
    pairs: Vec<(Subject, Pair<'a>)>,
    unguarded: Pair<'a>,
}

impl<'a> World<'a> {
    /// Creates a network and a pair of containers on each host.
    pub fn new(hosts: &'a Hosts, engine: Option<&'a Engine<'a>>, cpus: Cpus) -> Result<Self> {
        let netbpfs = [(Subject::Netbpf, Some(&hosts.netbpf)), (Subject::Against, hosts.against.as_ref())];
        let netbpfs: Vec<(Subject, &Lab)> =
            netbpfs.into_iter().filter_map(|(subject, lab)| Some((subject, lab?))).collect();
        let mut pairs = vec![(Subject::Bare, bare(&hosts.bare, 1500)?)];
        if let (Some(engine), Some(lab)) = (engine, &hosts.docker) {
            uplink(lab)?;
            for ((subject, network), offset) in BRIDGES.into_iter().zip(OFFSETS) {
                pairs.push((subject, docker(engine, lab, network, 1500, Some(offset))?));
            }
            filter(engine, lab, "plain", "filtered")?;
        }
        for (subject, lab) in &netbpfs {
            uplink(lab)?;
            pairs.push((*subject, netbpf(lab, "mynet", 1500, "", Some(OFFSETS[0]))?));
        }
        let unguarded = netbpf(&hosts.netbpf, "unguarded", 1500, "-o netbpf.guard=off", None)?;
        Ok(Self { cpus, engine, netbpfs, hosts, pairs, unguarded })
    }

    /// Paths from a container to another in its network, on each host.
    pub fn inside(&self) -> Vec<(Subject, Way<'_>)> {
        self.pairs.iter().map(|(subject, pair)| (*subject, pair.inside())).collect()
    }

    /// The same, and the path in a network without guard.
    pub fn all_inside(&self) -> Vec<(Subject, Way<'_>)> {
        let mut ways = self.inside();
        ways.push((Subject::Unguarded, self.unguarded.inside()));
        ways
    }

    /// Paths from another host to a published port, on hosts that can publish ports.
    pub fn outside(&self) -> Vec<(Subject, Way<'_>)> {
        self.published().map(|(subject, pair)| (subject, pair.published(OUTSIDE, UPLINK))).collect()
    }

    /// Paths from a container to a published port of another in its network.
    pub fn hairpin(&self) -> Vec<(Subject, Way<'_>)> {
        self.published().map(|(subject, pair)| (subject, pair.published(&pair.client, UPLINK))).collect()
    }

    /// Pairs in networks with an MTU of 9,000 bytes, created by this call.
    pub fn jumbo(&self) -> Result<Vec<(Subject, Pair<'a>)>> {
        const MTU: u32 = 9000;
        let mut pairs = vec![(Subject::Bare, bare(&self.hosts.bare, MTU)?)];
        if let (Some(engine), Some(lab)) = (self.engine, &self.hosts.docker) {
            for (subject, network) in BRIDGES {
                let network = format!("{network}-9k");
                pairs.push((subject, docker(engine, lab, &network, MTU, None)?));
            }
            filter(engine, lab, "plain-9k", "filtered-9k")?;
        }
        for (subject, lab) in &self.netbpfs {
            pairs.push((*subject, netbpf(lab, "jumbo", MTU, "", None)?));
        }
        Ok(pairs)
    }

    /// A pair in a network of netbpf whose containers send packets of up to 256 KB, created by this call.
    pub fn large(&self, mtu: u32) -> Result<(Subject, Pair<'a>)> {
        let network = format!("large-{mtu}");
        let pair = netbpf(&self.hosts.netbpf, &network, mtu, "-o netbpf.gso_max_size=262144", None)?;
        Ok((Subject::Large, pair))
    }

    /// The netbpf programs, for scenes with their own hosts.
    pub fn programs(&self) -> impl Iterator<Item = (Subject, &'a Path)> {
        let (netbpf, against) = &self.hosts.programs;
        let against = against.as_deref().map(|against| (Subject::Against, against));
        std::iter::once((Subject::Netbpf, netbpf.as_path())).chain(against)
    }

    /// Binds Docker's proxies to the clients' CPU.
    pub fn tie_proxies(&self) -> Result<()> {
        let Some(lab) = &self.hosts.docker else { return Ok(()) };
        script(
            lab,
            &format!("for pid in $(pgrep -x docker-proxy); do taskset -apc {} $pid; done", self.cpus.one),
        )?;
        Ok(())
    }

    /// The pairs whose server is a container with published ports.
    pub fn published(&self) -> impl Iterator<Item = (Subject, &Pair<'a>)> {
        self.pairs
            .iter()
            .filter(|(subject, _)| *subject != Subject::Bare)
            .map(|(subject, pair)| (*subject, pair))
    }
}

fn script(lab: &Lab, script: &str) -> Result<String> {
    pair::text(lab.host(["sh", "-ec", script]))
}

/// A veth pair between two namespaces, with nothing in between.
fn bare(lab: &Lab, mtu: u32) -> Result<Pair<'_>> {
    let (client, server) = (format!("client{mtu}"), format!("server{mtu}"));
    script(
        lab,
        &format!(
            "ip netns add {client}; ip netns add {server}
             ip link add eth0 netns {client} mtu {mtu} type veth peer name eth0 netns {server} mtu {mtu}
             ip -n {client} addr add 10.90.0.3/24 dev eth0; ip -n {server} addr add 10.90.0.2/24 dev eth0
             for name in {client} {server}; do ip -n $name link set eth0 up; ip -n $name link set lo up; done"
        ),
    )?;
    let namespace = |name: &str| format!("/run/netns/{name}");
    Ok(Pair::new(lab, namespace(&client), namespace(&server), "10.90.0.2".to_owned(), 0))
}

/// Another host behind an uplink, which has the default route. The uplink accepts packets of 64 KB, like most; that
/// determines the packet size of netbpf's containers by default.
fn uplink(lab: &Lab) -> Result<()> {
    script(
        lab,
        &format!(
            "ip netns add outside; ip link add uplink type veth peer name eth0 netns outside
             ip addr add {UPLINK}/24 dev uplink; ip link set uplink up
             ip -n outside addr add 198.51.100.2/24 dev eth0; ip -n outside link set eth0 up; ip -n outside link set lo up
             ip route add default via 198.51.100.2"
        ),
    )?;
    Ok(())
}

/// Two containers of the engine in a network of their own.
fn docker<'a>(
    engine: &Engine<'_>,
    lab: &'a Lab,
    network: &str,
    mtu: u32,
    offset: Option<u16>,
) -> Result<Pair<'a>> {
    let docker = |arguments: &str| pair::text(engine.docker(arguments));
    docker(&format!(
        "network create -o com.docker.network.driver.mtu={mtu} -o com.docker.network.bridge.name=br-{network} {network}"
    ))?;
    let publish = offset.map(pair::publish_all).unwrap_or_default();
    let (client, server) = (format!("client-{network}"), format!("server-{network}"));
    for (name, options) in [(&client, ""), (&server, publish.as_str())] {
        docker(&format!("run -d --name {name} --network {network} {options} {IMAGE} sleep 1000000"))?;
    }
    let namespace = |name: &str| {
        let pid = docker(&format!("inspect --format {{{{.State.Pid}}}} {name}"))?;
        Ok::<_, anyhow::Error>(format!("/proc/{}/ns/net", pid.trim()))
    };
    let endpoint = engine.endpoint(&server, network);
    let address = endpoint["IPAddress"].as_str().context("the engine gives its container an address")?;
    Ok(Pair::new(
        lab,
        namespace(&client)?,
        namespace(&server)?,
        address.to_owned(),
        offset.unwrap_or_default(),
    ))
}

/// Turns br_netfilter off for the engine's host and on for one bridge, and checks the effect.
fn filter(engine: &Engine<'_>, lab: &Lab, plain: &str, filtered: &str) -> Result<()> {
    script(
        lab,
        &format!(
            "for family in iptables ip6tables arptables; do
                 sysctl -qw net.bridge.bridge-nf-call-$family=0
                 ip link set br-{filtered} type bridge nf_call_$family 1
             done"
        ),
    )?;
    for (network, expected) in [(plain, false), (filtered, true)] {
        let before = filtered_packets(lab)?;
        let address = engine.endpoint(&format!("server-{network}"), network);
        let address = address["IPAddress"].as_str().unwrap_or_default().to_owned();
        pair::text(engine.exec(&format!("client-{network}"), &format!("ping -c 3 -i 0.1 {address}")))?;
        let seen = filtered_packets(lab)? > before;
        if seen != expected {
            let verb = if seen { "see" } else { "do not see" };
            bail!("Docker's rules {verb} the packets on its network {network}");
        }
    }
    Ok(())
}

/// The number of packets that Docker's first rule has counted.
fn filtered_packets(lab: &Lab) -> Result<u64> {
    let said = script(lab, "iptables -nvxL FORWARD")?;
    let rule = said.lines().find(|line| line.contains("DOCKER-USER"));
    let count = rule.and_then(|rule| rule.split_whitespace().next()?.parse().ok());
    count.with_context(|| format!("no rule of Docker's in\n{said}"))
}

/// Two containers in a network of netbpf.
fn netbpf<'a>(lab: &'a Lab, network: &str, mtu: u32, options: &str, offset: Option<u16>) -> Result<Pair<'a>> {
    let netbpf = |arguments: &str| pair::text(lab.netbpf(arguments.split_whitespace()));
    netbpf(&format!("network create -o com.docker.network.driver.mtu={mtu} {options} {network}"))?;
    let publish = offset.map(pair::publish_all).unwrap_or_default();
    let (client, server) = (format!("client-{network}"), format!("server-{network}"));
    for (name, options) in [(&client, ""), (&server, publish.as_str())] {
        netbpf(&format!("run -d --name {name} --net {network} {options} -- sleep infinity"))?;
    }
    let namespace = |name: &str| format!("/proc/{}/ns/net", lab.pid(name));
    let address = lab.address(&server, network);
    Ok(Pair::new(lab, namespace(&client), namespace(&server), address, offset.unwrap_or_default()))
}
