//! Frames from the host to a network.

use netbpf::plan::NetworkEntry;
use netbpf_common::{
    network::{BETWEEN_NETWORKS, Network},
    reason::Reason,
};

use super::{
    bench::{ANNE, BERT, BLUE_GATEWAY, CLEO, DORA, GATEWAY, RED, bench, network_entry},
    frame::{BROADCAST, Frame, request},
};

#[test]
fn unicast_goes_to_its_container() {
    bench(|bench| {
        let frame = Frame::ipv4(GATEWAY.at(), ANNE.at());
        bench.host(GATEWAY).passes("to a container", &frame, Reason::Forwarded, &[ANNE]);
        let routed = Frame::ipv4((GATEWAY.mac(), [1, 1, 1, 1]), ANNE.at());
        bench.host(GATEWAY).received_by(1).passes("from the world", &routed, Reason::Forwarded, &[ANNE]);
        let nobody = Frame::ipv4(GATEWAY.at(), ([2, 0x42, 9, 9, 9, 9], [172, 17, 9, 9]));
        bench.host(GATEWAY).is_dropped("to nobody", &nobody, Reason::UnknownDestination);
        let itself = Frame::ipv4(GATEWAY.at(), GATEWAY.at());
        bench.host(GATEWAY).is_dropped("to itself", &itself, Reason::Hairpin);
        let other = Frame::ipv4(GATEWAY.at(), DORA.at());
        bench.host(GATEWAY).is_dropped("to another network's container", &other, Reason::UnknownDestination);
    });
}

/// `arping -D` would take an error of its socket for a sign that the address is in use.
#[test]
fn the_host_gets_no_error_for_an_arp_request_without_an_answer() {
    bench(|bench| {
        for (says, sender) in [("a request", GATEWAY.ip), ("a probe", [0; 4])] {
            let frame = Frame::arp(GATEWAY.mac(), BROADCAST, request(GATEWAY.mac(), sender, [172, 17, 9, 9]));
            bench.host(GATEWAY).is_lost(says, &frame, Reason::UnknownAddress);
        }
    });
}

#[test]
fn the_host_forwards_nothing_from_one_network_to_another() {
    bench(|bench| {
        let frame = Frame::ipv4((GATEWAY.mac(), DORA.ip), ANNE.at());
        let sent = bench.host(GATEWAY).received_by(BLUE_GATEWAY.ifindex);
        sent.is_dropped("from the other network", &frame, Reason::Isolated);
        let sent = bench.host(GATEWAY).received_by(GATEWAY.ifindex);
        sent.passes("from the network itself", &frame, Reason::Forwarded, &[ANNE]);
        let broadcast = Frame::ipv4((GATEWAY.mac(), DORA.ip), (BROADCAST, [255; 4]));
        let sent = bench.host(GATEWAY).received_by(BLUE_GATEWAY.ifindex);
        sent.is_dropped("to all, from the other network", &broadcast, Reason::Isolated);
        let sent = bench.host(GATEWAY).received_by(BLUE_GATEWAY.ifindex).marked(BETWEEN_NETWORKS);
        sent.passes("what the packet filter lets through", &frame, Reason::Forwarded, &[ANNE]);
        let sent = bench.host(GATEWAY).received_by(BLUE_GATEWAY.ifindex).marked(!BETWEEN_NETWORKS);
        sent.is_dropped("what has another mark", &frame, Reason::Isolated);
        let sent = bench.host(GATEWAY).received_by(BLUE_GATEWAY.ifindex + 7);
        sent.passes("from an interface that is no network of ours", &frame, Reason::Forwarded, &[ANNE]);
    });
}

#[test]
fn arp_requests_are_answered_on_the_spot() {
    bench(|bench| {
        let asked = request(GATEWAY.mac(), GATEWAY.ip, ANNE.ip);
        let answer = Frame::arp(ANNE.mac(), GATEWAY.mac(), asked.reply(ANNE.mac()));
        let frame = Frame::arp(GATEWAY.mac(), BROADCAST, asked);
        bench.host(GATEWAY).is_answered("a request", &frame, &answer);
        let frame = Frame::arp(GATEWAY.mac(), BROADCAST, request(GATEWAY.mac(), GATEWAY.ip, DORA.ip));
        bench.host(GATEWAY).is_lost("for an address of another network", &frame, Reason::UnknownAddress);
        let frame = Frame::arp(GATEWAY.mac(), BROADCAST, request(GATEWAY.mac(), GATEWAY.ip, GATEWAY.ip));
        bench.host(GATEWAY).passes("an announcement", &frame, Reason::Flooded, &[ANNE, BERT, CLEO]);
    });
}

#[test]
fn the_host_answers_for_another_gateway_too() {
    bench(|bench| {
        let other = [172, 17, 0, 254];
        let asked = request(ANNE.mac(), ANNE.ip, other);
        let frame = Frame::arp(ANNE.mac(), BROADCAST, asked);
        bench.from(ANNE).is_dropped("before there is one", &frame, Reason::UnknownAddress);
        let entry = network_entry(GATEWAY);
        let network = Network { default_gateway: other, ..entry.network };
        bench.datapath.write_network(RED, &NetworkEntry { network, ..entry }).expect("a network");
        let answer = Frame::arp(GATEWAY.mac(), ANNE.mac(), asked.reply(GATEWAY.mac()));
        bench.from(ANNE).is_answered("a request", &frame, &answer);
        let announcement = Frame::arp(GATEWAY.mac(), BROADCAST, request(GATEWAY.mac(), other, other));
        bench.host(GATEWAY).passes("an announcement", &announcement, Reason::Flooded, &[ANNE, BERT, CLEO]);
        bench.datapath.write_network(RED, &network_entry(GATEWAY)).expect("a network");
        bench.from(ANNE).is_dropped("when there is none any more", &frame, Reason::UnknownAddress);
    });
}

#[test]
fn broadcast_goes_to_the_members_of_the_network() {
    bench(|bench| {
        let frame = Frame::ipv4(GATEWAY.at(), (BROADCAST, [255; 4]));
        bench.host(GATEWAY).passes("to three", &frame, Reason::Flooded, &[ANNE, BERT, CLEO]);
        let frame = Frame::ipv4(BLUE_GATEWAY.at(), (BROADCAST, [255; 4]));
        bench.host(BLUE_GATEWAY).passes("to one", &frame, Reason::Flooded, &[DORA]);
        let port = DORA.number().expect("a container");
        bench.datapath.remove_endpoint(port, Some("dora")).expect("removed");
        bench.host(BLUE_GATEWAY).passes("to none", &frame, Reason::Flooded, &[]);
    });
}
