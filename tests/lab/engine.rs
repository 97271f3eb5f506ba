//! Containers of a Docker engine in netbpf's networks: `netbpf connect mynet tomcat01`.

mod killed;

use std::{cell::RefCell, ops::Deref};

use netbpf_tests::lab::{Lab, Output, Process, eventually};
use nix::sys::signal::Signal;

use super::{
    beside::{DOCKER, start_engine, stop_engine},
    names::Upstream,
};

/// A root file system with busybox only.
const IMAGE: &str = "
    mkdir -p /run/engine/root/bin /run/engine/root/etc
    cp $(command -v busybox) /run/engine/root/bin/busybox
    for tool in sh sleep ping nslookup ip cat; do ln -s busybox /run/engine/root/bin/$tool; done
    tar -C /run/engine/root -c . | docker -H unix:///run/engine/docker.sock import - busybox:1
";

/// A host with an engine and the network `mynet`, where a container of netbpf has 10.1.0.2.
struct Dock {
    engine: RefCell<Option<Process>>,
    lab: Lab,
}

impl Deref for Dock {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl Dock {
    fn start(options: &str) -> Self {
        Self::on(Lab::without_daemon(), options)
    }

    fn on(lab: Lab, options: &str) -> Self {
        lab.tell_daemons("--docker-socket /run/engine/docker.sock");
        lab.start_daemon();
        lab.network("mynet", "--subnet 10.1.0.0/24");
        lab.run("native", "--net mynet");
        let dock = Self { engine: RefCell::default(), lab };
        dock.start_engine(options);
        dock.host(["sh", "-ec", IMAGE]).ok();
        dock
    }

    fn start_engine(&self, options: &str) {
        *self.engine.borrow_mut() = Some(start_engine(&self.lab, options));
    }

    /// Ends the engine by a signal. Its containers end, too, or go on with live-restore.
    fn end_engine(&self, signal: Signal) {
        let engine = self.engine.take().expect("the engine runs");
        engine.signal(signal);
        let _ = engine.output();
    }

    /// Removes the engine and everything that it made.
    fn finish(self) {
        let all = "for id in $(docker -H unix:///run/engine/docker.sock ps -aq); do
                   docker -H unix:///run/engine/docker.sock rm -f $id; done";
        self.host(["sh", "-c", all]).ok();
        let engine = self.engine.take().expect("the engine runs");
        stop_engine(&self.lab, engine);
    }

    /// Runs a `docker` command.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    fn docker(&self, line: &str) -> Output {
        self.host(["sh", "-c", &format!("{DOCKER} {line}")])
    }

    /// Starts a container of the engine that only sleeps.
    #[track_caller]
    fn docker_run(&self, name: &str, options: &str) {
        self.docker(&format!("run -d --name {name} {options} busybox:1 sleep 1000000")).ok();
    }

    #[track_caller]
    fn docker_field(&self, name: &str, field: &str) -> String {
        self.docker(&format!("inspect -f '{{{{{field}}}}}' {name}")).ok().text().to_owned()
    }

    /// The contents of a container's `resolv.conf`.
    #[track_caller]
    fn conf(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(self.docker_field(name, ".ResolvConfPath"))).expect("a resolv.conf")
    }

    /// The IPv4 addresses of a container by interface.
    #[track_caller]
    fn addresses(&self, name: &str) -> String {
        let shown = self.docker(&format!("exec {name} ip -o -4 address")).ok();
        let words = shown.text().lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let mut addresses: Vec<_> = words.map(|words| format!("{} {}", words[1], words[3])).collect();
        addresses.sort();
        addresses.join(", ")
    }

    /// Runs a script in a container's network namespace, with the host's tools.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    fn inside_of(&self, name: &str, script: &str) -> Output {
        let pid = self.docker_field(name, ".State.Pid");
        self.host(["nsenter", "-t", &pid, "-n", "sh", "-c", script])
    }

    /// Waits until a container has an address, and names: they come last.
    #[track_caller]
    fn has_address(&self, name: &str, address: &str) {
        eventually(&format!("{name} has {address}"), || {
            let shown = self.docker(&format!("exec {name} ip -o -4 address"));
            let conf = || self.docker(&format!("exec {name} cat /etc/resolv.conf")).stdout;
            let has_names = || conf().contains("nameserver 127.0.0.12");
            (shown.stdout.contains(&format!("inet {address}/24 ")) && has_names()).then_some(())
        });
    }

    #[track_caller]
    fn members(&self) -> Vec<String> {
        let network = self.inspect("mynet");
        let containers = network["Containers"].as_object().expect("containers");
        let mut names: Vec<_> = containers
            .values()
            .map(|member| member["Name"].as_str().unwrap_or_default().to_owned())
            .collect();
        names.sort();
        names
    }

    /// Waits until only these members are left, with one interface each.
    #[track_caller]
    fn nothing_is_left_but(&self, members: &[&str]) {
        self.nothing_is_left(members, members.len());
    }

    #[track_caller]
    fn nothing_is_left(&self, members: &[&str], interfaces: usize) {
        eventually("the others are gone", || (self.members() == members).then_some(()));
        eventually("their interfaces are gone", || {
            let links = self.host(["ip", "-o", "link", "show", "group", &self.group()]).ok();
            (links.text().lines().filter(|line| line.contains(": veth")).count() == interfaces).then_some(())
        });
    }

    /// The link group of netbpf's links, to tell them from Docker's veth pairs.
    fn group(&self) -> String {
        let device = self.device("mynet");
        let link = self.host(["ip", "-j", "link", "show", &device]).ok().json();
        link[0]["group"].as_str().expect("a group").to_owned()
    }
}

#[test]
fn a_docker_container_has_addresses_and_names_in_docker_s_and_netbpf_s_networks() {
    let lab = Lab::without_daemon();
    let upstream = Upstream::start(&lab, "nameserver 10.9.9.9\noptions timeout:1\n");
    let dock = Dock::on(lab, "");
    dock.docker("network create theirs").ok();
    dock.docker_run("neighbour", "--net theirs");
    for (mode, first) in [("bridge", 1), ("theirs", 1), ("none", 0)] {
        dock.docker_run("tomcat01", &format!("--net {mode} --hostname web -p 127.0.0.1:8080:80"));
        let (conf, before) = (dock.conf("tomcat01"), dock.addresses("tomcat01"));
        let route = dock.inside_of("tomcat01", "ip route show default").ok().stdout;

        dock.netbpf(["connect", "--alias", "cat", "mynet", "tomcat01"]).ok();
        let own = before.replace(", lo", &format!(", eth{first} 10.1.0.3/24, lo"));
        let own = if first == 0 { format!("eth0 10.1.0.3/24, {before}") } else { own };
        assert_eq!(dock.addresses("tomcat01"), own, "{mode}");
        assert_eq!(dock.inside_of("tomcat01", "ip route show default").ok().stdout, route, "{mode}");
        let links = dock.inside_of("tomcat01", &format!("ip link show eth{first}")).ok();
        assert!(links.text().contains("02:42:0a:01:00:03"), "{links}");
        dock.host(["ping", "-c1", "10.1.0.3"]).ok();

        // Names work in both directions, also through the C library.
        for name in ["tomcat01", "cat", "web", "tomcat01.mynet"] {
            dock.exec("native", &format!("ping -c1 {name}")).ok();
        }
        dock.docker("exec tomcat01 ping -c1 native").ok();
        dock.docker("exec tomcat01 ping -c1 native.mynet").ok();
        let ask = |name: &str| dock.inside_of("tomcat01", &format!("dig +short +tries=1 @127.0.0.12 {name}"));
        assert_eq!(ask("native").ok().text(), "10.1.0.2");
        assert_eq!(ask("-x 10.1.0.2").ok().text(), "native.mynet.");
        if mode == "theirs" {
            dock.docker("exec tomcat01 ping -c1 neighbour").ok();
            assert_eq!(ask("+tcp neighbour").ok().text(), ask("neighbour").ok().text());
        }
        if mode != "none" {
            for how in ["", "+tcp "] {
                let asked = upstream.asked();
                assert_eq!(ask(&format!("{how}known.example")).ok().text(), "203.0.113.9", "{mode}");
                assert!(upstream.asked() > asked);
            }
            let many = "for i in $(seq 40); do dig +short @127.0.0.12 known.example & done; wait";
            let answers = dock.inside_of("tomcat01", many).ok();
            assert_eq!(answers.text().lines().filter(|line| *line == "203.0.113.9").count(), 40);
        }

        // netbpf shows the container under Docker's ID, and leaves Docker's own settings alone.
        let id = dock.docker_field("tomcat01", ".Id");
        let shown = dock.inspect("tomcat01");
        assert_eq!(
            (shown["Id"].as_str(), dock.address(&id[..12], "mynet").as_str()),
            (Some(&*id), "10.1.0.3")
        );
        assert_eq!(shown["Config"]["Hostname"], "web");
        let listed = dock.netbpf(["ps"]).ok();
        assert!(listed.text().contains("busybox:1") && listed.text().contains(&id[..12]), "{listed}");
        let stats = dock.netbpf(["stats", "--no-stream", "tomcat01"]).ok();
        assert!(stats.text().contains(&format!("eth{first}")), "{stats}");
        dock.netbpf(["connect", "mynet", "tomcat01"])
            .fails_with(1, "endpoint with name tomcat01 already exists");
        dock.netbpf(["stop", "tomcat01"]).fails_with(1, "was not started by netbpf");
        dock.netbpf(["disconnect", "mynet", &id[..12]]).ok();
        assert_eq!((dock.conf("tomcat01"), dock.addresses("tomcat01")), (conf, before), "{mode}");
        dock.nothing_is_left_but(&["native"]);
        dock.netbpf(["inspect", "tomcat01"]).fails_with(1, "");
        dock.docker("rm -f tomcat01").ok();
    }
    upstream.stop(&dock);
    dock.finish();
}

#[test]
fn netbpf_follows_stop_start_restart_rename_and_rm_of_the_engine() {
    let dock = Dock::start("");
    dock.network("other", "--subnet 10.2.0.0/24");
    dock.docker_run("tomcat01", "");
    dock.docker_run("tomcat02", "");
    dock.netbpf(["connect", "mynet", "tomcat01"]).ok();
    dock.netbpf(["connect", "--ip", "10.1.0.77", "mynet", "tomcat02"]).ok();
    dock.netbpf(["connect", "other", "tomcat02"]).ok();
    let conf = dock.conf("tomcat01");
    assert!(conf.contains("nameserver 127.0.0.12"), "{conf}");

    dock.docker("stop -t 0 tomcat01").ok();
    dock.nothing_is_left(&["native", "tomcat02"], 3);
    dock.exec("native", "ping -c1 tomcat01").fails_with(2, "");
    assert!(!dock.conf("tomcat01").contains("127.0.0.12"));
    let status = dock.netbpf(["ps", "-a"]).ok();
    assert!(status.text().contains("Exited (137)"), "{status}");
    // The address is free, and another container gets it for a while.
    dock.run("passing", "--net mynet");
    assert_eq!(dock.address("passing", "mynet"), "10.1.0.3");
    dock.netbpf(["rm", "-f", "passing"]).ok();

    dock.run("low", "--net mynet --ip 10.1.0.4");
    dock.docker("start tomcat01").ok();
    dock.has_address("tomcat01", "10.1.0.3");
    dock.exec("native", "ping -c1 tomcat01").ok();
    dock.docker("exec tomcat01 ping -c1 native").ok();
    dock.netbpf(["rm", "-f", "low"]).ok();

    for name in ["tomcat01", "tomcat02"] {
        dock.docker(&format!("restart -t 0 {name}")).ok();
    }
    dock.has_address("tomcat01", "10.1.0.3");
    dock.has_address("tomcat02", "10.1.0.77");
    dock.has_address("tomcat02", "10.2.0.2");

    dock.docker("rename tomcat01 tomcat09").ok();
    eventually("the new name", || dock.exec("native", "ping -c1 tomcat09").status.success().then_some(()));
    dock.exec("native", "ping -c1 tomcat01").fails_with(2, "");
    assert_eq!(dock.members(), ["native", "tomcat02", "tomcat09"]);

    // A container that cannot have its address in one network is still connected to the other.
    dock.docker("stop -t 0 tomcat02").ok();
    dock.nothing_is_left_but(&["native", "tomcat09"]);
    dock.run("squatter", "--net mynet --ip 10.1.0.77");
    dock.docker("start tomcat02").ok();
    dock.has_address("tomcat02", "10.2.0.2");
    assert!(!dock.addresses("tomcat02").contains("10.1.0."));
    dock.netbpf(["rm", "-f", "squatter"]).ok();

    // A removed network is forgotten at the next start, and with its last network the container.
    dock.docker("stop -t 0 tomcat02").ok();
    dock.nothing_is_left_but(&["native", "tomcat09"]);
    // It was in no other network, so only the empty network shows that it has left.
    eventually("nobody is in the network", || {
        dock.netbpf(["network", "rm", "other"]).status.success().then_some(())
    });
    dock.docker("start tomcat02").ok();
    dock.has_address("tomcat02", "10.1.0.77");
    assert_eq!(
        dock.inspect("tomcat02")["NetworkSettings"]["Networks"].as_object().map(|all| all.len()),
        Some(1)
    );
    dock.docker("rm -f tomcat09 tomcat02").ok();
    dock.nothing_is_left_but(&["native"]);
    eventually("netbpf forgets them", || {
        (dock.netbpf(["ps", "-aq"]).ok().text().lines().count() == 1).then_some(())
    });
    dock.finish();
}

#[test]
fn a_daemon_notices_changes_from_while_it_was_dead() {
    let dock = Dock::start("");
    for name in ["stays", "stops", "restarts", "goes", "changes"] {
        dock.docker_run(name, "");
        dock.netbpf(["connect", "mynet", name]).ok();
    }
    let conf = dock.conf("stays");
    let address = dock.address("restarts", "mynet");
    dock.kill_daemon();
    // Traffic and names work without the daemon.
    dock.docker("exec stays ping -c1 native").ok();
    dock.docker("stop -t 0 stops").ok();
    dock.docker("restart -t 0 restarts").ok();
    dock.docker("rename changes changed").ok();
    dock.docker("rm -f goes").ok();
    dock.start_daemon();
    dock.nothing_is_left_but(&["changed", "native", "restarts", "stays"]);
    dock.has_address("restarts", &address);
    for name in ["changed", "restarts", "stays"] {
        dock.exec("native", &format!("ping -c1 {name}")).ok();
        dock.docker(&format!("exec {name} ping -c1 native")).ok();
    }
    assert_eq!(dock.conf("stays"), conf);
    dock.netbpf(["disconnect", "mynet", "stays"]).ok();
    assert!(!dock.conf("stays").contains("127.0.0.12"));
    dock.docker("start stops").ok();
    eventually("stops runs again", || dock.exec("native", "ping -c1 stops").status.success().then_some(()));
    dock.finish();
}

#[test]
fn an_engine_may_end_and_start_again() {
    let dock = Dock::start("--live-restore");
    dock.docker_run("tomcat01", "--restart always");
    dock.netbpf(["connect", "mynet", "tomcat01"]).ok();
    let pid = dock.docker_field("tomcat01", ".State.Pid");
    dock.end_engine(Signal::SIGTERM);
    // With live-restore the engine's containers go on, also in netbpf's networks.
    dock.exec("native", "ping -c1 tomcat01").ok();
    dock.restart_daemon();
    dock.exec("native", "ping -c1 tomcat01").ok();
    dock.start_engine("--live-restore");
    assert_eq!(dock.docker_field("tomcat01", ".State.Pid"), pid);
    dock.docker("exec tomcat01 ping -c1 native").ok();
    dock.docker("rename tomcat01 tomcat02").ok();
    eventually("events are heard again", || (dock.members() == ["native", "tomcat02"]).then_some(()));
    // The end of a container is noticed even while its engine is gone.
    dock.end_engine(Signal::SIGKILL);
    dock.host(["kill", "-9", &pid]).ok();
    dock.nothing_is_left_but(&["native"]);
    dock.host(["rm", "-f", "/run/engine/pid"]).ok();

    // Without live-restore its containers end, and some are started with the engine.
    dock.start_engine("");
    dock.has_address("tomcat02", "10.1.0.3");
    dock.end_engine(Signal::SIGTERM);
    dock.nothing_is_left_but(&["native"]);
    dock.stop_daemon();
    dock.start_engine("");
    dock.start_daemon();
    dock.has_address("tomcat02", "10.1.0.3");
    dock.docker("exec tomcat02 ping -c1 native").ok();
    dock.finish();
}

#[test]
fn a_failed_connect_has_a_reason() {
    let lab = Lab::start();
    lab.network("plain", "--subnet 10.3.0.0/24");
    lab.netbpf(["connect", "plain", "tomcat01"]).fails_with(
        1,
        "No such container: tomcat01; Docker's socket /var/run/docker.sock: No such file or directory",
    );
    drop(lab);

    let dock = Dock::start("");
    dock.netbpf(["connect", "mynet", "nobody"]).fails_with(1, "No such container: nobody\n");
    dock.docker_run("of-host", "--net host");
    dock.docker_run("tomcat01", "");
    dock.docker_run("sharer", "--net container:tomcat01");
    let sharing = "container sharing network namespace with another container or host cannot be connected to any other network";
    for name in ["of-host", "sharer"] {
        dock.netbpf(["connect", "mynet", name]).fails_with(1, sharing);
    }
    dock.netbpf(["connect", "host", "tomcat01"]).fails_with(1, "cannot connect container to host network");
    dock.netbpf(["connect", "--ip", "10.1.0.2", "mynet", "tomcat01"]).fails_with(1, "Address already in use");
    dock.netbpf(["connect", "--ip", "10.9.0.2", "mynet", "tomcat01"]).fails_with(1, "no configured subnet");
    assert_eq!(dock.netbpf(["ps", "-aq"]).ok().text().lines().count(), 1, "no container is half connected");
    assert!(!dock.conf("tomcat01").contains("127.0.0.12"));

    // A process in the container has the port of all addresses where clients ask.
    let squatter = {
        let pid = dock.docker_field("tomcat01", ".State.Pid");
        dock.spawn(["nsenter", "-t", &pid, "-n", "socat", "UDP-RECV:53", "STDOUT"])
    };
    eventually("the port is taken", || {
        dock.inside_of("tomcat01", "ss -Hlun").ok().stdout.contains(":53 ").then_some(())
    });
    dock.netbpf(["connect", "mynet", "tomcat01"]).ok();
    let found = dock.inside_of("tomcat01", "dig +short +tries=1 @127.0.0.12 native").ok();
    assert_eq!(found.text(), "10.1.0.2");
    dock.netbpf(["disconnect", "mynet", "tomcat01"]).ok();
    dock.nothing_is_left_but(&["native"]);
    assert!(!dock.conf("tomcat01").contains("127.0.0.12"));
    drop(squatter);
    dock.run("tomcat02", "");
    dock.docker_run("tomcat02", "");
    let id = dock.docker_field("tomcat02", ".Id");
    dock.netbpf(["connect", "mynet", &id])
        .fails_with(1, "The container name \"/tomcat02\" is already in use");
    dock.finish();
}

#[test]
fn a_resolv_conf_mounted_by_the_user_is_not_changed() {
    let dock = Dock::start("");
    dock.host(["sh", "-c", "echo nameserver 10.9.9.9 > /run/bob.conf"]).ok();
    dock.docker_run("tomcat01", "-v /run/bob.conf:/etc/resolv.conf");
    assert_eq!(dock.docker_field("tomcat01", ".ResolvConfPath"), "/run/bob.conf");
    dock.netbpf(["connect", "mynet", "tomcat01"]).ok();
    assert_eq!(dock.conf("tomcat01"), "nameserver 10.9.9.9\n");
    assert_eq!(dock.daemon_log().matches("resolv.conf is not the engine's own").count(), 1);
    dock.host(["rm", "/run/bob.conf"]).ok();
    dock.finish();
}

#[test]
fn names_of_both_work_after_a_later_docker_network_connect() {
    let lab = Lab::without_daemon();
    let upstream = Upstream::start(&lab, "nameserver 10.9.9.9\noptions timeout:1\n");
    let dock = Dock::on(lab, "");
    dock.docker("network create theirs").ok();
    dock.docker_run("neighbour", "--net theirs");
    dock.docker_run("tomcat01", "");
    // Docker names its interfaces eth0, eth1, …; another prefix avoids conflicts.
    let name = "com.docker.network.endpoint.ifname=nb0";
    dock.netbpf(["connect", "--driver-opt", name, "mynet", "tomcat01"]).ok();
    assert_eq!(dock.addresses("tomcat01"), "eth0 10.199.0.2/24, lo 127.0.0.1/8, nb0 10.1.0.3/24");
    dock.docker("network connect theirs tomcat01").ok();
    eventually("the file is netbpf's again", || dock.conf("tomcat01").contains("127.0.0.12").then_some(()));
    for name in ["native", "neighbour"] {
        dock.docker(&format!("exec tomcat01 ping -c1 {name}")).ok();
    }
    dock.docker("exec neighbour ping -c1 tomcat01").ok();
    let ask = "dig +short @127.0.0.12 known.example";
    assert_eq!(dock.inside_of("tomcat01", ask).ok().text(), "203.0.113.9");
    dock.netbpf(["disconnect", "mynet", "tomcat01"]).ok();
    assert_eq!(dock.conf("tomcat01"), "nameserver 127.0.0.11\noptions timeout:1 ndots:0\n");
    dock.docker("exec tomcat01 ping -c1 neighbour").ok();
    dock.nothing_is_left_but(&["native"]);
    upstream.stop(&dock);
    dock.finish();
}

#[test]
fn a_container_without_ipv6_in_docker_gets_ipv6_from_netbpf() {
    let dock = Dock::start("");
    dock.network("six", "--ipv6 --subnet 10.6.0.0/24 --subnet 2001:db8:6::/64");
    dock.run("native6", "--net six");
    dock.docker_run("tomcat01", "");
    dock.netbpf(["connect", "--ip6", "2001:db8:6::66", "six", "tomcat01"]).ok();
    let shown = dock.docker("exec tomcat01 ip -6 address show dev eth1").ok();
    assert!(shown.text().contains("2001:db8:6::66/64"), "{shown}");
    dock.exec("native6", "ping -6 -c1 tomcat01").ok();
    dock.inside_of("tomcat01", "ping -6 -c1 2001:db8:6::2").ok();
    let asked = dock.inside_of("tomcat01", "dig +short @127.0.0.12 AAAA native6").ok();
    assert_eq!(asked.text(), "2001:db8:6::2");
    dock.docker("restart -t 0 tomcat01").ok();
    eventually("the same address", || {
        dock.docker("exec tomcat01 ip -6 address").stdout.contains("2001:db8:6::66/64").then_some(())
    });
    dock.netbpf(["disconnect", "six", "tomcat01"]).ok();
    dock.finish();
}
