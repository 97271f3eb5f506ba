//! How fast podman's containers may send and receive, of whichever kind podman's plugins are.

use netbpf_tests::{
    lab::Lab,
    podman::{Backend, Podman},
    rate,
};

#[test]
fn a_container_of_netavark_has_the_limits_of_its_options() {
    let lab = Lab::start();
    let podman = Podman::enter(&lab, Backend::Netavark);
    podman.create_network("mynet", "--subnet 10.8.0.0/24");
    lab.run("own", "--net mynet");
    podman.run("limited", "--network mynet:ingress_rate=10mbit,netbpf.egress_rate=20mbit");
    let options = lab.inspect("limited")["NetworkSettings"]["Networks"]["mynet"]["DriverOpts"].take();
    assert_eq!([&options["netbpf.ingress_rate"], &options["netbpf.egress_rate"]], ["10mbit", "20mbit"]);
    is_limited(&lab, &podman);
    podman.leave();
}

/// podman's plugins of CNI get no options of a container.
#[test]
fn a_container_of_cni_has_the_limits_of_its_network() {
    let lab = Lab::start();
    let podman = Podman::enter(&lab, Backend::Cni);
    let limits = "-o netbpf.ingress_rate=10mbit -o netbpf.egress_rate=20mbit";
    podman.create_network("mynet", &format!("--subnet 10.8.0.0/24 {limits}"));
    let unlimited = "--driver-opt netbpf.ingress_rate=unlimited --driver-opt netbpf.egress_rate=unlimited";
    lab.run("own", &format!("--net mynet {unlimited}"));
    podman.run("limited", "--network mynet");
    is_limited(&lab, &podman);
    podman.leave();
}

/// The container `limited` sends 20 and receives 10 Mbit/s, from and to `own`. It is removed.
#[track_caller]
fn is_limited(lab: &Lab, podman: &Podman<'_>) {
    let format = "{{.Name}} {{.Interface}}";
    let listed = lab.netbpf(["stats", "--no-stream", "--format", format]).ok();
    assert!(listed.text().lines().any(|line| line == "limited eth0 (10mbit in, 20mbit out)"), "{listed}");
    rate::sends_twenty_and_receives_ten(lab, "limited", "own", "10.8.0.2");
    podman.podman("rm -f -t 0 limited").ok();
    podman.remove_network("mynet");
}
