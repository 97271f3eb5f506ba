//! Many established flows: each busy one is reported, none hides another one, and each container has room for some.

use std::collections::BTreeSet;

use netbpf::datapath::Shortcut;
use netbpf_common::flow::{MAX_FLOWS, PACKETS_UNTIL_REPORT};
use netbpf_tests::lab::eventually;

use super::{PEER, PEER_PORT, PORT, TCP, UDP, UPLINK, begin, flow, out, packet, seconds, way, with_macs};
use crate::{
    bench::{ANNE, BERT, GATEWAY, Station, bench},
    frame::Frame,
};

/// Whatever places their counts share: each flow of many that take turns is reported.
#[test]
fn flows_do_not_hide_each_other() {
    bench(|bench| {
        if !bench.datapath.can_shortcut() {
            return;
        }
        bench.datapath.load_flow_programs().expect("the programs load");
        bench.datapath.admit_flows(seconds() + 600).expect("FLOW_STATE");
        let mut busy = bench.datapath.take_busy_flows().expect("the reader");
        let frames: Vec<Frame> = (0..500)
            .map(|port| packet(TCP, (ANNE.ip, PORT), (PEER, port), b"x"))
            .map(|frame| with_macs(frame, ANNE.mac(), GATEWAY.mac()))
            .collect();
        let mut reported = BTreeSet::new();
        for _ in 0..6 * PACKETS_UNTIL_REPORT {
            for frame in &frames {
                bench.from(ANNE).send(frame);
            }
            reported.extend(busy.by_ref().map(|key| key.destination_port));
        }
        assert_eq!(reported.len(), frames.len());
    });
}

/// However many flows a container begins, there are places for those of others.
#[test]
fn a_container_leaves_room_for_flows_of_others() {
    bench(|bench| {
        if !begin(bench) {
            return;
        }
        let bert = BERT.number().expect("a container");
        let mut add = |at: Station, endpoint, port: u16| {
            let (inside, host, peer) = ((at.ip, port), (UPLINK.ip, port), (PEER, PEER_PORT));
            let flow = Shortcut {
                endpoint,
                out: way(at.ifindex, UDP, inside, peer, host),
                back: way(UPLINK.ifindex, UDP, peer, host, inside),
                ..flow(UDP)
            };
            let changes = bench.datapath.flow_changes();
            bench.datapath.add_flow(changes, &flow, seconds()).expect("no error").is_some()
        };
        let anne = ANNE.number().expect("a container");
        let of_anne = (0..MAX_FLOWS as u16).filter(|port| add(ANNE, anne, *port)).count() as u32;
        let of_bert =
            (0..MAX_FLOWS as u16).filter(|port| add(BERT, bert, MAX_FLOWS as u16 + port)).count() as u32;
        assert!(of_anne > MAX_FLOWS / 3 && of_anne <= MAX_FLOWS / 2, "{of_anne}");
        assert!(of_bert > MAX_FLOWS / 6 && of_anne + of_bert < MAX_FLOWS, "{of_bert}");
    });
}

#[test]
fn a_flow_without_entry_is_reported_when_it_has_sent_enough() {
    bench(|bench| {
        if !bench.datapath.can_shortcut() {
            return;
        }
        bench.datapath.load_flow_programs().expect("the programs load");
        let mut busy = bench.datapath.take_busy_flows().expect("the reader");
        for _ in 0..2 * PACKETS_UNTIL_REPORT {
            bench.from(ANNE).send(&out(TCP, b"x"));
        }
        assert_eq!(busy.by_ref().count(), 0, "no flow may skip the stack");
        bench.datapath.admit_flows(seconds() + 600).expect("FLOW_STATE");
        let key = flow(TCP).out.key;
        for _ in 1..PACKETS_UNTIL_REPORT {
            bench.from(ANNE).send(&out(TCP, b"x"));
        }
        assert_eq!(busy.by_ref().count(), 0, "it has not sent enough");
        for _ in 0..3 {
            // Once in this second, and in each later one.
            eventually("it is reported", || {
                bench.from(ANNE).send(&out(TCP, b"x"));
                busy.by_ref().next().map(|reported| assert_eq!(reported, key))
            });
        }
        let second = seconds();
        let again = (0..100).flat_map(|_| {
            bench.from(ANNE).send(&out(TCP, b"x"));
            busy.by_ref().collect::<Vec<_>>()
        });
        assert!(again.count() as u32 <= seconds() - second + 1, "once a second");
    });
}
