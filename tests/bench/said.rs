//! Parses the output of tools: our own probes, iperf3, wrk, dnsperf. Pure. If the number is missing, the error quotes
//! the output.

use anyhow::{Context, Result, bail};

/// The one-way latency from `probe ping`, in µs.
pub fn ping(said: &str) -> Result<f64> {
    said.trim().parse().with_context(|| format!("no time from the probe:\n{said}"))
}

/// The result of `probe flood`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flood {
    /// The number of messages.
    pub messages: f64,
    /// The time in seconds.
    pub seconds: f64,
}

/// Parses the output of `probe flood`: `84581 1.010000`.
pub fn flood(said: &str) -> Result<Flood> {
    let flood = || {
        let (messages, seconds) = said.trim().split_once(' ')?;
        Some(Flood { messages: messages.parse().ok()?, seconds: seconds.parse().ok()? })
    };
    flood().with_context(|| format!("no flood from the probe:\n{said}"))
}

/// The result of `iperf3 --json` over TCP.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bulk {
    /// Bits per second, as received by the server.
    pub bits_per_second: f64,
    /// Bytes received by the server.
    pub bytes: f64,
}

/// Parses the output of `iperf3 --json`.
pub fn iperf3(said: &str) -> Result<Bulk> {
    let report: serde_json::Value = serde_json::from_str(said).context("iperf3 printed no JSON")?;
    if let Some(error) = report["error"].as_str() {
        bail!("iperf3: {error}");
    }
    let received = &report["end"]["sum_received"];
    let number = |key: &str| received[key].as_f64().with_context(|| format!("no {key} from iperf3:\n{said}"));
    Ok(Bulk { bits_per_second: number("bits_per_second")?, bytes: number("bytes")? })
}

/// The answered requests per second from `wrk`. Failed requests make the result invalid.
pub fn wrk(said: &str) -> Result<f64> {
    if said.contains("Socket errors") || said.contains("Non-2xx") {
        bail!("requests failed:\n{said}");
    }
    after(said, "Requests/sec:").with_context(|| format!("no rate from wrk:\n{said}"))
}

/// The answers per second from `dnsperf`. Lost queries make the result invalid.
pub fn dnsperf_rate(said: &str) -> Result<f64> {
    let lost = after(said, "Queries lost:").with_context(|| format!("no count of lost queries:\n{said}"))?;
    if lost > 0.0 {
        bail!("queries were lost:\n{}", tail(said));
    }
    if !said.contains("NOERROR") || said.contains("NXDOMAIN") || said.contains("SERVFAIL") {
        bail!("the name is not known:\n{}", tail(said));
    }
    after(said, "Queries per second:").with_context(|| format!("no rate from dnsperf:\n{said}"))
}

/// The first number after a text.
fn after(text: &str, words: &str) -> Option<f64> {
    let (_, rest) = text.split_once(words)?;
    let number = rest.trim_start().split(|c: char| c.is_whitespace() || c == ';').next()?;
    number.trim_end_matches(',').parse().ok()
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_say_a_time_and_a_flood() {
        assert_eq!(ping("3.1040\n").unwrap(), 3.104);
        assert_eq!(flood("571234 1.010000\n").unwrap(), Flood { messages: 571_234.0, seconds: 1.01 });
        assert!(ping("").is_err());
        assert!(flood("571234\n").is_err());
    }

    #[test]
    fn iperf3_says_what_the_server_got() {
        let said = r#"{"end":{"sum_sent":{"bits_per_second":2e10},"sum_received":{"bytes":1.5e9,"bits_per_second":1.2e10}}}"#;
        assert_eq!(iperf3(said).unwrap(), Bulk { bits_per_second: 1.2e10, bytes: 1.5e9 });
        let refused = iperf3(r#"{"end":{},"error":"unable to connect to server"}"#).unwrap_err();
        assert_eq!(refused.to_string(), "iperf3: unable to connect to server");
    }

    #[test]
    fn wrk_says_a_rate_unless_requests_failed() {
        assert_eq!(
            wrk("  1200 requests in 1.00s\nRequests/sec:   1234.56\nTransfer/sec: 1MB").unwrap(),
            1234.56
        );
        assert!(
            wrk("  Socket errors: connect 0, read 3, write 0, timeout 0\nRequests/sec: 1234.56").is_err()
        );
    }

    #[test]
    fn dnsperf_says_a_rate_unless_queries_were_lost() {
        let said = "  Queries sent:         3\n  Queries completed:    3 (100.00%)\n  Queries lost:         0 (0.00%)\n\n\
            \x20 Response codes:       NOERROR 3 (100.00%)\n  Queries per second:   9000.500000\n";
        assert_eq!(dnsperf_rate(said).unwrap(), 9000.5);
        assert!(dnsperf_rate(&said.replace("lost:         0", "lost:         7")).is_err());
        assert!(dnsperf_rate(&said.replace("NOERROR 3 (100", "NXDOMAIN 3 (100")).is_err());
    }
}
