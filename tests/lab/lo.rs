//! The filter at `lo` of containers with names: who has one, what works beside it, and what happens when it, the responder
//! or the daemon goes.

use netbpf_tests::lab::{Lab, Output, eventually};

use super::names::{Upstream, with_mynet};

/// The filters at the egress of `lo` in a container, and the UDP sockets there.
fn filter(lab: &Lab, container: &str) -> String {
    lab.in_network_of(container, "tc filter show dev lo egress").ok().text().to_owned()
}

fn sockets(lab: &Lab, container: &str) -> String {
    lab.in_network_of(container, "ss -Hltun | awk '{ print $1, $5 }'").ok().text().to_owned()
}

/// Whether a socket has port 53 of an address.
fn is_at_53(lab: &Lab, container: &str, address: &str) -> bool {
    sockets(lab, container).lines().any(|line| line == format!("udp {address}:53"))
}

/// Asks from a container's namespace, also while no daemon runs. Fails after one second.
fn ask(lab: &Lab, pid: u64, question: &str) -> Output {
    let script = format!("dig +short +tries=1 +time=1 {question}");
    lab.host(["nsenter", "-t", &pid.to_string(), "-n", "sh", "-c", &script])
}

fn answered(lab: &Lab) -> u64 {
    lab.reasons().get("answered-name").copied().unwrap_or_default()
}

#[track_caller]
fn kill_responder(lab: &Lab) {
    let [responder] = lab.processes("netbpf responder")[..] else { panic!("one responder") };
    lab.host(["kill", "-9", &responder.to_string()]).ok();
}

#[test]
fn known_names_are_answered_without_the_responder_by_every_kind_of_client() {
    let lab = with_mynet(Lab::start());
    let python = "python3 -c 'import socket; print(socket.gethostbyname(\"web\"))'";
    for (command, count) in [
        ("dig +short +tries=1 tomcat02", 1),
        ("dig +short +noedns +tries=1 WEB.mynet", 1),
        ("dig +short +nocookie +tries=1 tomcat02", 1),
        ("getent ahostsv4 tomcat02", 1),
        (python, 1),
        ("busybox nslookup -type=a web 127.0.0.11", 1),
        ("dig +short +tcp +tries=1 tomcat02", 0),
        ("dig +short +tries=1 shop.example.org", 1),
    ] {
        let before = answered(&lab);
        let found = lab.exec_script("tomcat01", command).ok();
        assert!(found.text().contains("10.1.0.3"), "{command}: {found}");
        assert!(answered(&lab) - before >= count, "{command}");
    }
    let before = answered(&lab);
    assert_eq!(lab.exec("tomcat01", "dig +short +tries=1 -x 10.1.0.3").ok().text(), "tomcat02.mynet.");
    assert_eq!(answered(&lab) - before, 1);
    lab.netbpf(["doctor"])
        .stdout
        .lines()
        .find(|line| line.contains("in the kernel, for 2 containers"))
        .expect("told");
}

#[test]
fn only_containers_with_names_have_a_filter() {
    let lab = with_mynet(Lab::start());
    lab.run("plain", "");
    assert_eq!((filter(&lab, "plain"), sockets(&lab, "plain")), (String::new(), String::new()));
    assert!(filter(&lab, "tomcat01").contains("at_lo"));
    assert!(!is_at_53(&lab, "tomcat01", "127.0.0.11"), "the responder has another port");
    lab.netbpf(["connect", "mynet", "plain"]).ok();
    assert!(filter(&lab, "plain").contains("at_lo"));
    lab.netbpf(["disconnect", "mynet", "plain"]).ok();
    assert_eq!((filter(&lab, "plain"), sockets(&lab, "plain")), (String::new(), String::new()));
    let disciplines = lab.in_network_of("plain", "tc qdisc show dev lo").ok();
    assert!(!disciplines.text().contains("clsact"), "{disciplines}");
}

#[test]
fn a_container_can_have_a_name_server_of_its_own_at_port_53() {
    let lab = Lab::without_daemon();
    let upstream = Upstream::start(&lab, "nameserver 10.9.9.9\n");
    lab.start_daemon();
    let lab = with_mynet(lab);
    // It listens at all addresses, and asks netbpf.
    lab.exec(
        "tomcat01",
        "dnsmasq -u root -C /dev/null -R -h -S 127.0.0.11 -A /own.example/192.0.2.9 -x /tmp/dnsmasq.pid",
    )
    .ok();
    eventually("it listens", || is_at_53(&lab, "tomcat01", "0.0.0.0").then_some(()));
    let address = lab.address("tomcat01", "mynet");
    for (server, asker) in [("127.0.0.1", "tomcat01"), (&*address, "tomcat01"), (&*address, "tomcat02")] {
        for how in ["", "+tcp"] {
            let ask = |name: &str| {
                let command = format!("dig +short +tries=1 {how} @{server} {name}");
                lab.exec(asker, &command).ok().text().to_owned()
            };
            assert_eq!(ask("own.example"), "192.0.2.9", "its own names: {server} {how}");
            assert_eq!(ask("tomcat02"), "10.1.0.3", "{server} {how}");
            assert_eq!(ask("known.example"), "203.0.113.9", "{server} {how}");
        }
    }
    // netbpf's responder is where it was.
    for how in ["", "+tcp"] {
        let ask = |name: &str| {
            lab.exec("tomcat01", &format!("dig +short +tries=1 {how} {name}")).ok().text().to_owned()
        };
        assert_eq!((ask("web"), ask("known.example")), ("10.1.0.3".into(), "203.0.113.9".into()), "{how}");
        assert_eq!(ask("own.example"), "", "{how}");
    }
    // A new daemon, and a new responder.
    lab.kill_daemon();
    kill_responder(&lab);
    lab.start_daemon();
    let found = lab.exec("tomcat01", "dig +short +tries=1 @127.0.0.1 known.example").ok();
    assert_eq!(found.text(), "203.0.113.9");
    upstream.stop(&lab);
}

#[test]
fn known_names_are_answered_and_other_queries_are_mapped() {
    names_are_answered_at_lo(&with_mynet(Lab::start()));
}

/// On a host with the containers of [`with_mynet`].
#[track_caller]
pub fn names_are_answered_at_lo(lab: &Lab) {
    for (question, answer, count) in [
        ("tomcat02", "10.1.0.3", 1),
        ("+noedns WEB.mynet", "10.1.0.3", 1),
        ("tomcat02 AAAA", "", 1),
        ("-x 10.1.0.3", "tomcat02.mynet.", 1),
        ("+tcp tomcat02", "10.1.0.3", 0),
        ("+ednsopt=100:00 tomcat02", "10.1.0.3", 0),
    ] {
        let before = answered(lab);
        let found = lab.exec("tomcat01", &format!("dig +short +tries=1 {question}")).ok();
        assert_eq!((found.text(), answered(lab) - before), (answer, count), "{question}");
    }
    // Without a responder, known names are answered, and others are refused at once. The daemon has the responder's
    // sockets, too, and would start another one.
    let pid = lab.pid("tomcat01");
    lab.kill_daemon();
    kill_responder(lab);
    eventually("the sockets are closed", || {
        ask(lab, pid, "+tcp @127.0.0.11 tomcat02").stdout.contains("connection refused").then_some(())
    });
    assert_eq!(ask(lab, pid, "@127.0.0.11 tomcat02").ok().text(), "10.1.0.3");
    assert_eq!(ask(lab, pid, "@127.0.0.11 -x 10.1.0.3").ok().text(), "tomcat02.mynet.");
    let refused = ask(lab, pid, "@127.0.0.11 known.example");
    assert!(refused.stdout.contains("connection refused"), "{refused}");
    lab.start_daemon();
    assert_eq!(ask(lab, pid, "+tcp @127.0.0.11 tomcat02").ok().text(), "10.1.0.3");
}

#[test]
fn the_switch_changes_containers_that_run() {
    let lab = with_mynet(Lab::start());
    lab.host(["ip", "netns", "add", "blue"]).ok();
    lab.netbpf(["connect", "mynet", "netns:blue"]).ok();
    let restart_with = |options: &str| {
        lab.stop_daemon();
        lab.tell_daemons(options);
        lab.start_daemon();
    };
    let works = || {
        for how in ["", "+tcp"] {
            let found = lab.exec("tomcat01", &format!("dig +short +tries=1 {how} tomcat02")).ok();
            assert_eq!(found.text(), "10.1.0.3", "{how}");
        }
    };
    for _ in 0..2 {
        restart_with("--fast-names=off");
        works();
        assert!(is_at_53(&lab, "tomcat01", "127.0.0.11"));
        assert_eq!(filter(&lab, "tomcat01"), "");
        let disciplines = lab.host(["tc", "-n", "blue", "qdisc", "show", "dev", "lo"]).ok();
        assert!(!disciplines.text().contains("clsact"), "{disciplines}");
        let doctor = lab.netbpf(["doctor"]);
        assert!(doctor.stdout.contains("--fast-names=off"), "{doctor}");
        let before = answered(&lab);
        works();
        assert_eq!(answered(&lab), before, "the responder has answered");

        restart_with("");
        works();
        assert!(!is_at_53(&lab, "tomcat01", "127.0.0.11"));
        assert!(filter(&lab, "tomcat01").contains("at_lo"));
        // The next one finds everything as it should be.
        let before = (sockets(&lab, "tomcat01"), sockets(&lab, "tomcat02"));
        lab.restart_daemon();
        assert_eq!((sockets(&lab, "tomcat01"), sockets(&lab, "tomcat02")), before);
        works();
    }
    lab.netbpf(["disconnect", "mynet", "netns:blue"]).ok();
    lab.host(["ip", "netns", "del", "blue"]).ok();
}

#[test]
fn a_filter_that_a_container_removes_is_added_again() {
    let lab = with_mynet(Lab::start());
    lab.in_network_of("tomcat01", "tc qdisc del dev lo clsact").ok();
    let pid = lab.pid("tomcat01");
    let refused = ask(&lab, pid, "@127.0.0.11 tomcat02");
    assert!(
        refused.stdout.contains("connection refused") || refused.text() == "10.1.0.3",
        "it may have been added again already: {refused}"
    );
    assert_eq!(lab.exec("tomcat02", "dig +short +tries=1 tomcat01").ok().text(), "10.1.0.2");
    eventually("it is added again", || filter(&lab, "tomcat01").contains("at_lo").then_some(()));
    assert_eq!(lab.exec("tomcat01", "dig +short +tries=1 tomcat02").ok().text(), "10.1.0.3");
    eventually("it is told", || {
        lab.netbpf(["doctor"]).stdout.contains("took netbpf's filter from lo of tomcat01").then_some(())
    });
    // With a filter of its own, the discipline stays when netbpf's goes.
    let own = "tc filter add dev lo egress prio 9 bpf bytecode '1,6 0 0 0,' flowid 1:1";
    lab.in_network_of("tomcat01", own).ok();
    assert_eq!(lab.exec("tomcat01", "dig +short +tries=1 tomcat02").ok().text(), "10.1.0.3");
    lab.netbpf(["disconnect", "mynet", "tomcat01"]).ok();
    let left = filter(&lab, "tomcat01");
    assert!(left.contains("pref 9 ") && !left.contains("at_lo"), "{left}");
}

/// What adds a filter of the container's own with netbpf's priority. It matches nothing.
fn own_filter(protocol: &str) -> String {
    let bytecode = "bpf bytecode '1,6 0 0 0,' flowid 1:1";
    format!("tc qdisc add dev lo clsact && tc filter add dev lo egress pref 1 protocol {protocol} {bytecode}")
}

#[test]
fn a_filter_of_the_container_s_own_stays_beside_netbpf_s() {
    let lab = with_mynet(Lab::start());
    lab.run("own", "");
    lab.in_network_of("own", &own_filter("all")).ok();
    let before = filter(&lab, "own");
    lab.netbpf(["connect", "mynet", "own"]).ok();
    assert_eq!(lab.exec("own", "dig +short +tries=1 tomcat02").ok().text(), "10.1.0.3");
    let both = filter(&lab, "own");
    assert!(both.contains("at_lo") && both.contains("bytecode"), "{both}");
    lab.netbpf(["disconnect", "mynet", "own"]).ok();
    assert_eq!(filter(&lab, "own"), before);
}

#[test]
fn the_responder_has_port_53_where_a_filter_of_the_container_s_own_has_the_place() {
    let lab = with_mynet(Lab::start());
    let works = || {
        for how in ["", "+tcp"] {
            let found = lab.exec("tomcat01", &format!("dig +short +tries=1 {how} tomcat02")).ok();
            assert_eq!(found.text(), "10.1.0.3", "{how}");
        }
    };
    // While no daemon would add netbpf's again.
    let pid = lab.pid("tomcat01").to_string();
    lab.stop_daemon();
    let replace = format!("tc qdisc del dev lo clsact && {}", own_filter("ip"));
    lab.host(["nsenter", "-t", &pid, "-n", "sh", "-c", &replace]).ok();
    lab.start_daemon();
    works();
    assert!(is_at_53(&lab, "tomcat01", "127.0.0.11"));
    assert!(filter(&lab, "tomcat02").contains("at_lo"), "that of others is where it was");
    lab.netbpf(["doctor"])
        .stdout
        .lines()
        .find(|line| line.contains("in the kernel, for 1 containers; by the responder for tomcat01 ("))
        .expect("told");
    // It stays so, and is no error.
    lab.restart_daemon();
    works();
    assert!(is_at_53(&lab, "tomcat01", "127.0.0.11"));
    let log = lab.daemon_log();
    assert!(log.contains("at port 53, because no filter can be added") && !log.contains("ERROR"), "{log}");
    // The next start finds the place free.
    lab.in_network_of("tomcat01", "tc qdisc del dev lo clsact").ok();
    lab.restart_daemon();
    works();
    assert!(filter(&lab, "tomcat01").contains("at_lo") && !is_at_53(&lab, "tomcat01", "127.0.0.11"));
}

#[test]
fn the_responder_takes_port_53_when_another_filter_takes_the_place() {
    let lab = with_mynet(Lab::start());
    // The next one has a name server of its own at that port.
    lab.exec("tomcat02", "dnsmasq -u root -C /dev/null -R -h -S 127.0.0.11 -x /tmp/dnsmasq.pid").ok();
    eventually("it listens", || is_at_53(&lab, "tomcat02", "0.0.0.0").then_some(()));
    for container in ["tomcat01", "tomcat02"] {
        lab.in_network_of(container, &format!("tc qdisc del dev lo clsact && {}", own_filter("ip"))).ok();
    }
    eventually("the responder is there", || is_at_53(&lab, "tomcat01", "127.0.0.11").then_some(()));
    for how in ["", "+tcp"] {
        let found = lab.exec("tomcat01", &format!("dig +short +tries=1 {how} tomcat02")).ok();
        assert_eq!(found.text(), "10.1.0.3", "{how}");
    }
    eventually("it is told", || {
        let doctor = lab.netbpf(["doctor"]).stdout;
        let is_told = |text: &str| doctor.lines().any(|line| line.contains(text));
        let is_barred =
            is_told("names of tomcat02: add a filter at lo in") && is_told("listen on 127.0.0.11:53");
        (is_told("by the responder for tomcat01 (add a filter at lo in") && is_barred).then_some(())
    });
    // Both places are free again.
    lab.host(["kill", &lab.processes("dnsmasq")[0].to_string()]).ok();
    eventually("the responder is there", || is_at_53(&lab, "tomcat02", "127.0.0.11").then_some(()));
    let doctor = lab.netbpf(["doctor"]);
    assert!(!doctor.stdout.contains("names of tomcat02"), "{doctor}");
    lab.exec("tomcat02", "dig +short +tries=1 tomcat01").ok();
}

#[test]
fn a_container_with_a_filter_of_its_own_in_the_place_is_connected() {
    let lab = with_mynet(Lab::start());
    lab.run("own", "");
    lab.in_network_of("own", &own_filter("ip")).ok();
    let before = filter(&lab, "own");
    lab.netbpf(["connect", "mynet", "own"]).ok();
    for how in ["", "+tcp"] {
        assert_eq!(lab.exec("own", &format!("dig +short +tries=1 {how} tomcat02")).ok().text(), "10.1.0.3");
    }
    assert!(is_at_53(&lab, "own", "127.0.0.11"));
    assert_eq!(filter(&lab, "own"), before);
    let doctor = lab.netbpf(["doctor"]);
    assert!(doctor.stdout.contains("2 containers; by the responder for own (add a filter at"), "{doctor}");
    lab.netbpf(["disconnect", "mynet", "own"]).ok();
    let doctor = lab.netbpf(["doctor"]);
    assert!(!doctor.stdout.contains("by the responder"), "{doctor}");
    assert_eq!(filter(&lab, "own"), before);
    assert!(!is_at_53(&lab, "own", "127.0.0.11"));
}

#[test]
fn a_container_with_another_discipline_at_lo_is_connected() {
    let lab = with_mynet(Lab::start());
    lab.run("own", "");
    lab.in_network_of("own", "tc qdisc add dev lo ingress").ok();
    lab.netbpf(["connect", "mynet", "own"]).ok();
    for how in ["", "+tcp"] {
        assert_eq!(lab.exec("own", &format!("dig +short +tries=1 {how} tomcat02")).ok().text(), "10.1.0.3");
    }
    assert!(is_at_53(&lab, "own", "127.0.0.11"));
    lab.netbpf(["disconnect", "mynet", "own"]).ok();
    let left = lab.in_network_of("own", "tc qdisc show dev lo; tc filter show dev lo ingress").ok();
    assert!(left.text().contains("ingress ffff:") && !left.text().contains("at_lo"), "{left}");
}

#[test]
fn a_discipline_that_the_container_has_added_stays() {
    let lab = with_mynet(Lab::start());
    lab.run("own", "");
    lab.in_network_of("own", "tc qdisc add dev lo clsact").ok();
    lab.netbpf(["connect", "mynet", "own"]).ok();
    assert!(filter(&lab, "own").contains("at_lo"));
    lab.netbpf(["disconnect", "mynet", "own"]).ok();
    assert_eq!(filter(&lab, "own"), "");
    let left = lab.in_network_of("own", "tc qdisc show dev lo").ok();
    assert!(left.text().contains("clsact"), "{left}");
}

#[test]
fn a_namespace_has_one_filter_and_one_container() {
    let lab = with_mynet(Lab::start());
    lab.network("other", "--subnet 10.2.0.0/24");
    lab.host(["ip", "netns", "add", "blue"]).ok();
    lab.netbpf(["connect", "mynet", "netns:blue"]).ok();
    // Another name of the same namespace.
    let holder = lab.spawn(["nsenter", "--net=/run/netns/blue", "sleep", "7654321"]);
    let pid = eventually("a process there", || lab.processes("sleep 7654321").first().copied());
    lab.netbpf(["connect", "other", &format!("pid:{pid}")])
        .fails_with(1, "listen on 127.0.0.11:53 in the container: address in use");
    let asked =
        lab.host(["nsenter", "--net=/run/netns/blue", "dig", "+short", "@127.0.0.11", "tomcat01"]).ok();
    assert_eq!(asked.text(), "10.1.0.2");
    lab.netbpf(["disconnect", "mynet", "netns:blue"]).ok();
    let left = lab.host(["tc", "-n", "blue", "qdisc", "show", "dev", "lo"]).ok();
    assert!(!left.text().contains("clsact"), "{left}");
    drop(holder);
    lab.host(["ip", "netns", "del", "blue"]).ok();
}

#[test]
fn filters_are_the_same_containers_after_the_maps_were_lost() {
    let lab = with_mynet(Lab::start());
    let names = ["tomcat03", "tomcat04", "tomcat05"];
    names.iter().for_each(|name| lab.run(name, "--net mynet"));
    lab.kill_daemon();
    // As after an update with other layouts.
    lab.host(["sh", "-c", "rm -r /sys/fs/bpf/netbpf/v*"]).ok();
    lab.start_daemon();
    for name in names {
        for how in ["", "+tcp"] {
            let found = lab.exec(name, &format!("dig +short +tries=1 {how} tomcat02")).ok();
            assert_eq!(found.text(), "10.1.0.3", "{name} {how}");
        }
        let before = answered(&lab);
        assert_eq!(lab.exec(name, "dig +short +tries=1 tomcat02").ok().text(), "10.1.0.3");
        assert_eq!(answered(&lab) - before, 1, "{name} has the new program");
    }
}

#[test]
fn a_namespace_that_others_share_loses_the_filter_with_its_container() {
    let lab = with_mynet(Lab::start());
    lab.run("sharer", "--net container:tomcat01");
    assert_eq!(lab.exec("sharer", "dig +short +tries=1 tomcat02").ok().text(), "10.1.0.3");
    lab.netbpf(["rm", "-f", "tomcat01"]).ok();
    assert_eq!(filter(&lab, "sharer"), "");
    let pid = lab.pid("sharer");
    let refused = ask(&lab, pid, "@127.0.0.11 tomcat02");
    assert!(refused.stdout.contains("connection refused"), "{refused}");
}

#[test]
fn a_namespace_that_others_share_loses_the_filter_of_a_container_that_ended_without_a_daemon() {
    let lab = with_mynet(Lab::start());
    lab.run("sharer", "--net container:tomcat01");
    let (pid, of_sharer) = (lab.pid("tomcat01").to_string(), lab.pid("sharer").to_string());
    lab.kill_daemon();
    lab.host(["kill", "-9", &pid]).ok();
    let is_gone = || lab.host(["test", "!", "-e", &format!("/proc/{pid}")]).status.success();
    eventually("it is gone", || is_gone().then_some(()));
    let at_lo = || {
        let command = "tc qdisc show dev lo; tc filter show dev lo egress";
        lab.host(["nsenter", "-t", &of_sharer, "-n", "sh", "-c", command]).ok().text().to_owned()
    };
    assert!(at_lo().contains("at_lo"));
    lab.start_daemon();
    let left = at_lo();
    assert!(!left.contains("at_lo") && !left.contains("clsact"), "{left}");
}

#[test]
fn a_name_server_at_port_53_is_in_the_way_of_the_responder_without_filters() {
    let lab = with_mynet(Lab::start());
    lab.exec("tomcat01", "dnsmasq -u root -C /dev/null -R -h -S 127.0.0.11 -x /tmp/dnsmasq.pid").ok();
    eventually("it listens", || is_at_53(&lab, "tomcat01", "0.0.0.0").then_some(()));
    lab.stop_daemon();
    lab.tell_daemons("--fast-names=off");
    lab.start_daemon();
    // It has the queries now; all others can resolve the container, and ask.
    assert_eq!(filter(&lab, "tomcat01"), "");
    assert_eq!(lab.exec("tomcat02", "dig +short +tries=1 tomcat01").ok().text(), "10.1.0.2");
    lab.stop_daemon();
    lab.tell_daemons("");
    lab.start_daemon();
    for how in ["", "+tcp"] {
        let found = lab.exec("tomcat01", &format!("dig +short +tries=1 {how} tomcat02")).ok();
        assert_eq!(found.text(), "10.1.0.3", "{how}");
    }
}

#[test]
fn a_firewall_in_the_container_that_accepts_lo_changes_nothing() {
    let lab = Lab::without_daemon();
    let upstream = Upstream::start(&lab, "nameserver 10.9.9.9\n");
    lab.start_daemon();
    let lab = with_mynet(lab);
    let rules = "nft -f - <<END
table ip strict {
    chain in { type filter hook input priority 0; policy drop; iif lo accept; ct state established accept; }
    chain out { type filter hook output priority 0; policy drop; oif lo accept; }
}
END";
    lab.in_network_of("tomcat01", rules).ok();
    for how in ["", "+tcp"] {
        for (name, address) in [("tomcat02", "10.1.0.3"), ("known.example", "203.0.113.9")] {
            let found = lab.exec("tomcat01", &format!("dig +short +tries=1 {how} {name}")).ok();
            assert_eq!(found.text(), address, "{how}");
        }
    }
    upstream.stop(&lab);
}
