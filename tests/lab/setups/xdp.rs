//! Frames through the veth pair of a container: what native and generic XDP, shaping and counters see of them.

use netbpf_tests::lab::{Lab, kernel_version, station::text};

use super::{Setup, host_reaches, reaches, update};

pub const SETUP: Setup = Setup { network: "", members: &[("one", ""), ("two", "")], try_it: frames_are_seen };

/// The first Linux version whose generic XDP leaves out frames that a TC program redirected: `__bpf_tx_skb` marks them since
/// then, and `do_xdp_generic` has always left out marked ones.
const SKIPS_REDIRECTED: [u32; 2] = [6, 4];

#[test]
fn frames_are_seen_as_the_option_says() {
    SETUP.run();
}

#[track_caller]
fn frames_are_seen(lab: &Lab) {
    the_host_side_sees_all_frames(lab);
    xdp_inside_sees_what_it_should(lab);
}

/// A queueing discipline or a capture at the host side sees frames of members only with plain redirects.
#[track_caller]
fn the_host_side_sees_all_frames(lab: &Lab) {
    let inside = lab.in_network_of("two", "ip -j link show eth0").ok().json();
    let link = &inside[0]["link_index"];
    let sent = || -> u64 {
        let links = lab.host(["ip", "-s", "-j", "link", "show"]).ok().json();
        let links = links.as_array().expect("links").clone();
        let own = links.iter().find(|one| one["ifindex"] == *link).expect("the host side");
        own["stats64"]["tx"]["packets"].as_u64().expect("a count")
    };
    let ping = format!("ping -c20 -i 0.02 {}", lab.address("two", "mynet"));
    let before = sent();
    lab.in_network_of("one", &ping).ok();
    // Others send a few frames.
    assert!(sent() - before < 20);
    update(lab, "netbpf.redirect=plain", "two");
    let before = sent();
    lab.in_network_of("one", &ping).ok();
    assert!(sent() - before >= 20);
}

/// The table in README: which frames XDP in a container sees.
#[track_caller]
fn xdp_inside_sees_what_it_should(lab: &Lab) {
    let member = text(lab.station("one", "eth0").mac());
    let host = text(lab.host_station(&lab.device("mynet")).mac());
    let ask = || {
        for address in ["10.5.0.3", "fd00:5::3"] {
            reaches(lab, "one", address);
            host_reaches(lab, address);
        }
    };
    // Neighbours know each other from now on.
    ask();
    let redirected = kernel_version() < SKIPS_REDIRECTED;
    for (option, mode, seen) in [
        ("", "native", [false, true]),
        ("", "skb", [true, redirected]),
        ("plain", "skb", [redirected, redirected]),
        ("plain", "native", [true, true]),
    ] {
        update(lab, &format!("netbpf.redirect={option}"), "two");
        // Counts the frames from these MACs, and lets them pass.
        let load = format!(
            "xdp-filter load -m {mode} -p deny -f ethernet eth0 && xdp-filter ether -m src {member} && \
             xdp-filter ether -m src {host}"
        );
        lab.in_network_of("two", &load).ok();
        ask();
        let status = lab.in_network_of("two", "xdp-filter status").ok().stdout;
        let counted = [&member, &host].map(|mac| {
            let line = status.lines().find(|line| line.trim_start().starts_with(mac));
            line.and_then(|line| line.split_whitespace().last()?.parse::<u32>().ok()).expect("a count")
        });
        assert_eq!(counted.map(|count| count >= 2), seen, "{mode}, {option}: {status}");
        assert!(counted.iter().zip(seen).all(|(count, is_seen)| is_seen || *count == 0), "{status}");
        lab.in_network_of("two", "xdp-filter unload eth0").ok();
    }
    lab.host(["rmdir", "/sys/fs/bpf/xdp"]).ok();
}
