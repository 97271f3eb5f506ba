//! Tests of moby's own suite for user-defined networks and third-party drivers (`docker_cli_network_unix_test.go`),
//! applied to netbpf. Those about commands alone are in the story of [`same`](crate::same).

use netbpf_tests::lab::{Lab, eventually};

use crate::engine::{Engine, NAME_SERVER};

/// The IPv4 and IPv6 addresses of a container in a network.
#[track_caller]
fn addresses(engine: &Engine<'_>, container: &str, network: &str) -> (String, String) {
    let endpoint = engine.endpoint(container, network);
    let text = |key: &str| endpoint[key].as_str().unwrap_or_default().to_owned();
    (text("IPAddress"), text("GlobalIPv6Address"))
}

/// `TestDockerNetworkConnectPreferredIP`, `TestDockerNetworkUnsupportedRequiredIP`.
#[test]
fn a_preferred_address_is_kept_over_stop_and_start() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine
        .docker("network create -d netbpf --ipv6 --subnet 172.28.0.0/16 --subnet 2001:db8:1234::/64 n0")
        .ok();
    engine
        .docker(
            "network create -d netbpf --ipv6 --subnet 172.30.0.0/16 --ip-range 172.30.5.0/24 \
             --subnet 2001:db8:abcd::/64 --ip-range 2001:db8:abcd::/80 n1",
        )
        .ok();
    let in_n0 = ("172.28.99.88".to_owned(), "2001:db8:1234::9988".to_owned());
    let in_n1 = ("172.30.55.44".to_owned(), "2001:db8:abcd::5544".to_owned());
    engine.run("c0", "--ip 172.28.99.88 --ip6 2001:db8:1234::9988 --net n0");
    assert_eq!(addresses(&engine, "c0", "n0"), in_n0);
    engine.docker("network connect --ip 172.30.55.44 --ip6 2001:db8:abcd::5544 n1 c0").ok();
    assert_eq!(addresses(&engine, "c0", "n1"), in_n1, "outside of its range");
    engine.docker("stop -t 0 c0").ok();
    engine.run("c1", "--net n0");
    engine.docker("network connect n1 c1").ok();
    engine.docker("start c0").ok();
    assert_eq!((addresses(&engine, "c0", "n0"), addresses(&engine, "c0", "n1")), (in_n0, in_n1.clone()));
    assert_eq!(addresses(&engine, "c1", "n1").0, "172.30.5.1", "the first of its range after the gateway");
    for address in ["172.28.99.88", "172.30.55.44", "2001:db8:1234::9988", "2001:db8:abcd::5544"] {
        engine.exec("c1", &format!("ping -c1 -W2 {address}")).ok();
    }

    // Connected before its first start, and disconnected while it is stopped.
    engine.docker("create --name c2 --net n0 box:1 sleep 1000000").ok();
    engine.docker("network connect --ip 172.30.55.45 n1 c2").ok();
    engine.docker("network disconnect n0 c2").ok();
    engine.docker("start c2").ok();
    assert_eq!(addresses(&engine, "c2", "n1").0, "172.30.55.45");
    assert!(engine.endpoint("c2", "n0").is_null());
    engine.docker("network disconnect n0 c0").ok();
    engine.docker("restart -t 0 c0").ok();
    assert_eq!(addresses(&engine, "c0", "n1"), in_n1);

    engine.docker("network create -d netbpf auto").ok();
    engine
        .docker("run -d --net auto --ip 172.28.99.88 box:1 sleep 1000000")
        .fails_with(125, "user specified IP address is supported only when connecting to networks with user");
}

/// `TestUserDefinedNetworkConnectDisconnectAlias`, `TestUserDefinedNetworkConnectDisconnectLink`,
/// `TestUserDefinedNetworkConnectivity`.
#[test]
fn aliases_and_links_belong_to_one_network_and_end_with_it() {
    let lab = Lab::start();
    lab.host(["ip", "address", "add", "10.9.9.9/32", "dev", "lo"]).ok();
    let _upstream = lab.spawn(["python3", "-c", NAME_SERVER, "10.9.9.9"]);
    let engine = Engine::start_with(&lab, "--dns 10.9.9.9");
    for network in ["net1", "net2", "br.net1"] {
        engine.docker(&format!("network create -d netbpf {network}")).ok();
    }
    let finds = |who: &str, name: &str| engine.exec(who, &format!("ping -c1 -W2 {name}")).ok();
    let finds_not =
        |who: &str, name: &str| engine.exec(who, &format!("ping -c1 -W1 {name}")).fails_with(1, "");
    engine.run("first", "--net net1 --network-alias foo");
    engine.run("second", "--net net1 --link first:FirstInNet1");
    for name in ["first", "foo", "FirstInNet1"] {
        finds("second", name);
    }
    finds_not("first", "FirstInNet1");
    engine.docker("network connect --alias bar net2 first").ok();
    engine.docker("network connect --link first:FirstInNet2 net2 second").ok();
    for name in ["first", "foo", "bar", "FirstInNet1", "FirstInNet2"] {
        finds("second", name);
    }
    engine.docker("network disconnect net1 first").ok();
    for name in ["foo", "FirstInNet1"] {
        finds_not("second", name);
    }
    for name in ["first", "bar", "FirstInNet2"] {
        finds("second", name);
    }
    engine.docker("restart -t 0 first").ok();
    finds("second", "bar");

    engine.run("c1.net1", "--net br.net1");
    engine.run("c2.net1", "--net br.net1");
    finds("c1.net1", "c2.net1");
    finds("c1.net1", "c2.net1.br.net1");
    finds_not("c1.net1", "c2.net1.br.net1.google.com");
}

/// `TestDockerNetworkLsFilter`, `TestDockerNetworkDeleteMultiple`,
/// `TestDockerNetworkDisconnectContainerNonexistingNetwork`, `TestDockerNetworkConnectDisconnectToStoppedContainer`,
/// `TestEmbeddedDNSInvalidInput`.
#[test]
fn networks_are_listed_removed_and_disconnected() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --label env=dev dev1").ok();
    engine.docker("network create -d netbpf dev2").ok();
    engine.docker("network create -d bridge theirs").ok();
    let listed = |filter: &str| {
        let listed = engine.docker(&format!("network ls --format {{{{.Name}}}} {filter}")).ok();
        listed.text().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(listed("-f driver=netbpf"), "dev1 dev2");
    assert_eq!(listed("-f name=dev"), "dev1 dev2");
    assert_eq!(listed("-f type=custom"), "dev1 dev2 theirs");
    assert_eq!(listed("-f label=env=dev"), "dev1");
    assert_eq!(listed("-f driver=netbpf -f name=dev2"), "dev2");
    engine.run("user", "");
    engine.docker("network connect dev2 user").ok();
    engine.docker("network ls -f nonsense=x").fails_with(1, "nonsense");

    let removed = engine.docker("network rm dev1 dev2 theirs").fails_with(1, "has active endpoints");
    assert_eq!(removed.text().split_whitespace().collect::<Vec<_>>(), ["dev1", "theirs"]);
    assert_eq!(listed("-f type=custom"), "dev2");

    // A stopped container can be disconnected from a removed network.
    engine.docker("stop -t 0 user").ok();
    engine.docker("network rm dev2").ok();
    engine.docker("network disconnect -f dev2 user").ok();
    assert!(engine.endpoint("user", "dev2").is_null());
    engine.docker("network create -d netbpf dev3").ok();
    engine.docker("network connect dev3 user").ok();
    engine.stop();
    engine.start_again();
    engine.docker("start user").ok();
    engine.run("peer", "--net dev3");
    engine.exec("peer", "ping -c1 -W2 user").ok();
    engine.docker("stop -t 0 user").ok();
    engine.docker("network disconnect dev3 user").ok();
    assert!(engine.endpoint("user", "dev3").is_null());

    // The resolver survives invalid queries.
    let pid = engine.docker("inspect -f {{.State.Pid}} peer").ok();
    let nonsense = "head -c 600 /dev/urandom | socat -u - UDP:127.0.0.11:53; echo nonsense | socat -u - UDP:127.0.0.11:53";
    lab.host(["nsenter", "-t", pid.text(), "-n", "sh", "-c", nonsense]).ok();
    engine.exec("peer", "ping -c1 -W2 peer").ok();
    engine.docker("network prune -f").ok();
    assert_eq!(listed("-f type=custom"), "dev3");
}

/// `TestDockerNetworkDriverUngracefulRestart`, `TestDockerNetworkMacInspect`, `TestDockerNetworkDriverOptions`.
#[test]
fn a_driver_gets_macs_and_options_and_survives_the_death_of_both_daemons() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    let options = "-o com.docker.network.bridge.name=dnt0 -o com.docker.network.driver.mtu=1450";
    let id = engine.docker(&format!("network create -d netbpf --subnet 10.8.0.0/24 {options} dnt")).ok();
    let told = lab.inspect(id.text())["Options"].clone();
    assert_eq!(told["com.docker.network.bridge.name"], "dnt0");
    assert_eq!(told["com.docker.network.driver.mtu"], "1450");
    lab.host(["ip", "link", "show", "dnt0"]).ok();
    engine.run("one", "--net dnt --mac-address a0:b1:c2:d3:e4:f5");
    assert_eq!(engine.endpoint("one", "dnt")["MacAddress"], "a0:b1:c2:d3:e4:f5");
    let inside = engine.exec("one", "cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu").ok();
    assert_eq!(inside.text(), "a0:b1:c2:d3:e4:f5\n1450");

    engine.kill();
    lab.kill_daemon();
    lab.start_daemon();
    engine.start_again();
    // As in moby's test, the container was killed with the engine.
    engine.docker("start one").ok();
    engine.run("two", "--net dnt");
    engine.exec("two", "ping -c1 -W2 one").ok();
    eventually("nothing but what Docker knows", || {
        (lab.netbpf(["ps", "-aq"]).ok().text().lines().count() == 2).then_some(())
    });
    engine.remove_containers();
    engine.docker("network rm dnt").ok();
    lab.host(["ip", "link", "show", "dnt0"]).fails_with(1, "does not exist");
}
