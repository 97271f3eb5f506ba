//! Faults in each command of netbpf that changes something, and in the daemon's start.

use netbpf_tests::lab::tell;

use super::{Case, DISCONNECT, RUN, Tried, ask, clear_up, faulty_lab, give, outcome};
use crate::shape::Shape;

const CREATE: &str = "network create --subnet 10.5.0.0/24 --ipv6 --subnet fd00:5::/64 -o com.docker.network.bridge.enable_icc=false -o netbpf.max_flows=1000 fresh";

/// A network in which only a link lets containers reach each other.
const STRICT: &str =
    "network create --subnet 10.7.0.0/24 -o com.docker.network.bridge.enable_icc=false strict";
const SHOP: &str = "run -d --name shop --net strict --ip 10.7.0.8 --expose 80 -- sleep infinity";
const RUN_LINKED: &str = "run -d --name web --net strict --ip 10.7.0.9 --link shop:store -- sleep infinity";

/// A container of a runtime that executes netbpf as its CNI plugin.
const ATTACH: &str = r#"/attachments/attach {"Runtime":"cni","Container":"c1","Configuration":"mynet","Interface":"eth0","Name":"pod","Namespace":"/run/netns/blue","Networks":[{"Network":"mynet","EndpointConfig":{"IPAMConfig":{"IPv4Address":"10.1.0.9"},"Aliases":["www"]}}],"PortBindings":{"80/tcp":[{"HostPort":"8080"}]}}"#;
const DETACH: &str =
    r#"/attachments/detach {"Runtime":"cni","Container":"c1","Configuration":"mynet","Interface":"eth0"}"#;

/// A container whose queueing disciplines `Shape` compares.
const CONNECT: &str = "network connect mynet netns:blue";

/// The programs for open endpoints are loaded with the first of them, and unloaded with the last one.
const OPEN: &str = "update --network mynet --driver-opt netbpf.guard=off web";

cases! { CASES
    [
        killed: survives_kills;
        failing: survives_failures;
        refused: survives_failed_calls;
        on_a_full_disk: survives_a_full_disk;
    ]
    {
        network_create: Case::new(&[], CREATE, &["network rm fresh"]);
        network_rm: Case::new(&[CREATE], "network rm fresh", &[CREATE]);
        network_prune: Case::new(&[CREATE], "network prune -f", &[CREATE]);
        connect: Case::new(
            &["network create --subnet 10.2.0.0/24 other", "run -d --name web --net other -p 8080:80 -- sleep infinity"],
            "network connect --ip 10.1.0.9 --alias www mynet web",
            &["network disconnect mynet web"],
        );
        disconnect: DISCONNECT;
        connect_namespace: Case::new(&[], "network connect mynet netns:blue", &["network disconnect mynet netns:blue"]);
        disconnect_namespace: Case::new(
            &["network connect mynet netns:blue"],
            "network disconnect mynet netns:blue",
            &["network connect mynet netns:blue"],
        );
        run: Case::new(&[], RUN, &["rm -f web"]).of_two();
        rm: Case::new(&[RUN], "rm -f web", &["?rm -f web", RUN]).of_two();
        start: Case::new(&[RUN, "stop -t 0 web"], "start web", &["stop -t 0 web"]);
        stop: Case::new(&[RUN], "stop -t 0 web", &["start web"]);
        attach: Case::new(&[], ATTACH, &[DETACH]);
        detach: Case::new(&[ATTACH], DETACH, &[ATTACH]);
        rename: Case::new(&[RUN], "rename web shop", &["rename shop web"]);
        update: Case::new(
            &[RUN],
            "update --network mynet --driver-opt netbpf.addresses=10.1.0.100,10.244.0.0/16 web",
            &["update --network mynet --driver-opt netbpf.addresses= web"],
        );
        update_of_the_last_open_endpoint: Case::new(
            &[RUN, OPEN],
            "update --network mynet --driver-opt netbpf.guard= web",
            &[OPEN],
        );
        network_update: Case::new(
            &[RUN],
            "network update -o netbpf.guard=off mynet",
            &["network update -o netbpf.guard= mynet"],
        );
        limits: Case::new(
            &[CONNECT],
            "update --network mynet --driver-opt netbpf.ingress_rate=10mbit --driver-opt netbpf.egress_rate=5mbit netns:blue",
            &["update --network mynet --driver-opt netbpf.ingress_rate= --driver-opt netbpf.egress_rate= netns:blue"],
        );
        connect_limited: Case::new(
            &[],
            "network connect --driver-opt netbpf.ingress_rate=10mbit --driver-opt netbpf.egress_rate=5mbit mynet netns:blue",
            &["network disconnect mynet netns:blue"],
        );
        network_limits: Case::new(
            &[CONNECT],
            "network update -o netbpf.egress_rate=5mbit mynet",
            &["network update -o netbpf.egress_rate= mynet"],
        );
        restart: Case::new(&[RUN], "restart -t 0 web", &["start web"]).with_first_half("stop -t 0 web");
        run_linked: Case::new(&[STRICT, SHOP], RUN_LINKED, &["rm -f web"]).of_two();
        stop_the_target_of_a_link: Case::new(&[STRICT, SHOP, RUN_LINKED], "stop -t 0 shop", &["start shop"]);
    }
}

/// If a daemon is killed while it restores networks and containers, the next start completes that.
#[test]
fn start_of_the_daemon() {
    let case = Case::new(&[RUN, CREATE], "", &[]);
    let lab = case.lab();
    let before = Shape::of(&lab);
    let tried = Tried::new("kill");
    let mut point = 0;
    loop {
        lab.kill_daemon();
        // As if it had been removed.
        lab.host([
            "sh",
            "-c",
            "for link in $(ip -o link | grep -oE ' (veth|nb-|netbpf)[^@:]*'); do ip link delete $link; done",
        ])
        .ok();
        point += 1;
        give(&lab, &format!("kill step {point}"));
        let started = lab.try_start_daemon();
        let hit = outcome(&lab);
        hit.iter().for_each(|_| tried.add());
        if started.is_err() {
            lab.start_daemon();
        }
        let now = Shape::of(&lab);
        assert!(now == before, "start: {hit:?}\n{}", now.since(&before));
        if hit.is_none() {
            break;
        }
    }
    tell("kills survived", point - 1);
    clear_up(&lab);
}

/// A container's frames go on in programs of the daemon before, until all of the next one's are there.
#[test]
fn a_start_that_fails_leaves_the_datapath_as_it_is() {
    let lab = faulty_lab();
    lab.start_daemon();
    lab.run("web", "");
    let pid = lab.pid("web").to_string();
    let inside = |command: &str| lab.host(["nsenter", "-t", &pid, "-n", "sh", "-c", command]);
    let mut programs = 0;
    for call in 1.. {
        lab.kill_daemon();
        give(&lab, &format!("fail call {call}"));
        let started = lab.try_start_daemon();
        let Some(hit) = outcome(&lab) else {
            started.expect("no call failed");
            break;
        };
        programs += u32::from(hit.contains("load") || hit.contains("pin"));
        // The host is asked for its MAC, too.
        inside("ip neigh flush dev eth0 && ping -c1 -W2 172.17.0.1").ok();
        if started.is_err() {
            lab.start_daemon();
        }
    }
    assert!(programs >= 2, "{programs} programs were hit");
    clear_up(&lab);
}

/// An incomplete file of the first attempt must not count as the user's.
#[test]
fn a_start_that_could_not_write_a_file_succeeds_the_second_time() {
    let lab = faulty_lab();
    lab.start_daemon();
    lab.host(["ip", "netns", "add", "blue"]).ok();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    let run = "run -d --name web --net mynet -- sleep infinity";
    let mut files = 0;
    for call in 1..=8 {
        give(&lab, &format!("fail call {call}"));
        let first = ask(&lab, run);
        files += u32::from(outcome(&lab).is_some_and(|hit| hit.contains("write a file")));
        if first.is_err() {
            ask(&lab, "start web").or_else(|_| ask(&lab, run)).expect("the second attempt");
        }
        let found = lab.exec("web", "getent ahostsv4 web.mynet").ok();
        assert!(found.text().starts_with("10.1.0."), "call {call}: {found}");
        ask(&lab, "rm -f web").expect("removed");
    }
    assert!(files >= 2, "{files} of the container's files were hit");
    clear_up(&lab);
}
