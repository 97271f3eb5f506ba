//! DNS lookups of a neighbour's name: netbpf's responder and Docker's embedded server, both at 127.0.0.11 in a
//! container.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::{
    figures::{Subject, Unit, quantile},
    measure::Session,
    pair::text,
    question, said,
    world::World,
};

/// The names of the figures, for the targets.
pub const MEDIAN: &str = "Lookup, median";
pub const RATE: &str = "Lookups, four clients";

/// A file with one query for dnsperf.
const QUESTION: &str = "/run/question";

/// The address of both servers.
const SERVER: &str = "127.0.0.11";

/// One query at a time, and four clients at once.
pub fn run(world: &World<'_>, session: &Session) -> Result<()> {
    let mut ways = Vec::new();
    for (subject, pair) in world.published() {
        let (subject, name) = match subject {
            Subject::Bridge => (Subject::Docker, "server-plain"),
            Subject::Filtered => continue,
            netbpf => (netbpf, "server-mynet"),
        };
        text(pair.host.host(["sh", "-c", &format!("echo {name} A > {QUESTION}")]))?;
        ways.push((subject, (pair.inside(), name)));
    }
    let seconds = session.plan.seconds;
    let titles = [
        (MEDIAN, Unit::Microseconds),
        ("Lookup, 99th percentile", Unit::Microseconds),
        ("Lookups, one at a time", Unit::Thousands),
    ];
    session.measure(session.plan.rounds, titles, &ways, |(way, name)| {
        let time = Duration::from_secs(seconds.into());
        let times = way.at_client(|| question::ask(SERVER, name, time))?;
        let part = |part| quantile(&times, part).context("no answer came");
        Ok([part(0.5)?, part(0.99)?, times.len() as f64 / f64::from(seconds) / 1e3])
    })?;
    let seconds = seconds.to_string();
    session.measure(session.plan.rounds, [(RATE, Unit::Thousands)], &ways, |(way, _)| {
        let ask = ["dnsperf", "-s", SERVER, "-d", QUESTION, "-l", &seconds, "-T", "1", "-c", "4", "-q", "80"];
        Ok([said::dnsperf_rate(&way.run(None, &ask)?)? / 1e3])
    })
}
