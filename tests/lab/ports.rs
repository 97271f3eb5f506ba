//! Published ports from the host's own view: what users type and see, what is reachable, which ports are held, and what
//! is left after a failure or an end. Other modules test access from other hosts and networks.

use std::{
    net::{TcpListener, UdpSocket},
    time::Duration,
};

use netbpf_tests::lab::{Lab, Process, datagram_server, eventually};

/// A command for a container: a TCP server on port 80, to which the text for clients is appended.
const SERVER: [&str; 3] = ["socat", "-dd", "TCP-LISTEN:80,fork,reuseaddr"];

/// Starts a container that answers with its name on port 80.
#[track_caller]
pub fn serve(lab: &Lab, name: &str, options: &str) {
    let before = ["run", "-d", "--name", name].into_iter().chain(options.split_whitespace());
    let said = format!("SYSTEM:echo {name}");
    lab.netbpf(before.chain(["--"]).chain(SERVER).chain([said.as_str()])).ok();
    listens(lab, name, "-ltn", 80);
}

/// Waits until a process in a container listens at a port.
#[track_caller]
fn listens(lab: &Lab, name: &str, what: &str, port: u16) {
    eventually("a server listens", || {
        let sockets = lab.exec(name, &format!("ss -H {what} sport = :{port}")).ok().stdout;
        (!sockets.is_empty()).then_some(())
    });
}

/// The answer to a client on the host.
#[track_caller]
fn said(lab: &Lab, address: &str) -> String {
    lab.host(["socat", "-t5", "-T5", "-", &format!("TCP:{address},connect-timeout=5")]).ok().text().to_owned()
}

#[track_caller]
fn is_refused(lab: &Lab, address: &str) {
    lab.host(["socat", "-t5", "-T5", "-", &format!("TCP:{address},connect-timeout=5")])
        .fails_with(1, "Connection refused");
}

/// Asserts that another process cannot bind the port.
#[track_caller]
pub fn is_held(lab: &Lab, listen: &str) {
    for option in ["", ",reuseaddr"] {
        lab.host(["timeout", "5", "socat", "-u", &format!("{listen}{option}"), "-"])
            .fails_with(1, "Address already in use");
    }
}

/// Asserts that a process can bind the port.
#[track_caller]
pub fn is_free(lab: &Lab, port: u16) {
    let listener = lab.on_host(|| TcpListener::bind(("0.0.0.0", port)));
    listener.unwrap_or_else(|error| panic!("port {port} is free: {error}"));
}

/// The packet filter's elements for ports.
#[track_caller]
pub fn filter(lab: &Lab) -> String {
    lab.host(["nft", "list", "ruleset"]).ok().stdout
}

#[test]
fn the_host_reaches_a_published_port_by_its_addresses() {
    let lab = Lab::start();
    lab.host(["ip", "link", "add", "uplink", "type", "veth"]).ok();
    lab.host(["ip", "address", "add", "192.0.2.1/24", "dev", "uplink"]).ok();
    lab.host(["ip", "link", "set", "uplink", "up"]).ok();
    serve(&lab, "web", "-p 8080:80 -p 192.0.2.1:81:80 -p 9000-9001:80");
    for address in ["192.0.2.1:8080", "172.17.0.1:8080", "192.0.2.1:81", "192.0.2.1:9000"] {
        assert_eq!(said(&lab, address), "web", "{address}");
    }
    is_refused(&lab, "172.17.0.1:81");
    is_refused(&lab, "172.17.0.1:9001");

    assert_eq!(
        lab.netbpf(["port", "web"]).ok().stdout,
        "80/tcp -> 0.0.0.0:8080\n80/tcp -> 0.0.0.0:9000\n80/tcp -> 192.0.2.1:81\n80/tcp -> [::]:8080\n80/tcp -> [::]:9000\n"
    );
    assert_eq!(
        lab.netbpf(["port", "web", "80"]).ok().stdout,
        "0.0.0.0:8080\n0.0.0.0:9000\n192.0.2.1:81\n[::]:8080\n[::]:9000\n"
    );
    lab.netbpf(["port", "web", "81"]).fails_with(1, "no public port '81' published for web");
    assert_eq!(
        lab.netbpf(["ps", "--format", "{{.Ports}}"]).ok().text(),
        "0.0.0.0:8080->80/tcp, 0.0.0.0:9000->80/tcp, 192.0.2.1:81->80/tcp, [::]:8080->80/tcp, [::]:9000->80/tcp"
    );
    let inspected = lab.inspect("web");
    assert_eq!(
        inspected["NetworkSettings"]["Ports"].to_string(),
        r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"0.0.0.0","HostPort":"9000"},{"HostIp":"192.0.2.1","HostPort":"81"},{"HostIp":"::","HostPort":"8080"},{"HostIp":"::","HostPort":"9000"}]}"#
    );
    assert_eq!(
        inspected["HostConfig"]["PortBindings"].to_string(),
        r#"{"80/tcp":[{"HostIp":"","HostPort":"8080"},{"HostIp":"","HostPort":"9000-9001"},{"HostIp":"192.0.2.1","HostPort":"81"}]}"#
    );
    lab.netbpf(["rm", "-f", "web"]).ok();
    lab.host(["ip", "link", "del", "uplink"]).ok();
}

#[test]
fn the_host_reaches_a_published_port_by_127_0_0_1() {
    let lab = Lab::start();
    serve(&lab, "web", "-p 8080:80");
    serve(&lab, "own", "-p 127.0.0.1:8081:80 -p 127.0.1.2:8082:80");
    serve(&lab, "other", "-p 127.0.1.3:8082:80");
    assert_eq!(said(&lab, "127.0.0.1:8080"), "web");
    assert_eq!(said(&lab, "127.0.0.1:8081"), "own");
    assert_eq!(said(&lab, "127.0.1.2:8082"), "own");
    assert_eq!(said(&lab, "127.0.1.3:8082"), "other");
    is_refused(&lab, "127.0.0.1:8082");
    is_refused(&lab, "172.17.0.1:8081");
}

#[test]
fn a_datagram_to_a_published_port_gets_its_answer() {
    let lab = Lab::start();
    answer(&lab, "echo", "-p 5353:53/udp");
    lab.host(["sh", "-c", "echo | socat -t2 - UDP:172.17.0.1:5353 | grep -x echo"]).ok();
    assert_eq!(lab.netbpf(["port", "echo"]).ok().text(), "53/udp -> 0.0.0.0:5353\n53/udp -> [::]:5353");
    is_held(&lab, "UDP-RECV:5353");
    is_free(&lab, 5353);
    lab.netbpf(["rm", "-f", "echo"]).ok();
    lab.on_host(|| UdpSocket::bind("0.0.0.0:5353")).expect("a port that was given back");
}

/// Starts a container that answers each datagram to port 53 with its name.
#[track_caller]
fn answer(lab: &Lab, name: &str, options: &str) {
    let before = ["run", "-d", "--name", name].into_iter().chain(options.split_whitespace());
    let server = datagram_server(53, name);
    lab.netbpf(before.chain(["--"]).chain(server.iter().map(String::as_str))).ok();
    listens(lab, name, "-lun", 53);
}

#[test]
fn a_client_that_keeps_sending_is_answered_by_the_port_s_new_owner() {
    let lab = Lab::start();
    let client = lab.on_host(|| {
        let client = UdpSocket::bind("0.0.0.0:0")?;
        client.set_read_timeout(Some(Duration::from_secs(5)))?;
        client.connect("172.17.0.1:5353")?;
        Ok::<_, std::io::Error>(client)
    });
    let client = client.expect("a client");
    let ask = || {
        let mut answer = [0; 64];
        client.send(b"?")?;
        let length = client.recv(&mut answer)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer[..length]).trim().to_owned())
    };
    answer(&lab, "first", "-p 5353:53/udp");
    assert_eq!(ask().expect("an answer"), "first");
    lab.netbpf(["rm", "-f", "first"]).ok();
    // The new container gets the first one's address, and publishes nothing.
    answer(&lab, "squatter", "");
    assert_eq!(lab.address("squatter", "bridge"), "172.17.0.2");
    answer(&lab, "second", "-p 5353:53/udp");
    assert_eq!(ask().expect("an answer"), "second");
    lab.netbpf(["rm", "-f", "second"]).ok();
    ask().expect_err("nobody has the port");
}

#[test]
fn sctp_can_be_published_even_if_the_kernel_does_not_support_it() {
    let lab = Lab::start();
    lab.run("web", "-p 3868:3868/sctp -p 3868:3868");
    assert_eq!(
        lab.netbpf(["port", "web"]).ok().stdout,
        "3868/sctp -> 0.0.0.0:3868\n3868/tcp -> 0.0.0.0:3868\n3868/tcp -> [::]:3868\n"
    );
    assert!(filter(&lab).contains("sctp . 3868 : 172.17.0.2 . 3868"), "{}", filter(&lab));
    lab.netbpf(["run", "-d", "-p", "3868:1/sctp", "--", "true"])
        .fails_with(125, "Bind for 0.0.0.0:3868 failed: port is already allocated");
}

#[test]
fn no_other_process_gets_a_published_port() {
    let lab = Lab::start();
    lab.run("web", "-p 8080:80 -p 127.0.0.1:8081:81");
    for listen in ["TCP-LISTEN:8080", "TCP-LISTEN:8080,bind=127.0.0.1", "TCP-LISTEN:8081"] {
        is_held(&lab, listen);
    }
    // The container does not listen: clients are refused at once.
    is_refused(&lab, "172.17.0.1:8080");
    lab.netbpf(["stop", "-t", "0", "web"]).ok();
    is_free(&lab, 8080);
    is_free(&lab, 8081);
    assert_eq!(lab.netbpf(["port", "web"]).ok().stdout, "");
}

#[test]
fn a_taken_port_gives_docker_s_error_and_leaves_nothing() {
    let lab = Lab::start();
    lab.host(["ip", "link", "add", "uplink", "type", "veth"]).ok();
    lab.run("first", "-p 8080:80 -p 127.0.0.1:8081:81");
    let process = lab.spawn(["socat", "TCP-LISTEN:9090,bind=127.0.0.1", "-"]);
    eventually("a process listens", || {
        let sockets = lab.host(["ss", "-Hltn", "sport = :9090"]).ok().stdout;
        (!sockets.is_empty()).then_some(())
    });
    let (links, rules) = (lab.host(["ip", "-br", "link"]).ok().stdout, filter(&lab));
    for (publish, reason) in [
        ("8080:80", "Bind for 0.0.0.0:8080 failed: port is already allocated"),
        ("127.0.0.1:8080:80", "Bind for 127.0.0.1:8080 failed: port is already allocated"),
        ("8081:80", "Bind for 0.0.0.0:8081 failed: port is already allocated"),
        ("8080-8081:80", "all ports are allocated"),
        ("9090:80", "failed to bind host port 0.0.0.0:9090/tcp: address already in use"),
        ("127.0.0.1:9090:80", "failed to bind host port 127.0.0.1:9090/tcp: address already in use"),
        (
            "192.0.2.77:8082:80",
            "failed to bind host port 192.0.2.77:8082/tcp: cannot assign requested address",
        ),
    ] {
        let run =
            lab.netbpf(["run", "-d", "--name", "web", "-p", "7000:70", "-p", publish, "--", "sleep", "9"]);
        let said = run.stderr.clone();
        run.fails_with(125, reason);
        let (before, id) = said.split_once("endpoint web (").expect("Docker's words");
        assert_eq!(
            before,
            "netbpf: Error response from daemon: failed to set up container networking: driver failed programming \
             external connectivity on "
        );
        assert_eq!(id.find(')'), Some(64), "{said}");
        assert_eq!(
            lab.netbpf(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).ok().stdout,
            "web created\nfirst running\n"
        );
        assert_eq!(lab.address("web", "bridge"), "");
        assert_eq!(lab.inspect("web")["NetworkSettings"]["Ports"].to_string(), "{}");
        is_free(&lab, 7000);
        assert_eq!(lab.host(["ip", "-br", "link"]).ok().stdout, links);
        assert_eq!(filter(&lab), rules);
        lab.netbpf(["rm", "web"]).ok();
    }
    // The two port ranges conflict with each other.
    lab.netbpf(["run", "-d", "--name", "web", "-p", "8100-8110:80-90", "-p", "8105:99", "--", "sleep", "9"])
        .fails_with(125, "Bind for 0.0.0.0:8105 failed: port is already allocated");
    // When the conflicting container is gone, the same command succeeds.
    lab.netbpf(["rm", "web"]).ok();
    lab.netbpf(["run", "-d", "--name", "web", "-p", "9090:80", "--", "sleep", "infinity"])
        .fails_with(125, "address already in use");
    drop(process);
    lab.netbpf(["start", "web"]).ok();
    assert_eq!(lab.netbpf(["port", "web"]).ok().text(), "80/tcp -> 0.0.0.0:9090\n80/tcp -> [::]:9090");
    lab.netbpf(["rm", "-f", "web", "first"]).ok();
    lab.host(["ip", "link", "del", "uplink"]).ok();
}

#[test]
fn ports_come_from_ranges_and_from_the_host_s_ephemeral_range() {
    let lab = Lab::start();
    for (setting, value) in [("port_range", "40000 40009"), ("reserved_ports", "40001-40002")] {
        let write = format!("echo {value} > /proc/sys/net/ipv4/ip_local_{setting}");
        lab.host(["sh", "-c", &write]).ok();
    }
    lab.run("one", "-p 8000-8002:80");
    lab.run("two", "-p 8000-8002:80");
    assert_eq!(lab.netbpf(["port", "one", "80/tcp"]).ok().text(), "0.0.0.0:8000\n[::]:8000");
    assert_eq!(lab.netbpf(["port", "two", "80/tcp"]).ok().text(), "0.0.0.0:8001\n[::]:8001");
    lab.run("three", "-p 80 -P --expose 81-82 --expose 53/udp");
    assert_eq!(
        lab.netbpf(["port", "three"]).ok().stdout,
        ["53/udp -> {}:40000\n", "80/tcp -> {}:40000\n", "81/tcp -> {}:40003\n", "82/tcp -> {}:40004\n"]
            .map(|line| ["0.0.0.0", "[::]"].map(|host| line.replace("{}", host)).concat())
            .concat()
    );
    // Port 0 is any free port, in each form.
    for (name, publish, port) in [
        ("zero", "0:80", "0.0.0.0:40005\n[::]:40005"),
        ("zero-at", "127.0.0.1:0:80", "127.0.0.1:40006"),
        ("zero-long", "published=0,target=80", "0.0.0.0:40007\n[::]:40007"),
    ] {
        lab.run(name, &format!("-p {publish}"));
        assert_eq!(lab.netbpf(["port", name, "80"]).ok().text(), port, "{publish}");
    }
    lab.run("four", "--expose 81-82 --expose 53/udp");
    for (filter, names) in
        [("publish=8001", "two\n"), ("publish=40000/udp", "three\n"), ("expose=81", "four\nthree\n")]
    {
        assert_eq!(
            lab.netbpf(["ps", "--filter", filter, "--format", "{{.Names}}"]).ok().stdout,
            names,
            "{filter}"
        );
    }
    assert_eq!(lab.netbpf(["port", "four"]).ok().stdout, "");
    assert_eq!(
        lab.netbpf(["ps", "--filter", "name=four", "--format", "{{.Ports}}"]).ok().text(),
        "53/udp, 81-82/tcp"
    );
}

#[test]
fn containers_that_start_together_share_a_range() {
    let lab = Lab::start();
    let start = |name: usize| {
        let name = format!("web{name}");
        lab.spawn_netbpf(["run", "-d", "--name", &name, "-p", "8000-8007:80", "--", "sleep", "infinity"])
    };
    let ended: Vec<_> = (0..12).map(start).collect::<Vec<_>>().into_iter().map(Process::output).collect();
    let (started, refused): (Vec<_>, Vec<_>) = ended.into_iter().partition(|run| run.status.success());
    assert_eq!((started.len(), refused.len()), (8, 4));
    for run in refused {
        run.fails_with(125, "all ports are allocated");
    }
    let ports = lab.netbpf(["ps", "--format", "{{.Ports}}"]).ok().stdout;
    let mut ports: Vec<&str> = ports.lines().collect();
    ports.sort_unstable();
    let all: Vec<_> =
        (8000..8008).map(|port| format!("0.0.0.0:{port}->80/tcp, [::]:{port}->80/tcp")).collect();
    assert_eq!(ports, all);
}

#[test]
fn a_stopped_container_has_its_ports_again_when_it_starts() {
    let lab = Lab::start();
    serve(&lab, "web", "-p 8080:80");
    assert_eq!(said(&lab, "172.17.0.1:8080"), "web");
    for _ in 0..3 {
        lab.netbpf(["restart", "-t", "0", "web"]).ok();
        listens(&lab, "web", "-ltn", 80);
        assert_eq!(lab.netbpf(["port", "web"]).ok().text(), "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080");
        assert_eq!(said(&lab, "172.17.0.1:8080"), "web");
    }
    // Another container has its address now; the port leads to its new address.
    lab.netbpf(["stop", "-t", "0", "web"]).ok();
    serve(&lab, "squatter", "");
    lab.netbpf(["start", "web"]).ok();
    listens(&lab, "web", "-ltn", 80);
    assert_eq!(lab.address("web", "bridge"), "172.17.0.3");
    assert_eq!(said(&lab, "172.17.0.1:8080"), "web");
}

#[test]
fn ports_outlive_the_daemon() {
    let lab = Lab::start();
    serve(&lab, "web", "-p 8080:80 -p 80");
    let ports = lab.netbpf(["port", "web"]).ok().stdout;
    lab.restart_daemon();
    assert_eq!(lab.netbpf(["port", "web"]).ok().stdout, ports);
    assert_eq!(said(&lab, "172.17.0.1:8080"), "web");
    is_held(&lab, "TCP-LISTEN:8080");
    lab.kill_daemon();
    assert_eq!(said(&lab, "172.17.0.1:8080"), "web");
    // A process cannot get the port while no daemon runs.
    let process = lab.spawn(["socat", "TCP-LISTEN:8080", "-"]);
    eventually("a process listens", || {
        let sockets = lab.host(["ss", "-Hltn", "sport = :8080"]).ok().stdout;
        (!sockets.is_empty()).then_some(())
    });
    lab.start_daemon();
    assert!(lab.daemon_log().contains("failed to bind host port 0.0.0.0:8080/tcp"), "{}", lab.daemon_log());
    assert_eq!(lab.netbpf(["port", "web"]).ok().stdout, ports);
    assert_eq!(said(&lab, "172.17.0.1:8080"), "web");
    drop(process);
    lab.netbpf(["run", "-d", "-p", "8080:80", "--", "true"])
        .fails_with(125, "Bind for 0.0.0.0:8080 failed: port is already allocated");
    lab.netbpf(["rm", "-f", "web"]).ok();
    is_free(&lab, 8080);
    is_refused(&lab, "172.17.0.1:8080");
}

#[test]
fn ports_follow_the_default_gateway() {
    let lab = Lab::start();
    lab.network("m", "--subnet 10.1.0.0/24");
    lab.network("a", "--subnet 10.2.0.0/24");
    lab.network("inside", "--internal --subnet 10.3.0.0/24");
    lab.netbpf(["run", "-d", "--net", "inside", "-p", "8080:80", "--", "true"])
        .fails_with(125, "cannot publish ports: network inside is internal");
    assert_eq!(lab.netbpf(["ps", "-aq"]).ok().stdout, "");
    serve(&lab, "web", "--net m -p 8080:80 -p 81");
    lab.netbpf(["connect", "inside", "web"]).ok();
    assert_eq!(said(&lab, "10.1.0.1:8080"), "web");
    lab.netbpf(["disconnect", "m", "web"]).ok();
    assert_eq!(lab.netbpf(["port", "web"]).ok().stdout, "", "an internal network publishes nothing");
    is_free(&lab, 8080);

    lab.netbpf(["connect", "m", "web"]).ok();
    assert_eq!(said(&lab, "10.1.0.1:8080"), "web");
    let ports = lab.netbpf(["port", "web"]).ok().stdout;
    let leads_to = |address: &str| {
        let rules = filter(&lab);
        assert!(rules.contains(&format!("8080 : {address} . 80")), "{address} in {rules}");
    };
    leads_to("10.1.0.2");
    lab.netbpf(["connect", "a", "web"]).ok();
    leads_to("10.2.0.2");
    assert_eq!(said(&lab, "10.2.0.1:8080"), "web");
    assert_eq!(lab.netbpf(["port", "web"]).ok().stdout, ports, "the numbers stay");
    // If a port cannot be moved, none is.
    lab.network("0", "--subnet 10.4.0.0/24 -o com.docker.network.bridge.host_binding_ipv4=192.0.2.1");
    lab.netbpf(["connect", "0", "web"])
        .fails_with(1, "failed to bind host port 192.0.2.1:8080/tcp: cannot assign requested address");
    assert_eq!(lab.address("web", "0"), "");
    leads_to("10.2.0.2");
    assert_eq!(said(&lab, "10.2.0.1:8080"), "web");
    is_held(&lab, "TCP-LISTEN:8080");
    lab.netbpf(["disconnect", "a", "web"]).ok();
    leads_to("10.1.0.2");
    assert_eq!(lab.netbpf(["port", "web"]).ok().stdout, ports);
    lab.netbpf(["disconnect", "m", "web"]).ok();
    assert_eq!(lab.netbpf(["port", "web"]).ok().stdout, "");
    assert!(!filter(&lab).contains("8080"));
    is_free(&lab, 8080);
}

#[test]
fn a_network_option_sets_the_host_address_of_its_ports() {
    let lab = Lab::start();
    lab.network("local", "-o com.docker.network.bridge.host_binding_ipv4=127.0.0.1");
    lab.network("routed", "-o com.docker.network.bridge.gateway_mode_ipv4=routed");
    lab.run("one", "--net local -p 8080:80 -p 0.0.0.0:8081:81");
    assert_eq!(lab.netbpf(["port", "one"]).ok().stdout, "80/tcp -> 127.0.0.1:8080\n81/tcp -> 0.0.0.0:8081\n");
    // A routed network's port is not held on the host.
    serve(&lab, "two", "--net routed -p 8082:80");
    assert_eq!(lab.netbpf(["port", "two"]).ok().stdout, "");
    is_free(&lab, 8082);
    assert_eq!(
        lab.inspect("two")["NetworkSettings"]["Ports"].to_string(),
        r#"{"80/tcp":[{"HostIp":"","HostPort":""}]}"#
    );
    assert_eq!(lab.netbpf(["ps", "--filter", "name=two", "--format", "{{.Ports}}"]).ok().text(), "80/tcp");
    assert_eq!(said(&lab, &format!("{}:80", lab.address("two", "routed"))), "two");
}

#[test]
fn network_modes_without_ports_refuse_or_discard_them() {
    let lab = Lab::start();
    let run = lab
        .netbpf(["run", "-d", "--name", "on-host", "--net", "host", "-p", "8080:80", "--", "sleep", "60"])
        .ok();
    assert_eq!(run.stderr, "WARNING: Published ports are discarded when using host network mode\n");
    is_free(&lab, 8080);
    lab.run("web", "");
    for (option, reason) in [
        (["-p", "8080:80"], "conflicting options: port publishing and the container type network mode"),
        (["--expose", "80"], "conflicting options: port exposing and the container type network mode"),
    ] {
        let run = ["run", "-d", "--net", "container:web"].into_iter().chain(option);
        lab.netbpf(run.chain(["--", "true"])).fails_with(125, reason);
    }
    lab.run("alone", "--net none -p 8080:80");
    assert_eq!(lab.netbpf(["port", "alone"]).ok().stdout, "");
    is_free(&lab, 8080);
}
