//! Frames from other hosts at an uplink, which is a real interface of a host that forwards.

use std::{collections::BTreeMap, fs, thread, time::Instant};

use aya::{
    TestRun, TestRunOptions,
    programs::{Xdp, XdpMode as Mode},
};
use aya_obj::programs::XdpAttachType;
use netbpf::{
    datapath::{UplinkDevice, XdpProgram},
    model::{Mac, XdpMode},
    plan::{Closed, NetworkEntry},
};
use netbpf_common::{
    drops::{DROPS_IN_A_TICK, DropKey, Drops, HEAD},
    reason::Reason,
};

use super::{
    bench::{ANNE, BLUE, BLUE_GATEWAY, Bench, DORA, GATEWAY, RED, bench, network_entry, run},
    frame::{BROADCAST, Frame},
};

/// The verdicts of linux/bpf.h.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// The uplink's MAC and IPv4 addresses.
const UPLINK: ([u8; 6], [u8; 4]) = ([2, 0, 0, 0, 0, 1], [192, 0, 2, 1]);
/// The uplink's ifindex.
const IFINDEX: u32 = 77;
/// The MAC and IPv4 addresses of another host.
const FAR: ([u8; 6], [u8; 4]) = ([2, 0, 0, 0, 0, 2], [192, 0, 2, 2]);
/// The other host's IPv6 address, and an address in the closed subnet of `RED`.
const FAR_IPV6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const RED_IPV6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4];

/// A bench whose red network is closed and whose blue network is internal, on a host that forwards.
fn host(test: impl FnOnce(&mut Bench) + Send) {
    bench(|bench| {
        run(&format!("ip link add uplink index {IFINDEX} address 02:00:00:00:00:01 type veth peer name far"));
        for name in ["uplink", "far", "lo"] {
            run(&format!("ip link set {name} up"));
        }
        // The bench has no IPv6 by default.
        for name in ["uplink", "red"] {
            fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "0").expect("IPv6");
        }
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("the host forwards");
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").expect("the host forwards IPv6");
        for address in [
            "192.0.2.1/24 dev uplink",
            "172.17.0.1/16 dev red",
            "192.168.0.1/16 dev blue",
            "2001:db8::1/64 dev red nodad",
        ] {
            run(&format!("ip address add {address}"));
        }
        // The kernel accepts packets for an IPv6 address some time after it was added.
        while !run("ip -6 route show table local").contains("local 2001:db8::1 ") {
            thread::yield_now();
        }
        close(bench, true);
        let device = UplinkDevice { ifindex: IFINDEX, mac: mac(UPLINK.0), program: None };
        bench.datapath.attach_uplink("uplink", &device, XdpMode::Native).expect("attached");
        test(bench);
    });
}

/// Closes or opens both networks.
fn close(bench: &mut Bench, closed: bool) {
    let red = Closed {
        ipv4: Some("172.17.0.0/16".parse().expect("a subnet")),
        ipv6: Some("2001:db8::/64".parse().expect("a subnet")),
        internal: false,
    };
    let blue = Closed { ipv4: Some("192.168.0.0/16".parse().expect("a subnet")), ipv6: None, internal: true };
    for (number, gateway, this) in [(RED, GATEWAY, red), (BLUE, BLUE_GATEWAY, blue)] {
        let this = if closed { this } else { Closed::default() };
        let entry = NetworkEntry { closed: this, ..network_entry(gateway) };
        bench.datapath.write_network(number, &entry).expect("a network");
        assert_eq!(bench.datapath.observed().networks[&number], entry);
    }
}

fn mac(octets: [u8; 6]) -> Mac {
    let digits = octets.map(|octet| format!("{octet:02x}"));
    digits.join(":").parse().expect("a MAC")
}

/// Sends a frame through the program as if it came from the uplink.
fn verdict(bench: &Bench, frame: &Frame) -> (u32, Vec<Reason>) {
    let program = Xdp::from_pin(bench.pin("programs", "from_uplink"), XdpAttachType::Interface);
    let program = program.expect("a pinned program");
    let reasons = || bench.datapath.reasons().expect("REASONS");
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context: Vec<u8> =
        [0, frame.0.len() as u32, 0, IFINDEX, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut after = vec![0; 2048];
    let (before, drops) = (reasons(), bench.drops());
    let result = program.test_run(TestRunOptions {
        data_in: Some(&frame.0),
        data_out: Some(&mut after),
        ctx_in: Some(&context),
        ..TestRunOptions::default()
    });
    let result = result.unwrap_or_else(|error| panic!("BPF_PROG_TEST_RUN: {error:?}"));
    after.truncate(result.data_size_out as usize);
    assert_eq!(after, frame.0, "a frame is only looked at");
    let counted = before.iter().zip(reasons()).filter(|(before, after)| before.1 != after.1);
    let counted = counted.map(|((reason, before), (_, after))| {
        assert_eq!(after.packets - before.packets, 1, "a frame counts once");
        assert_eq!(after.bytes - before.bytes, frame.0.len() as u64, "all of it");
        *reason
    });
    let counted: Vec<_> = counted.collect();
    is_remembered(&drops, &bench.drops(), frame, &counted);
    (result.return_value, counted)
}

/// Checks that a dropped frame is remembered, and no other.
#[track_caller]
fn is_remembered(
    before: &BTreeMap<DropKey, Drops>,
    after: &BTreeMap<DropKey, Drops>,
    frame: &Frame,
    reasons: &[Reason],
) {
    let more = after.iter().filter(|(key, drops)| before.get(key) != Some(drops));
    let more = more.map(|(key, drops)| {
        let network = if key.reason == Reason::Internal as u32 { BLUE } else { RED };
        assert_eq!((key.ifindex, key.network, drops.last.received_by), (IFINDEX, network, IFINDEX));
        // Of a short frame, only the shortest headers.
        let length = if frame.0.len() < HEAD { 14 + 20 } else { HEAD };
        assert_eq!((drops.last.length as usize, drops.last.head_length as usize), (frame.0.len(), length));
        assert_eq!(drops.last.head[..length], frame.0[..length]);
        key.reason
    });
    let more: Vec<_> = more.collect();
    assert_eq!(more, reasons.iter().map(|reason| *reason as u32).collect::<Vec<_>>());
}

/// A flood is cheap: in a tick of the clock, few of its frames are remembered, and all are counted.
#[test]
fn few_frames_of_a_flood_are_remembered() {
    host(|bench| {
        let program = Xdp::from_pin(bench.pin("programs", "from_uplink"), XdpAttachType::Interface);
        let program = program.expect("a pinned program");
        let frame = to(ANNE.ip);
        let context: Vec<u8> =
            [0, frame.0.len() as u32, 0, IFINDEX, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
        const FRAMES: u32 = 1_000_000;
        let started = Instant::now();
        let result = program.test_run(TestRunOptions {
            data_in: Some(&frame.0),
            ctx_in: Some(&context),
            repeat: FRAMES,
            ..TestRunOptions::default()
        });
        assert_eq!(result.expect("a test run").return_value, XDP_DROP);
        let took = started.elapsed();
        let counted: u64 = bench
            .datapath
            .reasons()
            .expect("REASONS")
            .into_iter()
            .filter(|(reason, _)| *reason == Reason::Unpublished)
            .map(|(_, counter)| counter.packets)
            .sum();
        assert_eq!(counted, u64::from(FRAMES));
        let remembered: u64 = bench.drops().values().map(|drops| drops.frames).sum();
        // The fastest clock has a thousand ticks a second.
        let most = (took.as_millis() as u64 + 2) * u64::from(DROPS_IN_A_TICK);
        assert!((1..=most.min(counted)).contains(&remembered), "{remembered} in {took:?}");
    });
}

#[track_caller]
fn is_dropped(bench: &Bench, frame: &Frame, reason: Reason) {
    assert_eq!(verdict(bench, frame), (XDP_DROP, vec![reason]));
}

#[track_caller]
fn passes(bench: &Bench, says: &str, frame: &Frame) {
    assert_eq!(verdict(bench, frame), (XDP_PASS, vec![]), "{says}");
}

/// A packet from the other host to an address behind this host.
fn to(address: [u8; 4]) -> Frame {
    Frame::ipv4(FAR, (UPLINK.0, address))
}

#[test]
fn packets_to_containers_of_a_closed_network_are_dropped() {
    host(|bench| {
        is_dropped(bench, &to(ANNE.ip), Reason::Unpublished);
        is_dropped(bench, &to([172, 17, 200, 9]), Reason::Unpublished);
        is_dropped(bench, &to(DORA.ip), Reason::Internal);
        let ipv6 = Frame::ipv6((FAR.0, FAR_IPV6), (UPLINK.0, RED_IPV6));
        is_dropped(bench, &ipv6, Reason::Unpublished);
        let long = to(ANNE.ip).then(&[0; 1400]);
        is_dropped(bench, &long, Reason::Unpublished);
        let options = [&[0x46][..], &to(ANNE.ip).0[15..34], &[1, 1, 1, 0], &to(ANNE.ip).0[34..]].concat();
        let options = Frame::ethernet(FAR.0, UPLINK.0, 0x0800).then(&options);
        is_dropped(bench, &options, Reason::Unpublished);
        let fragment = to(ANNE.ip).with(14 + 6, &[0, 100]);
        is_dropped(bench, &fragment, Reason::Unpublished);
    });
}

#[test]
fn packets_to_an_open_network_pass() {
    host(|bench| {
        close(bench, false);
        passes(bench, "to a network that is open", &to(ANNE.ip));
        passes(bench, "over IPv6", &Frame::ipv6((FAR.0, FAR_IPV6), (UPLINK.0, RED_IPV6)));
        close(bench, true);
        is_dropped(bench, &to(ANNE.ip), Reason::Unpublished);
        for number in [1, 2, 3] {
            bench.datapath.remove_endpoint(number, None).expect("removed");
        }
        bench.datapath.remove_network(RED, None).expect("removed");
        passes(bench, "to a network that was removed", &to(ANNE.ip));
        is_dropped(bench, &to(DORA.ip), Reason::Internal);
    });
}

#[test]
fn packets_that_the_host_would_route_elsewhere_pass() {
    host(|bench| {
        passes(bench, "to the uplink's own address", &to(UPLINK.1));
        passes(bench, "to the gateway's address", &to(GATEWAY.ip));
        passes(bench, "to all in the subnet", &to([172, 17, 255, 255]));
        passes(bench, "to the world", &to([198, 51, 100, 7]));
        let gateway = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        passes(bench, "to the gateway over IPv6", &Frame::ipv6((FAR.0, FAR_IPV6), (UPLINK.0, gateway)));
        run("ip address add 172.17.5.5/32 dev lo");
        passes(bench, "to an address of the host in the subnet", &to([172, 17, 5, 5]));
        run("ip route add 172.17.6.0/24 via 192.0.2.9");
        passes(bench, "where a route of the host's leads elsewhere", &to([172, 17, 6, 6]));
        run("ip rule add to 172.17.7.0/24 prohibit");
        passes(bench, "where a rule of the host's says no", &to([172, 17, 7, 7]));
        let last_hop = to(ANNE.ip).with(14 + 8, &[1]);
        passes(bench, "with no hop left, which the host answers", &last_hop);
        fs::write("/proc/sys/net/ipv4/conf/uplink/forwarding", "0").expect("a setting");
        passes(bench, "if the host forwards nothing", &to(ANNE.ip));
    });
}

#[test]
fn frames_for_other_hosts_on_the_link_pass() {
    host(|bench| {
        let other = [2, 0, 0, 0, 0, 9];
        passes(bench, "to another MAC", &Frame::ipv4(FAR, (other, ANNE.ip)));
        passes(bench, "to all", &Frame::ipv4(FAR, (BROADCAST, ANNE.ip)));
        let tagged = Frame::tagged(FAR.0, UPLINK.0, 5, 0x0800).then(&to(ANNE.ip).0[14..]);
        passes(bench, "in a VLAN", &tagged);
        let priority = Frame::tagged(FAR.0, UPLINK.0, 0xe000, 0x0800).then(&to(ANNE.ip).0[14..]);
        passes(bench, "with a priority, which the filter judges", &priority);
        let arp = Frame::ethernet(FAR.0, UPLINK.0, 0x0806).then(&to(ANNE.ip).0[14..]);
        passes(bench, "of another protocol", &arp);
        let device = UplinkDevice { mac: mac(other), ..device() };
        assert!(!bench.datapath.attach_uplink("uplink", &device, XdpMode::Native).expect("attached"));
        is_dropped(bench, &Frame::ipv4(FAR, (other, ANNE.ip)), Reason::Unpublished);
        passes(bench, "to a MAC that the uplink had before", &to(ANNE.ip));
    });
}

#[test]
fn malformed_frames_pass_to_the_host() {
    host(|bench| {
        for length in [14, 15, 33] {
            passes(bench, "a cut IPv4 header", &to(ANNE.ip).cut(length));
        }
        is_dropped(bench, &to(ANNE.ip).cut(34), Reason::Unpublished);
        let ipv6 = Frame::ipv6((FAR.0, FAR_IPV6), (UPLINK.0, RED_IPV6));
        passes(bench, "a cut IPv6 header", &ipv6.clone().cut(53));
        is_dropped(bench, &ipv6.cut(54), Reason::Unpublished);
        passes(bench, "of no known version", &to(ANNE.ip).with(14, &[0x35]));
        passes(bench, "of the other version", &to(ANNE.ip).with(14, &[0x65]));
    });
}

/// The XDP program at an interface: its name and mode.
fn attached(interface: &str) -> Option<(String, &'static str)> {
    let shown: serde_json::Value =
        serde_json::from_str(&run(&format!("ip -j -d link show {interface}"))).expect("JSON");
    let xdp = &shown[0]["xdp"];
    let mode = match xdp["mode"].as_u64()? {
        1 => "native",
        2 => "generic",
        _ => "?",
    };
    Some((xdp["prog"]["name"].as_str().unwrap_or_default().to_owned(), mode))
}

/// Waits until the kernel has detached a link, which takes a while after its last pin is gone.
fn is_gone(interface: &str) {
    while attached(interface).is_some() {
        thread::yield_now();
    }
}

/// The uplink as the kernel reports it.
fn device() -> UplinkDevice {
    let shown: serde_json::Value = serde_json::from_str(&run("ip -j -d link show uplink")).expect("JSON");
    let xdp = &shown[0]["xdp"];
    let mode = if xdp["mode"] == 1 { XdpMode::Native } else { XdpMode::Generic };
    let id = xdp["prog"]["id"].as_u64().map(|id| id as u32);
    UplinkDevice { ifindex: IFINDEX, mac: mac(UPLINK.0), program: id.map(|id| XdpProgram { id, mode }) }
}

#[test]
fn the_program_is_replaced_and_moved_behind_one_pin() {
    host(|bench| {
        let native = Some(("from_uplink".to_owned(), "native"));
        assert_eq!(attached("uplink"), native);
        let before = device();
        assert!(!bench.datapath.attach_uplink("uplink", &before, XdpMode::Native).expect("attached"));
        // A new daemon replaces the program by its own.
        bench.datapath = netbpf::datapath::Datapath::open(&bench.bpffs, false).expect("opened");
        assert_eq!(device(), before);
        assert!(bench.datapath.attach_uplink("uplink", &before, XdpMode::Native).expect("attached"));
        assert_eq!(attached("uplink"), native);
        assert_ne!(device().program, before.program);
        is_dropped(bench, &to(ANNE.ip), Reason::Unpublished);
        let now = device();
        bench.datapath.attach_uplink("uplink", &now, XdpMode::Generic).expect("attached");
        assert_eq!(attached("uplink"), Some(("from_uplink".to_owned(), "generic")));
        assert_eq!(bench.datapath.uplinks().expect("pins"), ["uplink"]);
        bench.datapath.detach_uplink("uplink").expect("detached");
        is_gone("uplink");
        bench.datapath.detach_uplink("uplink").expect("nothing to do");
    });
}

#[test]
fn an_interface_without_xdp_support_is_reported_with_a_remedy() {
    host(|bench| {
        let loopback = UplinkDevice { ifindex: 1, mac: mac(FAR.0), program: None };
        let error = bench.datapath.attach_uplink("lo", &loopback, XdpMode::Native).expect_err("no driver");
        assert_eq!(
            error.to_string(),
            "the driver of uplink lo has no native XDP; start with --xdp lo=generic, or without --xdp lo"
        );
        bench.datapath.attach_uplink("lo", &loopback, XdpMode::Generic).expect("attached");
        bench.datapath.detach_uplink("uplink").expect("detached");
        is_gone("uplink");
        let path = bench.pin("programs", "from_uplink");
        let mut somebody = Xdp::from_pin(path, XdpAttachType::Interface).expect("a program");
        somebody.attach_to_if_index(IFINDEX, Mode::Driver).expect("attached");
        let device = UplinkDevice { ifindex: IFINDEX, mac: mac(UPLINK.0), program: None };
        for mode in [XdpMode::Native, XdpMode::Generic] {
            let error = bench.datapath.attach_uplink("uplink", &device, mode).expect_err("taken");
            assert_eq!(
                error.to_string(),
                "uplink uplink has another XDP program; take that off (bpftool net detach xdp dev uplink), or leave \
                 out --xdp uplink"
            );
        }
    });
}
