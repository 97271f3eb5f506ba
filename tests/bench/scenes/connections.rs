//! New connections: wrk requests two dozen bytes from nginx, with a connection for each request.

use anyhow::Result;

use super::{bulk::placements, round_trip::on};
use crate::{
    figures::{Subject, Unit},
    measure::Session,
    pair::{Cpus, Service, Way},
    said,
    world::World,
};

/// Between two containers.
pub fn run(world: &World<'_>, session: &Session) -> Result<()> {
    for shares_cpu in placements(world.cpus) {
        measure(session, &name("", *shares_cpu), &world.inside(), world.cpus, *shares_cpu)?;
    }
    Ok(())
}

/// The name of the figure.
pub fn name(before: &str, shares_cpu: bool) -> String {
    format!("{before}new connections, {}", on(shares_cpu))
}

/// Connections per second on these paths.
pub fn measure(
    session: &Session,
    name: &str,
    ways: &[(Subject, Way<'_>)],
    cpus: Cpus,
    shares_cpu: bool,
) -> Result<()> {
    let duration = format!("-d{}", session.plan.seconds);
    session.measure(session.plan.rounds, [(name, Unit::Thousands)], ways, |way| {
        let port = way.serve(Service::Web, cpus, shares_cpu)?;
        let address = format!("http://{}:{port}/", way.address);
        let command = ["wrk", "-t1", "-c16", &duration, "-H", "Connection: close", &address];
        Ok([said::wrk(&way.run(Some(cpus.one), &command)?)? / 1e3])
    })
}
