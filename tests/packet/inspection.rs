//! bpftool as one of netbpf's user interfaces.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex},
    thread,
};

use aya::programs::ProgramInfo;
use netbpf::{
    datapath::Datapath,
    model::OwnerNumber,
    plan::{Closed, NetworkEntry},
};
use netbpf_common::{access::UNGUARDED, endpoint::Endpoint, reason::Reason};
use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;

use super::{
    bench::{ANNE, BERT, Bench, GATEWAY, RED, bench, endpoint_entry, network_entry, run},
    frame::Frame,
};

fn dump(bench: &Bench, map: &str) -> Vec<Value> {
    let text = run(&format!("bpftool -j map dump pinned {}", bench.pin("maps", map).display()));
    let entries: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    entries.into_iter().map(|mut entry| entry["formatted"].take()).collect()
}

#[test]
fn every_map_prints_named_fields() {
    bench(|bench| {
        let to_bert = Frame::ipv4(ANNE.at(), BERT.at());
        bench.from(ANNE).passes("one frame", &to_bert, Reason::Forwarded, &[BERT]);
        let mac = json!([2, 0x42, 172, 17, 0, 3]);

        let networks = dump(bench, "NETWORKS");
        assert_eq!(networks[0]["value"]["gateway"], json!([172, 17, 0, 1]));
        assert_eq!(networks[0]["value"]["first"], json!(3));
        let ports = dump(bench, "ENDPOINTS");
        assert_eq!(ports[2]["value"]["ifindex"], json!(1_000_002));
        assert_eq!(ports[2]["value"]["mac"], mac);
        let fdb = dump(bench, "FDB");
        let bert = fdb.iter().find(|entry| entry["key"]["mac"] == mac).expect("an entry");
        assert_eq!((&bert["key"]["network"], &bert["value"]["ifindex"]), (&json!(0), &json!(1_000_002)));
        let neighbours = dump(bench, "NEIGHBOURS");
        let bert = neighbours.iter().find(|entry| entry["value"]["mac"] == mac).expect("an entry");
        assert_eq!(bert["key"]["address"], json!([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 172, 17, 0, 3]));
        let entry = Endpoint { owner: OwnerNumber::of(&"bert").number(), ..endpoint_entry(RED, BERT) };
        bench.datapath.write_endpoint(2, &entry).expect("written");
        let owner = OwnerNumber::of(&"bert").number();
        assert_eq!(
            dump(bench, "OWNED"),
            [
                json!({ "key": { "owner": owner, "address": bert["key"]["address"] }, "value": { "endpoint": 2 } })
            ]
        );
        let total = |values: &Value, field: &str| -> u64 {
            let cpus = values.as_array().expect("a value of each CPU");
            cpus.iter().map(|cpu| cpu["value"][field]["packets"].as_u64().expect("a counter")).sum()
        };
        let reasons = dump(bench, "REASONS");
        for reason in Reason::ALL {
            let field = reason.name().replace('-', "_");
            assert_eq!(
                total(&reasons[0]["values"], &field),
                u64::from(*reason == Reason::Forwarded),
                "{field}"
            );
        }
        let closed = Closed { ipv4: "172.17.0.0/16".parse().ok(), ipv6: None, internal: true };
        let network = NetworkEntry { closed, ..network_entry(GATEWAY) };
        bench.datapath.write_network(RED, &network).expect("written");
        let address = json!([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 172, 17, 0, 0]);
        let entry = json!({
            "key": { "prefix_len": 112, "data": address },
            "value": { "network": 0, "internal": 1 }
        });
        assert_eq!(dump(bench, "CLOSED_SUBNETS"), [entry]);
        let stats = dump(bench, "ENDPOINT_STATS");
        let counters = ["from_members", "from_host", "to_host", "dropped"];
        assert_eq!(counters.map(|counter| total(&stats[2]["values"], counter)), [1, 0, 0, 0]);
    });
}

#[test]
fn programs_are_named_and_small() {
    bench(|bench| {
        bench.datapath.load_all().expect("the programs load");
        let mut names: Vec<_> = fs::read_dir(bench.pin("programs", ""))
            .expect("a folder")
            .map(|pin| pin.expect("a pin").file_name().into_string().expect("a name"))
            .collect();
        names.sort_unstable();
        // The kernel's limit is one million.
        let all = [
            ("answer_name", 150_000),
            ("at_lo", 50_000),
            ("flood", 50_000),
            ("flood_open", 50_000),
            ("flow_back", 50_000),
            ("flow_out", 50_000),
            ("from_container", 1000),
            ("from_host", 50_000),
            ("from_open", 50_000),
            ("from_uplink", 50_000),
            ("long_way", 50_000),
            ("remember", 50_000),
            ("to_open", 50_000),
        ];
        assert_eq!(names, all.map(|(name, _)| name));
        for (name, most) in all {
            let info = ProgramInfo::from_pin(bench.pin("programs", name)).expect("a pinned program");
            assert_eq!(info.name_as_str(), Some(name));
            // Before Linux 5.16 the kernel does not report it.
            let Some(verified) = info.verified_instruction_count() else { continue };
            println!("{name}: {verified} instructions verified");
            assert!(verified < most, "{name}: {verified} instructions verified");
        }
    });
}

#[test]
fn programs_are_loaded_when_they_are_needed_and_leave_nothing() {
    bench(|bench| {
        let pinned = |bench: &Bench| {
            let folder = bench.pin("programs", "");
            let names = fs::read_dir(folder).expect("a folder").map(|pin| pin.expect("a pin").file_name());
            let mut names: Vec<_> = names.map(|name| name.into_string().expect("a name")).collect();
            names.sort_unstable();
            names.join(" ")
        };
        let entered = |bench: &Bench| {
            let text =
                run(&format!("bpftool -j map dump pinned {}", bench.pin("maps", "TAIL_CALLS").display()));
            let entries: Vec<Value> = serde_json::from_str(&text).expect("JSON");
            entries.iter().filter(|entry| entry["value"]["error"].is_null()).count()
        };
        let always = ("flood from_container from_host long_way remember", 3);
        assert_eq!((pinned(bench).as_str(), entered(bench)), always);

        let open = Endpoint { access: UNGUARDED, ..endpoint_entry(RED, ANNE) };
        bench.datapath.write_endpoint(ANNE.number().expect("a number"), &open).expect("written");
        let with_open = ("flood flood_open from_container from_host from_open long_way remember to_open", 6);
        assert_eq!((pinned(bench).as_str(), entered(bench)), with_open);

        // The next daemon has the same open endpoint.
        bench.datapath = Datapath::open(&bench.bpffs, false).expect("the programs load");
        assert_eq!((pinned(bench).as_str(), entered(bench)), with_open);
        let guarded = endpoint_entry(RED, ANNE);
        // The same program, which the verifier has seen once.
        let loaded = |bench: &Bench| {
            ProgramInfo::from_pin(bench.pin("programs", "from_open")).expect("a pinned program").id()
        };
        let first = loaded(bench);
        for _ in 0..2 {
            bench.datapath.write_endpoint(ANNE.number().expect("a number"), &guarded).expect("written");
            assert_eq!((pinned(bench).as_str(), entered(bench)), always);
            bench.datapath.write_endpoint(ANNE.number().expect("a number"), &open).expect("written");
            assert_eq!((pinned(bench).as_str(), entered(bench)), with_open);
            assert_eq!(loaded(bench), first);
        }
        bench.datapath.remove_endpoint(ANNE.number().expect("a number"), None).expect("removed");
        assert_eq!((pinned(bench).as_str(), entered(bench)), always);
        // Pins that a killed daemon left.
        bench.datapath.write_endpoint(ANNE.number().expect("a number"), &open).expect("written");
        for name in ["flood", "from_open"] {
            let (pin, half) = (bench.pin("programs", name), bench.pin("programs", &format!("{name}_new")));
            fs::rename(pin, half).expect("renamed");
        }
        bench.datapath = Datapath::open(&bench.bpffs, false).expect("the programs load");
        assert_eq!((pinned(bench).as_str(), entered(bench)), with_open);
    });
}

#[test]
fn bpftool_loads_the_object_too() {
    bench(|bench| {
        let object = tempfile::NamedTempFile::new().expect("a file");
        fs::write(object.path(), netbpf::datapath::PROGRAMS).expect("written");
        let folder = bench.bpffs.join("bpftool");
        run(&format!("bpftool prog loadall {} {}", object.path().display(), folder.display()));
        assert!(Path::new(&folder.join("from_container")).exists());
    });
}

#[test]
fn programs_log_the_reason_of_frames_on_request() {
    bench(|bench| {
        bench.datapath = Datapath::open(&bench.bpffs, true).expect("the programs load with logs");
        bench.datapath.load_all().expect("the other programs load with logs");
        let logs = bench.datapath.take_logs().expect("logs");
        for name in [
            "from_container",
            "long_way",
            "from_host",
            "from_open",
            "to_open",
            "flood",
            "flood_open",
            "answer_name",
            "flow_out",
            "flow_back",
            "remember",
        ] {
            let info = ProgramInfo::from_pin(bench.pin("programs", name)).expect("a pinned program");
            let Some(verified) = info.verified_instruction_count() else { continue };
            assert!(verified < 200_000, "{name}: {verified} instructions verified");
        }
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).finish();
        thread::spawn(move || tracing::subscriber::with_default(subscriber, || logs.read()));
        bench.from(ANNE).passes("a frame", &Frame::ipv4(ANNE.at(), BERT.at()), Reason::Forwarded, &[BERT]);
        bench.from(ANNE).is_dropped("a lie", &Frame::ipv4(BERT.at(), BERT.at()), Reason::SpoofedMac);
        for line in ["50 bytes at 1000001: forwarded", "50 bytes at 1000001: spoofed-mac"] {
            while !lines.text().contains(line) {
                thread::yield_now();
            }
        }
    });
}

/// The output of a log subscriber.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("whole")).into_owned()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("whole").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
