//! Changes for which a map has no room: each fails, and changes nothing.

use std::{collections::BTreeSet, fmt::Debug, net::IpAddr};

use aya::{
    Pod,
    maps::{HashMap, Map, MapData},
};
use netbpf::datapath::Observed;
use netbpf_common::{
    allowed::{Allowed, AllowedKey},
    endpoint::{Endpoint, FdbKey, Neighbour, NeighbourKey, Owned, OwnedKey, Station as Host},
    network::MAX_NETWORKS,
    reason::Reason,
    uplink::mapped,
};

use super::{
    bench::{ANNE, BERT, Bench, CLEO, RED, bench, endpoint_entry},
    frame::{BROADCAST, Frame},
};

fn map<K: Pod, V: Pod>(bench: &Bench, name: &str) -> HashMap<MapData, K, V> {
    let map = MapData::from_pin(bench.pin("maps", name)).expect("a pinned map");
    HashMap::try_from(Map::HashMap(map)).expect("a hash map")
}

/// Fills a map with entries that belong to nothing, except for `free` of them.
fn fill<K: Pod, V: Pod>(bench: &Bench, name: &str, key: fn(u32) -> K, value: V, free: usize) {
    let mut map = map(bench, name);
    let used: Vec<u32> = (0..).take_while(|number| map.insert(key(*number), value, 0).is_ok()).collect();
    used.iter().take(free).for_each(|number| map.remove(&key(*number)).expect("an entry"));
}

fn fill_neighbours(bench: &Bench, free: usize) {
    let key = |number: u32| NeighbourKey::ipv4(MAX_NETWORKS, number.to_be_bytes());
    fill(bench, "NEIGHBOURS", key, Neighbour { mac: [2; 6], reserved: [0; 2] }, free);
}

/// All that the datapath knows, and the entries of its hash maps.
#[derive(Debug, PartialEq)]
struct Known {
    observed: Observed,
    entries: BTreeSet<String>,
}

impl Known {
    fn of(bench: &Bench) -> Self {
        let mut known = Self { observed: bench.datapath.observed(), entries: BTreeSet::new() };
        known.add::<FdbKey, Host>(bench, "FDB");
        known.add::<NeighbourKey, Neighbour>(bench, "NEIGHBOURS");
        known.add::<OwnedKey, Owned>(bench, "OWNED");
        known.add::<AllowedKey, Allowed>(bench, "ALLOWED");
        known
    }

    fn add<K: Pod + Debug, V: Pod + Debug>(&mut self, bench: &Bench, name: &str) {
        let map = map::<K, V>(bench, name);
        self.entries.extend(map.iter().map(|entry| {
            let (key, value) = entry.expect("an entry");
            format!("{name}: {key:?}: {value:?}")
        }));
    }

    #[track_caller]
    fn assert_unchanged(&self, bench: &Bench) {
        let now = Self::of(bench);
        let changed: Vec<_> = now.entries.symmetric_difference(&self.entries).collect();
        assert!(changed.is_empty(), "{changed:?}");
        assert_eq!(now.observed, self.observed);
        let broadcast = Frame::ipv4(ANNE.at(), (BROADCAST, [255; 4]));
        bench.from(ANNE).passes("broadcast", &broadcast, Reason::Flooded, &[BERT, CLEO]);
    }
}

#[test]
fn a_host_device_answers_for_all_addresses_that_others_added_or_for_those_of_before() {
    bench(|bench| {
        let addresses = |last: &[u8]| last.iter().map(|last| IpAddr::from([172, 17, 0, *last])).collect();
        bench.datapath.answer_for(RED, &addresses(&[77])).expect("room for one");
        fill_neighbours(bench, 1);
        let before = Known::of(bench);
        let error =
            bench.datapath.answer_for(RED, &addresses(&[78, 79, 80])).expect_err("three, room for two");
        assert!(error.to_string().starts_with("no room for another address: "), "{error}");
        before.assert_unchanged(bench);
        // The addresses of before are still known as such.
        bench.datapath.answer_for(RED, &addresses(&[78, 79])).expect("room for two");
        bench.datapath.answer_for(RED, &BTreeSet::new()).expect("none");
        let now = Known::of(bench);
        let gone: Vec<_> = before.entries.symmetric_difference(&now.entries).collect();
        assert!(gone.len() == 1 && gone[0].starts_with("NEIGHBOURS: "), "{gone:?}");
    });
}

#[test]
fn an_endpoint_whose_new_addresses_do_not_fit_keeps_the_old_ones() {
    bench(|bench| {
        let exception = AllowedKey { from: 1, to: 2, ..AllowedKey::default() };
        bench.datapath.set_allowed(&[exception].into()).expect("room for one");
        fill_neighbours(bench, 1);
        let before = Known::of(bench);
        let more = Endpoint { ipv6: [7; 16], ipv6_link_local: [8; 16], ..endpoint_entry(RED, ANNE) };
        let error = bench.datapath.write_endpoint(1, &more).expect_err("three addresses, room for two");
        assert!(error.to_string().starts_with("no room for another address: "), "{error}");
        before.assert_unchanged(bench);
        let error =
            bench.datapath.write_endpoint(9, &Endpoint { mac: [2; 6], ipv4: [172, 17, 0, 9], ..more });
        error.expect_err("a new endpoint with three addresses");
        before.assert_unchanged(bench);
    });
}

#[test]
fn an_endpoint_whose_new_container_does_not_fit_keeps_the_old_one() {
    bench(|bench| {
        let key = |number: u32| OwnedKey { owner: 0, address: mapped(number.to_be_bytes()) };
        fill(bench, "OWNED", key, Owned { endpoint: u32::MAX }, 0);
        let before = Known::of(bench);
        let owned = Endpoint { owner: 7, ..endpoint_entry(RED, ANNE) };
        let error = bench.datapath.write_endpoint(1, &owned).expect_err("no room for its address");
        assert!(error.to_string().starts_with("no room for another address of a container: "), "{error}");
        before.assert_unchanged(bench);
    });
}

#[test]
fn exceptions_that_do_not_fit_leave_those_of_before() {
    bench(|bench| {
        let exception = |port: u8| AllowedKey { from: 1, to: 2, port: [0, port], ..AllowedKey::default() };
        bench.datapath.set_allowed(&[exception(1), exception(2)].into()).expect("room for two");
        let key = |number: u32| AllowedKey { from: number, to: u32::MAX, ..AllowedKey::default() };
        fill(bench, "ALLOWED", key, Allowed { yes: 1 }, 0);
        let before = Known::of(bench);
        let error = bench.datapath.set_allowed(&[exception(2), exception(3), exception(4)].into());
        error.expect_err("two new ones for one old one");
        before.assert_unchanged(bench);
    });
}
