//! `netbpf connect` beside the network driver: networks of Docker and of netbpf, and containers in both.

use netbpf_tests::lab::Lab;

use crate::engine::Engine;

#[test]
fn a_docker_network_is_joined_through_docker() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --subnet 192.168.0.0/16 --gateway 192.168.0.1 theirs").ok();
    let id = engine.docker("network inspect -f {{.Id}} theirs").ok().text().to_owned();
    engine.run("member", "--net theirs");
    engine.run("tomcat01", "");
    lab.netbpf(["connect", "--ip", "192.168.0.77", "--alias", "cat", &id, "tomcat01"]).ok();
    assert_eq!(engine.endpoint("tomcat01", "theirs")["IPAddress"], "192.168.0.77");
    engine.exec("member", "ping -c1 cat").ok();
    engine.exec("tomcat01", "ping -c1 member").ok();
    lab.netbpf(["connect", &id, "tomcat01"]).fails_with(1, "already exists in network theirs");
    lab.netbpf(["connect", &id, "nobody"]).fails_with(1, "No such container: nobody");
    lab.netbpf(["disconnect", &id, "tomcat01"]).ok();
    assert!(engine.endpoint("tomcat01", "theirs").is_null());
}

#[test]
fn a_docker_container_on_the_netbpf_driver_joins_a_network_of_netbpf() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --subnet 192.168.0.0/16 --gateway 192.168.0.1 theirs").ok();
    engine.run("member", "--net theirs");
    engine.run("tomcat01", "--net theirs");
    lab.network("mynet", "--subnet 10.1.0.0/24");
    lab.run("native", "--net mynet");
    lab.netbpf(["connect", "mynet", "tomcat01"]).ok();
    for name in ["native", "member"] {
        engine.exec("tomcat01", &format!("ping -c1 {name}")).ok();
    }
    lab.exec("native", "ping -c1 tomcat01").ok();
    lab.exec("native", "ping -c1 -W1 192.168.0.2").fails_with(1, "");
    engine.docker("rm -f tomcat01").ok();
    netbpf_tests::lab::eventually("it is forgotten", || {
        (!lab.netbpf(["ps", "-a"]).ok().text().contains("tomcat01")).then_some(())
    });
}

#[test]
fn a_container_may_use_all_its_addresses_on_each_interface() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --subnet 10.1.0.0/24 one").ok();
    engine.docker("network create -d netbpf --subnet 10.2.0.0/24 two").ok();
    lab.network("mynet", "--subnet 10.3.0.0/24");
    let takes_all = "--sysctl net.ipv4.conf.all.rp_filter=0 --sysctl net.ipv4.conf.default.rp_filter=0";
    engine.run("tomcat01", &format!("--net one {takes_all}"));
    engine.run("tomcat02", &format!("--net one {takes_all}"));
    engine.docker("network connect --ip 10.2.0.77 two tomcat01").ok();
    lab.netbpf(["connect", "--ip", "10.3.0.77", "mynet", "tomcat01"]).ok();
    let pings = |from: &str| engine.exec("tomcat01", &format!("ping -c1 -W1 -I {from} 10.1.0.1"));
    for round in ["at first", "after a restart of netbpf", "after one of the container"] {
        for address in ["10.2.0.77", "10.3.0.77"] {
            pings(address).ok();
        }
        match round {
            "at first" => lab.restart_daemon(),
            _ => {
                engine.docker("restart -t0 tomcat01").ok();
                netbpf_tests::lab::eventually("it is connected again", || {
                    let addresses = engine.exec("tomcat01", "ip address").ok();
                    addresses.text().contains("10.3.0.77/").then_some(())
                });
            }
        }
    }
    // Addresses of another container, and of a network that it has left.
    engine.docker("network disconnect two tomcat01").ok();
    engine.docker("network connect --ip 10.2.0.77 two tomcat02").ok();
    let own = "ip address add 10.2.0.77/32 dev lo";
    let process = engine.docker("inspect -f {{.State.Pid}} tomcat01").ok();
    lab.host(["nsenter", "-t", process.text(), "-n", "sh", "-ec", own]).ok();
    pings("10.2.0.77").fails_with(1, "");
    assert_ne!(lab.reasons()["spoofed-arp"], 0);
}

/// `-o` and `--driver-opt` reach netbpf through Docker, which has no command to change them later.
#[test]
fn what_containers_may_send_is_an_option_of_networks_and_endpoints() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    let word = "netbpf.addresses=10.1.0.100";
    engine.docker(&format!("network create -d netbpf --subnet 10.1.0.0/24 -o {word} theirs")).ok();
    engine.docker("network create -d netbpf --subnet 10.2.0.0/24 other").ok();
    engine.run("strict", "--net theirs");
    engine.run("web", "--network name=theirs,driver-opt=netbpf.guard=off");
    engine.docker("network connect --driver-opt netbpf.guard=off other web").ok();
    let open = |expected: &str| {
        netbpf_tests::lab::eventually(expected, || {
            let said = lab.netbpf(["doctor"]).stdout;
            said.contains(&format!("  open         {expected}\n")).then_some(())
        });
    };
    open("all in theirs (addresses 10.1.0.100); web in other (guard off); web in theirs (guard off)");
    assert_eq!(engine.endpoint("web", "theirs")["DriverOpts"]["netbpf.guard"], "off");
    engine
        .docker("run --rm --net theirs --ip 10.1.0.100 box:1 true")
        .fails_with(125, "Address already in use");
    engine
        .docker("network create -d netbpf -o netbpf.guard=maybe bad")
        .fails_with(1, "failed to parse netbpf.guard value: maybe (expected off or on)");
    engine
        .docker("network connect --driver-opt netbpf.addresses=10.2.0.1 other strict")
        .fails_with(1, "netbpf.addresses: 10.2.0.1 is the address of the gateway in network other");
    for network in ["theirs", "other"] {
        lab.netbpf(["update", "--network", network, "--driver-opt", "netbpf.guard=", "web"]).ok();
    }
    lab.netbpf(["network", "update", "-o", "netbpf.addresses=10.1.0.0/28", "theirs"]).ok();
    open("all in theirs (addresses 10.1.0.0/28)");
    lab.restart_daemon();
    open("all in theirs (addresses 10.1.0.0/28)");
    engine.exec("strict", "ping -c1 web").ok();
    // Docker creates the endpoint again, with what it knows.
    engine.docker("restart -t0 web").ok();
    open("all in theirs (addresses 10.1.0.0/28); web in other (guard off); web in theirs (guard off)");
}
