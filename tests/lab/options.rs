//! Options of networks and endpoints: their effect in the kernel, and invalid ones.

use netbpf_tests::lab::Lab;
use serde_json::Value;

use crate::world::World;

/// The names of a container's interfaces, without `lo`.
#[track_caller]
fn interfaces(lab: &Lab, container: &str) -> Vec<String> {
    let links = lab.in_network_of(container, "ip -j link").ok().json();
    let names = links.as_array().expect("a list").iter().filter_map(|link| link["ifname"].as_str());
    names.filter(|name| *name != "lo").map(str::to_owned).collect()
}

/// The gateway and interface of a container's default route; `None` without one.
#[track_caller]
fn default_route(lab: &Lab, container: &str) -> Option<String> {
    let routes = lab.in_network_of(container, "ip -4 -j route show default").ok().json();
    Some(routes[0]["gateway"].as_str()?.to_owned())
}

#[track_caller]
fn refused(lab: &Lab, command: &str, message: &str) {
    let world = World::of(lab);
    let output = lab.netbpf(command.split_whitespace()).fails_with(1, "");
    assert_eq!(output.stderr, format!("Error response from daemon: {message}\n"), "{command}");
    world.assert_unchanged(lab, command);
}

#[test]
fn interfaces_have_the_requested_names() {
    let lab = Lab::start();
    lab.network("net", "--subnet 10.1.0.0/24 -o com.docker.network.container_iface_prefix=net");
    lab.network("plain", "--subnet 10.2.0.0/24");
    lab.network("third", "--subnet 10.3.0.0/24");
    lab.run("web", "--net net");
    lab.netbpf(["connect", "plain", "web"]).ok();
    let ifname = "com.docker.network.endpoint.ifname";
    lab.netbpf(["connect", "--driver-opt", &format!("{ifname}=back0"), "third", "web"]).ok();
    assert_eq!(interfaces(&lab, "web"), ["net0", "eth0", "back0"]);
    lab.exec("web", "ping -c1 -W2 -I back0 10.3.0.1").ok();
    assert_eq!(
        lab.inspect("web")["NetworkSettings"]["Networks"]["third"]["DriverOpts"][ifname],
        Value::from("back0")
    );
    lab.netbpf(["restart", "-t", "0", "web"]).ok();
    assert_eq!(interfaces(&lab, "web"), ["net0", "eth0", "back0"]);

    // A requested name is given to no other interface; requested twice, the second one is refused.
    lab.run("other", "--net plain");
    lab.netbpf(["stop", "-t", "0", "other"]).ok();
    lab.netbpf(["connect", "--driver-opt", &format!("{ifname}=eth0"), "third", "other"]).ok();
    lab.netbpf(["start", "other"]).ok();
    assert_eq!(interfaces(&lab, "other"), ["eth1", "eth0"]);
    lab.netbpf(["disconnect", "third", "web"]).ok();
    let world = World::of(&lab);
    lab.netbpf(["connect", "--driver-opt", &format!("{ifname}=net0"), "third", "web"])
        .fails_with(1, "interface name net0 is already taken in network namespace of process");
    world.assert_unchanged(&lab, "a name that is taken");
    refused(
        &lab,
        &format!("connect --driver-opt {ifname}=a/b third web"),
        &format!(
            "invalid endpoint settings:\nfailed to parse {ifname} value: a/b (expected the name of an interface: at \
             most 15 characters of a-z, A-Z, 0-9, '_' and '-', the first of them no '-')"
        ),
    );
    let prefix = "com.docker.network.container_iface_prefix";
    refused(
        &lab,
        &format!("network create -o {prefix}=twelve-bytes bad"),
        &format!(
            "failed to parse {prefix} value: twelve-bytes (expected the name of an interface: at most 11 characters \
             of a-z, A-Z, 0-9, '_' and '-', the first of them no '-')"
        ),
    );
}

#[test]
fn a_name_that_nft_or_the_kernel_would_misread_is_refused() {
    let lab = Lab::start();
    lab.run("web", "");
    lab.network("mynet", "");
    let world = World::of(&lab);
    for name in ["int\\", "a\"b", "a'b", "*", "e*", "nb%d", "-a", "a.b", "a;b", "a\u{1b}b"] {
        for key in ["bridge.name", "container_iface_prefix"] {
            let option = format!("com.docker.network.{key}={name}");
            lab.netbpf(["network", "create", "--internal", "-o", &option, "bad"])
                .fails_with(1, "expected the name of an interface");
        }
        let option = format!("com.docker.network.endpoint.ifname={name}");
        lab.netbpf(["connect", "--driver-opt", &option, "mynet", "web"])
            .fails_with(1, "expected the name of an interface");
    }
    let trusted = "com.docker.network.bridge.trusted_host_interfaces";
    for name in ["e*", "a\".\"b", "int\\", "eth%d"] {
        lab.netbpf(["network", "create", "-o", &format!("{trusted}=eth0:{name}"), "bad"])
            .fails_with(1, "expected the name of an interface");
    }
    world.assert_unchanged(&lab, "names that are none");
    // The host's own interfaces may have such names.
    lab.network("trusting", &format!("-o {trusted}=eth0.100:wg+0"));
    let rules = lab.host(["nft", "list", "set", "inet", "netbpf", "trusted"]).ok().stdout;
    assert!(rules.contains("\"eth0.100\" . ") && rules.contains("\"wg+0\" . "), "{rules}");
}

#[test]
fn a_sysctl_applies_to_its_interface_only() {
    let lab = Lab::start();
    lab.network("mynet", "");
    lab.run("web", "");
    let sysctls = "com.docker.network.endpoint.sysctls";
    let settings = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.neigh.IFNAME.gc_stale_time=33";
    lab.netbpf(["connect", "--driver-opt", &format!("{sysctls}={settings}"), "mynet", "web"]).ok();
    let read = |setting: &str| {
        lab.in_network_of("web", &format!("cat /proc/sys/net/ipv4/{setting}")).ok().text().to_owned()
    };
    for _ in 0..2 {
        assert_eq!(read("conf/eth1/log_martians"), "1");
        assert_eq!(read("neigh/eth1/gc_stale_time"), "33");
        assert_eq!(read("conf/eth0/log_martians"), "0");
        lab.netbpf(["restart", "-t", "0", "web"]).ok();
    }
    lab.netbpf(["disconnect", "mynet", "web"]).ok();
    refused(
        &lab,
        &format!("connect --driver-opt {sysctls}=net.ipv4.conf.eth1.log_martians=1 mynet web"),
        "invalid endpoint settings:\nunrecognised network interface sysctl 'net.ipv4.conf.eth1.log_martians=1'; \
         represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'",
    );
    // The kernel has no setting of this name: nothing is left of the interface.
    refused(
        &lab,
        &format!("connect --driver-opt {sysctls}=net.ipv4.conf.IFNAME.nothing=1 mynet web"),
        "read /proc/sys/net/ipv4/conf/eth1/nothing: No such file or directory (os error 2)",
    );
    refused(
        &lab,
        &format!("connect --driver-opt {sysctls}=net.ipv4.conf.IFNAME.log_martians=many mynet web"),
        "write many to /proc/sys/net/ipv4/conf/eth1/log_martians: Invalid argument (os error 22)",
    );
}

#[test]
fn a_device_has_the_requested_name() {
    let lab = Lab::start();
    let name = "com.docker.network.bridge.name";
    lab.network("mynet", &format!("--subnet 10.1.0.0/24 -o {name}=br-mine"));
    lab.run("web", "--net mynet");
    let device = lab.host(["ip", "-4", "-br", "address", "show", "dev", "br-mine"]).ok();
    assert!(device.text().contains(" 10.1.0.1/24"), "{device}");
    lab.host(["ping", "-c1", "-W2", "-I", "br-mine", "10.1.0.2"]).ok();
    lab.restart_daemon();
    lab.host(["ping", "-c1", "-W2", "10.1.0.2"]).ok();
    let id = lab.inspect("mynet")["Id"].as_str().expect("an ID").to_owned();
    let clash = format!("conflicts with network {id} (br-mine): networks have same bridge name");
    let world = World::of(&lab);
    lab.netbpf(["network", "create", "-o", &format!("{name}=br-mine"), "other"]).fails_with(1, &clash);
    lab.netbpf(["network", "create", "-o", &format!("{name}=netbpf0"), "other"])
        .fails_with(1, "networks have same bridge name");
    world.assert_unchanged(&lab, "a device of another network");
    lab.host(["ip", "link", "add", "uplink", "type", "veth"]).ok();
    lab.host(["ip", "link", "add", "br0", "type", "bridge"]).ok();
    for taken in ["uplink", "br0", "lo"] {
        refused(
            &lab,
            &format!("network create -o {name}={taken} other"),
            &format!("existing interface {taken} is not a bridge of netbpf's"),
        );
    }
    lab.host(["ip", "link", "del", "uplink"]).ok();
    lab.host(["ip", "link", "del", "br0"]).ok();
    lab.netbpf(["rm", "-f", "web"]).ok();
    lab.netbpf(["network", "rm", "mynet"]).ok();
    lab.host(["ip", "link", "show", "br-mine"]).fails_with(1, "does not exist");
}

#[test]
fn a_host_without_an_address_is_still_the_gateway() {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24 -o com.docker.network.bridge.inhibit_ipv4=true");
    lab.run("one", "--net mynet");
    lab.run("two", "--net mynet");
    for _ in 0..2 {
        let addresses = lab.host(["ip", "-4", "address", "show", "dev", &lab.device("mynet")]).ok();
        assert_eq!(addresses.stdout, "", "the device has no address");
        assert_eq!(default_route(&lab, "one").as_deref(), Some("10.1.0.1"));
        lab.exec("one", "ping -c1 -W2 two").ok();
        assert!(
            !lab.exec("one", "ping -c1 -W1 10.1.0.1").status.success(),
            "nobody has the gateway's address"
        );
        lab.restart_daemon();
    }
    // A host that gets the address is the gateway.
    lab.host(["ip", "address", "add", "10.1.0.1/24", "dev", &lab.device("mynet")]).ok();
    lab.exec("one", "ping -c1 -W2 10.1.0.1").ok();
}

#[test]
fn the_default_route_depends_on_priority_then_name_and_never_uses_internal_networks() {
    let lab = Lab::start();
    for (number, name) in ["alpha", "beta", "gamma"].iter().enumerate() {
        lab.network(name, &format!("--subnet 10.{}.0.0/24", number + 1));
    }
    lab.network("aaa", "--internal --subnet 10.9.0.0/24");
    lab.run("web", "--net beta");
    let route = || default_route(&lab, "web").unwrap_or_default();
    let connect = |network: &str, priority: &str| {
        lab.netbpf(["connect", "--gw-priority", priority, network, "web"]).ok();
    };
    let disconnect = |network: &str| {
        lab.netbpf(["disconnect", network, "web"]).ok();
    };
    assert_eq!(route(), "10.2.0.1");
    connect("aaa", "100");
    assert_eq!(route(), "10.2.0.1", "an internal network leads nowhere");
    connect("gamma", "0");
    assert_eq!(route(), "10.2.0.1", "beta comes before gamma");
    connect("alpha", "-1");
    assert_eq!(route(), "10.2.0.1", "alpha comes last");
    disconnect("alpha");
    connect("alpha", "7");
    assert_eq!(route(), "10.1.0.1");
    lab.netbpf(["restart", "-t", "0", "web"]).ok();
    assert_eq!(route(), "10.1.0.1");
    disconnect("alpha");
    assert_eq!(route(), "10.2.0.1");
    disconnect("beta");
    assert_eq!(route(), "10.3.0.1");
    disconnect("gamma");
    assert_eq!(default_route(&lab, "web"), None);
    disconnect("aaa");
    connect("beta", "0");
    assert_eq!(route(), "10.2.0.1");
}

#[test]
fn a_container_can_be_started_in_several_networks() {
    let lab = Lab::start();
    lab.network("front", "--subnet 10.1.0.0/24");
    lab.network("back", "--subnet 10.2.0.0/24");
    lab.run("friend", "--net back");
    lab.run("web", "--network front --network name=back,alias=shop,ip=10.2.0.99,gw-priority=1 --ip 10.1.0.9");
    for _ in 0..2 {
        assert_eq!(
            (lab.address("web", "front"), lab.address("web", "back")),
            ("10.1.0.9".into(), "10.2.0.99".into())
        );
        assert_eq!(interfaces(&lab, "web"), ["eth0", "eth1"]);
        assert_eq!(default_route(&lab, "web").as_deref(), Some("10.2.0.1"));
        lab.exec("friend", "ping -c1 -W2 shop").ok();
        lab.netbpf(["restart", "-t", "0", "web"]).ok();
    }
    let world = World::of(&lab);
    for (options, message) in [
        ("--net front --net front", "network \"front\" is specified multiple times"),
        (
            "--net front --net bridge",
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        ),
        (
            "--net none --net front",
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
        ),
        ("--net front --net nobody", "network nobody not found"),
        ("--net front --net name=back,ip=10.2.0.99", "Address already in use"),
        ("--net name=front,ip=10.1.0.8 --ip 10.1.0.7", "conflicting options: cannot specify both --ip and"),
        ("--net ip=10.1.0.8", "network name/id is not specified"),
    ] {
        let words = ["run", "--rm"].into_iter().chain(options.split(' ')).chain(["--", "true"]);
        lab.netbpf(words).fails_with(125, message);
        world.assert_unchanged(&lab, options);
    }
}

#[test]
fn the_default_gateway_may_be_another_address_of_the_host() {
    let lab = Lab::start();
    lab.network(
        "mynet",
        "--subnet 10.1.0.0/24 --aux-address DefaultGatewayIPv4=10.1.0.254 --aux-address x=10.1.0.2",
    );
    lab.run("web", "--net mynet");
    assert_eq!(lab.address("web", "mynet"), "10.1.0.3");
    assert_eq!(default_route(&lab, "web").as_deref(), Some("10.1.0.254"));
    let device = lab.host(["ip", "-4", "-br", "address", "show", "dev", &lab.device("mynet")]).ok();
    assert!(device.text().ends_with(" 10.1.0.1/24"), "the device keeps its own: {device}");
    assert_eq!(lab.inspect("web")["NetworkSettings"]["Networks"]["mynet"]["Gateway"], "10.1.0.254");
    // The default route leads through it.
    lab.host(["ip", "address", "add", "192.0.2.1/32", "dev", "lo"]).ok();
    for _ in 0..2 {
        lab.exec("web", "ping -c1 -W2 192.0.2.1").ok();
        lab.restart_daemon();
    }
    lab.host(["ip", "address", "add", "10.1.0.254/32", "dev", "lo"]).ok();
    lab.exec("web", "ping -c1 -W2 10.1.0.254").ok();
    lab.host(["ip", "address", "del", "10.1.0.254/32", "dev", "lo"]).ok();
    lab.host(["ip", "address", "del", "192.0.2.1/32", "dev", "lo"]).ok();
    let world = World::of(&lab);
    lab.netbpf(["connect", "--ip", "10.1.0.254", "mynet", "web"])
        .fails_with(1, "already exists in network mynet");
    lab.netbpf(["run", "--rm", "--net", "mynet", "--ip", "10.1.0.254", "--", "true"])
        .fails_with(125, "Address already in use");
    lab.netbpf([
        "network",
        "create",
        "--subnet",
        "10.2.0.0/24",
        "--aux-address",
        "DefaultGatewayIPv4=10.3.0.1",
        "bad",
    ])
    .fails_with(1, "no matching subnet for aux-address");
    world.assert_unchanged(&lab, "gateways that cannot be");
}
