//! The rate of real transfers, by iperf3, between network namespaces of a lab's host, which are named by their files.
//! Must not know why a transfer has its rate.

use serde_json::Value;

use crate::lab::{Lab, Process, eventually};

/// How far a rate may be from the limit.
pub const TOLERANCE: f64 = 0.05;

/// The share of TCP's payload in full frames, as `tc` counts them: 1,448 of 1,514 bytes.
pub const TCP_PAYLOAD: f64 = 1448.0 / 1514.0;

/// How often a busy machine may be too slow for a rate.
const TRIES: usize = 4;

/// Starts a server of iperf3, for one client at a time.
#[track_caller]
pub fn serve(lab: &Lab, namespace: &str, port: u16) -> Process {
    let server = lab.spawn(words(namespace, &format!("iperf3 -s -p {port}")));
    eventually("iperf3 listens", || {
        let listening = lab.host(words(namespace, "ss -Hltn")).stdout;
        listening.contains(&format!(":{port} ")).then_some(())
    });
    server
}

/// The payload in bits per second that the receiver of a client's transfer got. `options` are those of iperf3.
#[track_caller]
pub fn received(lab: &Lab, namespace: &str, options: &str) -> f64 {
    let report: Value = lab.host(words(namespace, &format!("iperf3 -J {options}"))).ok().json();
    let end = &report["end"];
    let sum = if end["sum_received"].is_null() { &end["sum"] } else { &end["sum_received"] };
    sum["bits_per_second"].as_f64().unwrap_or_else(|| panic!("a throughput: {report}"))
}

/// A client's transfer has a rate, in bits of payload per second. It never exceeds that; on a busy machine, one of several
/// attempts must reach it.
#[track_caller]
pub fn has_rate(lab: &Lab, namespace: &str, options: &str, expected: f64) {
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let received = received(lab, namespace, options);
        assert!(received <= expected * (1.0 + TOLERANCE), "{options}: {received} of {expected} bit/s");
        seen.push(received);
        if received >= expected * (1.0 - TOLERANCE) {
            println!("{options}: {received:.0} of {expected:.0} bit/s");
            return;
        }
    }
    panic!("{options}: {seen:?} of {expected} bit/s");
}

/// A container sends 20 and receives 10 Mbit/s, to and from another one with this address.
#[track_caller]
pub fn sends_twenty_and_receives_ten(lab: &Lab, container: &str, other: &str, address: &str) {
    let server = serve(lab, &lab.namespace(other), 5201);
    for (way, bits) in [("", 20e6), (" -R", 10e6)] {
        let options = format!("-c {address} -O 1 -t 2{way}");
        has_rate(lab, &lab.namespace(container), &options, bits * TCP_PAYLOAD);
    }
    drop(server);
}

fn words(namespace: &str, command: &str) -> Vec<String> {
    let enter = ["nsenter".to_owned(), format!("--net={namespace}")];
    enter.into_iter().chain(command.split(' ').map(str::to_owned)).collect()
}
