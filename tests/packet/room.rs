//! More networks and endpoints than usual: programs and maps are replaced by ones with more room, and the traffic goes on.

use std::{fs, path::Path};

use aya::{maps::MapInfo, programs::TcAttachType};
use netbpf::datapath::{Datapath, Observed};
use netbpf_common::{
    endpoint::{self, MAX_ENDPOINTS, USUAL_ENDPOINTS},
    network::{self, MAX_NETWORKS, USUAL_NETWORKS},
    reason::Reason,
};

use super::{
    bench::{
        ANNE, BERT, Bench, CLEO, DORA, GATEWAY, RED, Station, attached, bench, endpoint_entry, network_entry,
        run, veth,
    },
    frame::{BROADCAST, Frame},
};

/// The room of the maps.
fn room(bench: &Bench) -> (u32, u32) {
    let size = |map| MapInfo::from_pin(bench.pin("maps", map)).expect("a pinned map").max_entries();
    (size("NETWORKS"), size("ENDPOINTS"))
}

/// The networks and endpoints.
fn known(bench: &Bench) -> impl PartialEq + use<> {
    let Observed { networks, endpoints, .. } = bench.datapath.observed();
    (networks, endpoints)
}

/// The ifindex of an uplink.
const UPLINK: u32 = 77;

const USUAL: (u32, u32) = (USUAL_NETWORKS, USUAL_ENDPOINTS);
const LARGEST: (u32, u32) = (MAX_NETWORKS, MAX_ENDPOINTS);

/// An endpoint of the red network with any number.
fn station(number: u32) -> Station {
    Station { ifindex: endpoint::ifindex_of(number), ip: [172, 17, 200, (number % 251) as u8] }
}

fn add(bench: &mut Bench, number: u32) {
    let written = bench.datapath.write_endpoint(number, &endpoint_entry(RED, station(number)));
    written.unwrap_or_else(|error| panic!("endpoint {number}: {error}"));
}

fn reopen(bench: &mut Bench) {
    bench.datapath = Datapath::open(&bench.bpffs, false).expect("the programs load");
}

#[track_caller]
fn frames_pass(bench: &Bench, others: &[Station]) {
    bench.from(ANNE).passes("unicast", &Frame::ipv4(ANNE.at(), BERT.at()), Reason::Forwarded, &[BERT]);
    bench.from(ANNE).is_dropped(
        "another network's",
        &Frame::ipv4(ANNE.at(), DORA.at()),
        Reason::UnknownDestination,
    );
    let broadcast = Frame::ipv4(ANNE.at(), (BROADCAST, [255; 4]));
    bench.from(ANNE).passes("broadcast", &broadcast, Reason::Flooded, &[BERT, CLEO]);
    for other in others {
        let outcome = bench.from(ANNE).frame(&Frame::ipv4(ANNE.at(), other.at()));
        assert_eq!(outcome.reasons, [Reason::Forwarded], "to {other:?}");
        let received =
            bench.datapath.endpoint_stats(other.number().expect("a number")).expect("counters").received();
        assert!(received.packets > 0, "{other:?}");
    }
}

#[test]
fn one_endpoint_more_than_usual() {
    bench(|bench| {
        bench.datapath.attach_endpoint(1, "anne").expect("attached");
        bench.datapath.attach_host_device(RED, "red").expect("attached");
        let given = [std::net::IpAddr::from([172, 17, 0, 77])].into();
        bench.datapath.answer_for(RED, &given).expect("room for one");
        add(bench, USUAL_ENDPOINTS - 1);
        frames_pass(bench, &[station(USUAL_ENDPOINTS - 1)]);
        assert_eq!(room(bench), USUAL);
        let (before, entries) = (known(bench), entries(bench));
        let counters =
            (bench.datapath.reasons().expect("REASONS"), bench.datapath.endpoint_stats(2).expect("counters"));
        let program = attached("anne", TcAttachType::Ingress)[0].1;
        if bench.datapath.can_shortcut() {
            veth("uplink", UPLINK);
            bench.datapath.load_flow_programs().expect("the programs load");
            bench.datapath.attach_flow_back("uplink", UPLINK).expect("attached");
        }
        let at_uplink = |bench: &Bench| match bench.datapath.can_shortcut() {
            true => attached("uplink", TcAttachType::Ingress),
            false => Vec::new(),
        };
        let before_at_uplink = at_uplink(bench);

        add(bench, USUAL_ENDPOINTS);
        assert_eq!(room(bench), LARGEST);
        assert_eq!(
            counters,
            (bench.datapath.reasons().expect("REASONS"), bench.datapath.endpoint_stats(2).expect("counters"))
        );
        let others = [USUAL_ENDPOINTS - 1, USUAL_ENDPOINTS].map(station);
        frames_pass(bench, &others);
        let now = attached("anne", TcAttachType::Ingress);
        assert!(now.len() == 1 && now[0].1 != program, "the new program is attached, and it alone: {now:?}");
        assert_eq!(attached("red", TcAttachType::Egress).len(), 1);
        for ((name, before), (name_now, now)) in before_at_uplink.iter().zip(at_uplink(bench)) {
            assert!(*name == name_now && *before != now, "the program at the uplink is replaced, too");
        }
        assert_eq!(at_uplink(bench).len(), before_at_uplink.len());
        add(bench, MAX_ENDPOINTS - 1);
        frames_pass(bench, &[station(MAX_ENDPOINTS - 1)]);

        // The next daemon keeps the room as long as it is needed.
        reopen(bench);
        assert_eq!(room(bench), LARGEST);
        frames_pass(bench, &others);
        bench.datapath.answer_for(RED, &given).expect("room for one");
        for number in [MAX_ENDPOINTS - 1, USUAL_ENDPOINTS] {
            bench.datapath.remove_endpoint(number, None).expect("removed");
        }
        reopen(bench);
        bench.datapath.answer_for(RED, &given).expect("room for one");
        assert_eq!(room(bench), USUAL);
        assert!(known(bench) == before, "nothing is lost");
        assert_eq!(self::entries(bench), entries);
        frames_pass(bench, &others[..1]);
        let pins = fs::read_dir(bench.pin("maps", "")).expect("a folder").flatten();
        let former: Vec<_> = pins
            .map(|pin| pin.file_name())
            .filter(|name| name.to_string_lossy().contains("former"))
            .collect();
        assert!(former.is_empty(), "{former:?}");
    });
}

/// The entries of maps that follow from others.
fn entries(bench: &Bench) -> Vec<usize> {
    let count = |map: &str| {
        let dump = run(&format!("bpftool map dump pinned {}", bench.pin("maps", map).display()));
        dump.matches("\"key\"").count()
    };
    ["FDB", "NEIGHBOURS", "OWNED", "VIEWS"].into_iter().map(count).collect()
}

#[test]
fn thousands_of_networks_and_endpoints() {
    bench(|bench| {
        let networks = 10..USUAL_NETWORKS + 100;
        for number in networks.clone() {
            let gateway = Station { ifindex: network::ifindex_of(number), ip: GATEWAY.ip };
            bench.datapath.write_network(number, &network_entry(gateway)).expect("a network");
        }
        assert_eq!(room(bench), LARGEST);
        let numbers = 10..USUAL_ENDPOINTS + 1000;
        let count = networks.len() as u32;
        let member = |number: u32| Station { ip: [172, 17, 1, (number / count) as u8], ..station(number) };
        for number in numbers.clone() {
            let entry = endpoint_entry(networks.start + number % count, member(number));
            bench.datapath.write_endpoint(number, &entry).expect("an endpoint");
        }
        frames_pass(bench, &[]);
        // Two of one network.
        let [from, to] = [numbers.end - 1 - networks.len() as u32, numbers.end - 1].map(member);
        veth("from", from.ifindex);
        let frame = Frame::ipv4(from.at(), to.at());
        assert_eq!(bench.from(from).frame(&frame).reasons, [Reason::Forwarded]);
        let before = known(bench);
        reopen(bench);
        assert!(known(bench) == before, "nothing is lost");
        assert_eq!(bench.from(from).frame(&frame).reasons, [Reason::Forwarded]);
    });
}

#[test]
fn a_daemon_that_was_killed_while_it_replaced_maps() {
    for is_half_done in [true, false] {
        bench(|bench| {
            frames_pass(bench, &[]);
            let before = known(bench);
            let former = |map: &str| bench.pin("maps", &format!("{map}_former"));
            for map in ["NETWORKS", "ENDPOINTS", "ENDPOINT_STATS", "LIMITS"] {
                fs::rename(bench.pin("maps", map), former(map)).expect("renamed");
            }
            if !is_half_done {
                // Empty maps in their place.
                let other = Path::new("/sys/fs/bpf/other");
                drop(Datapath::open(other, false).expect("the programs load"));
                let from = other.join(format!("v{}", netbpf_common::LAYOUT)).join("maps");
                for map in ["NETWORKS", "ENDPOINTS"] {
                    fs::rename(from.join(map), bench.pin("maps", map)).expect("renamed");
                }
            }
            reopen(bench);
            assert!(known(bench) == before, "nothing is lost");
            assert_eq!(room(bench), USUAL);
            frames_pass(bench, &[]);
            assert!(!bench.pin("maps", "ENDPOINTS_former").exists());
        });
    }
}
