//! Docker or netbpf is killed and started again: running containers go on, and leftovers are removed.

use std::fs;

use netbpf_tests::lab::{Lab, Output, Process, eventually, tell};

use crate::engine::Engine;

/// The number of endpoints that netbpf knows.
#[track_caller]
fn endpoints(lab: &Lab) -> usize {
    lab.netbpf(["ps", "-aq"]).ok().text().lines().count()
}

#[test]
fn traffic_survives_a_killed_netbpf_which_knows_everything_again() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    let network = engine.docker("network create -d netbpf --subnet 10.8.0.0/24 mynet").ok();
    engine.run("one", "--network mynet -p 8080:80");
    engine.run("two", "--network mynet");
    let before = eventually("what Docker calls them", || {
        let network = lab.inspect(network.text());
        let members = network["Containers"].as_object()?;
        let is_named = |member: &serde_json::Value| matches!(member["Name"].as_str(), Some("one" | "two"));
        (network["Name"] == "mynet" && members.values().all(is_named)).then_some(network)
    });
    lab.kill_daemon();
    engine.exec("one", "ping -c1 -W2 two").ok();
    lab.start_daemon();
    assert_eq!(lab.inspect(network.text()), before);
    engine.exec("one", "ping -c1 -W2 two").ok();
    engine.run("three", "--network mynet");
    engine.exec("three", "ping -c1 -W2 one").ok();
    engine.docker("rm -f one").ok();
    assert_eq!(endpoints(&lab), 2);
}

#[test]
fn endpoints_that_a_killed_docker_forgot_are_removed() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --subnet 10.8.0.0/24 mynet").ok();
    engine.run("one", "--network mynet -p 8080:80");
    engine.run("two", "--network mynet");
    engine.kill();
    lab.host(["ping", "-c1", "10.8.0.2"]).ok();
    engine.start_again();
    eventually("no endpoint that Docker has forgotten", || (endpoints(&lab) == 0).then_some(()));
    engine.docker("start one").ok();
    engine.run("three", "--network mynet");
    engine.exec("three", "ping -c1 -W2 one").ok();
    assert_eq!(endpoints(&lab), 2);
}

#[test]
fn docker_waits_while_netbpf_restarts() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --subnet 10.8.0.0/24 mynet").ok();
    lab.stop_daemon();
    let run = engine.spawn_docker("run -d --name one --network mynet box:1 sleep 1000000");
    lab.start_daemon();
    run.output().ok();
    lab.host(["ping", "-c1", "10.8.0.2"]).ok();
}

#[test]
fn docker_waits_at_a_socket_held_by_a_service_manager() {
    let lab = Lab::without_daemon();
    lab.hold_sockets();
    lab.start_daemon();
    {
        let engine = Engine::start(&lab);
        engine.docker("network create -d netbpf --subnet 10.8.0.0/24 mynet").ok();
        engine.run("one", "--network mynet");
        lab.stop_daemon();
        let run = engine.spawn_docker("run -d --name two --network mynet box:1 sleep 1000000");
        lab.start_daemon();
        run.output().ok();
        engine.exec("two", "ping -c1 -W2 one").ok();
    }
    lab.release_sockets();
}

/// The file with the order to kill the daemon at one of its steps.
const ORDER: &str = "/run/fault";

/// Kills the daemon at a step of Docker's requests for a command, and starts the next one. Returns the point
/// that was hit and the command's output; none if the command has no such step.
#[track_caller]
fn killed_during(lab: &Lab, point: u32, start: impl Fn() -> Process) -> Option<(String, Output)> {
    fs::write(lab.path(ORDER), format!("kill step {point}")).expect("an order");
    let command = start();
    let order = || fs::read_to_string(lab.path(ORDER)).expect("the order");
    let hit = eventually("a kill, or the end of the command", || {
        let order = order();
        (order.starts_with("killed") || !command.is_running()).then_some(order)
    });
    fs::write(lab.path(ORDER), "").expect("no order");
    if !hit.starts_with("killed") {
        command.output().ok();
        return None;
    }
    tell("kills tried", 1);
    lab.await_daemon_end();
    lab.start_daemon();
    Some((hit, command.output()))
}

#[test]
fn what_docker_asks_of_a_netbpf_that_is_killed_happens_or_does_not() {
    let lab = Lab::without_daemon();
    lab.start_daemons_by(&["env", &format!("NETBPF_FAULT={ORDER}")]);
    lab.start_daemon();
    let mut kills = 0;
    {
        let engine = Engine::start(&lab);
        for point in [1, 6] {
            let create = || engine.spawn_docker("network create -d netbpf --subnet 10.8.0.0/24 mynet");
            let (hit, created) = killed_during(&lab, point, create).expect("a step of a network");
            kills += 1;
            if !created.status.success() {
                engine.docker("network create -d netbpf --subnet 10.8.0.0/24 mynet").ok();
            }
            let known = lab.netbpf(["network", "ls", "-q", "-f", "type=custom"]).ok();
            assert_eq!(known.text().lines().count(), 1, "{hit}: {known}");
            if point == 1 {
                engine.docker("network rm mynet").ok();
            }
        }
        engine.run("peer", "--network mynet");
        for point in (1..).step_by(5) {
            let run =
                || engine.spawn_docker("run -d --name one --network mynet -p 8080:80 box:1 sleep 1000000");
            let Some((hit, run)) = killed_during(&lab, point, run) else { break };
            kills += 1;
            if !run.status.success() {
                engine.docker("start one").ok();
            }
            assert_eq!(endpoints(&lab), 2, "{hit}: {run}");
            engine.exec("peer", "ping -c1 -W2 one").ok();
            engine.docker("rm -f one").ok();
            assert_eq!(endpoints(&lab), 1, "{hit}");
        }
        engine.docker("rm -f one").ok();
        for point in (1..).step_by(5) {
            engine.run("one", "--network mynet -p 8080:80");
            let Some((hit, _)) = killed_during(&lab, point, || engine.spawn_docker("rm -f one")) else {
                break;
            };
            kills += 1;
            eventually("nothing of a removed container", || {
                let _ = engine.docker("rm -f one");
                (endpoints(&lab) == 1).then_some(())
            });
            engine.run("one", "--network mynet -p 8080:80");
            engine.exec("peer", "ping -c1 -W2 one").ok();
            engine.docker("rm -f one").ok();
            assert_eq!(endpoints(&lab), 1, "{hit}");
        }
    }
    fs::remove_file(lab.path(ORDER)).expect("the order");
    tell("kills survived", kills);
}
