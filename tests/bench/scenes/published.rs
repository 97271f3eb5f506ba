//! Published ports: from another host, and from a container in the network of the server. Docker's rules apply to both
//! of its bridges here.

use anyhow::Result;

use super::{
    bulk::{self, placements},
    connections,
    round_trip::{self, on},
};
use crate::{measure::Session, pair::Service, world::World};

/// The prefixes of this scene's figures.
const OUTSIDE: &str = "From outside, ";
const HAIRPIN: &str = "From its own network, ";

/// The names of the figures, for the targets.
pub fn figures() -> Vec<String> {
    let echoes = [Service::UdpEcho, Service::TcpEcho];
    let round_trips = echoes.map(|service| round_trip::name(OUTSIDE, service, true));
    let bulk = [true, false].map(|shares_cpu| bulk_name(OUTSIDE, shares_cpu));
    round_trips.into_iter().chain(bulk).chain([connections::name(OUTSIDE, true)]).collect()
}

fn bulk_name(before: &str, shares_cpu: bool) -> String {
    format!("{before}TCP bulk, {}", on(shares_cpu))
}

/// From another host.
pub fn run(world: &World<'_>, session: &Session) -> Result<()> {
    let ways = world.outside();
    let quick = session.plan.quick;
    let echoes: &[Service] = if quick { &[Service::TcpEcho] } else { &[Service::UdpEcho, Service::TcpEcho] };
    for service in echoes {
        round_trip::measure(session, OUTSIDE, &ways, *service, world.cpus, true)?;
    }
    let placements = if quick { &[true] } else { placements(world.cpus) };
    for shares_cpu in placements {
        bulk::measure(session, &bulk_name(OUTSIDE, *shares_cpu), &ways, world.cpus, 1, *shares_cpu)?;
    }
    connections::measure(session, &connections::name(OUTSIDE, true), &ways, world.cpus, true)
}

/// From a container to another in its network, by the host's address. Docker's proxies, which carry this traffic, are
/// bound to the CPU of both ends: on another one, wake-ups would hide their cost. TCP only, because a proxy answers UDP
/// from another address than it was asked at, which a connected socket does not accept.
pub fn hairpin(world: &World<'_>, session: &Session) -> Result<()> {
    world.tie_proxies()?;
    let ways = world.hairpin();
    round_trip::measure(session, HAIRPIN, &ways, Service::TcpEcho, world.cpus, true)?;
    bulk::measure(session, &bulk_name(HAIRPIN, true), &ways, world.cpus, 1, true)?;
    connections::measure(session, &connections::name(HAIRPIN, true), &ways, world.cpus, true)
}
