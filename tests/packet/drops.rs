//! What is remembered of dropped frames: their addresses, protocols and ports, and for how long. That each dropped frame is
//! remembered, and no other, is checked wherever a test expects a drop (`bench`).

use netbpf_common::{
    drops::{DropKey, Drops, MAX_DROPS, NO_NETWORK, padded},
    reason::Reason,
    uplink::mapped,
    wire::protocol,
};

use super::{
    bench::{
        ANNE, BERT, BLUE, BLUE_GATEWAY, Bench, CLEO, CLEO_IPV6, CLEO_LINK_LOCAL, DORA, GATEWAY, RED, Sent,
        Station, bench, endpoint_entry, network_entry, veth,
    },
    frame::{BROADCAST, Frame, request},
};

/// An address that nobody has.
const FAR: [u8; 4] = [10, 0, 0, 9];

/// Sends a frame that is dropped as a new kind, and returns that.
#[track_caller]
fn dropped(bench: &Bench, sent: &Sent<'_>, frame: &Frame, reason: Reason) -> (DropKey, Drops) {
    let before = bench.drops();
    sent.is_dropped("a new kind", frame, reason);
    let mut new = bench.drops().into_iter().filter(|(key, _)| !before.contains_key(key));
    let kind = new.next().expect("a new kind");
    assert_eq!(new.next(), None);
    kind
}

/// A packet from an address that is not Anne's, with this protocol and what follows the header.
fn spoofed(protocol: u8, content: &[u8]) -> Frame {
    Frame::ipv4((ANNE.mac(), FAR), BERT.at()).with(14 + 9, &[protocol]).cut(14 + 20).then(content)
}

#[test]
fn ports_are_those_of_the_first_fragment() {
    bench(|bench| {
        let ports = [0x10, 0xe1, 0, 80, 0, 0, 0, 0];
        let none = ([0; 2], [0; 2]);
        let kinds = [
            (spoofed(protocol::TCP, &ports), ([0x10, 0xe1], [0, 80])),
            (spoofed(protocol::UDP, &ports), ([0x10, 0xe1], [0, 80])),
            (spoofed(protocol::SCTP, &ports), ([0x10, 0xe1], [0, 80])),
            (spoofed(protocol::ICMP, &[8, 1, 0, 0]), ([0; 2], [8, 1])),
            (spoofed(47, &ports), none),
            (spoofed(50, &[]), none),
        ];
        for (frame, (source, destination)) in kinds {
            let (key, drops) = dropped(bench, &bench.from(ANNE), &frame, Reason::SpoofedIpv4);
            assert_eq!((key.network, key.ethertype, key.protocol), (RED, [8, 0], frame.0[23]));
            assert_eq!((key.destination, drops.last.source), (mapped(BERT.ip), mapped(FAR)));
            assert_eq!((drops.last.source_port, key.port), (source, destination));
        }
        bench.from(ANNE).is_dropped(
            "the first kind again",
            &spoofed(protocol::TCP, &ports),
            Reason::SpoofedIpv4,
        );
        // A later fragment, a header with options, and a packet that ends before its ports, are of one kind each.
        let later = spoofed(protocol::TCP, &ports).with(14 + 6, &[0, 100]);
        let (key, drops) = dropped(bench, &bench.from(ANNE), &later, Reason::SpoofedIpv4);
        assert_eq!((drops.last.source_port, key.port), none);
        let options = spoofed(protocol::TCP, &ports).with(14, &[0x46]);
        bench.from(ANNE).is_dropped("options", &options, Reason::SpoofedIpv4);
        bench.from(ANNE).is_dropped("no ports", &spoofed(protocol::TCP, &[0x10]), Reason::SpoofedIpv4);
        let drops = bench.drops()[&key];
        assert_eq!((drops.frames, drops.last.length), (3, 35));
    });
}

#[test]
fn what_is_asked_for_is_the_destination() {
    bench(|bench| {
        let arp = Frame::arp(ANNE.mac(), BROADCAST, request(ANNE.mac(), FAR, BERT.ip));
        let (key, drops) = dropped(bench, &bench.from(ANNE), &arp, Reason::SpoofedArp);
        assert_eq!((key.ethertype, key.protocol, key.port), ([8, 6], 0, [0; 2]));
        assert_eq!((key.destination, drops.last.source), (mapped(BERT.ip), mapped(FAR)));

        let mut target = CLEO_IPV6;
        target[15] = 99;
        let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target].concat();
        let group = ([0x33, 0x33, 0, 0, 0, 1], [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        let solicitation = Frame::icmpv6((CLEO.mac(), CLEO_LINK_LOCAL), group, &message);
        let (key, drops) = dropped(bench, &bench.from(CLEO), &solicitation, Reason::UnknownAddress);
        assert_eq!((key.ethertype, key.protocol, key.port), ([0x86, 0xdd], 58, [135, 0]));
        assert_eq!((key.destination, drops.last.source), (target, CLEO_LINK_LOCAL));
    });
}

#[test]
fn frames_without_addresses_have_their_macs() {
    bench(|bench| {
        let nobody = [2, 0x42, 9, 9, 9, 9];
        let other = Frame::ethernet(ANNE.mac(), nobody, 0x88b5);
        let (key, drops) = dropped(bench, &bench.from(ANNE), &other, Reason::UnknownDestination);
        assert_eq!((key.ethertype, key.destination), ([0x88, 0xb5], padded(nobody)));
        assert_eq!(drops.last.source, padded(ANNE.mac()));
        let tagged = Frame::tagged(ANNE.mac(), nobody, 7, 0x0800);
        let (key, _) = dropped(bench, &bench.from(ANNE), &tagged, Reason::UnknownDestination);
        assert_eq!((key.ethertype, key.destination), ([0; 2], padded(nobody)));
    });
}

#[test]
fn a_packet_between_networks_has_both() {
    bench(|bench| {
        let frame = Frame::ipv4((GATEWAY.mac(), DORA.ip), ANNE.at());
        let sent = bench.host(GATEWAY).received_by(BLUE_GATEWAY.ifindex);
        let (key, drops) = dropped(bench, &sent, &frame, Reason::Isolated);
        assert_eq!((key.ifindex, key.network), (GATEWAY.ifindex, RED));
        assert_eq!((key.destination, drops.last.source), (mapped(ANNE.ip), mapped(DORA.ip)));
        assert_eq!(drops.last.received_by, BLUE_GATEWAY.ifindex);
        veth("nobody", DORA.ifindex + 1);
        let unknown = bench.from(Station { ifindex: DORA.ifindex + 1, ..DORA });
        let (key, _) = dropped(bench, &unknown, &frame, Reason::UnknownEndpoint);
        assert_eq!(key.network, NO_NETWORK);
    });
}

#[test]
fn an_endpoint_or_network_with_the_number_of_another_begins_anew() {
    bench(|bench| {
        let number = ANNE.number().expect("a container");
        let of = |bench: &Bench, station: Station| {
            bench.drops().keys().filter(|key| key.ifindex == station.ifindex).count()
        };
        for station in [ANNE, DORA] {
            let frame = Frame::ipv4((station.mac(), FAR), station.at());
            bench.from(station).is_dropped("spoofed", &frame, Reason::SpoofedIpv4);
        }
        bench.datapath.remove_endpoint(number, Some("anne")).expect("removed");
        assert_eq!(of(bench, ANNE), 1, "what a container did is remembered when it is gone");
        bench.datapath.write_endpoint(number, &endpoint_entry(RED, ANNE)).expect("an endpoint");
        assert_eq!((of(bench, ANNE), of(bench, DORA)), (0, 1));
        bench.datapath.remove_endpoint(DORA.number().expect("a container"), Some("dora")).expect("removed");
        bench.datapath.remove_network(BLUE, Some("blue")).expect("removed");
        bench.datapath.write_network(BLUE, &network_entry(BLUE_GATEWAY)).expect("a network");
        assert_eq!(of(bench, DORA), 0);
    });
}

#[test]
fn the_kernel_keeps_the_last_kinds() {
    bench(|bench| {
        for number in 0..3 * MAX_DROPS as u16 {
            let [high, low] = number.to_be_bytes();
            let frame = spoofed(protocol::UDP, &[0, 53, high, low]);
            bench.from(ANNE).send(&frame);
        }
        let drops = bench.drops();
        assert!(drops.len() <= MAX_DROPS as usize && drops.len() > MAX_DROPS as usize / 4, "{}", drops.len());
        let [high, low] = (3 * MAX_DROPS as u16 - 1).to_be_bytes();
        assert!(drops.keys().any(|key| key.port == [high, low]), "the last one");
        assert_eq!(drops.values().map(|drops| drops.frames).sum::<u64>(), drops.len() as u64);
    });
}
