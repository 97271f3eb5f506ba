//! What a user of podman does with netbpf's networks, whichever kind of plugin podman has.

use netbpf_tests::{
    lab::{Lab, eventually},
    podman::{Backend, Podman},
};

#[test]
fn containers_are_in_the_network_of_netavark() {
    let lab = Lab::start();
    let podman = Podman::enter(&lab, Backend::Netavark);
    podman.create_network("mynet", "--subnet 10.8.0.0/24");
    let defined = podman.podman("network inspect mynet").ok().json();
    assert_eq!(defined[0]["ipam_options"]["driver"], "none");
    live_in_the_network(&lab, &podman);
    podman.leave();
}

#[test]
fn containers_are_in_the_network_of_cni() {
    let lab = Lab::start();
    let podman = Podman::enter(&lab, Backend::Cni);
    podman.create_network("mynet", "--subnet 10.8.0.0/24");
    let listed = podman.podman("network ls --format {{.Name}}/{{.Driver}}").ok();
    assert!(listed.text().lines().any(|line| line == "mynet/netbpf"), "{listed}");
    live_in_the_network(&lab, &podman);
    podman.leave();
}

/// Containers of podman and of netbpf in the network `mynet`, until all of podman's are removed.
#[track_caller]
fn live_in_the_network(lab: &Lab, podman: &Podman<'_>) {
    assert_eq!(lab.inspect("mynet")["IPAM"]["Config"][0]["Subnet"], "10.8.0.0/24");
    lab.run("own", "--net mynet");
    podman.run("web", "--network mynet -p 8080:80");
    podman.run("db", "--network mynet:ip=10.8.0.77,mac=02:42:0a:08:00:4d,alias=base");
    assert_eq!(lab.containers(), ["db", "own", "web"]);
    let shown = podman.podman("inspect web --format {{.NetworkSettings.Networks.mynet.IPAddress}}").ok();
    assert_eq!(shown.text(), "10.8.0.3");
    assert_eq!(lab.inspect("db")["NetworkSettings"]["Networks"]["mynet"]["MacAddress"], "02:42:0a:08:00:4d");

    // By name in all directions, and by the published port.
    podman.exec("web", "httpd -h /").ok();
    for name in ["web", "web.mynet"] {
        let found = podman.exec("db", &format!("nslookup {name}")).ok();
        assert!(found.text().contains("10.8.0.3"), "{found}");
        lab.exec("own", &format!("ping -c1 -W2 {name}")).ok();
    }
    for (name, address) in [("base", "10.8.0.77"), ("own", "10.8.0.2")] {
        let found = podman.exec("web", &format!("nslookup {name}")).ok();
        assert!(found.text().contains(address), "{name}: {found}");
    }
    let asked = "exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    let answer = lab.host(["bash", "-c", asked]).ok();
    assert!(answer.text().ends_with("hello"), "{answer}");
    assert_eq!(lab.netbpf(["port", "web"]).ok().text(), "80/tcp -> 0.0.0.0:8080");

    // A second network, a restart, and a netbpf that is killed under traffic.
    podman.create_network("second", "");
    podman.podman("network connect second web").ok();
    let networks = lab.netbpf(["ps", "--filter", "name=web", "--format", "{{.Networks}}"]).ok();
    assert_eq!(networks.text(), "mynet,second");
    podman.podman("network disconnect second web").ok();
    podman.podman("restart -t 0 web").ok();
    assert_eq!(lab.containers(), ["db", "own", "web"]);
    let address = lab.address("web", "mynet");
    let traffic = lab.spawn(["ping", "-i0.2", &address]);
    lab.kill_daemon();
    podman.exec("db", &format!("ping -c1 -W2 {address}")).ok();
    lab.start_daemon();
    let found = podman.exec("db", "nslookup web").ok();
    assert!(found.text().contains(&address), "{found}");
    let said = traffic.interrupt();
    assert!(said.stdout.contains(" 0% packet loss"), "{said}");

    for name in ["web", "db"] {
        podman.podman(&format!("rm -f -t 0 {name}")).ok();
    }
    assert_eq!(lab.containers(), ["own"]);
    podman.remove_network("mynet");
    podman.remove_network("second");
}

#[test]
fn what_netbpf_refuses_reaches_the_user_of_netavark_and_leaves_nothing() {
    let lab = Lab::start();
    let podman = Podman::enter(&lab, Backend::Netavark);
    lab.network("mynet", "--subnet 10.8.0.0/24");
    podman
        .podman("network create -d netbpf --subnet 10.9.0.0/24 mynet")
        .fails_with(125, "netbpf has a network mynet already, with 10.8.0.0/24 instead of 10.9.0.0/24");
    podman
        .podman("network create -d netbpf -o vlan=3 mynet")
        .fails_with(125, "netbpf does not know the network option vlan");
    podman.podman("network create -d netbpf -o mtu=1400 mynet").fails_with(
        125,
        "already, without the option com.docker.network.driver.mtu=1400 (netbpf network rm mynet",
    );
    podman
        .podman("network create -d netbpf --subnet 10.8.0.0/24 --ip-range 10.8.0.128/25 mynet")
        .fails_with(125, "already, without the range 10.8.0.128/25");
    podman
        .podman("network create -d netbpf --dns 192.0.2.53 fresh")
        .fails_with(125, "podman network update --dns-add");
    podman
        .podman("network create -d netbpf --ipam-driver dhcp fresh")
        .fails_with(125, "leases the addresses");
    lab.netbpf(["network", "inspect", "fresh"]).fails_with(1, "network fresh not found");
    podman.podman("network create -d netbpf mynet").ok();
    lab.run("own", "--net mynet --ip 10.8.0.9");
    podman
        .podman("run --rm --network mynet:netbpf.guard=maybe --rootfs /image sleep 1")
        .fails_with(126, "failed to parse netbpf.guard value: maybe");
    podman
        .podman("run --rm --network mynet:egress_rat=1mbit --rootfs /image sleep 1")
        .fails_with(126, "netbpf does not know the option egress_rat of a container");
    are_refused(&lab, &podman);
    podman.leave();
}

#[test]
fn what_netbpf_refuses_reaches_the_user_of_cni_and_leaves_nothing() {
    let lab = Lab::start();
    let podman = Podman::enter(&lab, Backend::Cni);
    podman.create_network("mynet", "--subnet 10.8.0.0/24");
    lab.run("own", "--net mynet --ip 10.8.0.9");
    podman
        .podman("run --rm --network mynet:ip=10.9.0.9 --rootfs /image sleep 1")
        .fails_with(126, "no configured subnet contains IP address 10.9.0.9");
    are_refused(&lab, &podman);
    podman.leave();
}

/// Containers that netbpf refuses in the network `mynet`, in which `own` has 10.8.0.9, or that are started without its
/// daemon; and one that is removed without it.
#[track_caller]
fn are_refused(lab: &Lab, podman: &Podman<'_>) {
    let run = |options: &str| podman.podman(&format!("run --rm {options} --rootfs /image sleep 1"));
    run("--network mynet:ip=10.8.0.9").fails_with(126, "Address already in use");
    run("--name own --network mynet").fails_with(126, "The container name \"/own\" is already in use");
    lab.stop_daemon();
    run("--network mynet").fails_with(127, "cannot connect to the netbpf daemon");
    lab.start_daemon();
    assert_eq!(lab.containers(), ["own"]);

    podman.run("web", "--network mynet");
    lab.stop_daemon();
    podman.podman("rm -f -t 0 web").ok();
    lab.start_daemon();
    eventually("it is gone", || (lab.containers() == ["own"]).then_some(()));
    podman.remove_network("mynet");
}
