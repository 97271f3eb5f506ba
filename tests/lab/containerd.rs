//! netbpf under a real containerd, which executes it as its CNI plugin.

use netbpf_tests::{
    containerd::Containerd,
    lab::{Lab, eventually},
    rate,
};

#[test]
fn its_containers_are_in_the_network_as_long_as_they_run() {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    lab.run("own", "--net mynet");
    let mut containerd = Containerd::start(&lab);
    containerd.run("one");
    containerd.run("two");
    assert_eq!(lab.containers(), ["default-one", "default-two", "own"]);
    for (container, address) in [("one", "10.1.0.3"), ("two", "10.1.0.4")] {
        let inside = containerd.exec(container, "ip address show eth0").ok();
        assert!(inside.text().contains(&format!("inet {address}/24")), "{inside}");
    }
    containerd.exec("one", "ping -c1 -W1 10.1.0.4").ok();
    // The second server does not exist: the programs answer on the way.
    for server in ["127.0.0.11", "192.0.2.53"] {
        let found = containerd.exec("one", &format!("nslookup own {server}")).ok();
        assert!(found.text().contains("10.1.0.2"), "{found}");
    }
    lab.exec("own", "ping -c1 -W1 default-two").ok();

    // Either daemon may be killed: the traffic goes on, and the other one works.
    containerd.kill();
    lab.exec("own", "ping -c1 -W1 10.1.0.3").ok();
    containerd.start_again();
    lab.kill_daemon();
    containerd.exec("one", "ping -c1 -W1 10.1.0.4").ok();
    lab.start_daemon();
    containerd.run("three");
    assert_eq!(lab.containers(), ["default-one", "default-three", "default-two", "own"]);

    let limits = ["--driver-opt", "netbpf.ingress_rate=10mbit", "--driver-opt", "netbpf.egress_rate=20mbit"];
    lab.netbpf(["update", "--network", "mynet"].into_iter().chain(limits).chain(["default-one"])).ok();
    let options = lab.inspect("default-one")["NetworkSettings"]["Networks"]["mynet"]["DriverOpts"].take();
    assert_eq!(options["netbpf.egress_rate"], "20mbit", "{options}");
    rate::sends_twenty_and_receives_ten(&lab, "default-one", "own", "10.1.0.2");

    // After `run -d`, ctr detaches no container.
    containerd.remove("one");
    eventually("it is gone", || (lab.containers() == ["default-three", "default-two", "own"]).then_some(()));
    containerd.run("one");
    for name in ["one", "two", "three"] {
        containerd.remove(name);
    }
    eventually("all are gone", || (lab.containers() == ["own"]).then_some(()));
    lab.netbpf(["cni", "disable", "mynet"]).ok();
    containerd.end();
}
