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

/// Where servers of iperf3 are: a namespace, an address and a port in it.
pub struct Server<'a> {
    /// The host.
    pub lab: &'a Lab,
    /// The path of its network namespace on the host.
    pub namespace: String,
    /// Where clients connect.
    pub address: &'a str,
    /// The port at that address.
    pub port: u16,
}

impl Server<'_> {
    /// Starts a server for one transfer. iperf3 refuses a client until it has ended the transfer of the one before.
    #[track_caller]
    pub fn start(&self) -> Process {
        let port = self.port;
        let server = self.lab.spawn(words(&self.namespace, &format!("iperf3 -s -1 -p {port}")));
        eventually("iperf3 listens", || {
            let listening = self.lab.host(words(&self.namespace, "ss -Hltn")).stdout;
            listening.contains(&format!(":{port} ")).then_some(())
        });
        server
    }

    /// What iperf3 tells at the end of a client's transfer. `options` are those of iperf3.
    #[track_caller]
    pub fn end(&self, client: &str, options: &str) -> Value {
        let server = self.start();
        let command = format!("iperf3 -J -c {} -p {} {options}", self.address, self.port);
        let mut report: Value = self.lab.host(words(client, &command)).ok().json();
        server.output().ok();
        report["end"].take()
    }

    /// The payload in bits per second that the receiver of a client's transfer got.
    #[track_caller]
    pub fn received(&self, client: &str, options: &str) -> f64 {
        let end = self.end(client, options);
        let sum = if end["sum_received"].is_null() { &end["sum"] } else { &end["sum_received"] };
        sum["bits_per_second"].as_f64().unwrap_or_else(|| panic!("a throughput: {end}"))
    }

    /// A client's transfer has a rate, in bits of payload per second. On a busy machine, one of several attempts must have
    /// it: a receiver that stalls counts too little, and too much in the second after it.
    #[track_caller]
    pub fn has_rate(&self, client: &str, options: &str, expected: f64) {
        let mut seen = Vec::new();
        for _ in 0..TRIES {
            let received = self.received(client, options);
            seen.push(received);
            if (received / expected - 1.0).abs() <= TOLERANCE {
                println!("{options}: {received:.0} of {expected:.0} bit/s");
                return;
            }
        }
        panic!("{options}: {seen:?} of {expected} bit/s");
    }
}

/// A container sends 20 and receives 10 Mbit/s, to and from another one with this address.
#[track_caller]
pub fn sends_twenty_and_receives_ten(lab: &Lab, container: &str, other: &str, address: &str) {
    let server = Server { lab, namespace: lab.namespace(other), address, port: 5201 };
    for (options, bits) in [("-O 1 -t 2", 20e6), ("-O 1 -t 2 -R", 10e6)] {
        server.has_rate(&lab.namespace(container), options, bits * TCP_PAYLOAD);
    }
}

fn words(namespace: &str, command: &str) -> Vec<String> {
    let enter = ["nsenter".to_owned(), format!("--net={namespace}")];
    enter.into_iter().chain(command.split(' ').map(str::to_owned)).collect()
}
