//! Options, templates and flags in scripts for Docker: netbpf accepts them and prints the same.

use netbpf_tests::lab::Lab;

#[test]
fn options_that_netbpf_does_not_know_are_accepted() {
    let lab = Lab::start();
    for option in [
        "com.docker.network.bridge.default_bridge=false",
        "com.docker.network.advertise_addr_nmsgs=0",
        "com.docker.network.advertise_addr_ms=100",
        "com.docker.network.bridge.host_binding_ipv4=127.0.0.1",
        "com.docker.network.host_ipv6=::1",
    ] {
        let created = lab.netbpf(["network", "create", "-o", option, "new"]).ok();
        assert_eq!(created.stderr, "", "{option}");
        lab.netbpf(["network", "rm", "new"]).ok();
    }
    for key in ["com.docker.network.bridge.enable_ip_forwarding", "foo"] {
        let created = lab.netbpf(["network", "create", "-o", &format!("{key}=true"), "new"]).ok();
        assert_eq!(created.stderr, format!("WARNING: unknown driver option {key} has no effect\n"));
        assert_eq!(lab.inspect("new")["Options"][key], "true");
        lab.netbpf(["network", "rm", "new"]).ok();
    }
    for (option, complaint) in [
        ("com.docker.network.advertise_addr_nmsgs=4", "advertise_addr_nmsgs must be in the range 0 to 3"),
        ("com.docker.network.advertise_addr_ms=x", "\"x\" must be integer milliseconds"),
        (
            "netbpf.gso=65536",
            "unknown driver option netbpf.gso: known are netbpf.gso_max_size, netbpf.max_flows",
        ),
    ] {
        lab.netbpf(["network", "create", "-o", option, "new"]).fails_with(1, complaint);
    }
    lab.network("mynet", "");
    lab.run("web", "");
    let connected = lab.netbpf(["connect", "--driver-opt", "foo=bar", "mynet", "web"]).ok();
    assert_eq!(connected.stderr, "WARNING: unknown driver option foo has no effect\n");
    assert_eq!(lab.inspect("web")["NetworkSettings"]["Networks"]["mynet"]["DriverOpts"]["foo"], "bar");
}

/// The output of `inspect -f` for a container in the default network with `-p 8080:80`.
const OF_CONTAINER: &[(&str, &str)] = &[
    ("{{.HostConfig.NetworkMode}}", "bridge"),
    ("{{eq .ID .Id}}", "true"),
    ("{{.NetworkSettings.IPAddress}}/{{.NetworkSettings.IPPrefixLen}}", "172.17.0.2/16"),
    ("{{.NetworkSettings.MacAddress}}", "02:42:ac:11:00:02"),
    ("{{.NetworkSettings.Gateway}}", "172.17.0.1"),
    ("{{.NetworkSettings.GlobalIPv6Address}}{{.NetworkSettings.GlobalIPv6PrefixLen}}", "0"),
    ("{{.Config.Image}}", "host"),
    ("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}", "8080"),
    ("{{json .HostConfig.Dns}}", "[]"),
    ("{{json .HostConfig.ExtraHosts}}", "null"),
    ("{{.HostConfig.Links}}", "[]"),
    ("{{json .Mounts}}", "[]"),
    ("{{range .Mounts}}{{.Source}}{{end}}", ""),
    ("{{.Platform}}", "linux"),
    (
        "{{.State.ExitCode}} {{.State.Error}} {{.State.OOMKilled}} {{.State.Paused}} {{.State.Dead}}",
        "0  false false false",
    ),
    ("{{.HostConfig.AutoRemove}}", "false"),
    ("{{.HostConfig.RestartPolicy.Name}}", "no"),
    ("{{.Config.Labels}}", "map[]"),
    ("{{join .Config.Cmd \" \"}}", "sleep infinity"),
    (
        "{{range $p, $c := .NetworkSettings.Ports}}{{$p}} -> {{(index $c 0).HostPort}} {{end}}",
        "80/tcp -> 8080 ",
    ),
    ("{{with index .NetworkSettings.Networks \"bridge\"}}{{.Gateway}}{{end}}", "172.17.0.1"),
    ("{{len .NetworkSettings.Networks}}", "1"),
    ("{{.Path}} {{.Args}}", "sleep [infinity]"),
    ("{{index .Config.Labels \"x\"}}", ""),
];

/// The output of `inspect -f` for the default network.
const OF_NETWORK: &[(&str, &str)] = &[
    ("{{eq .ID .Id}}", "true"),
    ("{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.EnableIPv6}}", "bridge bridge local false false"),
    ("{{index .Options \"com.docker.network.bridge.name\"}}", "netbpf0"),
    ("{{index .Options \"com.docker.network.bridge.default_bridge\"}}", "true"),
    ("{{len .Containers}}", "1"),
    ("{{.Labels}}", "map[]"),
];

#[test]
fn templates_print_what_docker_prints() {
    let lab = Lab::start();
    lab.run("web", "-p 8080:80");
    for (template, printed) in OF_CONTAINER {
        assert_eq!(
            lab.netbpf(["inspect", "-f", template, "web"]).ok().stdout,
            format!("{printed}\n"),
            "{template}"
        );
    }
    for (template, printed) in OF_NETWORK {
        let network = lab.netbpf(["network", "inspect", "-f", template, "bridge"]).ok();
        assert_eq!(network.stdout, format!("{printed}\n"), "{template}");
    }
    let row = "{{.Names}}|{{.Mounts}}|{{.LocalVolumes}}|{{.Size}}|{{.Label \"x\"}}";
    assert_eq!(lab.netbpf(["ps", "--format", row]).ok().text(), "web||0|0B|");
}

#[test]
fn flags_of_docker_scripts_are_accepted() {
    let lab = Lab::start();
    lab.run("old", "");
    lab.run("web", "");
    lab.netbpf(["stop", "-t", "0", "web"]).ok();
    let names = |flags: &str| {
        let command = format!("{flags} --format {{{{.Names}}}}");
        lab.netbpf(command.split_whitespace()).ok().text().replace('\n', " ")
    };
    for (command, printed) in [
        ("ps", "old"),
        ("ps -n 1", "web"),
        ("ps --last 5", "web old"),
        ("ps -n -1", "old"),
        ("ps -l", "web"),
        ("ps --filter ancestor=host", "old"),
        ("ps --filter ancestor=x", ""),
        ("container ls -a", "web old"),
        ("container ps", "old"),
    ] {
        assert_eq!(names(command), printed, "{command}");
    }
    let table = lab.netbpf(["ps", "-s"]).ok();
    assert!(table.stdout.lines().next().is_some_and(|line| line.ends_with("SIZE")), "{table}");
    for command in [
        "inspect --type container web",
        "inspect --size web",
        "inspect -s web",
        "container inspect web",
        "network inspect -v bridge",
        "network inspect --verbose bridge",
    ] {
        assert!(lab.netbpf(command.split_whitespace()).ok().json().is_array(), "{command}");
    }
    lab.netbpf(["inspect", "--type", "container", "bridge"]).fails_with(1, "No such object: bridge");
    for missing in ["top", "cp", "pause", "attach", "commit"] {
        let output = lab.netbpf([missing, "web"]).fails_with(1, "");
        let line = format!("netbpf: '{missing}' is not a netbpf command; see 'netbpf --help'\n");
        assert_eq!(output.stderr, line);
    }
}

#[test]
fn control_characters_in_labels_and_errors_do_not_reach_a_terminal() {
    let lab = Lab::start();
    lab.netbpf([
        "run",
        "-d",
        "--name",
        "web",
        "--label",
        "x=\u{1b}[31m\u{9b}2J\u{202e}",
        "--",
        "sleep",
        "infinity",
    ])
    .ok();
    let netbpf = crate::world::netbpf();
    for command in [
        "ps --format '{{.Labels}}'",
        "inspect web",
        "inspect -f '{{.Config.Labels}}' web",
        "events --since 1m --until 0s",
        "inspect \"$(printf 'a\\033[31mb')\"",
        "\"$(printf 'a\\033[31mb')\"",
    ] {
        let typed = format!("{} {command} 2>&1", netbpf);
        let seen = lab.host(["script", "-qec", &typed, "/dev/null"]);
        assert!(!seen.stdout.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{command}: {seen}");
        assert!(
            ["\\u{1b}", "\\u001b"].iter().any(|escape| seen.stdout.contains(escape)),
            "{command}: {seen}"
        );
    }
    // Errors of the parser, which drops control sequences.
    for command in
        ["run -p \"$(printf 'x\\033]0;y\\007')\" -- true", "run --\"$(printf 'x\\033[31my')\" -- true"]
    {
        let seen = lab.host(["script", "-qec", &format!("{netbpf} {command} 2>&1"), "/dev/null"]);
        assert!(!seen.stdout.contains('\u{1b}') && seen.stdout.contains("error: "), "{command}: {seen}");
    }
    let piped = lab.netbpf(["ps", "--format", "{{.Labels}}"]).ok();
    assert!(piped.stdout.contains('\u{1b}'), "{piped}");
}

#[test]
fn a_port_in_a_family_that_the_container_lacks_is_left_out() {
    let lab = Lab::start();
    let run = [
        "run",
        "-d",
        "--name",
        "web",
        "--net",
        "six",
        "-p",
        "0.0.0.0:8080:80",
        "-p",
        "[::]:8080:80",
        "--",
        "sleep",
        "9",
    ];
    lab.network("six", "--ipv4=false --ipv6 --subnet fd00:6::/64");
    assert_eq!(
        lab.netbpf(run).ok().stderr,
        "WARNING: 80/tcp is not published on 0.0.0.0: the container has no IPv4 address\n"
    );
    assert_eq!(lab.netbpf(["port", "web"]).ok().text(), "80/tcp -> [::]:8080");
}
