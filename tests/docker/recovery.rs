//! Docker or netbpf is killed and started again: running containers go on, and leftovers are removed.

use netbpf_tests::lab::{Lab, eventually};

use crate::engine::{CLIENT, Engine};

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
    let run =
        lab.spawn([CLIENT, "run", "-d", "--name", "one", "--network", "mynet", "box:1", "sleep", "1000000"]);
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
        let run = lab.spawn("docker run -d --name two --network mynet box:1 sleep 1000000".split(' '));
        lab.start_daemon();
        run.output().ok();
        engine.exec("two", "ping -c1 -W2 one").ok();
    }
    lab.release_sockets();
}
