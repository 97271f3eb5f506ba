//! The instance of the programs that is asked, and never attached: it says what the programs do, and changes nothing.

use netbpf::datapath::{Judge, Sender};
use netbpf_common::{
    access::UNGUARDED,
    endpoint::Endpoint,
    network::BETWEEN_NETWORKS,
    reason::Reason,
    stats::{Counter, EndpointStats},
};

use super::{
    bench::{
        ANNE, BERT, BLUE, BLUE_GATEWAY, Bench, CLEO, DORA, GATEWAY, RED, Sent, Station, bench, endpoint_entry,
    },
    frame::{BROADCAST, Frame, request},
};

/// The endpoints of both networks.
const MEMBERS: [u32; 4] = [1, 2, 3, 4];

/// All that the programs have counted.
fn counters(bench: &Bench) -> (Vec<(Reason, Counter)>, Vec<EndpointStats>) {
    let stats = |number: &u32| bench.datapath.endpoint_stats(*number).expect("ENDPOINT_STATS");
    (bench.datapath.reasons().expect("REASONS"), MEMBERS.iter().map(stats).collect())
}

fn judge(bench: &Bench) -> Judge {
    bench.datapath.judge(None)().expect("an instance of the programs")
}

/// Asks the judge about a frame, and then sends it: both must say the same.
#[track_caller]
fn agrees(
    bench: &Bench,
    judge: &mut Judge,
    sender: Sender,
    sent: &Sent<'_>,
    says: &str,
    frame: &Frame,
) -> Reason {
    let before = counters(bench);
    let judged = judge.ask(sender, &frame.0, &MEMBERS).unwrap_or_else(|error| panic!("{says}: {error}"));
    assert_eq!(counters(bench), before, "{says}: nothing is counted");
    let outcome = sent.frame(frame);
    let said = (vec![judged.reason], judged.receiver.into_iter().collect::<Vec<_>>(), Frame(judged.frame));
    let received = if judged.reason == Reason::Forwarded { outcome.received } else { Vec::new() };
    assert_eq!(said, (outcome.reasons, received, outcome.frame), "{says}");
    judged.reason
}

#[test]
fn the_judge_says_what_becomes_of_a_containers_frame() {
    bench(|bench| {
        let mut judge = judge(bench);
        let arp = |of: Station, sha: [u8; 6], target: [u8; 4]| {
            Frame::arp(of.mac(), BROADCAST, request(sha, of.ip, target))
        };
        let cases = [
            ("to a member", Frame::ipv4(ANNE.at(), BERT.at()), Reason::Forwarded),
            ("to the host", Frame::ipv4(ANNE.at(), GATEWAY.at()), Reason::Delivered),
            ("from another MAC", Frame::ipv4((BERT.mac(), ANNE.ip), CLEO.at()), Reason::SpoofedMac),
            ("from another address", Frame::ipv4((ANNE.mac(), BERT.ip), CLEO.at()), Reason::SpoofedIpv4),
            (
                "to another network's MAC",
                Frame::ipv4(ANNE.at(), (DORA.mac(), DORA.ip)),
                Reason::UnknownDestination,
            ),
            ("to 127.0.0.1", Frame::ipv4(ANNE.at(), (BERT.mac(), [127, 0, 0, 1])), Reason::Loopback),
            ("who has it?", arp(ANNE, ANNE.mac(), BERT.ip), Reason::AnsweredArp),
            ("who has what nobody has?", arp(ANNE, ANNE.mac(), [172, 17, 9, 9]), Reason::UnknownAddress),
            ("malformed", Frame::ipv4(ANNE.at(), BERT.at()).with(14, &[0x65]), Reason::Malformed),
            ("to itself", Frame::ipv4(ANNE.at(), (ANNE.mac(), BERT.ip)), Reason::Hairpin),
        ];
        for (says, frame, reason) in cases {
            let sent = bench.from(ANNE);
            assert_eq!(agrees(bench, &mut judge, Sender::Endpoint(1), &sent, says, &frame), reason, "{says}");
        }
    });
}

#[test]
fn the_judge_says_what_becomes_of_the_hosts_frame() {
    bench(|bench| {
        let mut judge = judge(bench);
        let frame = Frame::ipv4((GATEWAY.mac(), DORA.ip), ANNE.at());
        for (received_by, mark, reason) in [
            (0, 0, Reason::Forwarded),
            (BLUE_GATEWAY.ifindex, 0, Reason::Isolated),
            (BLUE_GATEWAY.ifindex, BETWEEN_NETWORKS, Reason::Forwarded),
            (GATEWAY.ifindex, 0, Reason::Forwarded),
        ] {
            let sender = Sender::Host { network: RED, received_by, mark };
            let sent = bench.host(GATEWAY).received_by(received_by).marked(mark);
            let says = format!("received by {received_by}, marked {mark}");
            assert_eq!(agrees(bench, &mut judge, sender, &sent, &says, &frame), reason, "{says}");
        }
        let question = Frame::arp(GATEWAY.mac(), BROADCAST, request(GATEWAY.mac(), GATEWAY.ip, BERT.ip));
        let sender = Sender::Host { network: RED, received_by: 0, mark: 0 };
        agrees(bench, &mut judge, sender, &bench.host(GATEWAY), "who has it?", &question);
        let elsewhere = Sender::Host { network: BLUE, received_by: 0, mark: 0 };
        let frame = Frame::ipv4(BLUE_GATEWAY.at(), DORA.at());
        agrees(bench, &mut judge, elsewhere, &bench.host(BLUE_GATEWAY), "in another network", &frame);
    });
}

#[test]
fn the_judge_sends_no_copies_and_learns_nothing() {
    bench(|bench| {
        let open = Endpoint { access: UNGUARDED, ..endpoint_entry(RED, ANNE) };
        bench.datapath.write_endpoint(1, &open).expect("an endpoint without guard");
        let mut judge = judge(bench);
        let learnt = || {
            let path = bench.pin("maps", "LEARNT");
            super::bench::run(&format!("bpftool map dump pinned {}", path.display()))
        };
        let before = (counters(bench), learnt());
        let other = [2, 0, 0, 0, 0, 9];
        let frame = Frame::ipv4((other, [172, 17, 0, 99]), (BROADCAST, [255; 4]));
        let judged = judge.ask(Sender::Endpoint(1), &frame.0, &MEMBERS).expect("an answer");
        assert_eq!(judged.reason, Reason::Flooded);
        let unknown = Frame::ipv4((other, [172, 17, 0, 99]), ([2, 0, 0, 0, 0, 8], [172, 17, 0, 98]));
        assert_eq!(
            judge.ask(Sender::Endpoint(1), &unknown.0, &MEMBERS).expect("an answer").reason,
            Reason::Flooded
        );
        assert_eq!((counters(bench), learnt()), before);
        // What the programs have learnt, the next judge knows.
        bench.from(ANNE).send(&frame);
        assert_ne!(learnt(), before.1);
        let mut judge = bench.datapath.judge(Some(judge))().expect("another instance");
        let to = Frame::ipv4(BERT.at(), (other, [172, 17, 0, 99]));
        let judged = judge.ask(Sender::Endpoint(2), &to.0, &MEMBERS).expect("an answer");
        assert_eq!((judged.reason, judged.receiver), (Reason::Forwarded, Some(1)));
    });
}
