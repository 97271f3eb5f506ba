//! The effect of the number of containers in a network, wanted or not: round trips, commands, memory, the cost of a
//! broadcast and of an ARP request. Compared with a kernel bridge up to its limit of 1,023 ports.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use netbpf_tests::lab::station::{self, Arp};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use super::round_trip;
use crate::{
    crowd::Crowd,
    figures::{Subject, Unit},
    measure::{Session, go_on},
    pair::{Cpus, Service, text},
    world::World,
};

/// The numbers of members, one after another.
const SIZES: [u32; 5] = [2, 10, 100, 1000, 3000];
/// The number of broadcasts and of ARP requests in a sample.
const FRAMES: u32 = 20;
/// How long a broadcast may take.
const TIMEOUT: Duration = Duration::from_millis(500);

/// The name of a figure with the number of members.
pub fn with(what: &str, members: u32) -> String {
    format!("{what}, {} containers", thousands(members))
}

pub const ROUND_TRIP: &str = "TCP round trip, one CPU";
pub const CONNECT: &str = "connect";
pub const ARP: &str = "woken by an ARP request";
pub const DAEMON: &str = "daemon, resident";

/// The round trip in the network of two on the same host, from the same rounds.
pub fn beside(members: u32) -> String {
    format!("{ROUND_TRIP}, 2 beside {}", thousands(members))
}

/// Grows all networks together, so that they are compared at each size.
pub fn run(world: &World<'_>, session: &Session) -> Result<()> {
    session.doing("making the networks");
    let mut crowds = vec![(Subject::Bridge, Crowd::of_bridge()?)];
    for (subject, program) in world.programs() {
        crowds.push((subject, Crowd::of_netbpf(program)?));
    }
    let done = SIZES.iter().filter(|members| **members <= session.plan.containers).try_for_each(|members| {
        for (subject, crowd) in &mut crowds {
            if crowd.may_have(*members) && crowd.size() < *members {
                session.doing(&format!("{}: {} containers", subject.name(), thousands(*members)));
                crowd.grow(*members)?;
            }
        }
        let of_this_size: Vec<(Subject, &Crowd)> = crowds
            .iter()
            .filter(|(_, crowd)| crowd.size() == *members)
            .map(|(subject, crowd)| (*subject, crowd))
            .collect();
        measure(world.cpus, session, &of_this_size, *members)
    });
    session.doing("taking the networks away");
    drop(crowds);
    done
}

fn measure(cpus: Cpus, session: &Session, crowds: &[(Subject, &Crowd)], members: u32) -> Result<()> {
    let pairs = crowds.iter().map(|(subject, crowd)| Ok((*subject, crowd.pairs()?)));
    let pairs: Vec<_> = pairs.collect::<Result<_>>()?;
    let names = [with(ROUND_TRIP, members), beside(members)];
    let titles = [(names[0].as_str(), Unit::Microseconds), (names[1].as_str(), Unit::Microseconds)];
    session.measure(session.plan.fine_rounds(), titles, &pairs, |pairs| {
        let [large, small] = pairs;
        let sample = |way| round_trip::sample(way, Service::TcpEcho, cpus, true, session.plan.short());
        Ok([sample(&large.inside())?, sample(&small.inside())?])
    })?;
    drop(pairs);

    let netbpfs: Vec<_> = crowds.iter().copied().filter(|(subject, _)| *subject != Subject::Bridge).collect();
    let names = [with(CONNECT, members), with("disconnect", members)];
    let titles = [(names[0].as_str(), Unit::Milliseconds), (names[1].as_str(), Unit::Milliseconds)];
    session.measure(2 * session.plan.rounds, titles, &netbpfs, |crowd| {
        let disconnected = crowd.disconnect(members)?;
        let connected = crowd.connect(members)?;
        Ok([connected, disconnected].map(|took| took.as_secs_f64() * 1e3))
    })?;

    let names = [
        "a broadcast until all have it",
        "a broadcast, for each",
        "reached by a broadcast",
        ARP,
        "an ARP request until its answer",
    ]
    .map(|what| with(what, members));
    let (time, containers) = (Unit::Microseconds, Unit::Containers);
    let units = [time, time, containers, containers, time];
    let titles: [_; 5] = std::array::from_fn(|index| (names[index].as_str(), units[index]));
    session.measure(session.plan.rounds.min(5), titles, crowds, |crowd| send_frames(crowd, cpus))?;

    let names = [DAEMON, "daemon, its share of memory", "responder, resident", "maps"]
        .map(|what| with(what, members));
    let titles: [_; 4] = std::array::from_fn(|index| (names[index].as_str(), Unit::Megabytes));
    session.measure(1, titles, &netbpfs, |crowd| memory(crowd))
}

/// The time for a broadcast to reach all members, and per member; the number of members that it reaches; the number of
/// other members that an ARP request reaches; the time until it is answered. The kernel's queue of a CPU holds a
/// thousand frames (`net.core.netdev_max_backlog`), so broadcasts to more members may lose some, and then have no time.
fn send_frames(crowd: &Crowd, cpus: Cpus) -> Result<[f64; 5]> {
    const ETHERTYPE_FOR_EXPERIMENTS: u16 = 0x88b5;
    const ARP: u16 = 0x0806;
    let members = crowd.size();
    let mut cpu = CpuSet::new();
    cpu.set(cpus.one)?;
    // The member that is served last is either the first or the last one. The sender is neither.
    let (sender, first, last) = (crowd.station(2), crowd.station(1), crowd.station(members));
    let listeners = if members > 2 { vec![&first, &last] } else { vec![&first] };
    let mac = sender.mac();
    let ip = |number: u32| -> Result<[u8; 4]> {
        Ok(crowd.address(&format!("m{number}"))?.parse::<Ipv4Addr>()?.octets())
    };
    let (own, target) = (ip(2)?, ip(1)?);
    let request = station::arp(Arp::Request, (mac, own), ([0; 6], target));
    let request = station::ethernet(station::BROADCAST, mac, ARP, &request);
    let answer = station::arp(Arp::Reply, (first.mac(), target), (mac, own));
    let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(FRAMES);

    tied(&cpu, || {
        let quiet = settled(crowd)?;
        let mut broadcast = Some(Duration::ZERO);
        for number in 0..FRAMES {
            let mark = [b"netbpf-bench".as_slice(), &number.to_be_bytes()].concat();
            let payload = [&[0; 40][..], &mark].concat();
            let frame = station::ethernet(station::BROADCAST, mac, ETHERTYPE_FOR_EXPERIMENTS, &payload);
            let started = Instant::now();
            sender.send(&frame);
            let is_heard = listeners.iter().all(|listener| listener.hears(&mark, TIMEOUT));
            broadcast = broadcast.filter(|_| is_heard).map(|time| time + started.elapsed());
            // Wait until the queue is empty, or there would be no room in it for the next frame itself.
            settled(crowd)?;
        }
        let before = settled(crowd)?;
        let mut asked = Duration::ZERO;
        for _ in 0..FRAMES {
            let started = Instant::now();
            sender.send(&request);
            if !sender.hears(&answer, TIMEOUT) {
                bail!("nobody answers for a member's address");
            }
            asked += started.elapsed();
        }
        let after = settled(crowd)?;
        let broadcast = broadcast.map_or(f64::NAN, each);
        let frames = |since: u64, until: u64| (until - since) as f64 / f64::from(FRAMES);
        let for_each = broadcast / f64::from(members - 1);
        Ok([broadcast, for_each, frames(quiet, before), frames(before, after), each(asked)])
    })
}

/// The number of frames that all members except the second have received, once no frame is on its way.
fn settled(crowd: &Crowd) -> Result<u64> {
    let count = || Ok::<_, anyhow::Error>(crowd.received(1..=1)? + crowd.received(3..=crowd.size())?);
    let mut before = count()?;
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let now = count()?;
        if now == before {
            return Ok(now);
        }
        before = now;
        go_on()?;
    }
}

/// Runs a closure with this thread bound to CPUs.
fn tied<T>(cpus: &CpuSet, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let this = Pid::from_raw(0);
    let before = sched_getaffinity(this)?;
    sched_setaffinity(this, cpus)?;
    let done = work();
    sched_setaffinity(this, &before)?;
    done
}

/// The daemon's resident memory and its proportional share, the responder's resident memory, and the memory of maps as
/// the kernel reports it; in MB.
fn memory(crowd: &Crowd) -> Result<[f64; 4]> {
    let of = |word: &str, file: &str, field: &str| -> Result<f64> {
        let process = crowd.lab.processes(&format!("netbpf {word}")).first().copied();
        let process = process.with_context(|| format!("no process netbpf {word} runs"))?;
        let said = std::fs::read_to_string(crowd.lab.path(format!("/proc/{process}/{file}")))?;
        let line = said.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
        Ok(kilobytes.with_context(|| format!("no {field} in {file}"))? * 1024.0 / 1e6)
    };
    let maps = text(crowd.lab.host([
        "sh",
        "-ec",
        "for map in /sys/fs/bpf/netbpf/v*/maps/*; do bpftool -j map show pinned $map; echo; done",
    ]))?;
    let bytes = maps.lines().filter(|line| !line.trim().is_empty()).map(|line| {
        let map: serde_json::Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        map["bytes_memlock"].as_f64().with_context(|| format!("no bytes_memlock in {line}"))
    });
    let maps: f64 = bytes.sum::<Result<f64>>()? / 1e6;
    Ok([
        of("daemon", "status", "VmRSS")?,
        of("daemon", "smaps_rollup", "Pss")?,
        of("responder", "status", "VmRSS")?,
        maps,
    ])
}

/// A number such as `1,000`.
fn thousands(number: u32) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", number / 1000, number % 1000),
    }
}
