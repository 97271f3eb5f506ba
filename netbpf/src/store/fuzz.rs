//! Fuzz targets: stored records, and the file. A record that is read is written again as the same text, and everything
//! that the daemon derives from it at its start can be derived. A damaged file is refused or has the records of the
//! undamaged one.

use std::{env, fs, process, sync::LazyLock};

use serde::{Serialize, de::DeserializeOwned};

use super::{Change, Records, Store, file};
use crate::{
    ipam::{Lent, Pool},
    model::{Block, Container, Network, Subnet},
    plan::NetworkRules,
};

/// Checks a text as each kind of record.
pub(crate) fn check_records(text: &[u8]) {
    if let Some(network) = stays::<Network>(text) {
        let _ = (network.is_predefined(), network.has_names(), network.driver_name());
        if let Some(rules) = NetworkRules::of(&network) {
            assert_eq!(rules.internal, network.internal);
        }
        if let Some(bridge) = network.bridge() {
            let _ = bridge.mac();
            bridge.ipv4.iter().for_each(check_subnet);
            bridge.ipv6.iter().for_each(check_subnet);
        }
    }
    if let Some(container) = stays::<Container>(text) {
        let owner = container.owner();
        let _ = (container.status(), container.shown(), container.namespace(), container.owner_number());
        let _ = (owner.image(), owner.command(), owner.name_servers(), owner.files());
        for publish in owner.publishes() {
            assert_ne!(publish.container.number, 0, "a port without a number");
            assert!(publish.host_ports.is_none_or(|ports| ports.iter().count() == ports.count()));
        }
        assert!(owner.exposed(&container.state).iter().all(|port| port.number != 0));
        for endpoint in container.endpoints() {
            let _ = (endpoint.mac.link_local(), endpoint.addresses().count());
        }
    }
    if let Some(mut lent) = stays::<Lent>(text)
        && let Ok(address) = lent.lease(None, |_| false)
    {
        assert!(lent.subnet.contains(&address.addr()), "{address} is not in {}", lent.subnet);
    }
}

fn check_subnet<Net: Block>(subnet: &Subnet<Net>) {
    let mut pool = Pool::new(subnet);
    if let Ok(address) = pool.lease(None) {
        assert!(subnet.net.holds(address), "{address} is not in {}", subnet.net);
    }
    if let Some(gateway) = subnet.gateway {
        assert!(subnet.net.holds(gateway), "{gateway} is not in {}", subnet.net);
    }
}

fn stays<T: DeserializeOwned + Serialize + PartialEq>(text: &[u8]) -> Option<T> {
    let record: T = serde_json::from_slice(text).ok()?;
    let text = serde_json::to_string(&record).expect("the model has no failing serializer");
    let again: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(again == record, "read as another record: {text}");
    Some(record)
}

/// Checks a file with some bytes changed: four bytes are a place and what is changed there.
pub(crate) fn check_file(changes: &[u8]) {
    static FILE: LazyLock<(Vec<u8>, Records)> = LazyLock::new(filled);
    let (undamaged, records) = &*FILE;
    let mut bytes = undamaged.clone();
    for change in changes.chunks_exact(4) {
        let place = u32::from_be_bytes([0, change[0], change[1], change[2]]) as usize % bytes.len();
        bytes[place] ^= change[3];
    }
    let Ok(database) = file::open_copy(&bytes) else { return };
    // redb keeps the state before the last commit, and falls back to it.
    if let Ok(found) = super::read(&database) {
        assert!(found.networks.is_empty() || found.networks == records.networks);
        assert!(found.containers.is_empty() || found.containers == records.containers);
    }
}

/// A closed file with its records.
fn filled() -> (Vec<u8>, Records) {
    let path = env::temp_dir().join(format!("netbpf-fuzz-{}", process::id()));
    let (mut store, _) = Store::open(&path).expect("a new store");
    let network = serde_json::from_slice(&records()[0]).expect("a network");
    let container = serde_json::from_slice(&records()[1]).expect("a container");
    store.commit(&[Change::PutNetwork(network)]).expect("a commit");
    store.commit(&[Change::PutContainer(container)]).expect("a commit");
    drop(store);
    let (_, records) = Store::open(&path).expect("a store");
    let bytes = fs::read(&path).expect("a file");
    fs::remove_file(&path).expect("a file");
    (bytes, records)
}

/// Records of all kinds.
pub(crate) fn records() -> Vec<Vec<u8>> {
    let id = "0a".repeat(32);
    let endpoint = r#"{"network":"ID","request":{"ipv4":"192.168.0.2","ipv6":"fd00::2","mac":"02:42:c0:a8:00:02",
        "aliases":["w"],"links":[{"target":"a","alias":"b"}],"gateway_priority":3,"options":{"interface":"lan0",
        "sysctls":[{"family":"ipv4","table":"conf","name":"x","value":"1"}],"others":{"k":"v"}}},"endpoint":{"id":"ID",
        "port":4,"ipv4":"192.168.0.2","ipv6":"fd00::2","mac":"02:42:c0:a8:00:02","host_interface":"veth1234567",
        "interface":"eth0"}}"#;
    [
        r#"{"id":"ID","name":"mynet","created":"2026-01-02T03:04:05Z","driver":{"Bridge":{"number":1,"device":"nb-01",
            "peer":"nbp01","subnet":{"net":"192.168.0.0/16","range":"192.168.1.0/24","gateway":"192.168.0.1",
            "auxiliary":{"k":"192.168.0.9"}},"subnet_ipv6":{"net":"fd00::/64","range":null,"gateway":"fd00::1",
            "auxiliary":{"k":"fd00::9"}},"icc":true,"masquerade":true,"host_binding":null,"gateway_mode_ipv4":"nat",
            "gateway_mode_ipv6":"routed","inhibit_ipv4":false,"trusted":["eth0"],"interface_prefix":"eth","mtu":1500,
            "host_ipv4":null,"host_ipv6":"fd00::7","max_flows":7}},"internal":true,"attachable":false,
            "options":{"o":"1"},"labels":{"l":"2"},"origin":"docker"}"#,
        r#"{"id":"ID","name":"web","created":"2026-01-02T03:04:05Z","subject":{"Sandbox":{"command":["sleep","1"],
            "env":["A=b"],"working_dir":"/","hostname":"web","rootfs":null,"auto_remove":false,"mode":"Networks",
            "extra_hosts":[["h","10.0.0.1"]],"dns":["1.1.1.1"],"dns_search":["."],"dns_options":["ndots:1"],
            "publish":[{"container":{"number":80,"protocol":"tcp"},"host":"127.0.0.1",
            "host_ports":{"first":8000,"last":8010}}],"exposed":[{"number":53,"protocol":"udp"}],"publish_all":true}},
            "state":{"Running":{"supervisor":[7,8],"started":"2026-01-02T03:04:05Z"}},"attachments":[ENDPOINT],
            "labels":{},"mappings":[{"protocol":"tcp","host":"127.0.0.1","host_port":8000,"container":"192.168.0.2",
            "container_port":80}]}"#,
        r#"{"id":"ID","name":"x","created":"2026-01-02T03:04:05Z","subject":{"Docker":{"sandbox":"/x","exposed":[],
            "container":{"id":"ID","name":"y"}}},"state":{"Created":{"error":"e"}},"attachments":[],"labels":{}}"#,
        r#"{"id":"ID","name":"x","created":"2026-01-02T03:04:05Z","subject":{"Engine":{"image":"i","command":["c"],
            "hostname":"h","resolv_conf":"/r","servers":["1.1.1.1"],"addresses":[{"network":"ID","ipv4":"10.0.0.1",
            "ipv6":null}]}},"state":{"Exited":{"code":1,"started":"2026-01-02T03:04:05Z",
            "finished":"2026-01-02T03:04:06Z"}},"attachments":[],"labels":{"a":"b"}}"#,
        r#"{"subnet":"10.1.0.0/24","range":"10.1.0.128/25","addresses":["10.1.0.1"]}"#,
        r#"{"subnet":"fd00::/64","range":null,"addresses":[]}"#,
    ]
    .map(|text| text.replace("ENDPOINT", endpoint).replace("ID", &id).into_bytes())
    .into()
}

/// Changes at the start of the file and behind it.
pub(crate) fn changes() -> Vec<Vec<u8>> {
    vec![vec![0, 0, 0, 1], vec![0, 0, 9, 2, 0, 0, 64, 0x80], vec![0, 16, 0, 255, 1, 0, 0, 255]]
}
