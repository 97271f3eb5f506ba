//! Malformed frames are dropped; frames with a VLAN tag are forwarded by their MAC addresses.

use netbpf_common::reason::Reason;

use super::{
    bench::{ANNE, BERT, CLEO, CLEO_IPV6, Station, bench},
    frame::{Frame, arp_bytes, ipv4, request},
};

#[test]
fn a_frame_that_ends_within_its_headers_is_malformed() {
    bench(|bench| {
        let arp = request(BERT.mac(), BERT.ip, ANNE.ip).reply(ANNE.mac());
        let ipv6 = Frame::ipv6((CLEO.mac(), CLEO_IPV6), (BERT.mac(), CLEO_IPV6)).0;
        // BPF_PROG_TEST_RUN itself refuses short IP frames, unless they have a tag.
        let with_priority =
            |sender: Station, ethertype| Frame::tagged(sender.mac(), BERT.mac(), 0, ethertype);
        let whole = [
            ("ARP", ANNE, Frame::arp(ANNE.mac(), BERT.mac(), arp), 14 + 28),
            ("a VLAN tag", ANNE, Frame::tagged(ANNE.mac(), BERT.mac(), 7, 0x88b5), 14 + 4),
            ("IPv4", ANNE, with_priority(ANNE, 0x0800).then(&ipv4(ANNE.ip, BERT.ip)), 18 + 20),
            ("IPv6", CLEO, with_priority(CLEO, 0x86dd).then(&ipv6[14..]), 18 + 40),
        ];
        for (what, sender, frame, headers) in whole {
            for length in 14..headers {
                let says = format!("{what} of {length} bytes");
                bench.from(sender).is_dropped(&says, &frame.clone().cut(length), Reason::Malformed);
            }
            bench.from(sender).passes(what, &frame.cut(headers), Reason::Forwarded, &[BERT]);
        }
    });
}

#[test]
fn a_header_that_contradicts_its_ethertype_is_malformed() {
    bench(|bench| {
        let ipv4 = Frame::ipv4(ANNE.at(), BERT.at());
        bench.from(ANNE).is_dropped("IPv4 of version 6", &ipv4.clone().with(14, &[0x65]), Reason::Malformed);
        bench.from(ANNE).is_dropped(
            "IPv4 with 16 bytes of header",
            &ipv4.with(14, &[0x44]),
            Reason::Malformed,
        );
        let ipv6 = Frame::ipv6((CLEO.mac(), CLEO_IPV6), (BERT.mac(), CLEO_IPV6));
        bench.from(CLEO).is_dropped("IPv6 of version 4", &ipv6.with(14, &[0x45]), Reason::Malformed);
        let arp = Frame::arp(ANNE.mac(), BERT.mac(), request(ANNE.mac(), ANNE.ip, BERT.ip));
        bench.from(ANNE).is_dropped("ARP with addresses of 8 bytes", &arp.with(18, &[8]), Reason::Malformed);
    });
}

#[test]
fn a_complete_header_is_sufficient() {
    bench(|bench| {
        let unknown = Frame::ethernet(ANNE.mac(), BERT.mac(), 0x88b5);
        bench.from(ANNE).passes("14 bytes of an unknown protocol", &unknown, Reason::Forwarded, &[BERT]);
        let length = Frame::ethernet(ANNE.mac(), BERT.mac(), 3).then(&[0x42, 0x42, 3]);
        bench.from(ANNE).passes("an IEEE 802.3 frame", &length, Reason::Forwarded, &[BERT]);
        let big = Frame::ipv4(ANNE.at(), BERT.at()).with(16, &[0, 0]);
        bench.from(ANNE).passes("BIG TCP, whose header says length 0", &big, Reason::Forwarded, &[BERT]);
    });
}

#[test]
fn addresses_within_a_vlan_are_not_checked() {
    bench(|bench| {
        let ip = Frame::tagged(ANNE.mac(), BERT.mac(), 7, 0x0800).then(&ipv4([10, 0, 0, 1], [10, 0, 0, 2]));
        bench.from(ANNE).passes("IPv4 of the VLAN's own addresses", &ip, Reason::Forwarded, &[BERT]);
        let arp = Frame::tagged(ANNE.mac(), BERT.mac(), 7, 0x0806).then(&arp_bytes(request(
            ANNE.mac(),
            [10, 0, 0, 1],
            BERT.ip,
        )));
        bench.from(ANNE).passes("ARP of the VLAN is not answered", &arp, Reason::Forwarded, &[BERT]);
        let stacked = Frame::tagged(ANNE.mac(), BERT.mac(), 7, 0x8100).then(&[0, 9, 8, 0]);
        bench.from(ANNE).passes("a VLAN in a VLAN", &stacked, Reason::Forwarded, &[BERT]);
        let spoofed = Frame::tagged(CLEO.mac(), BERT.mac(), 7, 0x0800);
        bench.from(ANNE).is_dropped("another's MAC in a VLAN", &spoofed, Reason::SpoofedMac);
    });
}

#[test]
fn frames_with_a_priority_tag_are_checked() {
    bench(|bench| {
        let tagged = |ethertype| Frame::tagged(ANNE.mac(), BERT.mac(), 5 << 13, ethertype);
        let own = tagged(0x0800).then(&ipv4(ANNE.ip, BERT.ip));
        bench.from(ANNE).passes("IPv4 with a priority", &own, Reason::Forwarded, &[BERT]);
        let spoofed = tagged(0x0800).then(&ipv4(CLEO.ip, BERT.ip));
        bench.from(ANNE).is_dropped("another's IPv4 with a priority", &spoofed, Reason::SpoofedIpv4);
        let by_service = Frame::ethernet(ANNE.mac(), BERT.mac(), 0x88a8).then(&[0, 0, 8, 0]);
        let spoofed = by_service.then(&ipv4(CLEO.ip, BERT.ip));
        bench.from(ANNE).is_dropped("another's IPv4 with a service tag", &spoofed, Reason::SpoofedIpv4);
        let loopback = tagged(0x0800).then(&ipv4(ANNE.ip, [127, 0, 0, 1]));
        bench.from(ANNE).is_dropped("to 127.0.0.1 with a priority", &loopback, Reason::Loopback);
        let arp = tagged(0x0806).then(&arp_bytes(request(ANNE.mac(), CLEO.ip, BERT.ip)));
        bench.from(ANNE).is_dropped("another's address in ARP with a priority", &arp, Reason::SpoofedArp);
        for inner in [0x8100_u16, 0x88a8] {
            let twice = tagged(inner).then(&[0, 0, 8, 0]).then(&ipv4(CLEO.ip, BERT.ip));
            bench.from(ANNE).is_dropped("a tag in a priority tag", &twice, Reason::Malformed);
        }
        let request = request(ANNE.mac(), ANNE.ip, BERT.ip);
        let asked = tagged(0x0806).then(&arp_bytes(request));
        let answer = Frame::tagged(BERT.mac(), ANNE.mac(), 5 << 13, 0x0806)
            .then(&arp_bytes(request.reply(BERT.mac())));
        bench.from(ANNE).is_answered("an ARP request with a priority", &asked, &answer);
    });
}
