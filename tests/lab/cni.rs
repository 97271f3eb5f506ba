//! netbpf as a CNI plugin, executed as runtimes do: by environment and standard input.

mod enable;
mod limits;
mod names;
mod plugin;

use netbpf_tests::{
    engine::netbpf,
    lab::{Lab, eventually},
};
use plugin::{Call, call, conf};
use serde_json::json;

/// A lab with the network `mynet`, 10.1.0.0/24, and these namespaces.
fn lab(namespaces: &[&str]) -> Lab {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    namespaces.iter().for_each(|name| drop(lab.host(["ip", "netns", "add", name]).ok()));
    lab
}

#[test]
fn a_bad_call_gets_the_codes_of_the_protocol() {
    let lab = lab(&["aa"]);
    let good = call("ADD", "aa", conf("1.0.0", json!({})));
    let mut cases: Vec<(Call, u64, &str)> = [
        ("", "eth0", "/run/netns/aa", 4, "required env variables [CNI_CONTAINERID] missing"),
        ("aa", "", "", 4, "required env variables [CNI_NETNS,CNI_IFNAME] missing"),
        ("../a", "eth0", "/run/netns/aa", 4, "invalid characters in CNI_CONTAINERID"),
        ("aa", "0123456789abcdef", "/run/netns/aa", 4, "it is longer than 15 characters"),
        ("aa", "a/b", "/run/netns/aa", 4, "'/', ':' or a blank"),
        ("aa", "..", "/run/netns/aa", 4, "it is . or .."),
        ("aa", "eth0", "/run/netns/nobody", 999, "/run/netns/nobody"),
        ("aa", "eth0", "run/netns/a", 999, "expected an absolute path"),
        ("aa", "eth0", "/proc/1/ns/net", 999, "the host's own network namespace"),
        ("aa", "eth0", "/etc/hostname", 999, "/etc/hostname"),
    ]
    .into_iter()
    .map(|(container, interface, namespace, code, said)| {
        let bad = good.clone().with(|call| {
            (call.container, call.interface) = (container.to_owned(), interface);
            namespace.clone_into(&mut call.namespace);
        });
        (bad, code, said)
    })
    .collect();
    for (command, configuration, code, said) in [
        ("PUT", conf("1.0.0", json!({})), 4, "unknown CNI_COMMAND: PUT"),
        ("ADD", json!("x"), 6, "decode the network configuration"),
        ("ADD", conf("0.2.0", json!({})), 1, r#"config is "0.2.0", plugin supports"#),
        ("ADD", json!({ "name": "mynet" }), 1, r#"config is "0.1.0""#),
        ("CHECK", conf("0.3.1", json!({})), 1, "does not allow CHECK"),
        ("GC", conf("1.0.0", json!({})), 1, "does not allow GC"),
        ("STATUS", conf("1.0.0", json!({})), 1, "does not allow STATUS"),
        ("ADD", json!({ "cniVersion": "1.0.0", "name": "a/b" }), 7, "invalid characters in network name"),
        ("ADD", conf("1.0.0", json!({ "network": "nonet" })), 999, "network nonet not found"),
        ("ADD", conf("1.0.0", json!({ "network": "host" })), 999, "cannot connect container to host network"),
        ("ADD", conf("1.0.0", json!({ "runtimeConfig": { "ips": ["10.9.0.1"] } })), 999, "10.9.0.1"),
        ("ADD", conf("1.0.0", json!({ "runtimeConfig": { "mac": "x" } })), 999, "invalid MAC address: x"),
        (
            "ADD",
            conf(
                "1.0.0",
                json!({ "runtimeConfig": { "portMappings": [{ "hostPort": 1, "containerPort": 1, "protocol": "x" }] } }),
            ),
            999,
            "invalid proto: x",
        ),
        (
            "ADD",
            conf(
                "1.0.0",
                json!({ "runtimeConfig": {
                    "io.kubernetes.cri.pod-annotations": { "netbpf.io/networks": "mynet", "other.io/x": "y" },
                } }),
            ),
            7,
            "unknown annotation netbpf.io/networks: expected netbpf.io/network or netbpf.io/aliases",
        ),
        ("STATUS", conf("1.1.0", json!({ "network": "nonet" })), 50, "network nonet not found"),
    ] {
        cases.push((
            good.clone().with(|call| (call.command, call.configuration) = (command, configuration)),
            code,
            said,
        ));
    }
    for (bad, code, said) in cases {
        let (found, message) = bad.error(&lab);
        assert!(found == code && message.contains(said), "{said}: {found} {message}");
    }
    assert_eq!(lab.containers(), [""; 0]);
    let links = lab.host(["ip", "-n", "aa", "-o", "link"]).ok();
    assert_eq!(links.text().lines().count(), 1, "{links}");
    let versions = call("VERSION", "", json!(null)).result(&lab);
    assert_eq!(versions["supportedVersions"], json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
    lab.host(["ip", "netns", "del", "aa"]).ok();
}

#[test]
fn a_result_says_what_is_in_the_container() {
    let lab = lab(&["aa"]);
    lab.network("six", "--ipv6 --ipv4=false --subnet fd00:6::/64");
    lab.network("both", "--ipv6 --subnet 10.4.0.0/24 --subnet fd00:4::/64");
    let mut macs = Vec::new();
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        for network in ["mynet", "six", "both"] {
            let added = call("ADD", "aa", conf(version, json!({ "network": network })));
            let result = added.result(&lab);
            assert_eq!(result["cniVersion"], version);
            let inner = &result["interfaces"][1];
            assert_eq!((&inner["name"], &inner["sandbox"]), (&json!("eth0"), &json!("/run/netns/aa")));
            let link = lab.host(["ip", "-n", "aa", "-j", "address", "show", "eth0"]).ok().json();
            assert_eq!(link[0]["address"], inner["mac"]);
            macs.push(inner["mac"].to_string());
            let inside: Vec<String> = link[0]["addr_info"]
                .as_array()
                .expect("addresses")
                .iter()
                .filter(|address| address["scope"] == "global")
                .map(|address| {
                    format!("{}/{}", address["local"].as_str().unwrap_or_default(), address["prefixlen"])
                })
                .collect();
            let told: Vec<_> = result["ips"].as_array().expect("addresses").iter().collect();
            assert_eq!(
                told.iter().map(|ip| ip["address"].as_str().expect("an address")).collect::<Vec<_>>(),
                inside
            );
            assert!(told.iter().all(|ip| ip["interface"] == 1), "{result}");
            assert_eq!(told[0].get("version").is_some(), version.starts_with("0."), "{result}");
            for family in ["-4", "-6"] {
                let route =
                    lab.host(["ip", "-n", "aa", family, "-j", "route", "show", "default"]).ok().json();
                let zero = if family == "-4" { "0.0.0.0/0" } else { "::/0" };
                let mut routes = result["routes"].as_array().expect("routes").iter();
                let told = routes.find(|route| route["dst"] == zero).map(|route| route["gw"].clone());
                assert_eq!(
                    told,
                    route.get(0).map(|route| route["gateway"].clone()),
                    "{version} {network} {family}"
                );
            }
            if version != "0.3.1" {
                let keep = conf(version, json!({ "network": network, "prevResult": result }));
                call("CHECK", "aa", keep.clone()).run(&lab).ok();
            }
            call("DEL", "aa", added.configuration).run(&lab).ok();
            assert_eq!(lab.host(["ip", "-n", "aa", "-o", "link"]).ok().text().lines().count(), 1);
        }
    }
    lab.host(["ip", "netns", "del", "aa"]).ok();
}

#[test]
fn an_altered_interface_is_found_by_check() {
    let lab = lab(&["aa"]);
    let result = call("ADD", "aa", conf("1.0.0", json!({}))).result(&lab);
    let check = call("CHECK", "aa", conf("1.0.0", json!({ "prevResult": result })));
    check.run(&lab).ok();
    let missing = call("CHECK", "aa", conf("1.0.0", json!({}))).error(&lab);
    assert_eq!(missing, (7, "required prevResult missing ".to_owned()));
    let mut other = result.clone();
    other["ips"][0]["address"] = json!("10.1.0.77/24");
    let differs = call("CHECK", "aa", conf("1.0.0", json!({ "prevResult": other }))).error(&lab);
    assert!(differs.1.contains("10.1.0.77/24"), "{differs:?}");
    for (harm, said, mend) in [
        ("route del default", "there is no default route via 10.1.0.1", "route add default via 10.1.0.1"),
        ("link set eth0 down", "it is gone, or down", "link set eth0 up"),
        (
            "address del 10.1.0.2/24 dev eth0",
            "it has no address 10.1.0.2/24",
            "address add 10.1.0.2/24 dev eth0",
        ),
    ] {
        let inside =
            |command: &str| drop(lab.host(["ip", "-n", "aa"].into_iter().chain(command.split(' '))).ok());
        inside(harm);
        let (code, message) = check.error(&lab);
        assert!(code == 999 && message.contains(said), "{code} {message}");
        inside(mend);
    }
    call("DEL", "aa", conf("1.0.0", json!({}))).run(&lab).ok();
    let (_, message) = check.error(&lab);
    assert!(message.contains("container aa has no interface eth0"), "{message}");
    lab.host(["ip", "netns", "del", "aa"]).ok();
}

#[test]
fn a_container_is_detached_whenever_its_runtime_asks() {
    let lab = lab(&["aa", "bb"]);
    let [add, del] = ["ADD", "DEL"].map(|command| call(command, "aa", conf("1.0.0", json!({}))));
    // Before any request, and after one that failed.
    del.run(&lab).ok();
    add.clone().with(|call| call.configuration["network"] = json!("nonet")).error(&lab);
    del.run(&lab).ok();
    add.run(&lab).ok();
    let id = lab.inspect("mynet")["Id"].as_str().expect("an ID")[..3].to_owned();
    let (_, message) = call("ADD", "bb", conf("1.0.0", json!({ "network": id }))).error(&lab);
    assert_eq!(message.trim(), format!("network {id} not found"));
    let (code, message) = add.error(&lab);
    assert_eq!((code, message.trim()), (999, "interface eth0 of container aa exists already"));
    let taken = json!({ "runtimeConfig": { "ips": ["10.1.0.2"] } });
    let (_, message) = call("ADD", "bb", conf("1.0.0", taken)).error(&lab);
    assert_eq!(message.trim(), "Address already in use");
    assert_eq!(lab.host(["ip", "-n", "bb", "-o", "link"]).ok().text().lines().count(), 1);
    // Without a namespace, and twice.
    let blind = del.clone().with(|call| call.namespace.clear());
    blind.run(&lab).ok();
    blind.run(&lab).ok();
    assert_eq!(lab.containers(), [""; 0]);
    // After somebody deleted the interface, or the namespace.
    add.run(&lab).ok();
    lab.host(["ip", "-n", "aa", "link", "del", "eth0"]).ok();
    del.run(&lab).ok();
    add.run(&lab).ok();
    lab.host(["ip", "netns", "del", "aa"]).ok();
    eventually("the container is gone", || lab.containers().is_empty().then_some(()));
    del.run(&lab).ok();
    lab.host(["ip", "netns", "del", "bb"]).ok();
}

#[test]
fn a_namespace_ends_whichever_of_its_paths_was_given() {
    let lab = lab(&["aa", "bb"]);
    call("ADD", "aa", conf("1.0.0", json!({}))).run(&lab).ok();
    let other = |command| {
        call(command, "bb", conf("1.0.0", json!({})))
            .with(|call| call.namespace = "/var/run/netns/bb".to_owned())
    };
    let result = other("ADD").result(&lab);
    call("CHECK", "bb", conf("1.0.0", json!({ "prevResult": result }))).run(&lab).ok();
    // A runtime that knows a container of the same ID in another namespace.
    call("DEL", "bb", conf("1.0.0", json!({})))
        .with(|call| call.namespace = "/run/netns/aa".to_owned())
        .run(&lab)
        .ok();
    assert_eq!(lab.containers(), ["aa", "bb"]);
    for name in ["aa", "bb"] {
        lab.host(["ip", "netns", "del", name]).ok();
    }
    eventually("both are gone", || lab.containers().is_empty().then_some(()));
}

#[test]
fn a_container_of_a_namespace_that_is_gone_is_replaced() {
    let lab = lab(&["aa"]);
    let add = call("ADD", "aa", conf("1.0.0", json!({})));
    add.run(&lab).ok();
    lab.stop_daemon();
    lab.host(["ip", "netns", "del", "aa"]).ok();
    lab.host(["ip", "netns", "add", "aa"]).ok();
    lab.start_daemon();
    let result = add.result(&lab);
    assert_eq!(result["ips"][0]["address"], "10.1.0.2/24");
    lab.host(["ping", "-c1", "10.1.0.2"]).ok();
    lab.host(["ip", "netns", "del", "aa"]).ok();
}

#[test]
fn ports_names_and_networks_are_those_that_the_runtime_asked_for() {
    let lab = lab(&["aa", "bb"]);
    lab.network("other", "--subnet 10.2.0.0/24");
    let web = call(
        "ADD",
        "aa",
        conf(
            "1.0.0",
            json!({ "allowedNetworks": ["other"], "runtimeConfig": {
                "portMappings": [
                    { "HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "" },
                    { "hostPort": 8053, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1" },
                ],
                "ips": ["10.1.0.9/24"],
                "mac": "02:42:0a:01:00:63",
                "io.kubernetes.cri.pod-annotations": {
                    "netbpf.io/network": "mynet,other",
                    "netbpf.io/aliases": "shop",
                },
            } }),
        ),
    )
    .with(|call| call.arguments = "IgnoreUnknown=1;K8S_POD_NAME=web;K8S_POD_NAMESPACE=default");
    let result = web.result(&lab);
    let ips: Vec<_> =
        result["ips"].as_array().expect("addresses").iter().map(|ip| ip["address"].clone()).collect();
    assert_eq!(ips, [json!("10.1.0.9/24"), json!("10.2.0.2/24")]);
    assert_eq!(result["interfaces"][1]["mac"], "02:42:0a:01:00:63");
    assert_eq!(result["interfaces"][3]["name"], "eth1");
    assert_eq!(result["dns"]["nameservers"], json!(["127.0.0.11"]));
    let port = lab.netbpf(["port", "web.default"]).ok();
    assert!(
        port.text().contains("80/tcp -> 0.0.0.0:8080") && port.text().contains("53/udp -> 127.0.0.1:8053"),
        "{port}"
    );
    let server = lab.spawn([
        "ip",
        "netns",
        "exec",
        "aa",
        "socat",
        "TCP-LISTEN:80,fork,reuseaddr",
        "SYSTEM:echo hello",
    ]);
    let client = ["socat", "-t5", "-T5", "-", "TCP:127.0.0.1:8080"];
    eventually("an answer", || (lab.host(client).text() == "hello").then_some(()));
    // Its own published port, and another container by name.
    let inside = ["ip", "netns", "exec", "aa", "socat", "-t5", "-T5", "-", "TCP:10.1.0.1:8080"];
    assert_eq!(lab.host(inside).ok().text(), "hello");
    let aliases = json!({ "runtimeConfig": { "aliases": ["cart"] } });
    call("ADD", "bb", conf("1.0.0", aliases)).run(&lab).ok();
    let cart = lab.host(["ip", "netns", "exec", "aa", "dig", "+short", "@127.0.0.11", "cart"]).ok();
    assert_eq!(cart.text(), "10.1.0.2");
    for name in ["web", "web.default", "shop"] {
        // The second server does not exist: the programs answer on the way.
        let with_network = format!("{name}.mynet");
        for (server, name) in [("@127.0.0.11", name), ("@192.0.2.53", &with_network)] {
            let found = lab.host(["ip", "netns", "exec", "bb", "dig", "+short", server, name]).ok();
            assert_eq!(found.text(), "10.1.0.9", "{name} {server}");
        }
    }
    lab.netbpf(["disconnect", "mynet", "web"]).fails_with(1, "No such container: web");
    for command in [
        ["disconnect", "mynet", "web.default"].as_slice(),
        &["disconnect", "-f", "mynet", "web.default"],
        &["rm", "-f", "web.default"],
        &["connect", "other", "netns:aa"],
    ] {
        lab.netbpf(command).fails_with(1, "container web.default is a CNI runtime's");
    }
    lab.netbpf(["exec", "web.default", "true"]).fails_with(1, "web.default was not started by netbpf");
    lab.netbpf(["disconnect", "bridge", "web.default"]).fails_with(1, "is not connected to network bridge");
    let (code, said) = call("ADD", "cc", conf("1.0.0", json!({})))
        .with(|call| "/run/netns/aa".clone_into(&mut call.namespace))
        .error(&lab);
    assert!(code == 999 && said.contains("its network namespace is that of container web.default"), "{said}");
    web.clone().with(|call| call.command = "DEL").run(&lab).ok();
    assert!(!lab.host(["socat", "-t5", "-T5", "-", "TCP:127.0.0.1:8080"]).status.success());
    assert_eq!(lab.containers(), ["bb"]);
    drop(server);
    for name in ["aa", "bb"] {
        lab.host(["ip", "netns", "del", name]).ok();
    }
}

#[test]
fn a_collection_removes_only_what_this_configuration_attached() {
    let lab = lab(&["aa", "bb", "cc", "dd"]);
    lab.run("own", "--net mynet");
    lab.netbpf(["connect", "mynet", "netns:dd"]).ok();
    for container in ["aa", "bb"] {
        call("ADD", container, conf("1.1.0", json!({}))).run(&lab).ok();
    }
    let mut other = conf("1.1.0", json!({ "network": "mynet" }));
    other["name"] = json!("second");
    call("ADD", "cc", other).run(&lab).ok();
    // A runtime that does not say what is valid.
    call("GC", "", conf("1.1.0", json!({}))).run(&lab).ok();
    assert_eq!(lab.containers(), ["aa", "bb", "cc", "netns:dd", "own"]);
    let valid = json!({ "cni.dev/valid-attachments": [{ "containerID": "bb", "ifname": "eth0" }] });
    call("GC", "", conf("1.1.0", valid)).run(&lab).ok();
    assert_eq!(lab.containers(), ["bb", "cc", "netns:dd", "own"]);
    call("GC", "", conf("1.1.0", json!({ "cni.dev/valid-attachments": [] }))).run(&lab).ok();
    assert_eq!(lab.containers(), ["cc", "netns:dd", "own"]);
    for name in ["aa", "bb", "cc", "dd"] {
        lab.host(["ip", "netns", "del", name]).ok();
    }
}

#[test]
fn without_the_daemon_a_runtime_tries_again_and_detaching_is_made_good_later() {
    let lab = lab(&["aa", "bb"]);
    let [add, del] = ["ADD", "DEL"].map(|command| call(command, "aa", conf("1.1.0", json!({}))));
    let status = call("STATUS", "", conf("1.1.0", json!({})));
    status.run(&lab).ok();
    add.run(&lab).ok();
    lab.stop_daemon();
    for (refused, code) in [
        (&add, 11),
        (&status, 50),
        (&call("GC", "", conf("1.1.0", json!({ "cni.dev/valid-attachments": [] }))), 11),
    ] {
        let (found, message) = refused.error(&lab);
        assert!(
            found == code && message.contains("cannot connect to the netbpf daemon"),
            "{found} {message}"
        );
    }
    del.run(&lab).ok();
    del.run(&lab).ok();
    lab.host(["ip", "netns", "exec", "aa", "ip", "link", "show", "eth0"]).ok();
    lab.start_daemon();
    assert_eq!(lab.containers(), [""; 0]);
    assert_eq!(lab.host(["ip", "-n", "aa", "-o", "link"]).ok().text().lines().count(), 1);
    // A note is used once.
    add.run(&lab).ok();
    lab.restart_daemon();
    assert_eq!(lab.containers(), ["aa"]);
    for name in ["aa", "bb"] {
        lab.host(["ip", "netns", "del", name]).ok();
    }
    eventually("the container is gone", || lab.containers().is_empty().then_some(()));
}

#[test]
fn an_exhausted_network_is_told_by_status_and_by_add() {
    let lab = lab(&["aa", "bb"]);
    lab.network("small", "--subnet 10.3.0.0/30");
    let of = |command, container| call(command, container, conf("1.1.0", json!({ "network": "small" })));
    of("STATUS", "").run(&lab).ok();
    of("ADD", "aa").run(&lab).ok();
    let (code, message) = of("STATUS", "").error(&lab);
    assert!(code == 50 && message.contains("no available IPv4 addresses"), "{code} {message}");
    let (code, message) = of("ADD", "bb").error(&lab);
    assert!(code == 999 && message.contains("no available IPv4 addresses"), "{code} {message}");
    for name in ["aa", "bb"] {
        lab.host(["ip", "netns", "del", name]).ok();
    }
}

#[test]
fn containers_are_attached_at_the_same_time() {
    let all: Vec<String> = (0..8).map(|n| format!("c{n}")).collect();
    let lab = lab(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let add = |(port, container): (u16, &String)| {
        let ports = json!({ "portMappings": [{ "hostPort": port, "containerPort": 80 }] });
        lab.spawn(call("ADD", container, conf("1.0.0", json!({ "runtimeConfig": ports }))).command())
    };
    let added: Vec<_> = (8000..).zip(&all).map(add).collect();
    added.into_iter().for_each(|added| drop(added.output().ok()));
    assert_eq!(lab.containers(), all);
    for container in &all {
        lab.host(["ip", "netns", "exec", container, "ping", "-c1", "-W1", "10.1.0.1"]).ok();
    }
    let del = |container| lab.spawn(call("DEL", container, conf("1.0.0", json!({}))).command());
    let deleted: Vec<_> = all.iter().map(|container| del(container)).collect();
    deleted.into_iter().for_each(|deleted| drop(deleted.output().ok()));
    assert_eq!(lab.containers(), [""; 0]);
    all.iter().for_each(|name| drop(lab.host(["ip", "netns", "del", name]).ok()));
}

#[test]
fn the_loopback_plugin_sets_up_lo() {
    let lab = lab(&["aa"]);
    lab.host(["ln", "-s", &netbpf(), "/run/loopback"]).ok();
    let of = |command: &str| {
        let script = format!(
            "echo '{{\"cniVersion\":\"1.0.0\",\"name\":\"cni-loopback\"}}' | CNI_COMMAND={command} CNI_CONTAINERID=aa \
             CNI_NETNS=/run/netns/aa CNI_IFNAME=lo exec /run/loopback"
        );
        lab.host(["sh", "-c", &script])
    };
    assert!(!of("CHECK").status.success());
    let result = of("ADD").ok().json();
    assert_eq!(result["interfaces"][0]["name"], "lo");
    let link = lab.host(["ip", "-n", "aa", "link", "show", "lo"]).ok();
    assert!(link.text().contains("LOOPBACK,UP"), "{link}");
    of("CHECK").ok();
    of("DEL").ok();
    lab.host(["rm", "/run/loopback"]).ok();
    lab.host(["ip", "netns", "del", "aa"]).ok();
}
