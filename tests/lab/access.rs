//! `netbpf.guard`, `netbpf.addresses` and `netbpf.redirect`: their words, messages, where they are shown, and `update`.

use netbpf_tests::lab::Lab;
use serde_json::Value;

use crate::world::World;

/// A lab with the network `mynet`, 10.1.0.0/24 and fd00:1::/64, and two members.
fn town() -> Lab {
    let lab = Lab::start();
    lab.network("mynet", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    lab.run("web", "--net mynet");
    lab.run("db", "--net mynet");
    lab
}

#[track_caller]
fn refused(lab: &Lab, command: &str, message: &str) {
    let world = World::of(lab);
    let output = lab.netbpf(command.split_whitespace()).fails_with(1, "");
    assert_eq!(output.stderr, format!("Error response from daemon: {message}\n"), "{command}");
    world.assert_unchanged(lab, command);
}

/// The options of a container's endpoint in `mynet`.
fn options(lab: &Lab, container: &str) -> Value {
    lab.inspect(container)["NetworkSettings"]["Networks"]["mynet"]["DriverOpts"].take()
}

/// What `doctor` says about open networks and endpoints.
fn open(lab: &Lab) -> Option<String> {
    let said = lab.netbpf(["doctor"]).stdout;
    let line = said.lines().find_map(|line| line.strip_prefix("note     open         "));
    line.map(str::to_owned)
}

#[track_caller]
fn update(lab: &Lab, options: &[&str], container: &str) {
    let options = options.iter().flat_map(|option| ["--driver-opt", option]);
    let updated =
        lab.netbpf(["update", "--network", "mynet"].into_iter().chain(options).chain([container])).ok();
    assert_eq!(updated.stdout, format!("{container}\n"));
}

#[test]
fn options_are_shown_and_kept() {
    let lab = town();
    assert_eq!(open(&lab), None);
    lab.run(
        "vpn",
        "--net mynet --driver-opt netbpf.addresses=::/0,0.0.0.0/0 --driver-opt netbpf.redirect=plain",
    );
    lab.run("proxy", "--net name=mynet,driver-opt=netbpf.guard=off");
    lab.host(["ip", "netns", "add", "blue"]).ok();
    lab.netbpf(["connect", "--driver-opt", "netbpf.addresses=10.1.0.100", "mynet", "netns:blue"]).ok();
    let shown = |lab: &Lab| {
        assert_eq!(options(lab, "vpn")["netbpf.addresses"], "0.0.0.0/0,::/0");
        assert_eq!(options(lab, "vpn")["netbpf.redirect"], "plain");
        assert_eq!(options(lab, "proxy")["netbpf.guard"], "off");
        assert_eq!(
            open(lab).as_deref(),
            Some(
                "netns:blue in mynet (addresses 10.1.0.100); proxy in mynet (guard off); \
                 vpn in mynet (addresses 0.0.0.0/0,::/0)"
            )
        );
        let listed = lab.netbpf(["ps", "--format", "{{.Names}} {{.Status}}"]).ok().stdout;
        let marked = listed.lines().filter(|line| line.ends_with(" (open)"));
        let marked: Vec<_> = marked.filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(marked, ["netns:blue", "proxy", "vpn"]);
        let format = "{{.Name}} {{.Interface}}";
        let listed = lab.netbpf(["stats", "--no-stream", "--format", format]).ok().stdout;
        assert_eq!(listed, "db eth0\nnetns:blue eth0 (open)\nproxy eth0 (open)\nvpn eth0 (open)\nweb eth0\n");
    };
    shown(&lab);
    lab.kill_daemon();
    lab.start_daemon();
    shown(&lab);
    lab.netbpf(["restart", "-t", "0", "vpn", "proxy"]).ok();
    assert_eq!(options(&lab, "vpn")["netbpf.addresses"], "0.0.0.0/0,::/0");
    lab.netbpf(["rm", "-f", "vpn", "proxy"]).ok();
    lab.netbpf(["disconnect", "mynet", "netns:blue"]).ok();
    lab.host(["ip", "netns", "del", "blue"]).ok();
    assert_eq!(open(&lab), None);
}

#[test]
fn options_of_a_network_hold_for_members_without_their_own() {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24 -o netbpf.guard=off -o netbpf.addresses=10.1.0.100");
    lab.run("web", "--net mynet");
    lab.run("db", "--net mynet --driver-opt netbpf.guard=on");
    assert_eq!(lab.inspect("mynet")["Options"]["netbpf.addresses"], "10.1.0.100");
    assert_eq!(open(&lab).as_deref(), Some("all in mynet (guard off); db in mynet (addresses 10.1.0.100)"));
    let updated = lab
        .netbpf(["network", "update", "-o", "netbpf.guard=", "-o", "netbpf.addresses=10.1.0.101", "mynet"])
        .ok();
    assert_eq!(updated.stdout, "mynet\n");
    assert_eq!(open(&lab).as_deref(), Some("all in mynet (addresses 10.1.0.101)"));
    let shown = lab.inspect("mynet")["Options"].take();
    assert_eq!(shown, serde_json::json!({ "netbpf.addresses": "10.1.0.101" }));
    // The default network shows its own options beside Docker's.
    lab.netbpf(["network", "update", "-o", "netbpf.guard=off", "bridge"]).ok();
    let shown = lab.inspect("bridge")["Options"].take();
    assert_eq!(shown["netbpf.guard"], "off");
    assert_eq!(shown["com.docker.network.bridge.default_bridge"], "true");
    lab.restart_daemon();
    assert_eq!(lab.inspect("bridge")["Options"], shown);
    lab.netbpf(["network", "update", "-o", "netbpf.guard=", "bridge"]).ok();
    assert_eq!(open(&lab).as_deref(), Some("all in mynet (addresses 10.1.0.101)"));
}

#[test]
fn a_running_container_is_updated() {
    let lab = town();
    update(&lab, &["netbpf.guard=off", "netbpf.redirect=plain"], "web");
    assert_eq!(options(&lab, "web")["netbpf.guard"], "off");
    assert_eq!(open(&lab).as_deref(), Some("web in mynet (guard off)"));
    update(&lab, &["netbpf.guard=", "netbpf.redirect=", "netbpf.addresses=10.1.0.100,10.244.1.0/24"], "web");
    assert_eq!(options(&lab, "web"), serde_json::json!({ "netbpf.addresses": "10.1.0.100,10.244.1.0/24" }));
    lab.restart_daemon();
    assert_eq!(open(&lab).as_deref(), Some("web in mynet (addresses 10.1.0.100,10.244.1.0/24)"));
    update(&lab, &["netbpf.addresses="], "web");
    assert!(options(&lab, "web").is_null());
    assert_eq!(open(&lab), None);

    // A stopped container gets it at its next start.
    lab.netbpf(["stop", "-t", "0", "web"]).ok();
    update(&lab, &["netbpf.guard=off"], "web");
    assert_eq!(open(&lab), None);
    lab.netbpf(["start", "web"]).ok();
    assert_eq!(open(&lab).as_deref(), Some("web in mynet (guard off)"));
    lab.exec("web", "ping -c1 -W2 db").ok();

    let format = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}";
    let words = ["events", "--since", "10m", "--until", "0s", "--filter", "event=update", "--format", format];
    let told = lab.netbpf(words).ok().stdout;
    assert_eq!(told, "container update web\nnetwork update mynet\n".repeat(2));
    lab.netbpf(["network", "update", "-o", "netbpf.guard=off", "mynet"]).ok();
    assert!(lab.netbpf(words).ok().stdout.ends_with("\nnetwork update mynet\n"));
}

#[test]
fn invalid_options_and_updates_are_refused() {
    let lab = town();
    let (web, db) = (lab.address("web", "mynet"), lab.address("db", "mynet"));
    let of = |address: &str, by: &str| {
        format!("netbpf.addresses: {address} is the address of {by} in network mynet")
    };
    for (address, by) in [("10.1.0.1", "the gateway"), (&*db, "db"), (&*web, "web"), ("fd00:1::3", "db")] {
        let said = of(address, by);
        refused(&lab, &format!("update --network mynet --driver-opt netbpf.addresses={address} web"), &said);
        refused(&lab, &format!("network update -o netbpf.addresses={address} mynet"), &said);
    }
    refused(
        &lab,
        "update --network mynet --driver-opt netbpf.guard=maybe web",
        "failed to parse netbpf.guard value: maybe (expected off or on)",
    );
    let fixed = "cannot be changed: only netbpf.addresses, netbpf.guard, netbpf.redirect, \
             netbpf.ingress_rate, netbpf.ingress_burst, netbpf.egress_rate, netbpf.egress_burst can";
    refused(
        &lab,
        "network update -o com.docker.network.driver.mtu=1400 mynet",
        &format!("com.docker.network.driver.mtu {fixed}"),
    );
    refused(
        &lab,
        "update --network mynet --driver-opt com.docker.network.endpoint.ifname= web",
        &format!("com.docker.network.endpoint.ifname {fixed}"),
    );
    refused(
        &lab,
        "update --network bridge --driver-opt netbpf.guard=off web",
        &format!(
            "container {} is not connected to network bridge",
            lab.inspect("web")["Id"].as_str().unwrap()
        ),
    );
    refused(&lab, "network update -o netbpf.guard=off host", "network host has no endpoints");
    refused(&lab, "update --net mynet --driver-opt netbpf.guard=off nobody", "No such container: nobody");
    refused(
        &lab,
        "network create --subnet 10.9.0.0/24 -o netbpf.addresses=10.9.0.1 new",
        "netbpf.addresses: 10.9.0.1 is the address of the gateway in network new",
    );
    lab.netbpf(["run", "--net", "mynet", "--driver-opt", "netbpf.addresses=10.1.0.1", "true"])
        .fails_with(125, &of("10.1.0.1", "the gateway"));
    lab.netbpf(["run", "--net", "mynet", "--driver-opt", &format!("netbpf.addresses={db}"), "true"])
        .fails_with(125, &of(&db, "db"));
}

#[test]
fn a_further_address_is_leased_to_nobody_else() {
    let lab = town();
    update(&lab, &["netbpf.addresses=10.1.0.4,fd00:1::4,10.1.0.128/25"], "web");
    lab.netbpf(["run", "--net", "mynet", "--ip", "10.1.0.4", "true"])
        .fails_with(125, "Address already in use");
    lab.run("shop", "--net mynet");
    assert_eq!(lab.address("shop", "mynet"), "10.1.0.5");
    // A subnet reserves nothing.
    lab.run("far", "--net mynet --ip 10.1.0.200");
    lab.exec("far", "ping -c1 -W2 web").ok();
    // Two may have one address in turn, as keepalived's hosts.
    update(&lab, &["netbpf.addresses=10.1.0.4"], "db");
    update(&lab, &["netbpf.addresses="], "web");
    lab.netbpf(["run", "--net", "mynet", "--ip", "10.1.0.4", "true"])
        .fails_with(125, "Address already in use");
    lab.netbpf(["rm", "-f", "db"]).ok();
    lab.run("last", "--net mynet --ip 10.1.0.4");
}
