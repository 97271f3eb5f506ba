//! Either daemon dies and comes back; what runs goes on, and what nobody has any more goes.

use netbpf_tests::lab::{Lab, eventually};

use crate::engine::{CLIENT, Engine};

/// How many endpoints netbpf knows of.
#[track_caller]
fn endpoints(lab: &Lab) -> usize {
    lab.netbpf(["ps", "-aq"]).ok().text().lines().count()
}

#[test]
fn a_killed_netbpf_takes_no_traffic_along_and_knows_everything_again() {
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
fn what_a_killed_docker_forgets_is_cleaned_up() {
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
fn docker_waits_for_a_netbpf_that_starts_again() {
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
fn docker_waits_at_a_socket_that_a_service_manager_holds() {
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
