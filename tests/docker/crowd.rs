//! Many containers at once, and daemons that are killed in between.

use netbpf_tests::lab::{Lab, Process, eventually, eventually_is};

use crate::engine::{Engine, IMAGE, client};

/// Starts `docker run` for each number, all at once.
#[track_caller]
fn spawn_runs(lab: &Lab, numbers: std::ops::Range<u32>) -> Vec<Process> {
    let name = |number: u32| format!("c{number}");
    let run = |number| {
        let name = name(number);
        lab.spawn([
            client(),
            "run",
            "-d",
            "--name",
            &name,
            "--network",
            "mynet",
            "-P",
            "--expose",
            "80",
            IMAGE,
            "sleep",
            "1000000",
        ])
    };
    numbers.map(run).collect()
}

#[track_caller]
fn veths(lab: &Lab) -> usize {
    let links = lab.host(["ip", "-o", "link"]).ok();
    links.text().lines().filter(|line| line.contains(": veth") || line.contains(": nbd")).count()
}

/// netbpf's objects for containers: packet filter elements, map entries, pins, files.
#[track_caller]
fn kept(lab: &Lab) -> String {
    let look = "nft -s list table inet netbpf; find /sys/fs/bpf /run/state /run/netbpf | sort
                for map in FDB NEIGHBOURS ALLOWED; do bpftool map dump pinned /sys/fs/bpf/netbpf/v*/maps/$map; done";
    lab.host(["sh", "-c", look]).ok().stdout
}

#[test]
fn batches_of_containers_leave_nothing() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --subnet 10.8.0.0/24 mynet").ok();
    let before = kept(&lab);
    for first in (0..100).step_by(8) {
        for run in spawn_runs(&lab, first..100.min(first + 8)) {
            run.output().ok();
        }
    }
    assert_eq!(veths(&lab), 100);
    engine.exec("c0", "ping -c1 -W2 c99").ok();
    let containers = engine.docker("ps -q").ok();
    let containers: Vec<_> = containers.text().lines().collect();
    for batch in containers.chunks(8) {
        let removals: Vec<_> =
            batch.iter().map(|container| lab.spawn([client(), "rm", "-f", container])).collect();
        for removal in removals {
            removal.output().ok();
        }
    }
    assert_eq!(veths(&lab), 0);
    // The relay goes on for a few seconds.
    eventually_is(&before, "what is kept", || kept(&lab));
    // A restart shows what is stored.
    lab.restart_daemon();
    assert_eq!(lab.netbpf(["ps", "-aq"]).ok().text(), "");
    assert_eq!(kept(&lab), before);
    engine.run("again", "--network mynet");
    assert_eq!(engine.endpoint("again", "mynet")["IPAddress"], "10.8.0.2");
}

#[test]
fn netbpf_is_killed_while_docker_starts_containers() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --subnet 10.8.0.0/24 mynet").ok();
    for round in 0..3 {
        let runs = spawn_runs(&lab, 4 * round..4 * (round + 1));
        eventually("an endpoint in the making", || (veths(&lab) > 4 * round as usize).then_some(()));
        lab.kill_daemon();
        lab.start_daemon();
        for (number, run) in (4 * round..).zip(runs) {
            let run = run.output();
            if !run.status.success() {
                // Docker repeats a request that got no answer, but without its body.
                run.fails_with(125, "after a restart of netbpf during the request: try again");
                engine.docker(&format!("start c{number}")).ok();
            }
        }
    }
    engine.exec("c0", "ping -c1 -W2 c11").ok();
    engine.remove_containers();
    engine.stop();
    engine.start_again();
    // Leftovers of an interrupted request are removed at Docker's next request.
    engine.run("again", "--network mynet");
    assert_eq!(veths(&lab), 1);
    assert_eq!(lab.netbpf(["ps", "-aq"]).ok().text().lines().count(), 1);
}

#[test]
fn docker_is_killed_while_it_starts_containers() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --subnet 10.8.0.0/24 mynet").ok();
    let runs = spawn_runs(&lab, 0..4);
    eventually("an endpoint in the making", || (veths(&lab) > 0).then_some(()));
    engine.kill();
    for run in runs {
        let _ = run.output();
    }
    engine.start_again();
    engine.remove_containers();
    // Leftovers are removed at Docker's next request.
    engine.run("again", "--network mynet");
    eventually("nothing but what Docker knows", || (veths(&lab) == 1).then_some(()));
    engine.exec("again", "ping -c1 -W2 10.8.0.1").ok();
}
