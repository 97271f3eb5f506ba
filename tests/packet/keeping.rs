//! Maps and pins over the lives of several daemons: each daemon finds what the last one left.

use std::{fs, path::Path};

use aya::programs::TcAttachType;
use netbpf::{
    datapath::{Attachment, Datapath, Error},
    plan::EndpointEntry,
};
use netbpf_common::{
    LAYOUT,
    endpoint::{self, Endpoint},
    reason::Reason,
};
use netbpf_tests::lab::eventually;
use nix::mount::umount;

use super::{
    bench::{
        ANNE, BERT, BLUE, BLUE_GATEWAY, CLEO, DORA, GATEWAY, RED, Station, alone, attached, bench,
        endpoint_entry, network_entry, run,
    },
    frame::{BROADCAST, Frame},
};

const BPFFS: &str = "/sys/fs/bpf/netbpf";

fn open() -> Datapath {
    Datapath::open(Path::new(BPFFS), false).expect("the programs load")
}

#[test]
fn a_new_daemon_finds_the_state_of_the_last_one() {
    bench(|bench| {
        bench.datapath.attach_host_device(RED, "red").expect("attached");
        bench.datapath.attach_endpoint(1, "anne").expect("attached");
        for (number, name) in [(2, "bert"), (3, "cleo"), (4, "dora")] {
            bench.datapath.attach_endpoint(number, name).expect("attached");
        }
        bench.datapath.attach_host_device(BLUE, "blue").expect("attached");
        let left = bench.datapath.observed();
        assert_eq!(left.endpoints[&1], EndpointEntry::from(&endpoint_entry(RED, ANNE)));
        assert_eq!(left.networks[&BLUE], network_entry(BLUE_GATEWAY));
        assert_eq!(left.attached.iter().collect::<Vec<_>>(), ["anne", "bert", "blue", "cleo", "dora", "red"]);

        let before = attached("anne", TcAttachType::Ingress);
        bench.datapath = open();
        assert_eq!(bench.datapath.observed(), left);
        let after = attached("anne", TcAttachType::Ingress);
        assert_eq!((before[0].0.as_str(), before.len(), after.len()), ("from_container", 1, 1));
        assert_eq!(after[0].0, "from_container");
        assert_ne!(after, before, "the program was not replaced");
        let host_device = attached("red", TcAttachType::Egress);
        assert_eq!((host_device[0].0.as_str(), host_device.len()), ("from_host", 1));
        let broadcast = Frame::ipv4(ANNE.at(), (BROADCAST, [255; 4]));
        bench.from(ANNE).passes("broadcast", &broadcast, Reason::Flooded, &[BERT, CLEO]);
    });
}

/// Maps of another layout are not read; their programs stay attached until ours replace them.
#[test]
fn programs_of_an_older_version_are_replaced_interface_by_interface() {
    bench(|bench| {
        let interfaces = [(1, "anne", ANNE), (2, "bert", BERT), (3, "cleo", CLEO)];
        for (number, name, _) in interfaces {
            bench.datapath.attach_endpoint(number, name).expect("attached");
        }
        let older = bench.bpffs.join(format!("v{}", LAYOUT - 1));
        fs::rename(bench.bpffs.join(format!("v{LAYOUT}")), &older).expect("an older version");
        let before = interfaces.map(|(_, name, _)| attached(name, TcAttachType::Ingress));

        bench.datapath = open();
        assert!(bench.datapath.observed().endpoints.is_empty());
        for (before, (_, name, _)) in before.iter().zip(interfaces) {
            assert_eq!(&attached(name, TcAttachType::Ingress), before, "{name} lost its program");
        }
        bench.datapath.write_network(RED, &network_entry(GATEWAY)).expect("written");
        for (number, _, station) in interfaces {
            bench.datapath.write_endpoint(number, &endpoint_entry(RED, station)).expect("written");
        }
        for (before, (number, name, _)) in before.iter().zip(interfaces) {
            bench.datapath.attach_endpoint(number, name).expect("attached");
            // The kernel ends a link without a pin after a grace period.
            while attached(name, TcAttachType::Ingress).contains(&before[0]) {
                std::thread::yield_now();
            }
            let after = attached(name, TcAttachType::Ingress);
            assert_eq!((after.len(), after[0].0.as_str()), (1, "from_container"), "{name}");
        }
        bench.datapath.forget_older().expect("forgotten");
        assert!(!older.exists());
        let unicast = Frame::ipv4(ANNE.at(), BERT.at());
        bench.from(ANNE).passes("unicast", &unicast, Reason::Forwarded, &[BERT]);
    });
}

#[test]
fn writes_are_idempotent() {
    bench(|bench| {
        let before = bench.datapath.observed();
        for _ in 0..2 {
            bench.datapath.write_network(RED, &network_entry(GATEWAY)).expect("written");
            bench.datapath.write_endpoint(1, &endpoint_entry(RED, ANNE)).expect("written");
            bench.datapath.attach_endpoint(1, "anne").expect("attached");
        }
        let broadcast = Frame::ipv4(BERT.at(), (BROADCAST, [255; 4]));
        bench.from(BERT).passes("broadcast", &broadcast, Reason::Flooded, &[ANNE, CLEO]);
        for _ in 0..2 {
            bench.datapath.remove_endpoint(1, Some("anne")).expect("removed");
        }
        assert!(!bench.datapath.observed().endpoints.contains_key(&1));
        bench.datapath.write_endpoint(1, &endpoint_entry(RED, ANNE)).expect("written");
        assert_eq!(bench.datapath.observed(), before);
    });
}

#[test]
fn a_rewritten_port_is_found_by_its_new_addresses_only() {
    bench(|bench| {
        let new = Station { ip: [172, 17, 0, 20], ..BERT };
        bench.datapath.write_endpoint(2, &endpoint_entry(RED, new)).expect("written");
        let to = |station: Station| Frame::ipv4(ANNE.at(), station.at());
        bench.from(ANNE).passes("the new MAC", &to(new), Reason::Forwarded, &[new]);
        bench.from(ANNE).is_dropped("the old MAC", &to(BERT), Reason::UnknownDestination);
    });
}

#[test]
fn the_pin_of_an_interface_that_is_gone_goes_with_its_endpoint() {
    bench(|bench| {
        for (number, name) in [(1, "anne"), (2, "bert")] {
            bench.datapath.attach_endpoint(number, name).expect("attached");
        }
        let pins =
            |bench: &super::bench::Bench| ["anne", "bert"].map(|name| bench.pin("links", name).exists());
        let before = pins(bench);
        run("ip link del anne");
        bench.datapath.remove_endpoint(1, None).expect("removed");
        assert_eq!(pins(bench), [false, before[1]]);
        assert_eq!(bench.datapath.observed().attached.iter().collect::<Vec<_>>(), ["bert"]);
    });
}

#[test]
fn an_invalid_change_changes_nothing() {
    bench(|bench| {
        let before = bench.datapath.observed();
        let taken = Endpoint { mac: endpoint_entry(RED, BERT).mac, ..endpoint_entry(RED, ANNE) };
        let error = bench.datapath.write_endpoint(1, &taken).expect_err("a MAC of two ports");
        assert_eq!(error.to_string(), "MAC 02:42:ac:11:00:03 is already taken in network 0");
        let error =
            bench.datapath.write_endpoint(9, &endpoint_entry(RED, GATEWAY)).expect_err("the gateway's MAC");
        assert!(matches!(error, Error::Taken { .. }), "{error}");
        let error = bench.datapath.write_endpoint(9, &endpoint_entry(7, ANNE)).expect_err("no network");
        assert_eq!(error.to_string(), "network 7 is not in the datapath");
        let error = bench
            .datapath
            .write_endpoint(endpoint::MAX_ENDPOINTS, &endpoint_entry(RED, ANNE))
            .expect_err("no room");
        assert_eq!(error.to_string(), "endpoint 65536 does not exist: there are 65536 at most");
        let error = bench.datapath.remove_network(RED, Some("red")).expect_err("it has ports");
        assert_eq!(error.to_string(), "network 0 still has endpoints in the datapath");
        let error = bench.datapath.attach_endpoint(1, "bert").expect_err("another port's interface");
        assert_eq!(error.to_string(), "interface bert has ifindex 1000002 and not 1000001");
        let error = bench.datapath.attach_endpoint(1, "nobody").expect_err("no interface");
        assert!(error.to_string().starts_with("find the interface nobody: "), "{error}");
        assert_eq!(bench.datapath.observed(), before);
    });
}

#[test]
fn an_interface_with_the_name_of_a_deleted_one_gets_its_program() {
    bench(|bench| {
        if bench.datapath.attachment() == Attachment::Clsact {
            // A clsact filter ends with its interface.
            return;
        }
        bench.datapath.attach_endpoint(1, "anne").expect("attached");
        run("ip link del anne");
        super::bench::veth("anne", ANNE.ifindex);
        bench.datapath.attach_endpoint(1, "anne").expect("attached again");
        assert_eq!(attached("anne", TcAttachType::Ingress)[0].0, "from_container");
        run("ip link del anne");
        bench.datapath = open();
        assert!(!bench.pin("links", "anne").exists(), "the link of a deleted interface stays");
    });
}

#[test]
fn an_incomplete_change_of_a_crashed_daemon_is_repaired() {
    bench(|bench| {
        let before = bench.datapath.observed();
        let dump = |map: &str| run(&format!("bpftool map dump pinned {BPFFS}/v{LAYOUT}/maps/{map}"));
        let (fdb, neighbours) = (dump("FDB").lines().count(), dump("NEIGHBOURS").lines().count());
        let update = |map: &str, key: &str, value: &str| {
            run(&format!(
                "bpftool map update pinned {BPFFS}/v{LAYOUT}/maps/{map} key hex {key} value hex {value}"
            ));
        };
        let stray_mac = "00 00 00 00 02 42 09 09 09 09 00 00";
        update("FDB", stray_mac, "42 42 0f 00 00 00 00 00");
        let stray_address = "00 00 00 00 00 00 00 00 00 00 00 00 00 00 ff ff 09 09 09 09";
        update("NEIGHBOURS", stray_address, "02 42 09 09 09 09 00 00");
        run(&format!(
            "bpftool map delete pinned {BPFFS}/v{LAYOUT}/maps/FDB key hex 00 00 00 00 02 42 ac 11 00 03 00 00"
        ));
        // The member list of network RED contains a vacant port.
        update(
            "NETWORKS",
            "00 00 00 00",
            &("e0 c8 10 00 07 00 00 00 02 42 ac 11 00 01 00 10 ac 11 00 01".to_owned() + &" 00".repeat(60)),
        );

        bench.datapath = open();
        let after = bench.datapath.observed();
        assert_eq!((after.networks, after.endpoints), (before.networks, before.endpoints));
        assert_eq!((dump("FDB").lines().count(), dump("NEIGHBOURS").lines().count()), (fdb, neighbours));
        let broadcast = Frame::ipv4(ANNE.at(), (BROADCAST, [255; 4]));
        bench.from(ANNE).passes("broadcast", &broadcast, Reason::Flooded, &[BERT, CLEO]);
        let unicast = Frame::ipv4(ANNE.at(), BERT.at());
        bench.from(ANNE).passes("unicast", &unicast, Reason::Forwarded, &[BERT]);
    });
}

#[test]
fn a_foreign_map_is_refused_and_kept() {
    alone(|| {
        let folder = format!("{BPFFS}/v{LAYOUT}/maps");
        fs::create_dir_all(&folder).expect("a folder");
        let pin = format!("{folder}/ENDPOINTS");
        run(&format!("bpftool map create {pin} type array key 4 value 48 entries 8192 name ENDPOINTS"));
        let error = Datapath::open(Path::new(BPFFS), false).err().expect("refused").to_string();
        assert!(error.starts_with(&format!("{pin} is not a map that this netbpf made")), "{error}");
        assert!(Path::new(&pin).exists(), "the stranger's map is gone");
    });
}

#[test]
fn a_directory_outside_of_a_bpf_file_system_is_refused() {
    alone(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("netbpf");
        let error = Datapath::open(&path, false).err().expect("refused").to_string();
        let expected = format!(
            "{} is not on a bpf file system; mount one, as in `mount -t bpf -o mode=0700 bpf {}`",
            path.display(),
            folder.path().display()
        );
        assert_eq!(error, expected);
        assert!(!path.exists());
    });
}

#[test]
fn the_last_daemon_leaves_nothing() {
    bench(|bench| {
        bench.datapath.attach_endpoint(1, "anne").expect("attached");
        for (number, name) in
            [(1, "anne"), (2, "bert"), (3, "cleo"), (DORA.number().expect("a container"), "dora")]
        {
            run(&format!("ip link del {name}"));
            bench.datapath.remove_endpoint(number, Some(name)).expect("removed");
        }
        bench.datapath.remove_network(RED, Some("red")).expect("removed");
        bench.datapath.remove_network(BLUE, Some("blue")).expect("removed");
        for map in ["FDB", "NEIGHBOURS"] {
            let dump = run(&format!("bpftool -j map dump pinned {BPFFS}/v{LAYOUT}/maps/{map}"));
            assert_eq!(dump.trim(), "[]", "{map}");
        }
        Datapath::unpin_all(&bench.bpffs).expect("unpinned");
        assert!(!bench.bpffs.exists());
        Datapath::unpin_all(&bench.bpffs).expect("unpinned twice");
    });
}

#[test]
fn a_bpf_file_system_is_mounted_and_unmounted_if_there_is_none() {
    alone(|| {
        while umount("/sys/fs/bpf").is_ok() {}
        assert!(!fs::read_to_string("/proc/thread-self/mounts").expect("mounts").contains(" bpf "));
        drop(open());
        let mounts = fs::read_to_string("/proc/thread-self/mounts").expect("mounts");
        if mounts.contains("none /sys/fs/bpf bpf ") {
            // Linux 5.10 does not store the source of a mount, so its owner is unknown.
            return;
        }
        assert!(mounts.contains("netbpf /sys/fs/bpf bpf "), "{mounts}");
        // A child that another test forks has the directories open until it executes its program.
        eventually("the file system is unmounted", || {
            Datapath::unpin_all(Path::new(BPFFS)).expect("unpinned");
            (!fs::read_to_string("/proc/thread-self/mounts").expect("mounts").contains(" bpf ")).then_some(())
        });
    });
}
