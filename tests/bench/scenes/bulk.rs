//! Bulk TCP: iperf3 with one and eight streams, and the CPU time of both ends.

use anyhow::Result;

use super::round_trip::on;
use crate::{
    cpu,
    figures::{Subject, Unit},
    measure::Session,
    pair::{Cpus, Service, Way},
    said,
    world::World,
};

/// Between two containers, with frames of up to 1,500 and 9,000 bytes; for netbpf also with packets as large as the
/// kernel can make.
pub fn run(world: &World<'_>, session: &Session) -> Result<()> {
    let streams: &[u32] = if session.plan.quick { &[1] } else { &[1, 8] };
    let large = world.large(1500)?;
    let mut ways = world.inside();
    ways.push((large.0, large.1.inside()));
    measure_all(world.cpus, session, &ways, 1500, streams)?;
    if !session.plan.quick {
        session.doing("networks for frames of 9,000 bytes");
        let mut pairs = world.jumbo()?;
        pairs.push(world.large(9000)?);
        let ways: Vec<_> = pairs.iter().map(|(subject, pair)| (*subject, pair.inside())).collect();
        measure_all(world.cpus, session, &ways, 9000, streams)?;
    }
    Ok(())
}

fn measure_all(
    cpus: Cpus,
    session: &Session,
    ways: &[(Subject, Way<'_>)],
    mtu: u32,
    streams: &[u32],
) -> Result<()> {
    for streams in streams {
        for shares_cpu in placements(cpus).iter().copied() {
            measure(session, &name(mtu, *streams, shares_cpu), ways, cpus, *streams, shares_cpu)?;
        }
    }
    Ok(())
}

/// Both placements are important, so `quick` does not drop one.
pub fn placements(cpus: Cpus) -> &'static [bool] {
    if cpus.other.is_some() { &[true, false] } else { &[true] }
}

/// The name of the figure.
pub fn name(mtu: u32, streams: u32, shares_cpu: bool) -> String {
    let streams = if streams == 1 { "one stream".to_owned() } else { format!("{streams} streams") };
    format!("TCP bulk, MTU {mtu}, {streams}, {}", on(shares_cpu))
}

/// The throughput on these paths, and its CPU time.
pub fn measure(
    session: &Session,
    name: &str,
    ways: &[(Subject, Way<'_>)],
    cpus: Cpus,
    streams: u32,
    shares_cpu: bool,
) -> Result<()> {
    let cost = format!("CPU time, {name}");
    let titles = [(name, Unit::Gigabits), (cost.as_str(), Unit::CpuPerGigabyte)];
    let (seconds, streams) = (session.plan.seconds.to_string(), streams.to_string());
    let used: Vec<usize> =
        if shares_cpu { vec![cpus.one] } else { cpus.other.into_iter().chain([cpus.one]).collect() };
    session.measure(session.plan.rounds, titles, ways, |way| {
        let port = way.serve(Service::Bulk, cpus, shares_cpu)?.to_string();
        let command = ["iperf3", "-c", &way.address, "-p", &port, "-t", &seconds, "-P", &streams, "--json"];
        let busy = cpu::busy(&used)?;
        let bulk = said::iperf3(&way.run(Some(cpus.one), &command)?)?;
        let busy = cpu::busy(&used)? - busy;
        Ok([bulk.bits_per_second / 1e9, busy / (bulk.bytes / 1e9)])
    })
}
