//! A flood of 64-byte datagrams with both ends on one CPU. It goes to a socket that nobody reads: all datagrams that
//! arrive over the network count, whether the socket is full or not. A server that reads is another figure, because
//! waking it for each datagram costs more than any path.

use anyhow::Result;

use crate::{
    cpu,
    figures::Unit,
    measure::Session,
    pair::{Service, Way},
    said,
    world::World,
};

/// The name of the figure, for the targets.
pub const CARRIED: &str = "UDP 64 bytes, carried, one CPU";

/// Between two containers.
pub fn run(world: &World<'_>, session: &Session) -> Result<()> {
    let cpu = world.cpus.one;
    let titles = [
        (CARRIED, Unit::Thousands),
        ("UDP 64 bytes, sent, one CPU", Unit::Thousands),
        ("CPU time for small packets, both ends", Unit::CpuPerMillion),
    ];
    session.measure(session.plan.rounds, titles, &world.all_inside(), |way| {
        let (_socket, port) = way.unread()?;
        let busy = cpu::busy(&[cpu])?;
        let Arrived { sent, read, lost } = flood(way, cpu, port, session.plan.seconds)?;
        let busy = cpu::busy(&[cpu])? - busy;
        Ok([(read + lost) / 1e3, sent / 1e3, busy / (read + lost) / f64::from(session.plan.seconds) * 1e6])
    })?;
    if session.plan.quick {
        return Ok(());
    }
    let titles = [
        ("UDP 64 bytes to a server, carried, one CPU", Unit::Thousands),
        ("UDP 64 bytes to a server, read by it, one CPU", Unit::Thousands),
    ];
    session.measure(session.plan.rounds, titles, &world.inside(), |way| {
        let port = way.serve(Service::Sink, world.cpus, true)?;
        let Arrived { sent: _, read, lost } = flood(way, cpu, port, session.plan.seconds)?;
        Ok([(read + lost) / 1e3, read / 1e3])
    })
}

/// The rates of a flood, in datagrams per second.
struct Arrived {
    sent: f64,
    /// Read by the server.
    read: f64,
    /// Dropped at the server's full socket.
    lost: f64,
}

fn flood(way: &Way<'_>, cpu: usize, port: u16, seconds: u32) -> Result<Arrived> {
    let (address, millis) = (format!("{}:{port}", way.address), (1000 * seconds).to_string());
    let before = way.udp_counters()?;
    let flood = said::flood(&way.probe(cpu, &["flood", &address, &millis])?)?;
    let after = way.udp_counters()?;
    let each_second = |from: u64, to: u64| (to - from) as f64 / flood.seconds;
    Ok(Arrived {
        sent: flood.messages / flood.seconds,
        read: each_second(before.0, after.0),
        lost: each_second(before.1, after.1),
    })
}
