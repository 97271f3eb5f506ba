//! Manual changes of netbpf's links on the host: changed settings are restored, additional ones stay.

use netbpf_tests::lab::{Lab, eventually};

use super::{pins::pin, repair::while_stopped};

const GATEWAY: &str = "172.17.0.1/16";
const MAC: &str = "02:42:ac:11:00:01";

/// A host with one container, which the host can reach.
fn lab() -> Lab {
    let lab = Lab::start();
    lab.netbpf(["run", "-d", "--name", "one", "--", "sleep", "infinity"]).ok();
    lab.host(["ping", "-c1", "-W2", "172.17.0.2"]).ok();
    lab
}

#[track_caller]
fn ip(lab: &Lab, words: &str) {
    lab.host(["ip"].into_iter().chain(words.split(' '))).ok();
}

#[track_caller]
fn works_again(lab: &Lab) {
    eventually("host and container reach each other", || {
        let out = lab.host(["ping", "-c1", "-W1", "172.17.0.2"]).status.success();
        let back = lab.netbpf(["exec", "one", "ping", "-c1", "-W1", "172.17.0.1"]).status.success();
        (out && back).then_some(())
    });
}

#[track_caller]
fn is_told(lab: &Lab, words: &str) {
    // The daemon may tell it after the deed.
    eventually(&format!("{words:?} in the log"), || lab.daemon_log().contains(words).then_some(()));
}

#[track_caller]
fn link(lab: &Lab, words: &str) {
    eventually(words, || lab.host(["ip", "addr", "show", "netbpf0"]).stdout.contains(words).then_some(()));
}

#[test]
fn flushed_addresses_are_restored() {
    let lab = lab();
    ip(&lab, "addr flush dev netbpf0");
    link(&lab, GATEWAY);
    works_again(&lab);
    is_told(&lab, "somebody changed netbpf0: put back address 172.17.0.1/16");
}

#[test]
fn flushed_ipv6_addresses_and_settings_are_restored() {
    let lab = Lab::start();
    let options = "network create --ipv6 --subnet 10.1.0.0/24 --subnet 2001:db8:1::/64 -o com.docker.network.bridge.name=six six";
    lab.netbpf(options.split(' ')).ok();
    let six = |words: &str| {
        eventually(words, || lab.host(["ip", "addr", "show", "six"]).stdout.contains(words).then_some(()));
    };
    ip(&lab, "addr flush dev six");
    six("2001:db8:1::1/64");
    six("10.1.0.1/24");
    lab.host(["sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/six/disable_ipv6"]).ok();
    six("2001:db8:1::1/64");
    is_told(&lab, "ipv6/conf/*/disable_ipv6 = 0");
}

#[test]
fn a_changed_mac_address_is_restored() {
    let lab = lab();
    ip(&lab, "link set netbpf0 address 02:42:aa:bb:cc:dd");
    link(&lab, MAC);
    works_again(&lab);
    is_told(&lab, "somebody changed netbpf0: put back MAC 02:42:ac:11:00:01");
}

#[test]
fn a_device_that_is_set_down_or_renamed_is_restored() {
    a_device_is_restored(&lab());
}

/// On a host with a container `one`.
pub fn a_device_is_restored(lab: &Lab) {
    ip(lab, "link set netbpf0 down");
    works_again(lab);
    // Linux renames a link that is up since 6.2 only: the daemon must not set it up in between.
    let rename = "ip link set netbpf0 down; ip link set netbpf0 name foo0";
    lab.host(["sh", "-ec", &while_stopped(lab.processes("netbpf daemon")[0], rename)]).ok();
    works_again(lab);
    link(lab, GATEWAY);
    is_told(lab, "its name (it was foo0)");
}

#[test]
fn a_device_whose_peer_or_group_is_changed_is_restored() {
    let lab = lab();
    let links = lab.host(["ip", "-o", "link"]).ok().stdout;
    let peer = links.split([' ', '@', ':']).find(|word| word.starts_with("nbp")).expect("the other end");
    ip(&lab, &format!("link set {peer} down"));
    works_again(&lab);
    ip(&lab, "link set netbpf0 group 0");
    eventually("its group", || {
        (!lab.host(["ip", "-o", "link", "show", "netbpf0"]).stdout.contains("group default")).then_some(())
    });
}

#[test]
fn a_deleted_device_is_created_again() {
    let lab = lab();
    ip(&lab, "link del netbpf0");
    works_again(&lab);
    is_told(&lab, "somebody deleted netbpf0: it is made again");
}

#[test]
fn changes_from_while_no_daemon_ran_are_undone_at_its_start() {
    let lab = lab();
    lab.stop_daemon();
    ip(&lab, "addr flush dev netbpf0");
    ip(&lab, "link set netbpf0 address 02:42:aa:bb:cc:dd");
    lab.start_daemon();
    works_again(&lab);
    is_told(&lab, "somebody changed netbpf0: put back MAC 02:42:ac:11:00:01, address 172.17.0.1/16");
}

#[test]
fn the_user_s_own_addresses_and_mtu_stay() {
    let lab = lab();
    for (address, reached) in [("10.77.0.1/24", "10.77.0.1"), ("172.17.255.254/16", "172.17.255.254")] {
        ip(&lab, &format!("addr add {address} dev netbpf0"));
        let pid = lab.netbpf(["inspect", "-f", "{{.State.Pid}}", "one"]).ok().text().to_owned();
        let route = ["nsenter", "-t", &pid, "-n", "ip", "route", "replace", "10.77.0.0/24", "dev", "eth0"];
        lab.host(route).ok();
        eventually("the container reaches it", || {
            let pinged = lab.netbpf(["exec", "one", "ping", "-c1", "-W1", reached]);
            pinged.status.success().then_some(())
        });
    }
    ip(&lab, "link set netbpf0 mtu 1400");
    lab.netbpf(["exec", "one", "ping", "-c1", "-W2", "-s", "1472", "-M", "do", "172.17.0.1"]).ok();
    lab.restart_daemon();
    for words in ["10.77.0.1/24", "172.17.255.254/16", "mtu 1400"] {
        link(&lab, words);
    }
}

#[test]
fn a_detached_program_is_attached_again() {
    a_program_is_attached_again(&lab());
}

/// On a host with a container `one`, and no other.
pub fn a_program_is_attached_again(lab: &Lab) {
    let links = lab.host(["ip", "-o", "link"]).ok().stdout;
    let veth = links.split([' ', '@', ':']).find(|word| word.starts_with("veth")).expect("a host side");
    let pin = pin(&format!("links/{veth}"));
    // With tcx the program stays, because the daemon has its link open; with clsact it goes with the discipline.
    if lab.path(&pin).exists() {
        lab.host(["rm", &pin]).ok();
        eventually("its pin", || lab.path(&pin).exists().then_some(()));
        is_told(lab, &format!("somebody removed {pin}: it is pinned again"));
    } else {
        lab.host(["tc", "qdisc", "del", "dev", veth, "clsact"]).ok();
        eventually("its filter", || {
            lab.host(["tc", "filter", "show", "dev", veth, "ingress"])
                .stdout
                .contains("from_container")
                .then_some(())
        });
        is_told(lab, &format!("somebody took netbpf's program from {veth}: it is attached again"));
    }
}

#[test]
fn a_setting_that_is_changed_again_and_again_is_left_alone() {
    let lab = lab();
    for _ in 0..5 {
        ip(&lab, "link set netbpf0 address 02:42:aa:bb:cc:dd");
        link(&lab, MAC);
    }
    ip(&lab, "link set netbpf0 address 02:42:aa:bb:cc:dd");
    is_told(&lab, "again and again: it is left alone for 60 s");
    lab.restart_daemon();
    link(&lab, MAC);
}
