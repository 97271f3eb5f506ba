//! Containers and commands that cannot be run, connected or ended.

use netbpf_tests::lab::Lab;

use super::Setup;
use crate::world::World;

#[test]
fn containers_that_cannot_be_connected() {
    let setup = Setup::new();
    setup.daemon_refuses(&["connect", "nobody", "one"], "network nobody not found");
    setup.daemon_refuses(
        &["connect", "free", "nobody"],
        "No such container: nobody; Docker's socket /var/run/docker.sock: No such file or directory (os error 2)",
    );
    setup.daemon_refuses(
        &["connect", "mynet", "member"],
        "endpoint with name member already exists in network mynet",
    );
    setup.daemon_refuses(
        &["connect", "host", "one"],
        "cannot connect container to host network - container must be created in host network mode",
    );
    setup.daemon_refuses(
        &["connect", "none", "one"],
        "container cannot be connected to multiple networks with one of the networks in private (none) mode",
    );
    let one = setup.lab.netbpf(["inspect", "--format", "{{.Id}}", "one"]).ok().text().to_owned();
    setup.daemon_refuses(
        &["disconnect", "mynet", "one"],
        &format!("container {one} is not connected to network mynet"),
    );
    setup.daemon_refuses(&["disconnect", "nobody", "one"], "network nobody not found");
    setup.daemon_refuses(&["disconnect", "mynet", "nobody"], "No such container: nobody");
    setup.daemon_refuses(
        &["disconnect", "host", "one"],
        "cannot disconnect container from host network - container was created in host network mode",
    );
    let settings = |text: &str| format!("invalid endpoint settings:\n{text}");
    let connect = |words: &[&str], message: &str| {
        setup.daemon_refuses(&[&["connect"], words].concat(), message);
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
    for (option, said) in [
        (
            "netbpf.x=y",
            "unknown endpoint option netbpf.x: known are netbpf.addresses, netbpf.guard, netbpf.redirect, \
             netbpf.ingress_rate, netbpf.ingress_burst, netbpf.egress_rate, netbpf.egress_burst",
        ),
        ("netbpf.guard=no", "failed to parse netbpf.guard value: no (expected off or on)"),
        (
            "netbpf.addresses=10.9.0.1/24",
            "failed to parse netbpf.addresses value: 10.9.0.1/24 (invalid subnet 10.9.0.1/24: it should be 10.9.0.0/24)",
        ),
    ] {
        connect(&["--driver-opt", option, "mynet", "one"], &settings(said));
    }
    connect(&["mynet", "pid:4194305"], "no such process: 4194305");
    connect(&["mynet", "pid:x"], "invalid process pid:x: expected pid:NUMBER");
    connect(&["mynet", "netns:blue"], "open /run/netns/blue: No such file or directory (os error 2)");
    connect(&["mynet", "netns:/etc/passwd"], "/etc/passwd is not a network namespace");
    connect(&["mynet", "netns:/proc/1/ns/uts"], "/proc/1/ns/uts is not a network namespace");
    connect(&["mynet", "netns:"], "invalid network namespace netns:: expected netns:NAME or netns:/PATH");
    connect(&["mynet", "pid:1"], "cannot connect pid:1: it is the host's own network namespace");
    setup.refuses(&["connect", "", "one"], 1, "invalid network name or ID: value is empty");
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
    let setup = Setup::new();
    let one = setup.lab.netbpf(["inspect", "--format", "{{.Id}}", "one"]).ok().text().to_owned();
    setup.run_refused(
        &["--name", "one"],
        &format!(
            "Conflict. The container name \"/one\" is already in use by container \"{one}\". You have to remove (or \
             rename) that container to be able to reuse that name."
        ),
    );
    let allowed = "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed";
    setup.run_refused(&["--name", "a/b"], &format!("Invalid container name (a/b), {allowed}"));
    setup.run_refused(&["--name", "a\nb"], &format!("Invalid container name (a\\nb), {allowed}"));
    let long = "n".repeat(300);
    setup.run_refused(
        &["--name", &long],
        &format!("invalid container name {}…: it has 300 bytes, at most 255 are allowed", &long[..32]),
    );
    setup.run_refused(&["--net", "nobody"], "network nobody not found");
    setup.run_refused(&["--net", "container:nobody"], "No such container: nobody");
    setup.run_refused(
        &["--net", "container:"],
        "invalid network mode: invalid container format container:<name|id>",
    );
    for (option, value, what) in [
        ("--hostname", "x", "hostname"),
        ("--dns", "1.1.1.1", "dns"),
        ("--add-host", "x:1.1.1.1", "custom host-to-IP mapping"),
        ("--mac-address", "02:00:00:00:00:01", "mac-address"),
    ] {
        setup.run_refused(
            &["--net", "container:one", option, value],
            &format!("conflicting options: {what} and the network mode"),
        );
    }
    let settings = |text: &str| format!("invalid endpoint settings:\n{text}");
    let user_defined = settings("user-specified IP address is supported on user-defined networks only");
    for net in ["bridge", "host", "none"] {
        setup.run_refused(&["--net", net, "--ip", "172.17.0.9"], &user_defined);
    }
    setup.run_refused(
        &["--network-alias", "x"],
        "network-scoped aliases are only supported for user-defined networks",
    );
    setup.run_refused(&["--net", "mynet", "--ip", "x"], &settings("invalid IPv4 address: x"));
    setup.run_refused(
        &["--net", "mynet", "--ip", "10.7.0.9"],
        "no configured subnet contains IP address 10.7.0.9",
    );
    setup.run_refused(&["--net", "mynet", "--ip", "10.9.0.2"], "Address already in use");
    setup.run_refused(&["--mac-address", "02:42"], "invalid MAC address: 02:42");
    setup.run_refused(
        &["--net", "mynet", "--mac-address", "02:42:0a:09:00:02"],
        "MAC address 02:42:0a:09:00:02 is already in use on network mynet",
    );
    setup.run_refused(&["--rootfs", "/nope"], "invalid rootfs /nope: not an absolute path of a directory");
    setup.run_refused(
        &["--workdir", "nope"],
        "the working directory 'nope' is invalid, it needs to be an absolute path",
    );
    let word = "it must be one word without #";
    for name in ["a b", "a#b", "a\nb"] {
        let shown = name.escape_debug();
        setup.run_refused(&["--hostname", name], &format!("invalid hostname \"{shown}\": {word}"));
        setup.run_refused(&["--dns-option", name], &format!("invalid DNS option \"{shown}\": {word}"));
        setup.run_refused(
            &["--add-host", &format!("{name}:10.0.0.1")],
            &format!("invalid alias \"{shown}\": {word}"),
        );
        setup.run_refused(
            &["--net", "mynet", "--network-alias", name],
            &settings(&format!("invalid alias \"{shown}\": {word}")),
        );
        setup.value_refused(
            &["run", "--rm", "--dns-search", name, "--", "true"],
            125,
            &format!("{name} is not a valid domain"),
        );
    }
    let long = "h".repeat(65);
    setup.run_refused(
        &["--hostname", &long],
        &format!("invalid hostname {}…: it has 65 bytes, at most 64 are allowed", &long[..32]),
    );
    for (value, complaint) in [
        ("x", r#"bad format for add-host: "x""#),
        (":10.0.0.1", r#"bad format for add-host: ":10.0.0.1""#),
        ("x:y", r#"invalid IP address in add-host: "y""#),
        ("x:10.0.0.1\n10.0.0.2 y", r#"invalid IP address in add-host: "10.0.0.1\n10.0.0.2 y""#),
    ] {
        setup.value_refused(&["run", "--rm", "--add-host", value, "--", "true"], 125, complaint);
    }
    for value in ["x", "1.1.1", "1.1.1.1\nnameserver 2.2.2.2"] {
        let complaint = format!("IP address is not correctly formatted: {value}");
        setup.value_refused(&["run", "--rm", "--dns", value, "--", "true"], 125, &complaint);
    }
    setup.lab.netbpf(["run"]).fails_with(125, "the following required arguments were not provided");
    setup.run_fails(&["--rm", "--", ""], 125, "no command specified");
    let next = setup.lab.netbpf(["run", "--rm", "--net", "mynet", "--", "hostname", "-I"]).ok();
    assert_eq!(next.text().trim(), "10.9.0.3", "no address was lost on the way");
}

#[test]
fn commands_that_cannot_be_executed() {
    let setup = Setup::new();
    let start = "failed to create task for container: unable to start container process";
    setup.run_fails(
        &["--rm", "--", "no-such-command"],
        127,
        &format!("{start}: exec: \"no-such-command\": executable file not found in $PATH"),
    );
    setup.run_fails(
        &["--rm", "--", "/no/such/command"],
        127,
        &format!("{start}: exec: \"/no/such/command\": stat /no/such/command: no such file or directory"),
    );
    setup.run_fails(
        &["--rm", "-d", "--", "/etc/passwd"],
        126,
        &format!("{start}: exec: \"/etc/passwd\": permission denied"),
    );
    let exec = "exec failed: unable to start container process: exec";
    setup.refuses(
        &["exec", "one", "no-such-command"],
        127,
        &format!("{exec}: \"no-such-command\": executable file not found in $PATH"),
    );
    setup.refuses(
        &["exec", "one", "/etc/passwd"],
        126,
        &format!("{exec}: \"/etc/passwd\": permission denied"),
    );
    setup.daemon_refuses(&["exec", "nobody", "true"], "No such container: nobody");
    let ended = setup.lab.netbpf(["inspect", "--format", "{{.Id}}", "ended"]).ok().text().to_owned();
    setup.daemon_refuses(&["exec", "ended", "true"], &format!("container {ended} is not running"));
    // Without --rm the container stays, as in Docker, with the error.
    setup.lab.netbpf(["run", "--name", "failed", "--", "no-such-command"]).fails_with(127, "");
    let error =
        setup.lab.netbpf(["inspect", "--format", "{{.State.Status}}: {{.State.Error}}", "failed"]).ok();
    assert_eq!(
        error.text(),
        format!("created: {start}: exec: \"no-such-command\": executable file not found in $PATH")
    );
    setup.lab.netbpf(["rm", "failed"]).ok();
    setup.world.assert_unchanged(&setup.lab, "rm of a container that never started");
}

#[test]
fn containers_that_are_not_in_the_state_for_it() {
    let setup = Setup::new();
    let ended = setup.lab.netbpf(["inspect", "--format", "{{.Id}}", "ended"]).ok().text().to_owned();
    setup.daemon_refuses(
        &["rm", "one"],
        "cannot remove container \"/one\": container is running: stop the container before removing or force remove",
    );
    setup.daemon_refuses(&["kill", "ended"], &format!("container {ended} is not running"));
    setup.daemon_refuses(&["kill", "-s", "JUNK", "one"], "invalid signal: JUNK");
    for command in ["stop", "restart", "kill", "rm", "logs"] {
        setup.daemon_refuses(&[command, "nobody"], "No such container: nobody");
    }
    setup.refuses(
        &["start", "nobody"],
        1,
        "Error response from daemon: No such container: nobody\nfailed to start containers: nobody",
    );
    assert_eq!(setup.lab.netbpf(["rm", "-f", "nobody"]).ok().text(), "");
    setup.daemon_refuses(&["network", "ls", "--filter", "colour=red"], "invalid filter 'colour'");
    setup.daemon_refuses(&["ps", "--filter", "colour=red"], "invalid filter 'colour'");
    setup.daemon_refuses(
        &["network", "ls", "--filter", "dangling=perhaps"],
        "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")",
    );
    setup.daemon_refuses(&["network", "ls", "--filter", "type=x"], "invalid filter: 'type'='x'");
}
