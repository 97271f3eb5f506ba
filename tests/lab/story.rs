//! The acceptance story, step by step, as a newcomer would type it.

use netbpf_tests::lab::{Lab, eventually};
use serde_json::Value;

const MYNET: &str = "--driver bridge --subnet 192.168.0.0/16 --gateway 192.168.0.1";

#[test]
fn containers_of_the_default_network_reach_each_other_by_address_and_the_host_reaches_them() {
    the_default_network(&Lab::start());
}

/// Leaves `tomcat01` and `tomcat02`.
pub fn the_default_network(lab: &Lab) {
    let id = lab.netbpf(["run", "-d", "--name", "tomcat01", "--", "sleep", "infinity"]).ok();
    assert!(is_id(id.text()), "{id}");
    lab.run("tomcat02", "");
    let networks = lab.netbpf(["network", "ls"]).ok();
    let lines: Vec<Vec<&str>> =
        networks.text().lines().map(|line| line.split("   ").map(str::trim).collect()).collect();
    assert_eq!(lines[0].join("|").replace("||", "|"), "NETWORK ID|NAME|DRIVER|SCOPE");
    let named: Vec<_> =
        networks.text().lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(named, ["bridge", "host", "none"]);

    assert_eq!(addresses(lab, "tomcat01"), ["lo 127.0.0.1/8", "eth0 172.17.0.2/16"]);
    assert_eq!(addresses(lab, "tomcat02"), ["lo 127.0.0.1/8", "eth0 172.17.0.3/16"]);
    let link = lab.exec("tomcat01", "ip -o link show eth0").ok();
    assert!(link.text().contains("02:42:ac:11:00:02") && link.text().contains("mtu 1500"), "{link}");
    let veths = lab.host(["ip", "-o", "link"]).ok();
    let is_veth = |line: &&str| {
        let name = line.split([' ', '@', ':']).filter(|word| !word.is_empty()).nth(1).unwrap_or_default();
        name.len() == 11 && name.starts_with("veth")
    };
    assert_eq!(veths.text().lines().filter(is_veth).count(), 2, "{veths}");

    lab.host(["ping", "-c1", "172.17.0.2"]).ok();
    lab.exec("tomcat01", "ping -c1 172.17.0.3").ok();
    lab.exec("tomcat02", "ping -c1 172.17.0.2").ok();
    lab.exec("tomcat02", "ping -c1 172.17.0.1").ok();
    assert!(
        !lab.exec("tomcat01", "ping -c1 -W1 tomcat02").status.success(),
        "no names on the default network"
    );
}

#[test]
fn a_user_defined_network_has_names_and_is_isolated_until_a_container_is_connected() {
    let lab = Lab::start();
    lab.run("tomcat01", "");
    lab.run("tomcat02", "");
    a_network_of_ones_own(&lab);
}

/// Beside `tomcat01` and `tomcat02` of the default network. Leaves `mynet` with two containers, and `tomcat01` in it.
pub fn a_network_of_ones_own(lab: &Lab) {
    let id = lab.netbpf(["network", "create"].into_iter().chain(MYNET.split(' ')).chain(["mynet"])).ok();
    assert!(is_id(id.text()), "{id}");
    lab.run("tomcat-mynet-01", "--net mynet");
    lab.run("tomcat-mynet-02", "--net mynet");
    assert_eq!(addresses(lab, "tomcat-mynet-01")[1], "eth0 192.168.0.2/16");
    assert_eq!(addresses(lab, "tomcat-mynet-02")[1], "eth0 192.168.0.3/16");

    let pinged = lab.exec("tomcat-mynet-01", "ping -c1 tomcat-mynet-02").ok();
    assert!(pinged.stdout.contains("64 bytes from tomcat-mynet-02.mynet (192.168.0.3)"), "{pinged}");
    let by_address = lab.exec("tomcat02", "ping -c1 -W1 192.168.0.2").fails_with(1, "");
    assert!(by_address.stdout.contains("100% packet loss"), "{by_address}");
    assert!(!lab.exec("tomcat02", "ping -c1 -W1 tomcat-mynet-01").status.success());

    lab.netbpf(["connect", "mynet", "tomcat01"]).ok();
    assert_eq!(addresses(lab, "tomcat01"), ["lo 127.0.0.1/8", "eth0 172.17.0.2/16", "eth1 192.168.0.4/16"]);
    let pinged = lab.exec("tomcat01", "ping -c1 tomcat-mynet-01").ok();
    assert!(pinged.stdout.contains("64 bytes from tomcat-mynet-01.mynet (192.168.0.2)"), "{pinged}");
    lab.exec("tomcat-mynet-02", "ping -c1 tomcat01").ok();
    lab.exec("tomcat01", "ping -c1 172.17.0.3").ok();
    lab.exec("tomcat02", "ping -c1 -W1 192.168.0.2").fails_with(1, "");
    lab.exec("tomcat02", "ping -c1 -W1 192.168.0.4").fails_with(1, "");
    assert!(!lab.exec("tomcat02", "ping -c1 -W1 tomcat-mynet-01").status.success());
}

#[test]
fn inspect_has_docker_s_keys_in_docker_s_order() {
    let lab = Lab::start();
    lab.network("mynet", MYNET);
    lab.run("tomcat-mynet-01", "--net mynet");
    let output = lab.netbpf(["network", "inspect", "mynet"]).ok();
    let order = [
        "Name",
        "Id",
        "Created",
        "Scope",
        "Driver",
        "EnableIPv4",
        "EnableIPv6",
        "IPAM",
        "Driver",
        "Options",
        "Config",
        "Subnet",
        "Gateway",
        "Internal",
        "Attachable",
        "Ingress",
        "ConfigFrom",
        "Network",
        "ConfigOnly",
        "Containers",
        "Name",
        "EndpointID",
        "MacAddress",
        "IPv4Address",
        "IPv6Address",
        "Options",
        "Labels",
    ];
    let keys = output.stdout.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once("\": "));
    let keys: Vec<_> = keys.map(|(key, _)| key).filter(|key| !is_id(key)).collect();
    assert_eq!(keys, order, "{output}");
    let network = &output.json()[0];
    assert_eq!(network["Driver"], "bridge");
    assert_eq!(network["IPAM"]["Config"][0]["Subnet"], "192.168.0.0/16");
    let containers = network["Containers"].as_object().expect("containers");
    let (id, member) = containers.iter().next().expect("one container");
    assert!(is_id(id));
    assert_eq!(member["Name"], "tomcat-mynet-01");
    assert_eq!(member["MacAddress"], "02:42:c0:a8:00:02");
    assert_eq!(member["IPv4Address"], "192.168.0.2/16");
}

#[test]
fn removing_everything_and_stopping_leaves_nothing() {
    let lab = Lab::start();
    lab.network("mynet", MYNET);
    lab.run("tomcat01", "");
    lab.run("tomcat-mynet-01", "--net mynet");
    lab.netbpf(["connect", "mynet", "tomcat01"]).ok();
    lab.netbpf(["network", "rm", "mynet"]).fails_with(1, "has active endpoints");
    lab.netbpf(["rm", "-f", "tomcat01", "tomcat-mynet-01"]).ok();
    lab.netbpf(["network", "rm", "mynet"]).ok();
    lab.stop_daemon();
    let links = lab.host(["ip", "-j", "link"]).ok().json();
    let names: Vec<_> = links.as_array().into_iter().flatten().map(|link| &link["ifname"]).collect();
    assert_eq!(names, [&Value::from("lo")]);
    assert!(!lab.path("/sys/fs/bpf/netbpf").exists());
}

#[test]
fn bulk_traffic_arrives_unchanged_between_containers_and_the_host() {
    bulk_arrives_unchanged(&Lab::start(), "");
}

/// In a network `mynet` that is made with these options too.
pub fn bulk_arrives_unchanged(lab: &Lab, options: &str) {
    const MEGABYTES: usize = 8;
    lab.network("mynet", &format!("{MYNET} {options}"));
    let folder = lab.path("/run/served");
    std::fs::create_dir(&folder).expect("a folder");
    lab.host(["dd", "if=/dev/urandom", "of=/run/served/bulk", "bs=1048576", &format!("count={MEGABYTES}")])
        .ok();
    let serve = ["busybox", "httpd", "-f", "-p", "8080", "-h", "/run/served"];
    for name in ["tomcat-mynet-01", "tomcat-mynet-02"] {
        lab.netbpf(["run", "-d", "--name", name, "--net", "mynet", "--"].into_iter().chain(serve)).ok();
    }
    let on_host = lab.spawn(serve);
    let expected = lab.host(["busybox", "sha256sum", "/run/served/bulk"]).ok().text()[..64].to_owned();
    let fetch = |server: &str| format!("busybox wget -qO- http://{server}:8080/bulk | busybox sha256sum");
    let serves = |server: &str| {
        eventually(&format!("{server} serves"), || {
            let url = format!("http://{server}:8080/");
            let answer = lab.host(["busybox", "wget", "-q", "-O", "/dev/null", &url]);
            // 404, because there is no index page.
            (answer.status.success() || answer.stderr.contains("404")).then_some(())
        });
    };
    for server in ["192.168.0.1", "192.168.0.2", "192.168.0.3"] {
        serves(server);
    }
    for (client, server) in [
        ("tomcat-mynet-01", "tomcat-mynet-02"),
        ("tomcat-mynet-02", "tomcat-mynet-01"),
        ("tomcat-mynet-01", "192.168.0.1"),
    ] {
        let fetched = lab.exec_script(client, &fetch(server)).ok();
        assert_eq!(fetched.text()[..64], expected, "{client} from {server}");
    }
    let fetched = lab.host(["sh", "-c", &fetch("192.168.0.2")]).ok();
    assert_eq!(fetched.text()[..64], expected, "the host from a container");
    drop(on_host);
    std::fs::remove_dir_all(folder).expect("the folder goes");
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The interfaces and IPv4 addresses of a container: `eth0 172.17.0.2/16`.
#[track_caller]
fn addresses(lab: &Lab, container: &str) -> Vec<String> {
    let output = lab.exec(container, "ip -o -4 address").ok();
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        format!("{} {}", words[1], words[3])
    };
    output.text().lines().map(line).collect()
}
