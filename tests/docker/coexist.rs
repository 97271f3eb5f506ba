//! Docker and netbpf start, stop and rename containers independently: running containers go on, and removed ones are
//! cleaned up.

use netbpf_tests::lab::{Lab, Process, eventually};

use crate::engine::Engine;

/// The endpoints that netbpf knows, with the names of their containers.
#[track_caller]
fn endpoints(lab: &Lab) -> Vec<String> {
    let network = lab.inspect("mynet");
    let members = network["Containers"].as_object().expect("containers").values();
    let mut endpoints: Vec<_> =
        members.map(|member| format!("{} {}", member["Name"], member["EndpointID"])).collect();
    endpoints.sort();
    endpoints
}

/// The same, as soon as netbpf knows these names.
#[track_caller]
fn named(lab: &Lab, names: &str) -> Vec<String> {
    eventually(&format!("netbpf knows {names}"), || {
        let listed = lab.netbpf(["ps", "--format", "{{.Names}}"]).ok();
        let mut known: Vec<_> = listed.text().split_whitespace().collect();
        known.sort_unstable();
        (known.join(" ") == names).then_some(())
    });
    endpoints(lab)
}

/// Pings `address` five times per second until [`all_answered`].
fn pings(lab: &Lab, address: &str) -> Process {
    lab.spawn(["ping", "-i0.2", address])
}

#[track_caller]
fn all_answered(pings: Process) {
    let said = pings.interrupt();
    assert!(said.stdout.contains(" 0% packet loss"), "{said}");
}

/// Asserts that the port published at 8080 answers the host.
#[track_caller]
fn is_published(lab: &Lab) {
    eventually("the server listens", || {
        let page = lab.host(["timeout", "3", "busybox", "wget", "-q", "-O-", "http://127.0.0.1:8080/"]);
        (page.text() == "hello").then_some(())
    });
}

#[test]
fn a_restarted_docker_with_live_restore_finds_its_containers_unchanged() {
    let lab = Lab::start();
    let engine = Engine::start_with(&lab, "--live-restore");
    engine.docker("network create -d netbpf --subnet 10.8.0.0/24 mynet").ok();
    engine.docker("run -d --name web --network mynet -p 8080:80 box:1 httpd -f -p 80 -h /www").ok();
    engine.run("two", "--network mynet");
    let before = named(&lab, "two web");
    let pings = pings(&lab, "10.8.0.2");
    for end in [Engine::stop, Engine::kill] {
        end(&engine);
        is_published(&lab);
        engine.start_again();
        engine.exec("two", "ping -c1 -W2 web").ok();
        is_published(&lab);
        assert_eq!(endpoints(&lab), before, "neither doubled nor cleared away");
    }
    // Restart netbpf as well: while Docker runs, and while it does not.
    lab.restart_daemon();
    assert_eq!(endpoints(&lab), before);
    engine.stop();
    lab.restart_daemon();
    engine.start_again();
    assert_eq!(endpoints(&lab), before);
    all_answered(pings);
    is_published(&lab);
    engine.run("three", "--network mynet");
    engine.exec("three", "ping -c1 -W2 web").ok();
    engine.docker("stop -t 0 web").ok();
    lab.host(["timeout", "3", "busybox", "wget", "-q", "-O-", "http://127.0.0.1:8080/"]).fails_with(1, "");
    engine.docker("start web").ok();
    is_published(&lab);
    engine.docker("rm -f web two").ok();
    assert_eq!(named(&lab, "three").len(), 1);
}

#[test]
fn each_daemon_may_start_while_the_other_is_stopped() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --subnet 10.8.0.0/24 mynet").ok();
    engine.run("one", "--network mynet --restart always");
    named(&lab, "one");

    engine.stop();
    lab.stop_daemon();
    lab.start_daemon();
    // Docker cannot be asked, so nothing is removed.
    assert!(lab.netbpf(["network", "ls"]).ok().text().contains("mynet"));
    engine.start_again();
    eventually("it runs again", || {
        engine.exec("one", "ping -c1 -W2 10.8.0.1").status.success().then_some(())
    });

    engine.stop();
    lab.stop_daemon();
    engine.spawn();
    eventually("Docker misses netbpf", || {
        std::fs::exists(lab.path("/run/docker/containerd/containerd.sock")).unwrap_or_default().then_some(())
    });
    lab.start_daemon();
    engine.wait();
    eventually("it runs again", || {
        engine.exec("one", "ping -c1 -W2 10.8.0.1").status.success().then_some(())
    });
    assert_eq!(named(&lab, "one").len(), 1);
}

/// A server at the driver's socket that refuses every request, so that netbpf does not notice what Docker removes.
const REFUSER: &str = "
import http.server, socketserver
class Refuser(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get('Content-Length', 0)))
        self.send_error(500)
    def address_string(self):
        return 'Docker'
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    pass
Server('/run/docker/plugins/netbpf.sock', Refuser).serve_forever()
";

#[track_caller]
fn refuse_all(lab: &Lab) -> Process {
    lab.host(["mkdir", "-p", "/run/docker/plugins"]).ok();
    let refuser = lab.spawn(["python3", "-c", REFUSER]);
    eventually("a socket", || {
        let is_there = std::fs::exists(lab.path("/run/docker/plugins/netbpf.sock"));
        is_there.unwrap_or_default().then_some(())
    });
    refuser
}

#[test]
fn netbpf_cleans_up_what_docker_removed_while_it_was_stopped() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --subnet 10.7.0.0/24 gone").ok();
    engine.docker("network create -d netbpf --ipam-driver netbpf --subnet 10.8.0.0/24 mynet").ok();
    engine.docker("network create -d bridge --ipam-driver netbpf --subnet 10.9.0.0/24 lent").ok();
    for (name, network) in [("one", "mynet"), ("two", "mynet"), ("three", "gone")] {
        engine.run(name, &format!("--network {network}"));
    }
    named(&lab, "one three two");
    lab.stop_daemon();
    let refuser = refuse_all(&lab);
    engine.docker("rm -f two three").ok();
    engine.docker("network rm gone lent").ok();
    drop(refuser);
    engine.docker("rename one eins").ok();
    lab.start_daemon();
    eventually("the network goes", || {
        let listed = lab.netbpf(["network", "ls"]).ok();
        (!listed.text().contains("gone")).then_some(())
    });
    eventually("the new name", || {
        let listed = lab.netbpf(["ps", "--format", "{{.Names}}"]).ok();
        listed.text().contains("eins").then_some(())
    });
    engine.exec("eins", "ping -c1 -W2 10.8.0.1").ok();
    // Docker may be about to use something that it got just before the daemon started, so that is removed later.
    eventually("no subnet is lent but one", || {
        let made = lab.netbpf(["network", "create", "--subnet", "10.9.0.0/24", "mine"]);
        made.status.success().then_some(())
    });
    assert_eq!(named(&lab, "eins").len(), 1);
    eventually("the address is free again", || {
        engine.docker("rm -f late").ok();
        let made = engine.docker("run -d --name late --network mynet --ip 10.8.0.3 box:1 sleep 1000000");
        made.status.success().then_some(())
    });
}

#[test]
fn a_rename_in_docker_reaches_netbpf() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --subnet 10.8.0.0/24 mynet").ok();
    engine.docker("network create -d netbpf --subnet 10.9.0.0/24 other").ok();
    engine.run("one", "--network mynet");
    engine.docker("network connect other one").ok();
    let before = named(&lab, "one one");
    engine.docker("rename one uno").ok();
    let after = named(&lab, "uno uno");
    assert_eq!(after, before.iter().map(|line| line.replace("one", "uno")).collect::<Vec<_>>());
    // A rename while netbpf cannot reach Docker.
    engine.stop();
    engine.start_again();
    engine.docker("start uno").ok();
    engine.docker("rename uno eins").ok();
    named(&lab, "eins eins");
    engine.exec("eins", "ping -c1 -W2 10.8.0.1").ok();
}

#[test]
fn containers_of_both_resolve_each_other_s_names() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --ipv6 --subnet 10.8.0.0/24 --subnet fd00:8::/64 mynet").ok();
    engine.docker("network create -d netbpf --subnet 10.9.0.0/24 other").ok();
    // A name server that does not exist: the programs answer on the way.
    engine.run("theirs", "--network mynet --network-alias shop --dns 192.0.2.53");
    engine.run("asks", "--network other --dns 192.0.2.53");
    lab.run("ours", "--network mynet --network-alias db");
    let resolves = |container: &str, name: &str, address: &str| {
        eventually(&format!("{container} resolves {name}"), || {
            let said = match container {
                "ours" => lab.exec("ours", &format!("busybox nslookup {name}")),
                _ => engine.exec(container, &format!("nslookup {name}")),
            };
            said.text().contains(&format!("Address: {address}")).then_some(())
        });
    };
    let ours = lab.inspect("mynet");
    let ours = ours["Containers"].as_object().expect("containers").values();
    let ours = ours.into_iter().find(|member| member["Name"] == "ours").expect("ours");
    let address = |key: &str| ours[key].as_str().and_then(|net| net.split('/').next()).expect("an address");

    for name in ["theirs", "theirs.mynet", "shop"] {
        resolves("ours", name, "10.8.0.2");
        resolves("ours", name, "fd00:8::2");
    }
    for name in ["ours", "OURS.mynet", "db"] {
        resolves("theirs", name, address("IPv4Address"));
        resolves("theirs", name, address("IPv6Address"));
    }
    engine.exec("asks", "nslookup ours").fails_with(1, "");
    engine.docker("network connect mynet asks").ok();
    resolves("asks", "ours", address("IPv4Address"));

    engine.docker("rename theirs called").ok();
    resolves("ours", "called", "10.8.0.2");
    lab.restart_daemon();
    resolves("ours", "shop", "10.8.0.2");
    resolves("called", "db", address("IPv4Address"));
    engine.docker("rm -f called").ok();
    let gone = lab.exec("ours", "busybox nslookup called");
    assert!(!gone.text().contains("10.8.0.2"), "{gone}");
}
