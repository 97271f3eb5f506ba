//! Looking up a neighbour's name: netbpf's responder against Docker's embedded server, each at 127.0.0.11 of a container.

use anyhow::Result;

use crate::{
    figures::{Subject, Unit},
    measure::Session,
    pair::text,
    said,
    world::World,
};

/// What the figures are called that targets are about.
pub const MEDIAN: &str = "Lookup, median";
pub const RATE: &str = "Lookups, four clients";

/// A file with one question, for dnsperf.
const QUESTION: &str = "/run/question";

/// One at a time, and from four clients at once.
pub fn run(world: &World<'_>, session: &Session) -> Result<()> {
    let mut ways = Vec::new();
    for (subject, pair) in world.published() {
        let (subject, server) = match subject {
            Subject::Bridge => (Subject::Docker, "server-plain"),
            Subject::Filtered => continue,
            netbpf => (netbpf, "server-mynet"),
        };
        text(pair.host.host(["sh", "-c", &format!("echo {server} A > {QUESTION}")]))?;
        ways.push((subject, pair.inside()));
    }
    let seconds = session.plan.seconds.to_string();
    let ask = ["dnsperf", "-s", "127.0.0.11", "-d", QUESTION, "-l", &seconds, "-T", "1"];
    let titles = [
        (MEDIAN, Unit::Microseconds),
        ("Lookup, 99th percentile", Unit::Microseconds),
        ("Lookups, one at a time", Unit::Thousands),
    ];
    session.measure(session.plan.rounds, titles, &ways, |way| {
        let one = [&ask[..], &["-c", "1", "-q", "1", "-v"]].concat();
        let names = said::dnsperf(&way.run(None, &one)?)?;
        Ok([names.median, names.p99, names.rate / 1e3])
    })?;
    session.measure(session.plan.rounds, [(RATE, Unit::Thousands)], &ways, |way| {
        let four = [&ask[..], &["-c", "4", "-q", "80"]].concat();
        Ok([said::dnsperf_rate(&way.run(None, &four)?)? / 1e3])
    })
}
