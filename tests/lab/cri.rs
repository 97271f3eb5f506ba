//! Pods of a real containerd, which a client runs by its API for Kubernetes.

use netbpf_tests::{
    containerd::Containerd,
    engine::NAME_SERVER,
    lab::{Lab, eventually},
    rate,
};

/// The annotations of Kubernetes for limits, in bits per second.
const LIMITS: &str = "kubernetes.io/ingress-bandwidth=10M kubernetes.io/egress-bandwidth=20M";

/// A pod: its ID, and its addresses.
#[track_caller]
fn run(containerd: &Containerd, pod: &str) -> (String, Vec<String>) {
    let said = containerd.cri(&format!("run {pod}")).ok();
    let mut words = said.text().split_whitespace().map(str::to_owned);
    (words.next().expect("an ID"), words.collect())
}

#[test]
fn pods_have_networks_names_and_ports_by_their_annotations() {
    let lab = Lab::start();
    lab.network("mynet", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    lab.network("other", "--subnet 10.2.0.0/24");
    lab.run("own", "--net mynet");
    let mut containerd = Containerd::start(&lab);
    lab.netbpf(["cni", "enable", "--allow", "other", "mynet"]).ok();
    containerd.prepare_pods();

    // The cluster's name server knows no container: the search list comes to nothing there.
    lab.host(["ip", "address", "add", "10.96.0.10/32", "dev", "lo"]).ok();
    let cluster = lab.spawn(["python3", "-c", NAME_SERVER, "10.96.0.10"]);
    let (web, addresses) =
        run(&containerd, "shop web 8080:80 netbpf.io/network=mynet,other netbpf.io/aliases=cart");
    assert_eq!(addresses, ["10.1.0.3", "fd00:1::3"], "of its first interface");
    let (client, _) = run(&containerd, &format!("default client {LIMITS}"));
    assert_eq!(lab.containers(), ["client.default", "own", "web.shop"]);
    let exec = |pod: &str, command: &str| containerd.cri(&format!("exec {pod} {command}"));
    let inside = exec(&web, "ip address show eth1").ok();
    assert!(inside.text().contains("inet 10.2.0.2/24"), "{inside}");

    // By name in all directions: the programs answer on the way to the cluster's name server.
    for (from, to) in [(&client, "web.shop.mynet"), (&client, "cart"), (&client, "own"), (&web, "client")] {
        exec(from, &format!("ping -c1 -W2 {to}")).ok();
    }
    for name in ["web.shop", "cart", "client.default"] {
        lab.exec("own", &format!("ping -c1 -W2 {name}")).ok();
    }
    let refused = containerd.cri("run default third netbpf.io/network=nonet");
    assert!(refused.stderr.contains("nonet"), "{refused}");
    assert_eq!(lab.containers(), ["client.default", "own", "web.shop"]);

    // Its limits.
    let options = lab.inspect("client.default")["NetworkSettings"]["Networks"]["mynet"]["DriverOpts"].take();
    assert_eq!([&options["netbpf.ingress_rate"], &options["netbpf.egress_rate"]], ["10mbit", "20mbit"]);
    rate::sends_twenty_and_receives_ten(&lab, "client.default", "own", "10.1.0.2");

    // The port of the host leads to the pod, also when either daemon was killed.
    let namespace = format!("--net={}", lab.namespace("web.shop"));
    let server = ["socat", "TCP-LISTEN:80,fork,reuseaddr", "SYSTEM:echo hello"];
    let listening = lab.spawn(["nsenter", &namespace].into_iter().chain(server));
    let asks = ["socat", "-t5", "-T5", "-", "TCP:127.0.0.1:8080"];
    eventually("an answer", || (lab.host(asks).text() == "hello").then_some(()));
    containerd.kill();
    lab.kill_daemon();
    assert_eq!(lab.host(asks).ok().text(), "hello");
    lab.start_daemon();
    containerd.start_again();
    let exec = |pod: &str, command: &str| containerd.cri(&format!("exec {pod} {command}"));
    exec(&client, "ping -c1 -W2 cart").ok();
    drop((listening, cluster));

    for pod in [&web, &client] {
        containerd.cri(&format!("rm {pod}")).ok();
    }
    assert_eq!(lab.containers(), ["own"]);
    assert!(!lab.host(asks).status.success());
    lab.netbpf(["cni", "disable", "mynet"]).ok();
    containerd.end();
}
