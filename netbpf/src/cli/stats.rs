//! `stats` and `monitor`: the traffic of interfaces, and frame counters by reason. Maps and logs have the same names of
//! reasons.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{
    Error,
    console::{Colour, Console},
    render::{Row, Table},
};
use crate::api::{
    client::Client,
    types::{self, EndpointStats, ReasonStats},
};

/// `stats`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf stats --no-stream tomcat01")]
pub struct Stats {
    /// Names or IDs; all containers if absent
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Print once, instead of every second
    #[arg(long)]
    no_stream: bool,
    /// Print full IDs
    #[arg(long)]
    no_trunc: bool,
    /// Format of the interfaces: table, json, "table TEMPLATE" or a Go template
    #[arg(long)]
    format: Option<String>,
}

const ENDPOINTS: Table = Table {
    fields: &[
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("Network", "NETWORK"),
        ("Interface", "INTERFACE"),
        ("RX", "RX FRAMES / BYTES"),
        ("HostRX", "FROM HOST"),
        ("TX", "TX FRAMES / BYTES"),
        ("HostTX", "TO HOST"),
        ("Dropped", "DROPPED"),
    ],
    default: r"table {{.ID}}\t{{.Name}}\t{{.Network}}\t{{.Interface}}\t{{.RX}}\t{{.HostRX}}\t{{.TX}}\t{{.HostTX}}\t{{.Dropped}}",
};

const REASONS: Table = Table {
    fields: &[("Reason", "REASON"), ("Packets", "FRAMES"), ("Bytes", "BYTES")],
    default: r"table {{.Reason}}\t{{.Packets}}\t{{.Bytes}}",
};

const SECOND: Duration = Duration::from_secs(1);

impl Stats {
    /// Runs the command.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        loop {
            let stats = client.stats(&self.containers).await?;
            if !self.no_stream {
                console.clear()?;
            }
            self.print(console, &stats)?;
            if self.no_stream {
                return Ok(0);
            }
            tokio::time::sleep(SECOND).await;
        }
    }

    fn print(&self, console: &mut Console, stats: &types::Stats) -> Result<(), Error> {
        let rows = stats.endpoints.iter().map(|endpoint| endpoint_row(endpoint, self.no_trunc));
        ENDPOINTS.print(&mut console.out, self.format.as_deref(), false, rows)?;
        let reasons = seen(&stats.reasons);
        if self.format.is_none() && !reasons.is_empty() {
            writeln!(console.out)?;
            let rows = reasons.iter().map(|reason| {
                Row::new([
                    ("Reason", reason.reason.clone()),
                    ("Packets", reason.packets.to_string()),
                    ("Bytes", crate::api::human::size(reason.bytes)),
                ])
            });
            REASONS.print(&mut console.out, None, false, rows)?;
        }
        Ok(console.out.flush()?)
    }
}

/// The reasons of any frames so far.
fn seen(reasons: &[ReasonStats]) -> Vec<&ReasonStats> {
    reasons.iter().filter(|reason| reason.packets != 0).collect()
}

fn endpoint_row(endpoint: &EndpointStats, whole_id: bool) -> Row {
    let counter = |packets: u64, bytes: u64| format!("{packets} / {}", crate::api::human::size(bytes));
    let digits = if whole_id { usize::MAX } else { 12 };
    Row::new([
        ("ID", endpoint.id.chars().take(digits).collect()),
        ("Name", endpoint.container.clone()),
        ("Network", endpoint.network.clone()),
        ("Interface", endpoint.interface.clone() + &marks(endpoint)),
        ("RX", counter(endpoint.rx_packets, endpoint.rx_bytes)),
        ("HostRX", counter(endpoint.rx_host_packets, endpoint.rx_host_bytes)),
        ("TX", counter(endpoint.tx_packets, endpoint.tx_bytes)),
        ("HostTX", counter(endpoint.tx_host_packets, endpoint.tx_host_bytes)),
        ("Dropped", endpoint.dropped_packets.to_string()),
    ])
}

/// What is special about an endpoint: ` (open, 10mbit in)`.
fn marks(endpoint: &EndpointStats) -> String {
    let rate = |rate: &str, way: &str| (!rate.is_empty()).then(|| format!("{rate} {way}"));
    let rates = [rate(&endpoint.ingress_rate, "in"), rate(&endpoint.egress_rate, "out")];
    let open = endpoint.open.then(|| "open".to_owned());
    let marks: Vec<_> = [open].into_iter().chain(rates).flatten().collect();
    if marks.is_empty() { String::new() } else { format!(" ({})", marks.join(", ")) }
}

/// `monitor`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf monitor")]
pub struct Monitor {}

const RATES: Table = Table {
    fields: &[
        ("Reason", "REASON"),
        ("Rate", "FRAMES/S"),
        ("ByteRate", "BYTES/S"),
        ("Packets", "FRAMES"),
        ("Bytes", "BYTES"),
    ],
    default: r"table {{.Reason}}\t{{.Rate}}\t{{.ByteRate}}\t{{.Packets}}\t{{.Bytes}}",
};

impl Monitor {
    /// Runs the command until it is interrupted.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let mut before = client.stats(&[]).await?.reasons;
        let mut since = Instant::now();
        loop {
            tokio::time::sleep(SECOND).await;
            let now = client.stats(&[]).await?.reasons;
            let seconds = since.elapsed().as_secs_f64();
            since = Instant::now();
            console.clear()?;
            let seen = seen(&now);
            let table = rates(&before, &seen, seconds)?;
            for (line, reason) in table.lines().zip([None].into_iter().chain(seen.into_iter().map(Some))) {
                let is_alarming = reason.is_some_and(|reason| {
                    reason.drop
                        && before
                            .iter()
                            .any(|old| old.reason == reason.reason && old.packets < reason.packets)
                });
                let line = if is_alarming {
                    console.paint(Colour::Red, line)
                } else {
                    console.shown(line).into_owned()
                };
                writeln!(console.out.raw(), "{line}")?;
            }
            console.out.flush()?;
            before = now;
        }
    }
}

/// The table of rates over a number of seconds.
fn rates(before: &[ReasonStats], now: &[&ReasonStats], seconds: f64) -> Result<String, Error> {
    let before: HashMap<&str, &ReasonStats> = before.iter().map(|old| (old.reason.as_str(), old)).collect();
    // Counters restart at zero when the programs are loaded again.
    let rate =
        |new: u64, old: Option<u64>| (new.saturating_sub(old.unwrap_or(0)) as f64 / seconds).round() as u64;
    let rows = now.iter().map(|reason| {
        let old = before.get(reason.reason.as_str());
        Row::new([
            ("Reason", reason.reason.clone()),
            ("Rate", rate(reason.packets, old.map(|old| old.packets)).to_string()),
            ("ByteRate", crate::api::human::size(rate(reason.bytes, old.map(|old| old.bytes)))),
            ("Packets", reason.packets.to_string()),
            ("Bytes", crate::api::human::size(reason.bytes)),
        ])
    });
    let mut table = Vec::new();
    RATES.print(&mut table, None, false, rows)?;
    Ok(String::from_utf8_lossy(&table).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(name: &str, drop: bool, packets: u64, bytes: u64) -> ReasonStats {
        ReasonStats { reason: name.to_owned(), drop, packets, bytes }
    }

    #[test]
    fn rates_are_per_second() {
        let before = [reason("forwarded", false, 1000, 64_000), reason("spoofed-mac", true, 7, 420)];
        let now = [reason("forwarded", false, 3000, 192_000), reason("spoofed-mac", true, 7, 420)];
        let table = "\
REASON        FRAMES/S   BYTES/S   FRAMES    BYTES
forwarded     1000       64kB      3000      192kB
spoofed-mac   0          0B        7         420B
";
        assert_eq!(rates(&before, &seen(&now), 2.0).expect("a table"), table);
    }

    #[test]
    fn reasons_without_frames_are_left_out() {
        let reasons = [reason("forwarded", false, 0, 0), reason("hairpin", true, 2, 120)];
        let (mut console, output) = Console::of_test();
        let args = Stats { containers: Vec::new(), no_stream: true, no_trunc: false, format: None };
        let stats = types::Stats { reasons: reasons.to_vec(), endpoints: Vec::new() };
        args.print(&mut console, &stats).expect("printed");
        let idle = types::Stats { reasons: reasons[..1].to_vec(), endpoints: Vec::new() };
        args.print(&mut console, &idle).expect("printed");
        let head = "CONTAINER ID   NAME      NETWORK   INTERFACE   RX FRAMES / BYTES   FROM HOST   TX FRAMES / BYTES   TO HOST   DROPPED\n";
        let table = "\nREASON    FRAMES    BYTES\nhairpin   2         120B\n";
        assert_eq!(output.out(), [head, table, head].concat());
    }

    #[test]
    fn stats_are_two_tables() {
        let endpoint = EndpointStats {
            container: "web".to_owned(),
            id: "0123456789abcdef".to_owned(),
            network: "mynet".to_owned(),
            interface: "eth0".to_owned(),
            open: true,
            ingress_rate: "10mbit".to_owned(),
            egress_rate: String::new(),
            rx_packets: 12,
            rx_bytes: 1234,
            rx_host_packets: 2,
            rx_host_bytes: 84,
            tx_packets: 3,
            tx_bytes: 180,
            tx_host_packets: 1,
            tx_host_bytes: 42,
            dropped_packets: 1,
        };
        let stats =
            types::Stats { reasons: vec![reason("forwarded", false, 15, 1414)], endpoints: vec![endpoint] };
        let (mut console, output) = Console::of_test();
        let args = Stats { containers: Vec::new(), no_stream: true, no_trunc: false, format: None };
        args.print(&mut console, &stats).expect("printed");
        let tables = "\
CONTAINER ID   NAME      NETWORK   INTERFACE                RX FRAMES / BYTES   FROM HOST   TX FRAMES / BYTES   TO HOST   DROPPED
0123456789ab   web       mynet     eth0 (open, 10mbit in)   12 / 1.23kB         2 / 84B     3 / 180B            1 / 42B   1

REASON      FRAMES    BYTES
forwarded   15        1.41kB
";
        assert_eq!(output.out(), tables);
    }
}
