//! Everyday use of Docker with `-d netbpf`.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use netbpf_tests::lab::{Lab, eventually, eventually_is};

use crate::engine::{Engine, client};

/// The answer of a web server to a client on the host.
fn get(lab: &Lab, address: &str) -> std::io::Result<String> {
    lab.on_host(|| {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.rsplit("\r\n\r\n").next().unwrap_or_default().trim_end().to_owned())
    })
}

/// The names of a container's interfaces.
#[track_caller]
fn interfaces(engine: &Engine<'_>, container: &str) -> Vec<String> {
    let links = engine.exec(container, "ls /sys/class/net").ok();
    links.text().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn containers_resolve_others_in_their_network_only() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    let made =
        engine.docker("network create -d netbpf --subnet 192.168.0.0/16 --gateway 192.168.0.1 mynet").ok();
    assert_eq!(made.text().len(), 64);
    let listed = lab.netbpf(["network", "ls", "--no-trunc", "--format", "{{.ID}} {{.Driver}}"]).ok();
    assert!(listed.text().contains(&format!("{} netbpf", made.text())), "{listed}");

    engine.run("tomcat01", "--network mynet");
    engine.run("tomcat02", "--network mynet --network-alias cat");
    for (container, names) in [("tomcat01", "tomcat02 cat 192.168.0.3 192.168.0.1"), ("tomcat02", "tomcat01")]
    {
        for name in names.split(' ') {
            engine.exec(container, &format!("ping -c1 -W2 {name}")).ok();
        }
    }
    lab.host(["ping", "-c1", "192.168.0.2"]).ok();
    let endpoint = engine.endpoint("tomcat01", "mynet");
    assert_eq!(
        (&endpoint["IPAddress"], &endpoint["Gateway"]),
        (&"192.168.0.2".into(), &"192.168.0.1".into())
    );
    assert_eq!(endpoint["MacAddress"], "02:42:c0:a8:00:02");
    let address = engine.exec("tomcat01", "cat /sys/class/net/eth0/address").ok();
    assert_eq!(address.text(), "02:42:c0:a8:00:02");
    assert_eq!(interfaces(&engine, "tomcat01"), ["eth0", "lo"], "no bridge of Docker's beside it");

    engine.docker("network create -d netbpf --subnet 10.9.0.0/24 other").ok();
    engine.run("tomcat03", "--network other");
    engine.exec("tomcat03", "ping -c1 -W1 192.168.0.2").fails_with(1, "");
    engine.docker("network connect --ip 10.9.0.77 other tomcat01").ok();
    assert_eq!(interfaces(&engine, "tomcat01"), ["eth0", "eth1", "lo"]);
    engine.exec("tomcat01", "ping -c1 -W2 tomcat03").ok();
    engine.exec("tomcat03", "ping -c1 -W2 10.9.0.77").ok();
    engine.docker("network disconnect other tomcat01").ok();
    assert_eq!(interfaces(&engine, "tomcat01"), ["eth0", "lo"]);
    engine.exec("tomcat03", "ping -c1 -W1 10.9.0.77").fails_with(1, "");
    engine.docker("network connect --ip 10.9.0.77 other tomcat02").ok();
    engine.exec("tomcat03", "ping -c1 -W2 10.9.0.77").ok();

    engine.docker("restart -t 0 tomcat01").ok();
    engine.exec("tomcat02", "ping -c1 -W2 tomcat01").ok();
    engine.remove_containers();
    engine.docker("network rm mynet other").ok();
    assert_eq!(lab.netbpf(["ps", "-aq"]).ok().text(), "");
    assert_eq!(lab.netbpf(["network", "ls", "-q"]).ok().text().lines().count(), 3);
}

#[test]
fn netbpf_shows_docker_s_objects_and_does_not_change_them() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    let id = engine.docker("network create -d netbpf --subnet 10.8.0.0/24 mynet").ok();
    engine.run("web", "--network mynet --expose 80");
    let network = lab.inspect(id.text());
    assert_eq!(network["IPAM"]["Config"][0]["Subnet"], "10.8.0.0/24");
    let members = network["Containers"].as_object().expect("containers");
    let member = members.values().next().expect("a member");
    assert_eq!(member["IPv4Address"], "10.8.0.2/24");
    let endpoint = engine.endpoint("web", "mynet")["EndpointID"].as_str().expect("an ID").to_owned();
    assert_eq!(member["EndpointID"], endpoint);
    let listed = lab.netbpf(["ps", "--format", "{{.Image}} {{.Ports}}"]).ok();
    assert_eq!(listed.text(), "docker 80/tcp");

    // Docker does not send names to drivers, so netbpf asks for them afterwards.
    let container = engine.docker("inspect --format {{.Id}} web").ok();
    eventually_is(&format!("{} web mynet", container.text()), "what Docker calls them", || {
        let listed = lab.netbpf(["ps", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Networks}}"]).ok();
        listed.text().to_owned()
    });
    assert_eq!(lab.inspect("mynet")["Containers"][container.text()]["Name"], "web");
    assert_eq!(lab.address("web", "mynet"), "10.8.0.2");
    // Docker leases the lowest addresses itself and does not know this container.
    lab.run("mine", "--net mynet");
    assert_eq!(lab.address("mine", "mynet"), "10.8.0.254");
    lab.exec("mine", "ping -c1 -W2 10.8.0.2").ok();
    lab.netbpf(["rm", "-f", "mine"]).ok();

    let name = format!("ep-{}", &endpoint[..12]);
    for (command, words) in [
        (&["network", "rm", id.text()][..], "docker network rm"),
        (&["rm", &endpoint], "docker rm"),
        (&["stop", &name], "docker stop"),
        (&["disconnect", id.text(), &name], "docker network disconnect"),
        (&["connect", "bridge", &name], "docker network connect"),
    ] {
        lab.netbpf(command).fails_with(1, &format!("is Docker's: use {words}"));
    }
    lab.netbpf(["network", "prune", "-f"]).ok();
    engine.exec("web", "ping -c1 -W2 10.8.0.1").ok();
}

#[test]
fn an_internal_network_has_no_way_out() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --internal --subnet 10.8.0.0/24 inside").ok();
    engine.run("one", "--network inside");
    engine.run("two", "--network inside");
    engine.exec("one", "ping -c1 -W2 two").ok();
    assert_eq!(interfaces(&engine, "one"), ["eth0", "lo"], "no bridge of Docker's beside it");
    let routes = engine.exec("one", "ip route").ok();
    assert!(!routes.text().contains("default"), "{routes}");
}

#[test]
fn ports_are_published_moved_and_released() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --subnet 10.8.0.0/24 mynet").ok();
    let serve = "box:1 httpd -f -p 80 -h /www";
    engine.docker(&format!("run -d --name web --network mynet -p 8080:80 {serve}")).ok();
    eventually("the server listens", || get(&lab, "10.8.0.2:80").ok());
    for address in ["127.0.0.1:8080", "10.8.0.1:8080", "10.8.0.2:80"] {
        assert_eq!(get(&lab, address).expect("an answer"), "hello", "{address}");
    }
    engine.run("client", "--network mynet");
    let ask = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 10.8.0.1 8080";
    let answer = lab.host([client(), "exec", "client", "sh", "-c", ask]).ok();
    assert!(answer.text().ends_with("hello"), "{answer}");
    let listed = lab.netbpf(["ps", "--format", "{{.Ports}}", "--filter", "publish=8080"]).ok();
    assert!(listed.text().contains("0.0.0.0:8080->80/tcp"), "{listed}");
    let ports = eventually("what Docker calls it", || {
        let ports = lab.netbpf(["port", "web"]);
        ports.status.success().then_some(ports)
    });
    assert_eq!(ports.text(), "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080");

    engine
        .docker(&format!("run -d --name late --network mynet -p 8080:80 {serve}"))
        .fails_with(125, "Bind for 0.0.0.0:8080 failed: port is already allocated");
    engine.docker("rm -f late").ok();
    engine.docker("rm -f web").ok();
    get(&lab, "127.0.0.1:8080").expect_err("nobody is published there");
    engine.docker(&format!("run -d --name web -P --expose 80 --network mynet {serve}")).ok();
    let listed = lab.netbpf(["ps", "--format", "{{.Ports}}", "--filter", "expose=80"]).ok();
    let port =
        listed.text().strip_prefix("0.0.0.0:").and_then(|text| text.split('-').next()).expect("a port");
    let said = eventually("the server listens", || get(&lab, &format!("127.0.0.1:{port}")).ok());
    assert_eq!(said, "hello");
}

#[test]
fn a_network_with_both_families_works_over_both() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --ipv6 --subnet 10.8.0.0/24 --subnet fd00:8::/64 mynet").ok();
    engine.run("one", "--network mynet");
    engine.run("two", "--network mynet --ip6 fd00:8::77");
    let endpoint = engine.endpoint("two", "mynet");
    assert_eq!(
        (&endpoint["GlobalIPv6Address"], &endpoint["MacAddress"]),
        (&"fd00:8::77".into(), &"02:42:0a:08:00:03".into())
    );
    assert_eq!(engine.endpoint("one", "mynet")["IPv6Gateway"], "fd00:8::1");
    for address in ["fd00:8::77", "fd00:8::1", "10.8.0.3"] {
        engine.exec("one", &format!("ping -c1 -W2 {address}")).ok();
    }
    let route = engine.exec("one", "ip -6 route").ok();
    assert!(route.text().contains("default via fd00:8::1"), "{route}");
    lab.host(["ping", "-c1", "fd00:8::77"]).ok();
}

/// Docker moves the interface, which takes its queueing discipline away.
#[test]
fn a_limit_holds_in_the_container_that_docker_moved_the_interface_to() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --subnet 10.8.0.0/24 -o netbpf.egress_rate=5mbit mynet").ok();
    engine.run("one", "--network mynet");
    let shaped = |rate: &str| {
        let pid = engine.docker("inspect -f {{.State.Pid}} one").ok();
        let shown = lab.host(["nsenter", "-t", pid.text(), "-n", "tc", "qdisc", "show", "dev", "eth0"]).ok();
        (shown.stdout.starts_with("qdisc tbf 6e62: root") && shown.stdout.contains(rate)).then_some(())
    };
    eventually("the limit", || shaped("rate 5Mbit"));
    engine.docker("restart -t 0 one").ok();
    eventually("the limit after a restart", || shaped("rate 5Mbit"));
    lab.netbpf(["update", "--network", "mynet", "--driver-opt", "netbpf.egress_rate=6mbit", "one"]).ok();
    assert!(shaped("rate 6Mbit").is_some());
    let repaired = lab.netbpf(["doctor"]).stdout;
    assert!(!repaired.contains("queueing discipline"), "{repaired}");
}
