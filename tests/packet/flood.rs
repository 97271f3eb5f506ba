//! Broadcast and multicast reach every member of the network except the sender, and no other network.

use netbpf::plan::NetworkEntry;
use netbpf_common::{
    endpoint,
    network::{self, Network},
    reason::Reason,
};

use super::{
    bench::{
        ANNE, BERT, BLUE, BLUE_GATEWAY, Bench, CLEO, DORA, GATEWAY, RED, REDIRECT, Station, bench,
        endpoint_entry, network_entry, run, veth,
    },
    frame::{BROADCAST, Frame},
};

fn to_all(from: Station) -> Frame {
    Frame::ipv4(from.at(), (BROADCAST, [255; 4]))
}

#[test]
fn a_group_frame_reaches_every_other_member() {
    bench(|bench| {
        let groups = [
            ("broadcast", BROADCAST),
            ("IPv4 multicast", [1, 0, 0x5e, 0, 0, 0xfb]),
            ("a group", [3, 0, 0, 0, 0, 1]),
        ];
        for (says, group) in groups {
            let frame = Frame::ipv4(ANNE.at(), (group, [224, 0, 0, 251]));
            bench.from(ANNE).passes(says, &frame, Reason::Flooded, &[BERT, CLEO]);
        }
        bench.from(DORA).passes("alone in a network", &to_all(DORA), Reason::Flooded, &[]);
    });
}

#[test]
fn former_members_get_nothing_and_remaining_ones_everything() {
    bench(|bench| {
        for (leaver, name) in [(BERT, "bert"), (ANNE, "anne"), (CLEO, "cleo")] {
            let number = leaver.number().expect("a container");
            bench.datapath.remove_endpoint(number, Some(name)).expect("removed");
            let others: Vec<_> =
                [ANNE, BERT, CLEO].into_iter().filter(|other| other.ifindex != leaver.ifindex).collect();
            bench.from(others[0]).passes("one has left", &to_all(others[0]), Reason::Flooded, &others[1..]);
            bench.datapath.write_endpoint(number, &endpoint_entry(RED, leaver)).expect("written");
            bench.from(others[0]).passes(
                "it is back",
                &to_all(others[0]),
                Reason::Flooded,
                &[others[1], leaver],
            );
        }
    });
}

#[test]
fn an_interface_that_is_down_does_not_stop_a_flood() {
    bench(|bench| {
        run("ip link set bert down");
        bench.from(ANNE).passes("one is down", &to_all(ANNE), Reason::Flooded, &[CLEO]);
    });
}

#[test]
fn an_endpoint_that_changed_its_network_gets_frames_of_the_new_one_only() {
    bench(|bench| {
        let moved = Station { ip: [192, 168, 0, 3], ..BERT };
        let number = moved.number().expect("a container");
        bench.datapath.write_endpoint(number, &endpoint_entry(BLUE, moved)).expect("written");
        bench.from(ANNE).passes("the old network", &to_all(ANNE), Reason::Flooded, &[CLEO]);
        bench.from(DORA).passes("the new network", &to_all(DORA), Reason::Flooded, &[moved]);
    });
}

#[test]
fn more_members_than_one_program_serves_all_get_the_frame() {
    const MEMBERS: u32 = 600;
    bench(|bench| {
        for number in 10..10 + MEMBERS {
            let ip = [192, 168, 1 + (number / 200) as u8, (number % 200) as u8];
            let station = Station { ifindex: endpoint::ifindex_of(number), ip };
            bench.datapath.write_endpoint(number, &endpoint_entry(BLUE, station)).expect("an endpoint");
        }
        // Interfaces for the two ends of the list and for one in the middle; the others are missing, as if they were
        // down.
        for number in [10, 300, 9 + MEMBERS] {
            veth(&format!("many{number}"), endpoint::ifindex_of(number));
        }
        let outcome = bench.host(BLUE_GATEWAY).frame(&to_all(BLUE_GATEWAY));
        assert_eq!((outcome.verdict, outcome.reasons.as_slice()), (REDIRECT, [Reason::Flooded].as_slice()));
        assert_eq!(
            outcome.received,
            [DORA.number().expect("a container")],
            "the first to join is last in the list"
        );
        for number in [10, 300, 9 + MEMBERS] {
            let received = bench.datapath.endpoint_stats(number).expect("ENDPOINT_STATS").from_host;
            assert_eq!(received.packets, 1, "port {number}");
        }
        assert_eq!(network::number_of(BLUE_GATEWAY.ifindex), Some(BLUE));
    });
}

/// Sets a limit of copies per second for the red network.
fn limit(bench: &mut Bench, flood_copies: u32) {
    let entry = network_entry(GATEWAY);
    let entry = NetworkEntry { network: Network { flood_copies, ..entry.network }, ..entry };
    bench.datapath.write_network(RED, &entry).expect("written");
    assert_eq!(bench.datapath.observed().networks[&RED], entry);
}

#[test]
fn an_endpoint_at_its_limit_of_copies_floods_no_more() {
    bench(|bench| {
        // Members without interfaces make a flood so expensive that even a slow machine does not regain the credit in
        // time.
        for number in 10..1000 {
            let ip = [172, 17, 1 + (number / 200) as u8, (number % 200) as u8];
            let station = Station { ifindex: endpoint::ifindex_of(number), ip };
            bench.datapath.write_endpoint(number, &endpoint_entry(RED, station)).expect("an endpoint");
        }
        limit(bench, 1);
        bench.from(ANNE).passes("the first", &to_all(ANNE), Reason::Flooded, &[BERT, CLEO]);
        bench.from(ANNE).is_dropped("the second", &to_all(ANNE), Reason::FloodLimit);
        let multicast = Frame::ipv4(ANNE.at(), ([1, 0, 0x5e, 0, 0, 0xfb], [224, 0, 0, 251]));
        bench.from(ANNE).is_dropped("multicast", &multicast, Reason::FloodLimit);
        let unicast = Frame::ipv4(ANNE.at(), BERT.at());
        bench.from(ANNE).passes("unicast", &unicast, Reason::Forwarded, &[BERT]);
        bench.from(BERT).passes("from another", &to_all(BERT), Reason::Flooded, &[ANNE, CLEO]);
        for _ in 0..2 {
            bench.host(GATEWAY).passes("the host's", &to_all(GATEWAY), Reason::Flooded, &[ANNE, BERT, CLEO]);
        }
        // An endpoint number that another container gets is free of its predecessor's debts.
        let number = ANNE.number().expect("a container");
        bench.datapath.remove_endpoint(number, None).expect("removed");
        bench.datapath.write_endpoint(number, &endpoint_entry(RED, ANNE)).expect("written");
        bench.from(ANNE).passes("who came after", &to_all(ANNE), Reason::Flooded, &[BERT, CLEO]);
        bench.from(ANNE).is_dropped("its second", &to_all(ANNE), Reason::FloodLimit);
        limit(bench, 0);
        bench.from(ANNE).passes("without a limit", &to_all(ANNE), Reason::Flooded, &[BERT, CLEO]);
    });
}

/// Each frame makes two copies, at a limit of a hundred per second, which every machine exceeds.
#[test]
fn the_limit_of_copies_is_per_second() {
    bench(|bench| {
        limit(bench, 100);
        let reason = || bench.from(ANNE).frame(&to_all(ANNE)).reasons;
        let mut passed = 0;
        while reason() == [Reason::Flooded] {
            passed += 1;
        }
        assert!(passed > 50, "{passed} frames passed, and a second's share is 50");
        let mut after = reason();
        while after == [Reason::FloodLimit] {
            after = reason();
        }
        assert_eq!(after, [Reason::Flooded]);
    });
}
