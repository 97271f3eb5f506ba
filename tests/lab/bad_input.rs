//! What bad input gets: one message, in Docker's words where Docker has them, the exit code, and a host as it was.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use netbpf_tests::lab::{Lab, STATE_DIR};

use crate::world::World;

/// A host with a container `one` on `bridge`, a stopped one, a network `mynet` (10.9.0.0/24) with `member` in it, and an
/// empty network `free`.
struct Town {
    lab: Lab,
    world: World,
}

impl Town {
    fn new() -> Self {
        let lab = Lab::start();
        lab.netbpf(["network", "create", "--subnet", "10.9.0.0/24", "mynet"]).ok();
        lab.netbpf(["network", "create", "--subnet", "10.8.0.0/24", "free"]).ok();
        lab.netbpf(["run", "-d", "--name", "one", "--", "sleep", "infinity"]).ok();
        lab.netbpf(["run", "-d", "--name", "member", "--net", "mynet", "--", "sleep", "infinity"]).ok();
        lab.netbpf(["run", "--name", "ended", "--", "true"]).ok();
        let world = World::of(&lab);
        Self { lab, world }
    }

    /// The command exits with this code, writes exactly this on stderr, and changes nothing.
    #[track_caller]
    fn refuses(&self, command: &[&str], code: i32, stderr: &str) {
        let output = self.lab.netbpf(command);
        assert_eq!(
            (output.status.code(), output.stderr.as_str()),
            (Some(code), format!("{stderr}\n").as_str()),
            "netbpf {}",
            command.join(" ")
        );
        self.world.assert_unchanged(&self.lab, &command.join(" "));
    }

    /// As above, said by the daemon.
    #[track_caller]
    fn daemon_refuses(&self, command: &[&str], message: &str) {
        self.refuses(command, 1, &format!("Error response from daemon: {message}"));
    }

    /// `run --rm OPTIONS -- true` is refused, and nothing stays.
    #[track_caller]
    fn run_refused(&self, options: &[&str], message: &str) {
        self.run_fails([&["--rm"], options, &["--", "true"]].concat().as_slice(), 125, message);
    }

    #[track_caller]
    fn run_fails(&self, words: &[&str], code: i32, message: &str) {
        let command = [&["run"], words].concat();
        let help = "Run 'netbpf run --help' for more information";
        self.refuses(&command, code, &format!("netbpf: Error response from daemon: {message}\n\n{help}"));
    }

    /// clap's words: a value that is none.
    #[track_caller]
    fn value_refused(&self, command: &[&str], code: i32, complaint: &str) {
        let output = self.lab.netbpf(command).fails_with(code, complaint);
        assert!(output.stderr.starts_with("error: invalid value "), "{output}");
        self.world.assert_unchanged(&self.lab, &command.join(" "));
    }
}

#[test]
fn networks_that_cannot_be_made() {
    let town = Town::new();
    let create = |words: &[&'static str], message: &str| {
        town.daemon_refuses(&[&["network", "create"], words].concat(), message);
    };
    create(&["mynet"], "network with name mynet already exists");
    for name in ["bridge", "host", "none", "default"] {
        create(&[name], &format!("operation is not permitted on predefined {name} network "));
    }
    create(&[""], "invalid name: name is empty");
    create(&["a\nb"], r#"invalid network name "a\nb": it must not contain control characters"#);
    create(
        &["a\u{1b}[31mb"],
        r#"invalid network name "a\u{1b}[31mb": it must not contain control characters"#,
    );
    let long = "n".repeat(300);
    town.daemon_refuses(
        &["network", "create", &long],
        &format!("invalid network name {}…: it has 300 bytes, at most 255 are allowed", &long[..32]),
    );
    let config = |text: &str| format!("invalid network config:\n{text}");
    create(&["--subnet", "10.0.0.0", "new"], &config("invalid subnet 10.0.0.0: invalid CIDR block notation"));
    create(
        &["--subnet", "10.0.0.0/33", "new"],
        &config("invalid subnet 10.0.0.0/33: invalid CIDR block notation"),
    );
    create(
        &["--subnet", "10.0.0.1/24", "new"],
        &config("invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24"),
    );
    create(
        &["--subnet", "10.0.0.0/24", "--ip-range", "10.0.0.0/16", "new"],
        &config("invalid ip-range 10.0.0.0/16: CIDR block is bigger than its parent subnet 10.0.0.0/24"),
    );
    create(
        &["--subnet", "10.0.0.0/24", "--aux-address", "router=10.0.0.1", "new"],
        "failed to allocate secondary ip address (router:10.0.0.1): Address already in use",
    );
    create(
        &["--subnet", "10.0.0.0/24", "--gateway", "10.0.0.255", "new"],
        "failed to allocate gateway (10.0.0.255): Address already in use",
    );
    let overlap = "invalid pool request: Pool overlaps with other one on this address space";
    create(&["--subnet", "10.9.0.0/16", "new"], overlap);
    create(&["--subnet", "10.9.0.128/25", "new"], overlap);
    create(
        &["--subnet", "10.0.0.0/24", "--subnet", "10.0.1.0/24", "new"],
        "bridge driver doesn't support multiple subnets",
    );
    let mtu = "com.docker.network.driver.mtu";
    create(&["-o", "mut=1400", "new"], &format!("unknown driver option mut: known are {mtu}"));
    create(
        &["-o", "com.docker.network.driver.mtu=big", "new"],
        &format!("failed to parse {mtu} value: big (invalid digit found in string)"),
    );
    create(&["-o", "com.docker.network.driver.mtu=-1", "new"], "invalid MTU number: -1");
    create(&["-o", "com.docker.network.driver.mtu=67", "new"], "invalid MTU number: 67");
    create(&["-o", "com.docker.network.driver.mtu=65536", "new"], "invalid MTU number: 65536");
    create(
        &["-d", "macvlan", "new"],
        "could not find plugin macvlan in v1 plugin registry: plugin not found",
    );
    create(
        &["--ipam-driver", "dhcp", "new"],
        "could not find plugin dhcp in v1 plugin registry: plugin not found",
    );
    // What the command line sees by itself, as Docker's does.
    let mismatch =
        |words: &[&str], message| town.refuses(&[&["network", "create"], words].concat(), 1, message);
    mismatch(&["--gateway", "10.0.0.1", "new"], "every ip-range or gateway must have a corresponding subnet");
    mismatch(
        &["--subnet", "10.0.0.0/24", "--gateway", "10.0.1.1", "new"],
        "no matching subnet for gateway 10.0.1.1",
    );
    mismatch(
        &["--subnet", "10.0.0.0/24", "--ip-range", "10.0.1.0/25", "new"],
        "no matching subnet for range 10.0.1.0/25",
    );
    mismatch(
        &["--subnet", "10.0.0.0/24", "--aux-address", "a=10.0.1.1", "new"],
        "no matching subnet for aux-address 10.0.1.1",
    );
    mismatch(
        &["--subnet", "10.0.0.0/24", "--subnet", "10.0.0.0/25", "new"],
        "multiple overlapping subnet configuration is not supported",
    );
}

#[test]
fn subnets_that_the_host_has_a_route_to() {
    let town = Town::new();
    town.lab.host(["ip", "link", "add", "uplink0", "type", "veth", "peer", "name", "uplink1"]).ok();
    town.lab.host(["ip", "addr", "add", "10.77.0.1/16", "dev", "uplink0"]).ok();
    town.lab.host(["ip", "link", "set", "uplink0", "up"]).ok();
    let world = World::of(&town.lab);
    town.lab
        .netbpf(["network", "create", "--subnet", "10.77.5.0/24", "new"])
        .fails_with(1, "invalid pool request: Pool overlaps with other one on this address space");
    world.assert_unchanged(&town.lab, "network create over a route of the host");
    town.lab.host(["ip", "link", "del", "uplink0"]).ok();
    town.lab.netbpf(["network", "create", "--subnet", "10.77.5.0/24", "new"]).ok();
}

#[test]
fn networks_that_cannot_be_removed() {
    let town = Town::new();
    town.daemon_refuses(&["network", "rm", "nobody"], "network nobody not found");
    for name in ["bridge", "host", "none"] {
        town.daemon_refuses(
            &["network", "rm", name],
            &format!("{name} is a pre-defined network and cannot be removed"),
        );
    }
    let id = town.lab.netbpf(["inspect", "--format", "{{.Id}}", "member"]).ok().text()[..12].to_owned();
    let in_use = format!(
        "error while removing network: network mynet has active endpoints (name:\"member\" id:\"{id}\")"
    );
    town.daemon_refuses(&["network", "rm", "mynet"], &in_use);
    town.daemon_refuses(&["network", "rm", "-f", "mynet"], &in_use);
    town.refuses(
        &["network", "inspect", "nobody"],
        1,
        "Error response from daemon: network nobody not found",
    );
    town.refuses(&["inspect", "nobody"], 1, "Error: No such object: nobody");
}

#[test]
fn containers_that_cannot_be_connected() {
    let town = Town::new();
    town.daemon_refuses(&["connect", "nobody", "one"], "network nobody not found");
    town.daemon_refuses(&["connect", "free", "nobody"], "No such container: nobody");
    town.daemon_refuses(
        &["connect", "mynet", "member"],
        "endpoint with name member already exists in network mynet",
    );
    town.daemon_refuses(
        &["connect", "host", "one"],
        "cannot connect container to host network - container must be created in host network mode",
    );
    town.daemon_refuses(
        &["connect", "none", "one"],
        "container cannot be connected to multiple networks with one of the networks in private (none) mode",
    );
    let one = town.lab.netbpf(["inspect", "--format", "{{.Id}}", "one"]).ok().text().to_owned();
    town.daemon_refuses(
        &["disconnect", "mynet", "one"],
        &format!("container {one} is not connected to network mynet"),
    );
    town.daemon_refuses(&["disconnect", "nobody", "one"], "network nobody not found");
    town.daemon_refuses(&["disconnect", "mynet", "nobody"], "No such container: nobody");
    town.daemon_refuses(
        &["disconnect", "host", "one"],
        "cannot disconnect container from host network - container was created in host network mode",
    );
    let settings = |text: &str| format!("invalid endpoint settings:\n{text}");
    let connect = |words: &[&str], message: &str| {
        town.daemon_refuses(&[&["connect"], words].concat(), message);
    };
    connect(&["--ip", "1.2.3", "mynet", "one"], &settings("invalid IPv4 address: 1.2.3"));
    connect(&["--ip", "10.7.0.9", "mynet", "one"], "no configured subnet contains IP address 10.7.0.9");
    for taken in ["10.9.0.0", "10.9.0.1", "10.9.0.2", "10.9.0.255"] {
        connect(&["--ip", taken, "mynet", "one"], "Address already in use");
    }
    connect(
        &["--ip", "172.17.0.9", "bridge", "member"],
        &settings("user-specified IP address is supported on user-defined networks only"),
    );
    connect(
        &["--alias", "x", "bridge", "member"],
        "network-scoped aliases are only supported for user-defined networks",
    );
    connect(
        &["--alias", "a b", "mynet", "one"],
        &settings(r#"invalid alias "a b": it must be one word without #"#),
    );
    connect(&["--driver-opt", "x=y", "mynet", "one"], &settings("unknown endpoint option x: none is known"));
    connect(&["mynet", "pid:4194305"], "no such process: 4194305");
    connect(&["mynet", "pid:x"], "invalid process pid:x: expected pid:NUMBER");
    connect(&["mynet", "netns:blue"], "open /run/netns/blue: No such file or directory (os error 2)");
    connect(&["mynet", "netns:/etc/passwd"], "/etc/passwd is not a network namespace");
    connect(&["mynet", "netns:"], "invalid network namespace netns:: expected netns:NAME or netns:/PATH");
    connect(&["mynet", "pid:1"], "cannot connect pid:1: it is the host's own network namespace");
    town.refuses(&["connect", "", "one"], 1, "invalid network name or ID: value is empty");
}

#[test]
fn containers_with_a_mode_have_no_other_network() {
    let lab = Lab::start();
    lab.netbpf(["network", "create", "mynet"]).ok();
    lab.netbpf(["run", "-d", "--name", "owner", "--", "sleep", "infinity"]).ok();
    for (name, mode) in [("hosted", "host"), ("alone", "none"), ("joined", "container:owner")] {
        lab.netbpf(["run", "-d", "--name", name, "--net", mode, "--", "sleep", "infinity"]).ok();
    }
    let world = World::of(&lab);
    let shared = "Error response from daemon: container sharing network namespace with another container or host \
                  cannot be connected to any other network\n";
    let private = "Error response from daemon: container cannot be connected to multiple networks with one of the \
                   networks in private (none) mode\n";
    for (name, message) in [("hosted", shared), ("joined", shared), ("alone", private)] {
        assert_eq!(lab.netbpf(["connect", "mynet", name]).fails_with(1, "").stderr, message);
    }
    world.assert_unchanged(&lab, "connecting containers with a mode");
    lab.netbpf(["stop", "-t", "0", "owner"]).ok();
    let id = lab.netbpf(["inspect", "--format", "{{.Id}}", "owner"]).ok().text().to_owned();
    lab.netbpf(["run", "--rm", "--net", "container:owner", "--", "true"]).fails_with(
        125,
        &format!("cannot join network namespace of a non running container: container {id} is exited"),
    );
}

#[test]
fn containers_that_cannot_be_run() {
    let town = Town::new();
    let one = town.lab.netbpf(["inspect", "--format", "{{.Id}}", "one"]).ok().text().to_owned();
    town.run_refused(
        &["--name", "one"],
        &format!(
            "Conflict. The container name \"/one\" is already in use by container \"{one}\". You have to remove (or \
             rename) that container to be able to reuse that name."
        ),
    );
    let allowed = "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed";
    town.run_refused(&["--name", "a/b"], &format!("Invalid container name (a/b), {allowed}"));
    town.run_refused(&["--name", "a\nb"], &format!("Invalid container name (a\\nb), {allowed}"));
    let long = "n".repeat(300);
    town.run_refused(
        &["--name", &long],
        &format!("invalid container name {}…: it has 300 bytes, at most 255 are allowed", &long[..32]),
    );
    town.run_refused(&["--net", "nobody"], "network nobody not found");
    town.run_refused(&["--net", "container:nobody"], "No such container: nobody");
    town.run_refused(
        &["--net", "container:"],
        "invalid network mode: invalid container format container:<name|id>",
    );
    for (option, value, what) in [
        ("--hostname", "x", "hostname"),
        ("--dns", "1.1.1.1", "dns"),
        ("--add-host", "x:1.1.1.1", "custom host-to-IP mapping"),
        ("--mac-address", "02:00:00:00:00:01", "mac-address"),
    ] {
        town.run_refused(
            &["--net", "container:one", option, value],
            &format!("conflicting options: {what} and the network mode"),
        );
    }
    let settings = |text: &str| format!("invalid endpoint settings:\n{text}");
    let user_defined = settings("user-specified IP address is supported on user-defined networks only");
    for net in ["bridge", "host", "none"] {
        town.run_refused(&["--net", net, "--ip", "172.17.0.9"], &user_defined);
    }
    town.run_refused(
        &["--network-alias", "x"],
        "network-scoped aliases are only supported for user-defined networks",
    );
    town.run_refused(&["--net", "mynet", "--ip", "x"], &settings("invalid IPv4 address: x"));
    town.run_refused(
        &["--net", "mynet", "--ip", "10.7.0.9"],
        "no configured subnet contains IP address 10.7.0.9",
    );
    town.run_refused(&["--net", "mynet", "--ip", "10.9.0.2"], "Address already in use");
    town.run_refused(&["--mac-address", "02:42"], "invalid MAC address: 02:42");
    town.run_refused(
        &["--net", "mynet", "--mac-address", "02:42:0a:09:00:02"],
        "MAC address 02:42:0a:09:00:02 is already in use on network mynet",
    );
    town.run_refused(&["--rootfs", "/nope"], "invalid rootfs /nope: not an absolute path of a directory");
    town.run_refused(
        &["--workdir", "nope"],
        "the working directory 'nope' is invalid, it needs to be an absolute path",
    );
    let word = "it must be one word without #";
    for name in ["a b", "a#b", "a\nb"] {
        let shown = name.escape_debug();
        town.run_refused(&["--hostname", name], &format!("invalid hostname \"{shown}\": {word}"));
        town.run_refused(&["--dns-option", name], &format!("invalid DNS option \"{shown}\": {word}"));
        town.run_refused(
            &["--add-host", &format!("{name}:10.0.0.1")],
            &format!("invalid alias \"{shown}\": {word}"),
        );
        town.run_refused(
            &["--net", "mynet", "--network-alias", name],
            &settings(&format!("invalid alias \"{shown}\": {word}")),
        );
        town.value_refused(
            &["run", "--rm", "--dns-search", name, "--", "true"],
            125,
            &format!("{name} is not a valid domain"),
        );
    }
    let long = "h".repeat(65);
    town.run_refused(
        &["--hostname", &long],
        &format!("invalid hostname {}…: it has 65 bytes, at most 64 are allowed", &long[..32]),
    );
    for (value, complaint) in [
        ("x", r#"bad format for add-host: "x""#),
        (":10.0.0.1", r#"bad format for add-host: ":10.0.0.1""#),
        ("x:y", r#"invalid IP address in add-host: "y""#),
        ("x:10.0.0.1\n10.0.0.2 y", r#"invalid IP address in add-host: "10.0.0.1\n10.0.0.2 y""#),
    ] {
        town.value_refused(&["run", "--rm", "--add-host", value, "--", "true"], 125, complaint);
    }
    for value in ["x", "1.1.1", "1.1.1.1\nnameserver 2.2.2.2"] {
        let complaint = format!("IP address is not correctly formatted: {value}");
        town.value_refused(&["run", "--rm", "--dns", value, "--", "true"], 125, &complaint);
    }
    town.lab.netbpf(["run"]).fails_with(125, "the following required arguments were not provided");
    town.run_fails(&["--rm", "--", ""], 125, "no command specified");
    let next = town.lab.netbpf(["run", "--rm", "--net", "mynet", "--", "hostname", "-I"]).ok();
    assert_eq!(next.text().trim(), "10.9.0.3", "no address was lost on the way");
}

#[test]
fn commands_that_cannot_be_executed() {
    let town = Town::new();
    let start = "failed to create task for container: unable to start container process";
    town.run_fails(
        &["--rm", "--", "no-such-command"],
        127,
        &format!("{start}: exec: \"no-such-command\": executable file not found in $PATH"),
    );
    town.run_fails(
        &["--rm", "--", "/no/such/command"],
        127,
        &format!("{start}: exec: \"/no/such/command\": stat /no/such/command: no such file or directory"),
    );
    town.run_fails(
        &["--rm", "-d", "--", "/etc/passwd"],
        126,
        &format!("{start}: exec: \"/etc/passwd\": permission denied"),
    );
    let exec = "exec failed: unable to start container process: exec";
    town.refuses(
        &["exec", "one", "no-such-command"],
        127,
        &format!("{exec}: \"no-such-command\": executable file not found in $PATH"),
    );
    town.refuses(
        &["exec", "one", "/etc/passwd"],
        126,
        &format!("{exec}: \"/etc/passwd\": permission denied"),
    );
    town.daemon_refuses(&["exec", "nobody", "true"], "No such container: nobody");
    let ended = town.lab.netbpf(["inspect", "--format", "{{.Id}}", "ended"]).ok().text().to_owned();
    town.daemon_refuses(&["exec", "ended", "true"], &format!("container {ended} is not running"));
    // Without --rm the container stays, as Docker's does, and says why.
    town.lab.netbpf(["run", "--name", "failed", "--", "no-such-command"]).fails_with(127, "");
    let error =
        town.lab.netbpf(["inspect", "--format", "{{.State.Status}}: {{.State.Error}}", "failed"]).ok();
    assert_eq!(
        error.text(),
        format!("created: {start}: exec: \"no-such-command\": executable file not found in $PATH")
    );
    town.lab.netbpf(["rm", "failed"]).ok();
    town.world.assert_unchanged(&town.lab, "rm of a container that never started");
}

#[test]
fn containers_that_are_not_in_the_state_for_it() {
    let town = Town::new();
    let ended = town.lab.netbpf(["inspect", "--format", "{{.Id}}", "ended"]).ok().text().to_owned();
    town.daemon_refuses(
        &["rm", "one"],
        "cannot remove container \"/one\": container is running: stop the container before removing or force remove",
    );
    town.daemon_refuses(&["kill", "ended"], &format!("container {ended} is not running"));
    town.daemon_refuses(&["kill", "-s", "JUNK", "one"], "invalid signal: JUNK");
    for command in ["stop", "restart", "kill", "rm", "logs"] {
        town.daemon_refuses(&[command, "nobody"], "No such container: nobody");
    }
    town.refuses(
        &["start", "nobody"],
        1,
        "Error response from daemon: No such container: nobody\nfailed to start containers: nobody",
    );
    assert_eq!(town.lab.netbpf(["rm", "-f", "nobody"]).ok().text(), "");
    town.daemon_refuses(&["network", "ls", "--filter", "colour=red"], "invalid filter 'colour'");
    town.daemon_refuses(&["ps", "--filter", "colour=red"], "invalid filter 'colour'");
    town.daemon_refuses(
        &["network", "ls", "--filter", "dangling=perhaps"],
        "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")",
    );
    town.daemon_refuses(&["network", "ls", "--filter", "type=x"], "invalid filter: 'type'='x'");
}

#[test]
fn a_subnet_that_is_exhausted_works_again_when_an_address_is_freed() {
    let lab = Lab::start();
    lab.netbpf(["network", "create", "--subnet", "10.0.0.0/30", "tiny"]).ok();
    lab.netbpf(["run", "-d", "--name", "first", "--net", "tiny", "--", "sleep", "infinity"]).ok();
    lab.netbpf(["run", "-d", "--name", "second", "--", "sleep", "infinity"]).ok();
    let id = lab.netbpf(["network", "inspect", "--format", "{{.Id}}", "tiny"]).ok().text().to_owned();
    let message = format!(
        "Error response from daemon: no available IPv4 addresses on this network's address pools: tiny ({id})"
    );
    let world = World::of(&lab);
    lab.netbpf(["connect", "tiny", "second"]).fails_with(1, &message);
    world.assert_unchanged(&lab, "connect to an exhausted network");
    lab.netbpf(["run", "--rm", "--net", "tiny", "--", "true"]).fails_with(125, &message);
    world.assert_unchanged(&lab, "run in an exhausted network");
    lab.netbpf(["disconnect", "tiny", "first"]).ok();
    lab.netbpf(["connect", "tiny", "second"]).ok();
    lab.netbpf(["exec", "second", "ip", "addr", "show", "to", "10.0.0.2"]).ok();
}

#[test]
fn a_daemon_that_does_not_run_is_missed() {
    let lab = Lab::without_daemon();
    let missed = "Cannot connect to the netbpf daemon at unix:///run/netbpf/netbpf.sock. Is the netbpf daemon running?";
    for command in [&["ps"][..], &["network", "ls"], &["inspect", "x"], &["rm", "-f", "x"], &["info"]] {
        assert_eq!(lab.netbpf(command).fails_with(1, "").stderr, format!("{missed}\n"));
    }
    let run = lab.netbpf(["run", "--", "true"]).fails_with(125, "");
    assert_eq!(run.stderr, format!("{missed}\n"));
    let version = lab.netbpf(["version"]).fails_with(1, missed);
    assert!(version.stdout.starts_with("Client:\n Version:"), "{version}");
    let elsewhere = lab.host(["env", "NETBPF_SOCKET=/nowhere", netbpf(), "ps"]).fails_with(1, "");
    assert_eq!(
        elsewhere.stderr,
        "Cannot connect to the netbpf daemon at unix:///nowhere. Is the netbpf daemon running?\n"
    );
}

#[test]
fn a_second_daemon_is_refused() {
    let lab = Lab::start();
    lab.netbpf(["run", "-d", "--name", "one", "--", "sleep", "infinity"]).ok();
    let world = World::of(&lab);
    let second =
        lab.netbpf(["daemon", "--state-dir", STATE_DIR, "--run-dir", "/run/second"]).fails_with(1, "");
    assert_eq!(second.stderr, format!("netbpf: another netbpf daemon uses {STATE_DIR}\n"));
    world.assert_unchanged(&lab, "a second daemon");
    let third = lab.netbpf(["daemon", "--state-dir", "/run/third"]).fails_with(1, "");
    assert_eq!(third.stderr, "netbpf: another netbpf daemon uses /run/netbpf\n");
    let fourth =
        lab.netbpf(["daemon", "--state-dir", "/run/third", "--run-dir", "/run/fourth"]).fails_with(1, "");
    assert_eq!(fourth.stderr, "netbpf: another netbpf daemon uses /sys/fs/bpf/netbpf\n");
    lab.host(["rm", "-r", "/run/third", "/run/fourth"]).ok();
    world.assert_unchanged(&lab, "a daemon with another's programs");
}

#[test]
fn a_state_file_that_is_none_is_refused_and_left() {
    let lab = Lab::without_daemon();
    std::fs::create_dir(lab.path(STATE_DIR)).expect("the state directory");
    let file = lab.path(STATE_DIR).join("netbpf.redb");
    let refused = |what: &str| {
        let before = std::fs::read(&file).expect("the state file");
        let output = lab.netbpf(["daemon", "--state-dir", STATE_DIR]).fails_with(1, "");
        let start = format!(
            "netbpf: {STATE_DIR}/netbpf.redb is no state file of netbpf, or a damaged one, and was left as it is: "
        );
        assert!(output.stderr.starts_with(&start) && output.stderr.lines().count() == 1, "{what}: {output}");
        assert!(std::fs::read(&file).expect("the state file") == before, "{what}: the file was changed");
    };
    for (what, content) in [("a text", &b"not a database\n"[..]), ("an empty file", b"")] {
        std::fs::write(&file, content).expect("a foreign file");
        refused(what);
    }
    std::fs::remove_file(&file).expect("a foreign file");
    lab.start_daemon();
    lab.netbpf(["network", "create", "mynet"]).ok();
    lab.stop_daemon();
    let whole = std::fs::read(&file).expect("the state file");
    for length in [whole.len() / 2, 4096, 100] {
        std::fs::write(&file, &whole[..length]).expect("a truncated file");
        refused(&format!("the first {length} bytes"));
    }
    std::fs::write(&file, &whole).expect("the state file");
    lab.start_daemon();
    lab.netbpf(["network", "inspect", "mynet"]).ok();
}

#[test]
fn a_daemon_without_root_says_so() {
    let lab = Lab::without_daemon();
    let copy = lab.path("/run/netbpf-copy");
    std::fs::copy(netbpf(), &copy).expect("a program that anybody may execute");
    let output = lab
        .host(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/run/netbpf-copy", "daemon"])
        .fails_with(1, "");
    assert_eq!(output.stderr, "netbpf: netbpf daemon needs root: run it with sudo\n");
    std::fs::remove_file(copy).expect("the copy");
}

#[test]
fn a_user_who_may_not_is_told_who_may() {
    let lab = Lab::start();
    let copy = lab.path("/run/netbpf-copy");
    std::fs::copy(netbpf(), &copy).expect("a program that anybody may execute");
    let output = lab
        .host(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/run/netbpf-copy", "ps"])
        .fails_with(1, "");
    assert_eq!(
        output.stderr,
        "permission denied while trying to connect to the netbpf daemon at unix:///run/netbpf/netbpf.sock: become root \
         or a member of the group netbpf\n"
    );
    std::fs::remove_file(copy).expect("the copy");
}

#[test]
fn the_api_answers_junk_with_json() {
    let town = Town::new();
    let ask = |method: &str, path: &str, body: &str| {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: netbpf\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream =
            UnixStream::connect(town.lab.path("/run/netbpf/netbpf.sock")).expect("the daemon listens");
        // A daemon that refuses a long body may close before it has read all of it.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status: u16 = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        let message = serde_json::from_str::<serde_json::Value>(body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}: {answer}"));
        (status, message["message"].as_str().unwrap_or_default().to_owned())
    };
    for (method, path, body, status, start) in [
        ("POST", "/networks/create", "not JSON", 400, "invalid JSON: expected ident at line 1"),
        ("POST", "/networks/create", "", 400, "invalid JSON: EOF"),
        ("POST", "/networks/create", "{}", 400, "invalid "),
        ("POST", "/networks/create", r#"{"Name":7}"#, 400, "invalid JSON: invalid type: integer"),
        ("POST", "/networks/create", r#"{"Name":"x"} {}"#, 400, "invalid JSON: trailing characters"),
        ("POST", "/networks/mynet/connect", "{}", 404, "No such container: "),
        (
            "POST",
            "/networks/create",
            r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"x"}]}}"#,
            400,
            "invalid network config",
        ),
        (
            "POST",
            "/containers/create?name=x%00y",
            r#"{"Cmd":["true"]}"#,
            400,
            "Invalid container name (x\\0y)",
        ),
        ("POST", "/containers/create", "{}", 400, "no command specified"),
        (
            "POST",
            "/containers/create",
            r#"{"Cmd":["true"],"Dns":["1.1.1.1\nx"]}"#,
            400,
            "IP address is not correctly formatted: 1.1.1.1\\nx",
        ),
        (
            "POST",
            "/containers/create",
            r#"{"Cmd":["true"],"DnsSearch":["a\nnameserver 6.6.6.6"]}"#,
            400,
            "a\\nnameserver 6.6.6.6 is not a valid domain",
        ),
        (
            "POST",
            "/containers/create",
            r#"{"Cmd":["true"],"DnsOptions":["a\nb"]}"#,
            400,
            "invalid DNS option",
        ),
        (
            "POST",
            "/containers/create",
            r#"{"Cmd":["true"],"ExtraHosts":["a\n6.6.6.6 b:1.1.1.1"]}"#,
            400,
            "invalid alias",
        ),
        ("POST", "/containers/create", r#"{"Cmd":["true"],"Hostname":"a\nb"}"#, 400, "invalid hostname"),
        ("POST", "/containers/create", r#"{"Cmd":["tr\u0000ue"]}"#, 400, ""),
        ("POST", "/containers/create", r#"{"Cmd":["true"],"Env":["A=\u0000"]}"#, 400, ""),
        ("POST", "/containers/create", r#"{"Cmd":["true"],"WorkingDir":"/\u0000"}"#, 400, ""),
        ("POST", "/containers/one/stop?t=soon", "", 400, "Failed to deserialize query string"),
        ("POST", "/containers/one/kill?signal=65", "", 400, "invalid signal: 65"),
        ("GET", "/containers/one/logs?tail=x", "", 400, "invalid tail: x"),
        ("GET", "/networks?filters=x", "", 400, "invalid "),
        ("GET", "/networks/%FF", "", 400, ""),
        ("GET", "/nowhere", "", 404, "page not found"),
        ("PATCH", "/networks/mynet", "", 405, "method not allowed"),
    ] {
        let (found, message) = ask(method, path, body);
        assert_eq!(found, status, "{method} {path} {body}: {message}");
        assert!(message.starts_with(start) && !message.is_empty(), "{method} {path} {body}: {message}");
        assert!(!message.contains('\0'), "{method} {path} {body}: {message}");
        town.world.assert_unchanged(&town.lab, &format!("{method} {path} {body}"));
    }
    let huge = format!(r#"{{"Name":"{}"}}"#, "x".repeat(8 << 20));
    let (status, _) = ask("POST", "/networks/create", &huge);
    assert_eq!(status, 413);
    town.world.assert_unchanged(&town.lab, "a huge body");
}

/// The program under test, for commands that another program starts.
pub fn netbpf() -> &'static str {
    use std::sync::LazyLock;
    static PATH: LazyLock<String> = LazyLock::new(|| {
        std::env::var("NETBPF_BIN")
            .unwrap_or_else(|_| format!("{}/../target/debug/netbpf", env!("CARGO_MANIFEST_DIR")))
    });
    &PATH
}
