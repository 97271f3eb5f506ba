//! Conntrack's entries of single flows: what is read and changed of one, and that one that ends is not kept.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
};

use netbpf::firewall::{Direction, TrackedFlows, Transport};
use netbpf_tests::lab::{accept, connect};
use nix::sys::socket::{setsockopt, sockopt::Linger};

use crate::host::{ip, on_a_host};

/// A published port of the host, 127.0.0.2:8080, which leads to a server at 127.0.0.1:80.
const RULES: &str = "
    add table ip test
    add chain ip test publish { type nat hook output priority -100; }
    add rule ip test publish ip daddr 127.0.0.2 tcp dport 8080 dnat to 127.0.0.1:80
";

/// A connection to the published port.
struct Published {
    client: TcpStream,
    server: TcpStream,
}

impl Published {
    fn new() -> Self {
        ip("link set lo up");
        assert!(Command::new("nft").arg(RULES).status().unwrap().success());
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        let client = connect(([127, 0, 0, 2], 8080).into());
        let mut published = Self { client, server: accept(&listener) };
        // Conntrack calls a connection assured when it has seen an acknowledgement of the server's bytes.
        let mut got = [0; 1];
        for _ in 0..2 {
            published.server.write_all(b"x").unwrap();
            published.client.read_exact(&mut got).unwrap();
            published.client.write_all(b"y").unwrap();
            published.server.read_exact(&mut got).unwrap();
        }
        published
    }

    /// The packets of the server.
    fn sent(&self) -> Direction {
        let (SocketAddr::V4(source), SocketAddr::V4(destination)) =
            (self.server.local_addr().unwrap(), self.server.peer_addr().unwrap())
        else {
            panic!("addresses of IPv4")
        };
        Direction { transport: Transport::Tcp, source, destination }
    }

    /// The server ends it with RST.
    fn reset(mut self) {
        let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&self.server, Linger, &at_once).unwrap();
        drop(self.server);
        self.client.read_exact(&mut [0; 1]).unwrap_err();
    }
}

/// The state of the only entry, and after how many seconds it ends.
fn entry() -> (String, u32) {
    let entries = fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap();
    let words: Vec<_> = entries.split_whitespace().collect();
    (words[5].to_owned(), words[4].parse().unwrap())
}

#[test]
fn an_established_flow_takes_all_segments_and_its_time_is_left_alone() {
    on_a_host(async || {
        let published = Published::new();
        let (sent, tracked) = (published.sent(), TrackedFlows::open().unwrap());
        let found = tracked.find(&sent).unwrap().expect("it is established");
        assert_eq!(found.source, "127.0.0.2:8080".parse().unwrap());
        assert!(!found.takes_all);
        assert!(tracked.extend(&sent, 500).unwrap());
        assert!(tracked.take_all(&sent).unwrap());
        let found = tracked.find(&sent).unwrap().expect("it is established");
        assert!(found.takes_all);
        assert!((400..=500).contains(&found.remaining), "{found:?}");
        assert_eq!(entry().0, "ESTABLISHED");
    });
}

#[test]
fn an_entry_that_ends_is_not_kept() {
    on_a_host(async || {
        let published = Published::new();
        let (sent, tracked) = (published.sent(), TrackedFlows::open().unwrap());
        published.reset();
        assert_eq!(entry().0, "CLOSE");
        assert_eq!(tracked.find(&sent).unwrap(), None);
        assert!(!tracked.extend(&sent, 400_000).unwrap());
        let (state, seconds) = entry();
        assert!(state == "CLOSE" && seconds <= 120, "{state} for {seconds} s");
    });
}

#[test]
fn an_entry_that_is_gone_is_no_error() {
    on_a_host(async || {
        let published = Published::new();
        let (mut sent, tracked) = (published.sent(), TrackedFlows::open().unwrap());
        sent.source.set_port(81);
        assert_eq!(tracked.find(&sent).unwrap(), None);
        assert!(!tracked.take_all(&sent).unwrap());
        assert!(!tracked.extend(&sent, 100).unwrap());
    });
}
