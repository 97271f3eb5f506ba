//! Round trips of 64 bytes: the cost of one packet. Both ends on one CPU give the best information, because a wake-up
//! of another CPU costs more than any path.

use std::time::Duration;

use anyhow::Result;

use crate::{
    figures::{Subject, Unit},
    measure::Session,
    pair::{Cpus, Service, Way},
    said,
    world::World,
};

/// Between two containers.
pub fn run(world: &World<'_>, session: &Session) -> Result<()> {
    let ways = world.all_inside();
    for shares_cpu in placements(world.cpus, session) {
        for service in [Service::UdpEcho, Service::TcpEcho] {
            measure(session, "", &ways, service, world.cpus, shares_cpu)?;
        }
    }
    Ok(())
}

/// Both ends on one CPU, and on two if there are two and there is time.
pub fn placements(cpus: Cpus, session: &Session) -> Vec<bool> {
    if cpus.other.is_some() && !session.plan.quick { vec![true, false] } else { vec![true] }
}

/// The placement in the name of a figure.
pub fn on(shares_cpu: bool) -> &'static str {
    if shares_cpu { "one CPU" } else { "two CPUs" }
}

/// The median round trip on these paths. With more and shorter rounds than other figures, because the differences are
/// small.
pub fn measure(
    session: &Session,
    before: &str,
    ways: &[(Subject, Way<'_>)],
    service: Service,
    cpus: Cpus,
    shares_cpu: bool,
) -> Result<()> {
    let name = name(before, service, shares_cpu);
    session.measure(session.plan.fine_rounds(), [(&name, Unit::Microseconds)], ways, |way| {
        Ok([sample(way, service, cpus, shares_cpu, session.plan.short())?])
    })
}

/// The name of the figure.
pub fn name(before: &str, service: Service, shares_cpu: bool) -> String {
    let protocol = if service == Service::TcpEcho { "TCP" } else { "UDP" };
    format!("{before}{protocol} round trip, {}", on(shares_cpu))
}

/// One run of the probe: its median one-way time in µs.
pub fn sample(way: &Way<'_>, service: Service, cpus: Cpus, shares_cpu: bool, time: Duration) -> Result<f64> {
    let port = way.serve(service, cpus, shares_cpu)?;
    let (address, millis) = (format!("{}:{port}", way.address), time.as_millis().to_string());
    let protocol = if service == Service::TcpEcho { "tcp" } else { "udp" };
    said::ping(&way.probe(cpus.one, &["ping", protocol, &address, &millis])?)
}
