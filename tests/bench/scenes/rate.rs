//! A flood of 64-byte datagrams, both ends on one CPU. What counts is what came over the network to the server's socket;
//! that the server then gets less, because it shares the CPU with the flood, is the same for all.

use anyhow::Result;

use crate::{cpu, figures::Unit, measure::Session, pair::Service, said, world::World};

/// The figure that targets are about.
pub const CARRIED: &str = "UDP 64 bytes, carried, one CPU";

/// Between two containers.
pub fn run(world: &World<'_>, session: &Session) -> Result<()> {
    let titles = [
        (CARRIED, Unit::Thousands),
        ("UDP 64 bytes, sent, one CPU", Unit::Thousands),
        ("UDP 64 bytes, read by the server, one CPU", Unit::Thousands),
        ("CPU time for small packets, both ends", Unit::CpuPerMillion),
    ];
    let seconds = session.plan.seconds.to_string();
    session.measure(session.plan.rounds, titles, &world.inside(), |way| {
        let port = way.serve(Service::Sink, world.cpus, true)?.to_string();
        let command = ["sockperf", "throughput", "-i", &way.address, "-p", &port, "-m", "64", "-t", &seconds];
        let (before, busy) = (way.udp_counters()?, cpu::busy(&[world.cpus.one])?);
        let flood = said::sockperf_flood(&way.run(Some(world.cpus.one), &command)?)?;
        let (after, busy) = (way.udp_counters()?, cpu::busy(&[world.cpus.one])? - busy);
        let (read, lost) = ((after.0 - before.0) as f64, (after.1 - before.1) as f64);
        let thousands = |count: f64| count / flood.seconds / 1e3;
        Ok([thousands(read + lost), thousands(flood.messages), thousands(read), busy / (read + lost) * 1e6])
    })
}
