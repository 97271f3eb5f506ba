//! `netbpf explain`: for each of the usual troubles, the situation is made, the one command is run, and it must say what is
//! wrong. Then random worlds, in which it must agree with real connections.

mod truth;

use netbpf_tests::lab::{Lab, Output, Process, eventually, tell};
use serde_json::Value;

use super::{outside::Neighbourhood, reach::serve};

/// The exit codes.
const PASSES: i32 = 0;
const BLOCKED: i32 = 3;
const UNDECIDED: i32 = 4;

/// Runs `netbpf explain WORDS`; words are separated by spaces.
#[must_use = "check it"]
#[track_caller]
fn explain(lab: &Lab, words: &str, format: &str) -> Output {
    lab.netbpf(["explain"].into_iter().chain(words.split(' ')).chain(["--format", format]))
}

/// Asserts the exit code and the code of the hop that decides.
#[track_caller]
fn says(lab: &Lab, words: &str, exit: i32, code: &str) {
    let output = explain(lab, words, "{{.Code}}");
    let said = (output.status.code(), output.stdout.trim());
    if said != (Some(exit), code) {
        let whole = lab.netbpf(["explain"].into_iter().chain(words.split(' ')));
        panic!("netbpf explain {words}: {said:?} and not {exit}, {code}:\n{}{}", whole.stdout, whole.stderr);
    }
}

/// The hops of an explanation.
#[track_caller]
fn hops(lab: &Lab, words: &str) -> Vec<Value> {
    let output = explain(lab, words, "json");
    let said: Value = serde_json::from_str(output.stdout.lines().next().unwrap_or_default())
        .unwrap_or_else(|error| panic!("netbpf explain {words}: {error}: {output:?}"));
    said["Hops"].as_array().cloned().unwrap_or_default()
}

/// Whether a hop has a code.
#[track_caller]
fn has(lab: &Lab, words: &str, code: &str) -> bool {
    hops(lab, words).iter().any(|hop| hop["Code"] == code)
}

/// A TCP server that accepts nothing. Arguments: address and port.
const SERVER: &str = "
import socket, sys, time
is_ipv6 = ':' in sys.argv[1]
family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
server = socket.create_server((sys.argv[1], int(sys.argv[2])), family=family, dualstack_ipv6=is_ipv6)
time.sleep(3600)
";

/// Starts a server at an address of the host.
#[track_caller]
fn listen_on_host(lab: &Lab, address: &str, port: u16) -> Process {
    let text = port.to_string();
    let process = lab.spawn(["python3", "-c", SERVER, address, &text]);
    listens(|| lab.host(["ss", "-Hltn"]), port);
    process
}

/// Starts a container with a server at one of its addresses.
#[track_caller]
fn run_server(lab: &Lab, name: &str, options: &str, address: &str, port: u16) {
    let text = port.to_string();
    let words = ["run", "-d", "--name", name].into_iter().chain(options.split_whitespace());
    lab.netbpf(words.chain(["--", "python3", "-c", SERVER, address, &text])).ok();
    listens(|| lab.in_network_of(name, "ss -Hltn"), port);
}

#[track_caller]
fn listens(sockets: impl Fn() -> Output, port: u16) {
    eventually("the server listens", || sockets().ok().stdout.contains(&format!(":{port} ")).then_some(()));
}

/// `web` in `red` serves TCP 80 and UDP 5300, and is published; `red02` is beside it, `blue01` and others are elsewhere.
fn world() -> Neighbourhood {
    let lab = Neighbourhood::start();
    lab.network("red", "--subnet 10.1.0.0/24");
    lab.network("blue", "--subnet 10.2.0.0/24");
    lab.network("inner", "--subnet 10.3.0.0/24 --internal");
    lab.network("apart", "--subnet 10.4.0.0/24 -o com.docker.network.bridge.enable_icc=false");
    serve(&lab, "web", "--net red -p 8080:80 -p 127.0.0.1:8081:80 -p 5300:5300/udp");
    for (name, network) in [
        ("red02", "--net red"),
        ("blue01", "--net blue"),
        ("inner01", "--net inner"),
        ("inner02", "--net inner"),
        ("apart01", "--net apart"),
        ("apart02", "--net apart"),
        ("plain01", ""),
        ("plain02", ""),
    ] {
        lab.run(name, network);
    }
    lab
}

#[test]
fn what_works_passes() {
    let lab = world();
    for (words, code) in [
        ("red02 web", "local"),
        ("red02 web tcp/80", "listening"),
        ("red02 web 80", "listening"),
        ("red02 web udp/5300", "listening"),
        ("red02 10.1.0.2 tcp/80", "listening"),
        ("web web tcp/80", "listening"),
        ("inner01 inner02", "local"),
        ("red02 host", "local"),
        ("apart01 host", "local"),
        ("host web tcp/80", "listening"),
        ("host host:8080", "listening"),
        ("host host:8081", "listening"),
        ("host 192.0.2.1:8080", "listening"),
        ("outside host:8080", "listening"),
        ("outside:192.0.2.2 host:8080", "listening"),
        ("outside:203.0.113.2 203.0.113.1:8080", "listening"),
        ("outside host:5300 udp", "listening"),
        ("blue01 host:8080", "listening"),
        ("plain01 192.0.2.1:8080", "listening"),
        ("red02 host:8080", "listening"),
        ("web host:8080", "listening"),
        ("red02 outside tcp/443", "leaves"),
        ("red02 outside:203.0.113.2 tcp/443", "leaves"),
        ("red02 8.8.8.8 udp/53", "leaves"),
        ("host outside", "leaves"),
        ("plain01 plain02", "local"),
    ] {
        says(&lab, words, PASSES, code);
    }
    // The ways of one container: to the host, outside, and from outside to its port.
    let all = explain(&lab, "web", "{{.Source.Name}} {{.Destination.Name}} {{.Protocol}} {{.Verdict}}").ok();
    for line in ["web host icmp passes", "web outside icmp passes", "outside host tcp passes"] {
        assert!(all.text().lines().any(|said| said == line), "{line}:\n{}", all.text());
    }
}

#[test]
fn ipv6_is_explained_too() {
    let lab = Neighbourhood::start();
    lab.network("six", "--ipv6 --subnet 10.6.0.0/24 --subnet 2001:db8:6::/64");
    lab.network("apart", "--ipv6 --subnet 10.7.0.0/24 --subnet 2001:db8:7::/64");
    run_server(&lab, "web", "--net six -p 8080:80", "::", 80);
    lab.run("six02", "--net six");
    lab.run("apart01", "--net apart");
    for (words, exit, code) in [
        ("six02 2001:db8:6::2", PASSES, "local"),
        ("six02 2001:db8:6::2 tcp/80", PASSES, "listening"),
        ("six02 2001:db8:6::1", PASSES, "local"),
        ("host 2001:db8:6::2 tcp/80", PASSES, "listening"),
        ("six02 2001:db8:1::2 tcp/443", PASSES, "leaves"),
        ("outside:2001:db8:1::2 [2001:db8:1::1]:8080", PASSES, "listening"),
        ("outside:2001:db8:1::2 [2001:db8:6::2]:80", BLOCKED, "unpublished"),
        ("apart01 2001:db8:6::2 tcp/80", BLOCKED, "other-network"),
        ("apart01 [2001:db8:7::1]:8080", PASSES, "listening"),
        ("six02 2001:db8:6::77", BLOCKED, "unknown-address"),
    ] {
        says(&lab, words, exit, code);
    }
}

/// What may differ by kernel: how programs are asked, and routes.
pub fn pings_are_explained(lab: &Lab) {
    lab.network("red", "--subnet 10.1.0.0/24");
    lab.network("blue", "--subnet 10.2.0.0/24");
    for (name, network) in [("red01", "red"), ("red02", "red"), ("blue01", "blue")] {
        lab.run(name, &format!("--net {network}"));
    }
    for (words, exit, code) in [
        ("red01 red02", PASSES, "local"),
        ("red01 host", PASSES, "local"),
        ("host blue01", PASSES, "local"),
        ("blue01 red01", BLOCKED, "other-network"),
        ("red01 10.1.0.77", BLOCKED, "unknown-address"),
    ] {
        says(lab, words, exit, code);
    }
}

#[test]
fn the_hops_name_who_decided() {
    let lab = world();
    let origins = |words: &str| -> Vec<(String, String)> {
        let text = |hop: &Value, key: &str| hop[key].as_str().unwrap_or_default().to_owned();
        hops(&lab, words).iter().map(|hop| (text(hop, "Code"), text(hop, "Origin"))).collect()
    };
    let pair = |code: &str, origin: &str| (code.to_owned(), origin.to_owned());
    assert_eq!(
        origins("red02 web tcp/80"),
        [
            pair("routed", "kernel"),
            pair("answered-arp", "program"),
            pair("forwarded", "program"),
            pair("listening", "sockets"),
            pair("routed", "kernel"),
            pair("answered-arp", "program"),
            pair("forwarded", "program"),
            pair("local", "kernel"),
        ]
    );
    let outside = hops(&lab, "outside host:8080");
    let published = outside.iter().find(|hop| hop["Code"] == "published").expect("a published port");
    assert_eq!(published["Entry"], "any4 { tcp . 8080 : 10.1.0.2 . 80 }");
    assert_eq!(published["Origin"], "table");
    let leaving = hops(&lab, "red02 outside");
    let masqueraded = leaving.iter().find(|hop| hop["Code"] == "masqueraded").expect("a new source");
    assert_eq!(masqueraded["Text"], "its source becomes 192.0.2.1");
    // A person reads this.
    let text = lab.netbpf(["explain", "red02", "web", "tcp/80"]).ok().stdout;
    assert!(text.starts_with("red02 10.1.0.3 → web 10.1.0.2   tcp/80   network red\n"), "{text}");
    assert!(text.contains("forwarded to web"), "{text}");
    assert!(text.ends_with("It arrives at web, and the answer comes back.\n"), "{text}");
}

#[test]
fn nothing_is_counted_learnt_or_sent() {
    let lab = world();
    lab.network("free", "--subnet 10.9.0.0/24 -o netbpf.guard=off");
    lab.run("free01", "--net free");
    lab.run("free02", "--net free");
    lab.exec("free01", "ping -c1 -W2 10.9.0.3").ok();
    let state = || {
        let maps = ["REASONS", "ENDPOINT_STATS", "LEARNT", "LEARNT_OF", "FLOODS", "LIMITS"].map(|map| {
            let dump = format!("bpftool -j map dump pinned /sys/fs/bpf/netbpf/v*/maps/{map}");
            lab.host(["sh", "-c", &dump]).ok().stdout
        });
        let frames = lab.host(["sh", "-c", "cat /sys/class/net/*/statistics/*_packets"]).ok().stdout;
        (maps, frames)
    };
    // The first explanation may resolve nothing, but programs of others may send in between: so a quiet moment is awaited.
    let before = eventually("a quiet moment", || {
        let before = state();
        for words in
            ["red02 web tcp/80", "free01 free02", "free02 free01", "blue01 web", "outside host:8080", "web"]
        {
            let _ = explain(&lab, words, "json");
        }
        (state() == before).then_some(before)
    });
    assert!(!before.0[0].is_empty());
    says(&lab, "free01 free02", PASSES, "local");
}

#[test]
fn a_port_that_nobody_takes() {
    let lab = world();
    run_server(&lab, "db", "--net red", "127.0.0.1", 5432);
    let _own = listen_on_host(&lab, "127.0.0.1", 3000);
    says(&lab, "red02 db tcp/5432", BLOCKED, "listens-on-loopback");
    says(&lab, "red02 web tcp/81", BLOCKED, "not-listening");
    says(&lab, "red02 web udp/80", BLOCKED, "not-listening");
    says(&lab, "red02 host tcp/3000", BLOCKED, "listens-on-loopback");
    says(&lab, "red02 host tcp/3001", BLOCKED, "not-listening");
    says(&lab, "host host:3000", PASSES, "listening");
    says(&lab, "outside host:8081", BLOCKED, "not-published");
    says(&lab, "outside host:9090", BLOCKED, "not-listening");
    let told = hops(&lab, "red02 db tcp/5432");
    let last = told.last().expect("a hop");
    let entry = last["Entry"].as_str().unwrap_or_default();
    assert!(entry.starts_with("python3 (") && entry.ends_with(") has 127.0.0.1:5432"), "{last}");
    let advice = last["Advice"].as_str().unwrap_or_default();
    assert!(advice.ends_with("let it listen at 0.0.0.0, or at 10.1.0.4"), "{last}");
}

#[test]
fn networks_keep_containers_apart() {
    let lab = world();
    says(&lab, "blue01 web tcp/80", BLOCKED, "other-network");
    says(&lab, "blue01 10.1.0.2 tcp/80", BLOCKED, "other-network");
    says(&lab, "inner01 web", BLOCKED, "other-network");
    says(&lab, "apart01 apart02", BLOCKED, "no-icc");
    says(&lab, "inner01 outside", BLOCKED, "no-route");
    says(&lab, "red02 10.1.0.77", BLOCKED, "unknown-address");
    says(&lab, "outside web tcp/80", BLOCKED, "unpublished");
    says(&lab, "red02 127.0.0.1 tcp/80", BLOCKED, "not-listening");
    let advice = explain(&lab, "blue01 web tcp/80", "{{.Advice}}");
    assert_eq!(advice.stdout.trim(), "netbpf connect red blue01, or use its published port: host:8080");
    // What it advises helps.
    lab.netbpf(["connect", "red", "blue01"]).ok();
    says(&lab, "blue01 web tcp/80", PASSES, "listening");
}

#[test]
fn a_link_lets_its_port_pass() {
    let lab = world();
    run_server(&lab, "db", "--net apart --expose 80", "0.0.0.0", 80);
    lab.run("client", "--net apart --link db");
    says(&lab, "client db tcp/80", PASSES, "listening");
    says(&lab, "client db tcp/81", BLOCKED, "no-icc");
    says(&lab, "apart01 db tcp/80", BLOCKED, "no-icc");
}

#[test]
fn the_kernels_settings_are_asked() {
    let lab = world();
    lab.in_network_of("red02", "ip link set eth0 mtu 1500").ok();
    lab.host(["ip", "link", "set", "uplink", "mtu", "1400"]).ok();
    assert!(has(&lab, "red02 outside tcp/443", "mtu"), "a smaller MTU outside");
    says(&lab, "red02 outside tcp/443", PASSES, "leaves");
    lab.host(["ip", "link", "set", "uplink", "mtu", "1500"]).ok();
    assert!(!has(&lab, "red02 outside tcp/443", "mtu"));
    lab.host(["ip", "route", "add", "10.1.0.0/16", "via", "192.0.2.2"]).ok();
    assert!(has(&lab, "red02 10.1.0.77", "overlap"), "a network and a route of the host");
    lab.host(["ip", "route", "del", "10.1.0.0/16"]).ok();
    assert!(!has(&lab, "red02 10.1.0.77", "overlap"));
    lab.in_network_of("web", "sysctl -qw net.ipv4.icmp_echo_ignore_all=1").ok();
    says(&lab, "red02 web", BLOCKED, "no-echo");
    says(&lab, "red02 web tcp/80", PASSES, "listening");
    lab.in_network_of("red02", "ip route del default").ok();
    says(&lab, "red02 outside", BLOCKED, "no-route");
    lab.in_network_of("red02", "ip route add prohibit 192.0.2.0/24").ok();
    says(&lab, "red02 192.0.2.2", BLOCKED, "prohibited");
    lab.host(["ip", "route", "del", "default"]).ok();
    says(&lab, "blue01 8.8.8.8", BLOCKED, "no-route");
    lab.host(["ip", "route", "add", "default", "via", "192.0.2.2"]).ok();
    lab.in_network_of("blue01", "ip link set eth0 down").ok();
    says(&lab, "blue01 outside", BLOCKED, "no-route");
    says(&lab, "host blue01", BLOCKED, "link-down");
    lab.netbpf(["stop", "-t", "0", "plain02"]).ok();
    says(&lab, "plain01 plain02", BLOCKED, "stopped");
    says(&lab, "plain02 plain01", BLOCKED, "stopped");
}

#[test]
fn a_name_is_not_resolved_in_the_default_network() {
    let lab = world();
    assert!(has(&lab, "plain01 plain02", "no-name"));
    assert!(!has(&lab, "red02 web", "no-name"));
    assert!(!has(&lab, "plain01 172.17.0.3", "no-name"));
}

#[test]
fn a_name_is_looked_up_as_the_container_would() {
    let lab = world();
    says(&lab, "red02 web.red tcp/80", PASSES, "listening");
    let told = hops(&lab, "red02 web.red tcp/80");
    assert_eq!((&told[0]["Code"], &told[0]["Origin"]), (&"resolved".into(), &"names".into()), "{}", told[0]);
    assert_eq!(told[0]["Entry"], "server 127.0.0.11");
    // The lab's host has no name server.
    says(&lab, "red02 db.example", BLOCKED, "no-name");
    // Another network's names are not known.
    says(&lab, "blue01 web.red", BLOCKED, "no-name");
}

#[test]
fn other_firewalls_are_named_and_not_judged() {
    let lab = world();
    let nft = |command: &str| drop(lab.host(["nft", command]).ok());
    nft("add table inet own; add chain inet own f { type filter hook forward priority 5; }; \
         add rule inet own f ip daddr 198.51.100.0/24 tcp dport 25 drop");
    says(&lab, "red02 outside tcp/443", UNDECIDED, "undecided");
    says(&lab, "outside host:8080", UNDECIDED, "undecided");
    says(&lab, "red02 web tcp/80", PASSES, "listening");
    says(&lab, "red02 host", PASSES, "local");
    let told = hops(&lab, "red02 outside tcp/443");
    let hop = told.iter().find(|hop| hop["Mark"] == "unknown").expect("a hop that is not judged");
    assert_eq!(hop["Origin"], "foreign");
    assert!(hop["Text"].as_str().is_some_and(|text| text.contains("inet own f")), "{hop}");
    nft("flush chain inet own f; add rule inet own f oifname uplink drop");
    says(&lab, "red02 outside tcp/443", BLOCKED, "foreign-firewall");
    nft("delete table inet own");
    nft("add table inet own; add chain inet own i { type filter hook input priority 5; policy drop; }; \
         add rule inet own i ct state established accept; add rule inet own i iifname lo accept");
    says(&lab, "red02 host", UNDECIDED, "undecided");
    nft("delete table inet own");
    says(&lab, "red02 outside tcp/443", PASSES, "leaves");
    // One in a container.
    lab.in_network_of(
        "web",
        "nft 'add table ip own; add chain ip own i { type filter hook input priority 0; policy drop; }'",
    )
    .ok();
    says(&lab, "red02 web tcp/80", BLOCKED, "foreign-firewall");
}

#[test]
fn a_question_that_cannot_be_understood() {
    let lab = world();
    let fails = |words: &str, message: &str| {
        let output = lab.netbpf(["explain"].into_iter().chain(words.split(' ')));
        output.fails_with(1, message);
    };
    fails("red02 wbe", "nobody is called \"wbe\"; near to it: web");
    fails("nobody web", "nobody is called \"nobody\"");
    fails("red02 web tpc/80", "unknown protocol \"tpc\"");
    fails("red02 web tcp", "which port?");
    fails("red02 web tcp/70000", "invalid port");
    fails("outside:here web", "is no address");
    fails("outside", "to whom?");
    fails("red02 256.1.1.1", "nobody is called \"256.1.1.1\"");
    let nameless = lab.netbpf(["explain", "red02", ""]);
    assert_eq!(nameless.stderr.trim(), "Error response from daemon: nobody is called \"\"");
    let hostile = lab.netbpf(["explain", "red02", "\u{1b}[2Jx"]);
    assert!(!hostile.stderr.contains('\u{1b}'), "{:?}", hostile.stderr);
}

#[test]
fn it_answers_in_time() {
    let lab = world();
    let times: Vec<_> = (0..9)
        .map(|_| {
            let begin = std::time::Instant::now();
            says(&lab, "red02 web tcp/80", PASSES, "listening");
            begin.elapsed()
        })
        .collect();
    let best = times.iter().min().expect("nine times");
    tell("an explanation, in ms", best.as_millis() as u64);
    assert!(best.as_millis() < 1000, "{times:?}");
}
