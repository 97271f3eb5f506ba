//! What netbpf is built for a limited number of: at the limit, a command is refused with a message that says so, nothing
//! of it is left, and it succeeds once there is room. The limits of addresses and descriptors are in `load`.

use aya::{
    Pod,
    maps::{HashMap, Map, MapData, MapError, MapInfo, lpm_trie},
};
use netbpf_common::{
    endpoint::{
        FdbKey, MAX_ENDPOINTS, Neighbour, NeighbourKey, Owned, OwnedKey, Station, USUAL_ENDPOINTS,
        neighbours, stations,
    },
    network::{MAX_NETWORKS, USUAL_NETWORKS},
    uplink::{ClosedSubnet, MAX_CLOSED_SUBNETS, MAX_UPLINKS, mapped},
};
use netbpf_tests::lab::{Lab, eventually, tell};

use super::{kill, pins::pin, shape::Shape};

/// A host whose daemon is built for so many networks and endpoints.
#[track_caller]
fn lab_with(limits: &str) -> Lab {
    let lab = Lab::without_daemon();
    lab.start_daemons_by(&["env", &format!("NETBPF_LIMITS={limits}")]);
    lab.start_daemon();
    lab
}

/// A command is refused with a message and changes nothing. It succeeds after `makes_room`.
#[track_caller]
fn is_refused(lab: &Lab, command: &str, message: &str, makes_room: impl FnOnce()) {
    let before = Shape::of(lab);
    lab.netbpf(command.split_whitespace()).fails_with(1, message);
    let now = Shape::of(lab);
    assert!(now == before, "{command}:\n{}", now.since(&before));
    makes_room();
    lab.netbpf(command.split_whitespace()).ok();
    tell("limits reached", 1);
}

#[test]
fn one_network_too_many() {
    // The default network is one of them.
    let lab = lab_with("networks=3");
    lab.network("red", "");
    lab.network("blue", "");
    let message = "no room for another network: netbpf is built for 3 of them";
    is_refused(&lab, "network create green", message, || {
        lab.netbpf(["network", "rm", "red"]).ok();
    });
    lab.run("web", "--net green");
    lab.exec("web", "ping -c1 -W2 web").ok();
}

#[test]
fn one_endpoint_too_many() {
    let lab = lab_with("endpoints=2");
    lab.network("mynet", "--subnet 10.1.0.0/24");
    lab.host(["ip", "netns", "add", "blue"]).ok();
    lab.run("one", "--net mynet");
    lab.run("two", "--net mynet");
    let message = "no room for another endpoint: netbpf is built for 2 of them";
    let run = "run -d --name three --net mynet -p 8080:80 -- sleep infinity";
    lab.netbpf(run.split(' ')).fails_with(125, message);
    is_refused(&lab, "start three", message, || {
        lab.netbpf(["rm", "-f", "one"]).ok();
    });
    lab.exec("three", "ping -c1 -W2 two").ok();
    is_refused(&lab, "network connect mynet netns:blue", message, || {
        lab.netbpf(["stop", "-t", "0", "two"]).ok();
    });
    // Docker, whose endpoints these are too, gets the same message.
    kill::ask_docker_for_a_network(&lab).expect("a network");
    let refused = kill::ask_docker_for_an_endpoint(&lab).expect_err("an endpoint too many");
    assert!(refused.contains(message), "{refused}");
    lab.netbpf(["network", "disconnect", "mynet", "netns:blue"]).ok();
    kill::ask_docker_for_an_endpoint(&lab).expect("an endpoint");
    kill::remove_all_of_docker(&lab);
    lab.host(["ip", "netns", "del", "blue"]).ok();
}

#[test]
fn one_member_of_a_network_too_many() {
    let lab = lab_with("members=2");
    lab.network("mynet", "--subnet 10.1.0.0/24");
    lab.network("other", "--subnet 10.2.0.0/24");
    lab.run("one", "--net mynet");
    lab.run("two", "--net mynet");
    lab.run("three", "--net other");
    let message = "no room for another member of one network: netbpf is built for 2 of them";
    is_refused(&lab, "connect mynet three", message, || {
        lab.netbpf(["disconnect", "mynet", "one"]).ok();
    });
    lab.exec("three", "ping -c1 -W2 two").ok();
}

/// The number of entries of a pinned map.
#[track_caller]
fn size(lab: &Lab, map: &str) -> u32 {
    MapInfo::from_pin(lab.path(pin(&format!("maps/{map}")))).expect("a pinned map").max_entries()
}

#[test]
fn more_networks_and_endpoints_than_usual() {
    maps_grow_and_shrink();
}

#[track_caller]
pub fn maps_grow_and_shrink() {
    let lab = lab_with("usual-networks=2 usual-endpoints=3");
    let uses = |networks, endpoints| {
        assert_eq!((size(&lab, "NETWORKS"), size(&lab, "ENDPOINTS")), (networks, endpoints));
    };
    lab.network("red", "--subnet 10.1.0.0/24");
    for name in ["one", "two", "three"] {
        lab.run(name, "--net red");
    }
    uses(2, 3);
    let talk = || {
        for (from, to) in [("one", "two"), ("three", "one"), ("two", "10.1.0.1")] {
            lab.exec(from, &format!("ping -c1 -W2 {to}")).ok();
        }
    };
    talk();
    let pings = lab.spawn_netbpf("exec one ping -q -i 0.01 -c 300 10.1.0.3".split(' '));
    lab.run("four", "--net red");
    uses(MAX_NETWORKS, MAX_ENDPOINTS);
    let pings = pings.output().ok();
    assert!(pings.stdout.contains("300 received, 0% packet loss"), "{pings}");
    lab.exec("four", "ping -c1 -W2 one").ok();
    talk();
    lab.network("blue", "--subnet 10.2.0.0/24");
    lab.run("five", "--net blue");
    lab.exec("five", "ping -c1 -W2 10.2.0.1").ok();
    // The next daemon finds all of it.
    let before = Shape::of(&lab);
    lab.restart_daemon();
    let now = Shape::of(&lab);
    assert!(now == before, "{}", now.since(&before));
    uses(MAX_NETWORKS, MAX_ENDPOINTS);
    talk();
    let log = lab.daemon_log();
    assert!(!log.contains("somebody") && !log.contains("ERROR"), "{log}");
    // The usual maps are back when they suffice.
    lab.netbpf(["rm", "-f", "five", "four"]).ok();
    lab.netbpf(["network", "rm", "blue"]).ok();
    lab.restart_daemon();
    uses(2, 3);
    talk();
}

/// Entries in a pinned map that belong to no network and no container.
struct Filling<'a, K: Pod, V: Pod> {
    map: HashMap<MapData, K, V>,
    key: fn(u32) -> K,
    used: Vec<u32>,
    lab: &'a Lab,
}

impl<'a, K: Pod, V: Pod> Filling<'a, K, V> {
    /// Adds entries until none fits any more.
    #[track_caller]
    fn of(lab: &'a Lab, name: &str, most: u32, key: fn(u32) -> K, value: V) -> Self {
        let mut map = HashMap::try_from(Map::HashMap(open(lab, name))).expect("a hash map");
        let used: Vec<u32> =
            (0..most).take_while(|number| map.insert(key(*number), value, 0).is_ok()).collect();
        assert!(used.len() < most as usize, "{name} had entries before");
        Self { map, key, used, lab }
    }

    /// While the map is full, a command is refused; once it is not, the command succeeds.
    #[track_caller]
    fn refuses(mut self, command: &str, what: &str) {
        let message = format!("no room for another {what}: netbpf is built for ");
        is_refused(self.lab, command, &message, || {
            self.used.iter().for_each(|number| self.map.remove(&(self.key)(*number)).expect("an entry"));
        });
    }
}

#[track_caller]
fn open(lab: &Lab, map: &str) -> MapData {
    MapData::from_pin(lab.path(pin(&format!("maps/{map}")))).expect("a pinned map")
}

#[test]
fn full_maps_of_macs_and_addresses() {
    let lab = Lab::start();
    lab.network("mynet", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    lab.host(["ip", "netns", "add", "blue"]).ok();
    let connect = "network connect mynet netns:blue";
    let disconnect = || lab.netbpf(["network", "disconnect", "mynet", "netns:blue"]).ok();
    let mac = |number: u32| {
        let [a, b, c, d] = number.to_be_bytes();
        FdbKey { network: MAX_NETWORKS, mac: [2, 0, a, b, c, d], reserved: [0; 2] }
    };
    Filling::of(&lab, "FDB", stations(USUAL_ENDPOINTS), mac, Station { ifindex: 1, ..Station::default() })
        .refuses(connect, "MAC address");
    disconnect();
    let address = |number: u32| NeighbourKey::ipv4(MAX_NETWORKS, number.to_be_bytes());
    let neighbour = Neighbour { mac: [2; 6], reserved: [0; 2] };
    Filling::of(&lab, "NEIGHBOURS", neighbours(USUAL_NETWORKS, USUAL_ENDPOINTS), address, neighbour)
        .refuses(connect, "address");
    disconnect();
    lab.run("web", "--net mynet");
    let owned = |number: u32| OwnedKey { owner: 0, address: mapped(number.to_be_bytes()) };
    Filling::of(&lab, "OWNED", stations(USUAL_ENDPOINTS), owned, Owned { endpoint: u32::MAX })
        .refuses(connect, "address of a container");
    for address in ["10.1.0.3", "fd00:1::3"] {
        lab.exec("web", &format!("ping -c1 -W2 {address}")).ok();
    }
    disconnect();
    lab.host(["ip", "netns", "del", "blue"]).ok();
}

#[test]
fn a_full_map_of_closed_subnets() {
    let lab = Lab::start();
    let map = Map::LpmTrie(open(&lab, "CLOSED_SUBNETS"));
    let mut map = lpm_trie::LpmTrie::<_, [u8; 16], ClosedSubnet>::try_from(map).expect("a trie");
    let key = |number: u32| lpm_trie::Key::new(128, mapped(number.to_be_bytes()));
    let value = ClosedSubnet { network: MAX_NETWORKS, internal: 0 };
    let used: Vec<u32> =
        (0..MAX_CLOSED_SUBNETS).take_while(|number| map.insert(&key(*number), value, 0).is_ok()).collect();
    assert!(used.len() < MAX_CLOSED_SUBNETS as usize, "the default network has one");
    let message = format!(
        "no room for another subnet that is closed to other hosts: netbpf is built for {MAX_CLOSED_SUBNETS} of them"
    );
    is_refused(&lab, "network create --subnet 10.1.0.0/24 mynet", &message, || {
        let removed: Result<(), MapError> = used.iter().try_for_each(|number| map.remove(&key(*number)));
        removed.expect("entries");
    });
    lab.run("web", "--net mynet");
    lab.exec("web", "ping -c1 -W2 10.1.0.1").ok();
}

#[test]
fn too_many_exposed_ports_of_linked_containers() {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24 -o com.docker.network.bridge.enable_icc=false");
    lab.run("server", "--net mynet --expose 1-9000");
    lab.run("one", "--net mynet --link server");
    let message = "no room for another exposed port of a linked container: netbpf is built for 16384 of them";
    let run = "run -d --name two --net mynet --link server -- sleep infinity";
    lab.netbpf(run.split(' ')).fails_with(125, message);
    is_refused(&lab, "start two", message, || {
        // Those that fit stay.
        let server =
            lab.inside("server", || std::net::TcpListener::bind("0.0.0.0:8999").expect("a listener"));
        let connected = lab.inside("one", || std::net::TcpStream::connect("10.1.0.2:8999").map(drop));
        connected.expect("a connection");
        drop(server);
        lab.netbpf(["rm", "-f", "one"]).ok();
    });
    let server = lab.inside("server", || std::net::TcpListener::bind("0.0.0.0:9000").expect("a listener"));
    let connected = lab.inside("two", || std::net::TcpStream::connect("10.1.0.2:9000").map(drop));
    connected.expect("a connection");
    drop(server);
}

#[test]
fn too_many_uplinks() {
    let lab = Lab::without_daemon();
    let names: Vec<String> = (0..=MAX_UPLINKS).map(|number| format!("up{number}")).collect();
    let each = |command: &str| -> String { names.iter().map(|name| command.replace('$', name)).collect() };
    let make = each("link add $ type veth peer name to-$\nlink set $ up\nlink set to-$ up\n");
    lab.host(["sh", "-ec", &format!("printf '{make}' | ip -batch -")]).ok();
    lab.tell_daemons(&each("--xdp $=generic "));
    lab.start_daemon();
    let message = format!("no room for another uplink: netbpf is built for {MAX_UPLINKS} of them");
    let said = eventually("doctor names it", || {
        let doctor = lab.netbpf(["doctor"]).stdout;
        doctor.contains(&message).then_some(doctor)
    });
    assert_eq!(said.matches(&message).count(), 1, "{said}");
    assert_eq!(lab.daemon_log().matches(&message).count(), 1, "{}", lab.daemon_log());
    lab.run("web", "");
    lab.exec("web", "ping -c1 -W2 172.17.0.1").ok();
    // One that is not needed any more makes room.
    lab.host(["ip", "link", "del", "up0"]).ok();
    eventually("all others have it", || (!lab.netbpf(["doctor"]).stdout.contains(&message)).then_some(()));
    tell("limits reached", 1);
    let remove = each("link del $\n").replace("link del up0\n", "");
    lab.host(["sh", "-ec", &format!("printf '{remove}' | ip -batch -")]).ok();
}
