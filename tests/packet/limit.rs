//! The limit of what an endpoint sends, for containers that have removed the queueing discipline in front of it.

use netbpf::plan::EndpointEntry;
use netbpf_common::{
    access::{LIMITED, UNGUARDED},
    endpoint::Endpoint,
    limit::EgressLimit,
    reason::Reason,
};

use super::{
    bench::{ANNE, BERT, Bench, CLEO, GATEWAY, RED, bench, endpoint_entry},
    frame::{BROADCAST, Frame, request},
};

/// So slow that no machine regains anything in time, with room for one frame.
const SLOW: EgressLimit = EgressLimit { rate: 1, burst: 1, spent_until: 0 };

/// Writes Anne's limit, and what else she may do.
fn limit(bench: &mut Bench, limit: EgressLimit, access: u8) {
    let endpoint = Endpoint { access, ..endpoint_entry(RED, ANNE) };
    let entry = EndpointEntry { endpoint, limit, ..EndpointEntry::default() };
    let number = ANNE.number().expect("a container");
    bench.datapath.write_endpoint(number, entry.clone()).expect("written");
    assert_eq!(bench.datapath.observed().endpoints[&number], entry);
}

#[test]
fn an_endpoint_at_its_limit_sends_nothing_and_receives_all() {
    bench(|bench| {
        limit(bench, SLOW, LIMITED);
        let frame = Frame::ipv4(ANNE.at(), BERT.at());
        bench.from(ANNE).passes("the first", &frame, Reason::Forwarded, &[BERT]);
        for (says, frame) in [
            ("to a member", frame.clone()),
            ("to the host", Frame::ipv4(ANNE.at(), GATEWAY.at())),
            ("to all", Frame::ipv4(ANNE.at(), (BROADCAST, [255; 4]))),
            ("a request", Frame::arp(ANNE.mac(), BROADCAST, request(ANNE.mac(), ANNE.ip, BERT.ip))),
        ] {
            bench.from(ANNE).is_dropped(says, &frame, Reason::EgressLimit);
        }
        let stats = bench.datapath.endpoint_stats(ANNE.number().expect("a container")).expect("counters");
        assert_eq!(stats.dropped.packets, 4);
        bench.from(BERT).passes(
            "from another",
            &Frame::ipv4(BERT.at(), ANNE.at()),
            Reason::Forwarded,
            &[ANNE],
        );
        bench.host(GATEWAY).passes(
            "of the host",
            &Frame::ipv4(GATEWAY.at(), ANNE.at()),
            Reason::Forwarded,
            &[ANNE],
        );
        limit(bench, EgressLimit::default(), 0);
        bench.from(ANNE).passes("without a limit", &frame, Reason::Forwarded, &[BERT]);
    });
}

#[test]
fn a_new_limit_is_unused_and_the_number_of_a_removed_endpoint_has_none() {
    bench(|bench| {
        let frame = Frame::ipv4(ANNE.at(), BERT.at());
        for slow in [SLOW, EgressLimit { burst: 2, ..SLOW }] {
            limit(bench, slow, LIMITED);
            bench.from(ANNE).passes("the first", &frame, Reason::Forwarded, &[BERT]);
            bench.from(ANNE).is_dropped("the second", &frame, Reason::EgressLimit);
        }
        // What is not changed is not unused again.
        limit(bench, EgressLimit { burst: 2, ..SLOW }, LIMITED);
        bench.from(ANNE).is_dropped("the third", &frame, Reason::EgressLimit);
        let number = ANNE.number().expect("a container");
        bench.datapath.remove_endpoint(number, None).expect("removed");
        let endpoint = Endpoint { access: LIMITED, ..endpoint_entry(RED, ANNE) };
        bench.datapath.write_endpoint(number, &endpoint).expect("written");
        for _ in 0..3 {
            bench.from(ANNE).passes("who came after", &frame, Reason::Forwarded, &[BERT]);
        }
    });
}

#[test]
fn an_open_endpoint_is_limited_in_the_same_way() {
    bench(|bench| {
        limit(bench, SLOW, LIMITED | UNGUARDED);
        let frame = Frame::ipv4(([2, 0, 0, 0, 0, 9], [172, 17, 0, 200]), BERT.at());
        bench.from(ANNE).passes("from any MAC", &frame, Reason::Forwarded, &[BERT]);
        bench.from(ANNE).is_dropped("the second", &frame, Reason::EgressLimit);
    });
}

/// The bytes of each frame take so long that every machine exceeds the limit, and regains some of it.
#[test]
fn the_limit_is_a_rate() {
    bench(|bench| {
        let frame = Frame::ipv4(ANNE.at(), CLEO.at());
        let reason = |bench: &Bench| bench.from(ANNE).frame(&frame).reasons;
        // A burst of 50 frames, and one every 10 ms.
        let bytes = frame.0.len() as u64;
        limit(bench, EgressLimit { rate: bytes * 100, burst: 500_000_000, spent_until: 0 }, LIMITED);
        let mut passed = 0;
        while reason(bench) == [Reason::Forwarded] {
            passed += 1;
        }
        assert!(passed >= 50, "{passed} frames passed, and the burst is 50");
        let mut after = reason(bench);
        while after == [Reason::EgressLimit] {
            after = reason(bench);
        }
        assert_eq!(after, [Reason::Forwarded]);
    });
}
