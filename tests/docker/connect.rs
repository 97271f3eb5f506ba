//! `netbpf connect` beside the network driver: networks of Docker's and of netbpf's own, and containers in both.

use netbpf_tests::lab::Lab;

use crate::engine::Engine;

#[test]
fn a_network_of_dockers_is_joined_through_docker() {
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
fn a_container_in_dockers_network_of_netbpf_joins_one_of_netbpfs_own() {
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
