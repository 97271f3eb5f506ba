//! What the programs report to the daemon, and what the daemon removes for them: MACs that were not seen for long.

use std::collections::BTreeSet;

use netbpf::{
    datapath::Notices,
    plan::{EndpointEntry, NetworkEntry},
};
use netbpf_common::{
    access::{FURTHER, LEARNT_SECONDS, MAX_LEARNT_OF_ENDPOINT, UNGUARDED},
    endpoint::{Endpoint, NeighbourKey},
    network::Network,
    notice::{MAX_ANNOUNCEMENTS, Notice},
    reason::Reason,
    wire::Arp,
};
use nix::time::{ClockId, clock_gettime};
use serde_json::Value;

use super::{
    bench::{ANNE, BERT, Bench, CLEO, GATEWAY, RED, Station, bench, endpoint_entry, network_entry, run},
    frame::{BROADCAST, Frame, option, request},
};

/// A MAC and an address that nobody leases.
const OTHER: ([u8; 6], [u8; 4]) = ([2, 0, 0, 0, 0, 9], [172, 17, 0, 200]);

fn number(station: Station) -> u32 {
    station.number().expect("a container")
}

fn open(bench: &mut Bench, station: Station, access: u8) {
    let endpoint = Endpoint { access, ..endpoint_entry(RED, station) };
    let further = match access {
        FURTHER => ["172.17.0.0/16", "::/0"].map(|subnet| subnet.parse().expect("a subnet")).into(),
        _ => BTreeSet::new(),
    };
    bench
        .datapath
        .write_endpoint(number(station), EndpointEntry { endpoint, further, ..EndpointEntry::default() })
        .expect("written");
}

fn read(notices: &mut Notices) -> Vec<Notice> {
    notices.by_ref().collect()
}

fn announced(station: Station, address: NeighbourKey) -> Notice {
    Notice {
        kind: Notice::ANNOUNCEMENT,
        endpoint: number(station),
        address,
        mac: station.mac(),
        reserved: [0; 2],
    }
}

#[test]
fn announcements_of_addresses_without_a_lease_are_reported() {
    bench(|bench| {
        let mut notices = bench.datapath.take_notices().expect("the first reader");
        assert!(
            bench.datapath.take_notices().is_none(),
            "a second reader would take the notices of the first"
        );
        let arp = |mac, arp| Frame::arp(mac, BROADCAST, arp);
        let free = NeighbourKey { network: RED, address: [0x20; 16] };
        let advertisement = |flags: u8| {
            let message =
                [&[136, 0, 0, 0, flags, 0, 0, 0][..], &free.address, &option(2, ANNE.mac())].concat();
            let to = ([0x33, 0x33, 0, 0, 0, 1], netbpf_common::wire::ALL_NODES);
            Frame::icmpv6((ANNE.mac(), free.address), to, &message)
        };
        for access in [FURTHER, UNGUARDED] {
            open(bench, ANNE, access);
            let reply = Arp { op: Arp::REPLY, ..request(ANNE.mac(), OTHER.1, OTHER.1) };
            for (says, frame) in [
                ("a request", arp(ANNE.mac(), request(ANNE.mac(), OTHER.1, OTHER.1))),
                ("a reply", arp(ANNE.mac(), reply)),
            ] {
                bench.from(ANNE).passes(says, &frame, Reason::Flooded, &[BERT, CLEO]);
                assert_eq!(read(&mut notices), [announced(ANNE, NeighbourKey::ipv4(RED, OTHER.1))], "{says}");
            }
            bench.from(ANNE).passes("an advertisement", &advertisement(0x20), Reason::Flooded, &[BERT, CLEO]);
            assert_eq!(read(&mut notices), [announced(ANNE, free)]);
            // Neither an answer, nor a question, nor a lease.
            bench.from(ANNE).passes("an answer", &advertisement(0x60), Reason::Flooded, &[BERT, CLEO]);
            bench.from(ANNE).send(&arp(ANNE.mac(), request(ANNE.mac(), OTHER.1, BERT.ip)));
            bench.from(ANNE).send(&arp(ANNE.mac(), request(ANNE.mac(), ANNE.ip, ANNE.ip)));
            assert_eq!(read(&mut notices), []);
        }
        open(bench, ANNE, 0);
        let spoofed = arp(ANNE.mac(), request(ANNE.mac(), OTHER.1, OTHER.1));
        bench.from(ANNE).is_dropped("a guarded member", &spoofed, Reason::SpoofedArp);
        assert_eq!(read(&mut notices), []);
    });
}

#[test]
fn an_endpoint_reports_a_few_times_a_second() {
    bench(|bench| {
        let mut notices = bench.datapath.take_notices().expect("the first reader");
        open(bench, ANNE, UNGUARDED);
        let second = || clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock").tv_sec();
        let begun = second();
        for _ in 0..200 {
            bench.from(ANNE).send(&Frame::arp(ANNE.mac(), BROADCAST, request(ANNE.mac(), OTHER.1, OTHER.1)));
        }
        let (reported, seconds) = (read(&mut notices).len() as u32, (second() - begun) as u32 + 1);
        let most = u32::from(MAX_ANNOUNCEMENTS);
        assert!(reported >= most && reported <= seconds * most, "{reported} in {seconds}");
    });
}

#[test]
fn an_endpoint_at_its_limit_of_copies_is_reported() {
    bench(|bench| {
        let mut notices = bench.datapath.take_notices().expect("the first reader");
        let entry = network_entry(GATEWAY);
        let network = Network { flood_copies: 1, ..entry.network };
        bench.datapath.write_network(RED, &NetworkEntry { network, ..entry }).expect("written");
        let to_all = Frame::ipv4(BERT.at(), (BROADCAST, [255; 4]));
        bench.from(BERT).passes("the first", &to_all, Reason::Flooded, &[ANNE, CLEO]);
        assert_eq!(read(&mut notices), []);
        bench.from(BERT).is_dropped("the second", &to_all, Reason::FloodLimit);
        let notice = Notice { kind: Notice::FLOOD_LIMIT, endpoint: number(BERT), ..Notice::default() };
        assert_eq!(read(&mut notices), [notice]);
    });
}

/// The number of entries of a map.
fn entries(bench: &Bench, map: &str) -> usize {
    run(&format!("bpftool map dump pinned {}", bench.pin("maps", map).display())).matches("\"key\"").count()
}

#[test]
fn old_macs_make_room_for_others() {
    bench(|bench| {
        for station in [ANNE, CLEO] {
            open(bench, station, UNGUARDED);
        }
        let mut macs = bench.datapath.learnt_macs().expect("pinned").expect("maps");
        let mac = |index: u32| {
            let [_, a, b, c] = index.to_be_bytes();
            [2, 1, 0, a, b, c]
        };
        // One that moves leaves its place at the endpoint before.
        for station in [ANNE, CLEO] {
            bench.from(station).send(&Frame::ipv4(OTHER, BERT.at()));
        }
        for index in 0..MAX_LEARNT_OF_ENDPOINT - 1 {
            bench.from(ANNE).send(&Frame::ipv4((mac(index), OTHER.1), BERT.at()));
        }
        let all = MAX_LEARNT_OF_ENDPOINT as usize;
        assert_eq!((entries(bench, "LEARNT"), entries(bench, "LEARNT_OF")), (all, all + 1));
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock").tv_sec() as u32;
        assert_eq!(macs.remove_old(now).expect("removed"), 0, "all are fresh");
        assert_eq!((entries(bench, "LEARNT"), entries(bench, "LEARNT_OF")), (all, all), "the place is free");
        bench.from(BERT).passes("it moved", &Frame::ipv4(BERT.at(), OTHER), Reason::Forwarded, &[CLEO]);
        assert_eq!(macs.remove_old(now + LEARNT_SECONDS + 100).expect("removed"), all);
        assert_eq!((entries(bench, "LEARNT"), entries(bench, "LEARNT_OF")), (0, 0));
        bench.from(ANNE).send(&Frame::ipv4((mac(7), OTHER.1), BERT.at()));
        assert_eq!((entries(bench, "LEARNT"), entries(bench, "LEARNT_OF")), (1, 1), "learnt again");
        // One without a place is removed the second time: the first time, a program may have been about to write it.
        let places = bench.pin("maps", "LEARNT_OF");
        let dump = run(&format!("bpftool -j map dump pinned {}", places.display()));
        let dump: Value = serde_json::from_str(&dump).expect("JSON");
        let key: Vec<&str> =
            dump[0]["key"].as_array().expect("bytes").iter().filter_map(Value::as_str).collect();
        run(&format!("bpftool map delete pinned {} key {}", places.display(), key.join(" ")));
        assert_eq!(macs.remove_old(now).expect("looked"), 0);
        assert_eq!(macs.remove_old(now).expect("removed"), 1);
        assert_eq!(entries(bench, "LEARNT"), 0);
    });
}
