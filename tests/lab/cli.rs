//! The output of commands: tables, templates, JSON, prompts, and colours on terminals.

use netbpf_tests::lab::Lab;
use serde_json::{Value, json};

use crate::world::netbpf;

/// A lab with the network `mynet` with the container `web` in it, and the network `other`.
struct Setup {
    lab: Lab,
}

impl Setup {
    fn new() -> Self {
        let lab = Lab::start();
        let mynet =
            ["--subnet", "192.168.0.0/16", "--gateway", "192.168.0.1", "--label", "tier=web", "mynet"];
        let created = lab.netbpf(["network", "create"].into_iter().chain(mynet)).ok();
        assert!(
            created.text().len() == 64 && created.text().bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{created}"
        );
        lab.netbpf(["network", "create", "--internal", "-o", "com.docker.network.driver.mtu=1400", "other"])
            .ok();
        lab.netbpf([
            "run", "-d", "--name", "web", "--net", "mynet", "--label", "app=shop", "--", "sleep", "infinity",
        ])
        .ok();
        Self { lab }
    }

    #[track_caller]
    fn prints(&self, command: &[&str], expected: &str) {
        assert_eq!(self.lab.netbpf(command).ok().stdout, expected, "netbpf {}", command.join(" "));
    }

    fn id(&self, name: &str) -> String {
        self.lab.netbpf(["inspect", "--format", "{{.Id}}", name]).ok().text().to_owned()
    }
}

#[test]
fn network_ls() {
    let setup = Setup::new();
    let [bridge, host, mynet, none, other] =
        ["bridge", "host", "mynet", "none", "other"].map(|name| setup.id(name));
    setup.prints(
        &["network", "ls"],
        &format!(
            "NETWORK ID     NAME      DRIVER    SCOPE\n\
             {}   bridge    bridge    local\n\
             {}   host      host      local\n\
             {}   mynet     bridge    local\n\
             {}   none      null      local\n\
             {}   other     bridge    local\n",
            &bridge[..12],
            &host[..12],
            &mynet[..12],
            &none[..12],
            &other[..12],
        ),
    );
    setup.prints(&["ls", "-q", "--no-trunc"], &format!("{bridge}\n{host}\n{mynet}\n{none}\n{other}\n"));
    for (filter, names) in [
        ("driver=bridge", "bridge\nmynet\nother\n"),
        ("driver=null", "none\n"),
        ("name=^m", "mynet\n"),
        ("label=tier", "mynet\n"),
        ("label=tier=db", ""),
        ("type=custom", "mynet\nother\n"),
        ("type=builtin", "bridge\nhost\nnone\n"),
        ("dangling=true", "other\n"),
        ("scope=swarm", ""),
    ] {
        setup.prints(&["network", "ls", "--filter", filter, "--format", "{{.Name}}"], names);
    }
    setup.prints(
        &[
            "network",
            "ls",
            "--filter",
            &format!("id={}", &mynet[..12]),
            "--format",
            "{{.Name}} {{.Label \"tier\"}} {{.Internal}} {{.IPv4}} {{.IPv6}}",
        ],
        "mynet web false true false\n",
    );
    setup.prints(
        &["network", "ls", "--filter", "type=custom", "--format", r"table {{.Name}}\t{{.Internal}}"],
        "NAME      INTERNAL\nmynet     false\nother     true\n",
    );
    let lines = setup.lab.netbpf(["network", "ls", "--filter", "name=mynet", "--format", "json"]).ok();
    let line = lines.json();
    let created = line["CreatedAt"].as_str().unwrap_or_default().to_owned();
    assert!(created.starts_with("20") && created.ends_with(" +0000 UTC"), "{created}");
    assert_eq!(
        line,
        json!({
            "CreatedAt": created, "Driver": "bridge", "ID": mynet[..12], "IPv4": "true", "IPv6": "false",
            "Internal": "false", "Labels": "tier=web", "Name": "mynet", "Scope": "local"
        })
    );
}

#[test]
fn ps() {
    let setup = Setup::new();
    setup.lab.netbpf(["run", "--name", "done", "--", "sh", "-c", "exit 3"]).fails_with(3, "");
    let [web, done] = ["web", "done"].map(|name| setup.id(name));
    let table = setup.lab.netbpf(["ps"]).ok();
    let lines: Vec<&str> = table.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    let columns: Vec<&str> =
        lines[0].split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
    assert_eq!(columns, ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    let cells: Vec<&str> = lines[1].split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!([cells[0], cells[1], cells[2], cells[5]], [&web[..12], "host", "\"sleep infinity\"", "web"]);
    assert!(cells[3].ends_with(" ago") && cells[4].starts_with("Up "), "{table}");
    for (index, name) in ["CONTAINER ID", "IMAGE", "COMMAND", "NAMES"]
        .into_iter()
        .zip([cells[0], cells[1], cells[2], cells[5]])
    {
        assert_eq!(lines[0].find(index), lines[1].rfind(name), "columns are aligned: {table}");
    }
    setup.prints(&["ps", "-aq"], &format!("{}\n{}\n", &done[..12], &web[..12]));
    setup.prints(&["ps", "-a", "--format", "{{.Names}}: {{.State}}"], "done: exited\nweb: running\n");
    setup.prints(&["ps", "-aq", "--no-trunc", "--filter", "exited=3"], &format!("{done}\n"));
    setup.prints(
        &["ps", "--filter", "network=mynet", "--format", "{{.Names}} {{.Networks}} {{.Label \"app\"}}"],
        "web mynet shop\n",
    );
    setup.prints(&["ps", "-a", "--filter", "label=app=other", "-q"], "");
}

#[test]
fn inspect() {
    let setup = Setup::new();
    let (mynet, web) = (setup.id("mynet"), setup.id("web"));
    let text = setup.lab.netbpf(["network", "inspect", "mynet"]).ok();
    let network = text.json()[0].clone();
    let container = &network["Containers"][&web];
    let endpoint = container["EndpointID"].as_str().unwrap_or_default();
    assert_eq!(endpoint.len(), 64);
    let created = network["Created"].as_str().unwrap_or_default();
    // Docker's keys in Docker's order, with Docker's indentation.
    assert_eq!(
        text.stdout,
        format!(
            r#"[
    {{
        "Name": "mynet",
        "Id": "{mynet}",
        "Created": "{created}",
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv4": true,
        "EnableIPv6": false,
        "IPAM": {{
            "Driver": "default",
            "Options": null,
            "Config": [
                {{
                    "Subnet": "192.168.0.0/16",
                    "Gateway": "192.168.0.1"
                }}
            ]
        }},
        "Internal": false,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": {{
            "Network": ""
        }},
        "ConfigOnly": false,
        "Containers": {{
            "{web}": {{
                "Name": "web",
                "EndpointID": "{endpoint}",
                "MacAddress": "02:42:c0:a8:00:02",
                "IPv4Address": "192.168.0.2/16",
                "IPv6Address": ""
            }}
        }},
        "Options": {{}},
        "Labels": {{
            "tier": "web"
        }}
    }}
]
"#
        )
    );
    setup.prints(
        &["network", "inspect", "--format", "{{json .IPAM.Config}}", "mynet"],
        "[{\"Subnet\":\"192.168.0.0/16\",\"Gateway\":\"192.168.0.1\"}]\n",
    );
    setup.prints(
        &[
            "network",
            "inspect",
            "-f",
            "{{.Internal}} {{index .Options \"com.docker.network.driver.mtu\"}}",
            "other",
        ],
        "true 1400\n",
    );
    setup.prints(
        &["network", "inspect", "-f", "{{range .Containers}}{{.Name}}={{.IPv4Address}} {{end}}", "mynet"],
        "web=192.168.0.2/16 \n",
    );
    setup.prints(&["inspect", "-f", "{{.NetworkSettings.Networks.mynet.IPAddress}}", "web"], "192.168.0.2\n");
    setup.prints(&["inspect", "-f", "{{.Name}}", "web", "mynet"], "/web\nmynet\n");
    setup.prints(&["inspect", "-f", "{{.Id}}", &web[..5], &mynet[..5]], &format!("{web}\n{mynet}\n"));
    for null in ["host", "none"] {
        setup.prints(
            &["network", "inspect", "-f", "{{json .IPAM.Config}} {{json .Containers}}", null],
            "[] {}\n",
        );
    }
    let both = setup.lab.netbpf(["inspect", "web", "nobody", "mynet"]).fails_with(1, "");
    assert_eq!(both.stderr, "Error: No such object: nobody\n");
    assert_eq!(both.json().as_array().map(Vec::len), Some(2));
    let nobody = setup.lab.netbpf(["network", "inspect", "nobody"]).fails_with(1, "");
    assert_eq!(nobody.stdout, "[]\n");
}

#[test]
fn network_rm_continues_after_an_error() {
    let setup = Setup::new();
    setup.lab.netbpf(["network", "create", "third"]).ok();
    let removed = setup.lab.netbpf(["network", "rm", "other", "third", "unknown"]).fails_with(1, "");
    assert_eq!(removed.stdout, "other\nthird\n");
    assert_eq!(removed.stderr, "Error response from daemon: network unknown not found\n");
    let removed = setup.lab.netbpf(["network", "rm", "-f", "unknown"]).ok();
    assert_eq!((removed.stdout.as_str(), removed.stderr.as_str()), ("", ""));
    setup.prints(&["rm", "-f", "web"], "web\n");
    setup.prints(&["network", "rm", "mynet"], "mynet\n");
}

#[test]
fn network_prune_asks_for_confirmation() {
    let setup = Setup::new();
    let question = "WARNING! This will remove all custom networks not used by at least one container.\n\
                    Are you sure you want to continue? [y/N] ";
    let prune = |answer: &str| {
        let line = format!("printf '{answer}' | {} network prune", netbpf());
        setup.lab.host(["sh", "-c", &line]).ok().stdout
    };
    for no in ["", "n\\n", "\\n", "yes\\n"] {
        assert_eq!(prune(no), question);
        setup.prints(&["network", "ls", "-q", "--filter", "name=other", "--format", "{{.Name}}"], "other\n");
    }
    assert_eq!(prune("y\\n"), format!("{question}Deleted Networks:\nother\n\n"));
    setup.prints(&["network", "prune", "-f"], "");
    setup.prints(&["network", "ls", "--filter", "type=custom", "--format", "{{.Name}}"], "mynet\n");
}

#[test]
fn completions_are_scripts() {
    let lab = Lab::without_daemon();
    let line = format!(
        "set -e; {0} completion bash > /run/completion; bash -n /run/completion; . /run/completion; complete -p netbpf; rm /run/completion",
        netbpf()
    );
    assert!(lab.host(["bash", "-c", &line]).ok().stdout.contains("-F _netbpf"));
    for shell in ["zsh", "fish"] {
        assert!(lab.netbpf(["completion", shell]).ok().stdout.contains("netbpf"), "{shell}");
    }
}

#[test]
fn only_terminals_get_colours() {
    let lab = Lab::start();
    let escape = '\u{1b}';
    let doctor = lab.netbpf(["doctor"]).ok();
    assert!(!doctor.stdout.contains(escape), "{doctor}");
    let command = format!("{} doctor", netbpf());
    let seen = lab.host(["script", "-qec", &command, "/dev/null"]).ok();
    assert!(seen.stdout.contains("\u{1b}[32mok"), "{seen}");
    let plain = lab.host(["script", "-qec", &format!("NO_COLOR=1 {command}"), "/dev/null"]).ok();
    assert!(!plain.stdout.contains(escape), "{plain}");
    for command in
        [&["network", "ls"][..], &["ps"], &["--help"], &["run", "--help"], &["network", "inspect", "bridge"]]
    {
        let output = lab.netbpf(command).ok();
        assert!(!output.stdout.contains(escape), "{output}");
    }
    let wrong = lab.netbpf(["run", "--no-such-option"]).fails_with(125, "");
    assert!(!wrong.stderr.contains(escape), "{wrong}");
}

#[test]
fn doctor_info_and_version() {
    let setup = Setup::new();
    let doctor = setup.lab.netbpf(["doctor"]).ok();
    let subjects: Vec<&str> =
        doctor.stdout.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(
        subjects,
        [
            "root",
            "kernel",
            "BTF",
            "bpffs",
            "attachment",
            "nft",
            "ip_forward",
            "neighbours",
            "firewall",
            "xdp",
            "names",
            "flows",
            "daemon"
        ]
    );
    assert!(doctor.stdout.lines().all(|line| line.starts_with("ok ")), "{doctor}");
    setup.lab.stop_daemon();
    let doctor = setup.lab.netbpf(["doctor"]).fails_with(1, "");
    assert_eq!(
        doctor.stdout.lines().last(),
        Some(
            "missing  daemon       nobody listens at unix:///run/netbpf/netbpf.sock; start it: netbpf daemon"
        )
    );
    setup.lab.start_daemon();
    let info = setup.lab.netbpf(["info"]).ok();
    for line in [
        "Containers: 1",
        " Running: 1",
        " Stopped: 0",
        "Networks: 5",
        "Endpoints: 1",
        "State Dir: /run/state",
    ] {
        assert!(info.stdout.lines().any(|found| found == line), "{line}: {info}");
    }
    setup.prints(&["info", "--format", "{{.ContainersRunning}} {{.Networks}}"], "1 5\n");
    let version = setup.lab.netbpf(["version", "--format", "json"]).ok().json();
    assert_eq!(version["Client"]["Version"], version["Server"]["Version"]);
    let text = setup.lab.netbpf(["version"]).ok();
    assert!(
        text.stdout.starts_with("Client:\n Version:   ") && text.stdout.contains("\n\nServer:\n Version:   "),
        "{text}"
    );
    assert_ne!(version["Client"]["Version"], Value::Null);
}

#[test]
fn doctor_warns_about_queueing_disciplines_that_most_traffic_bypasses() {
    let lab = Lab::start();
    lab.host(["tc", "qdisc", "add", "dev", "netbpf0", "root", "pfifo"]).ok();
    let doctor = lab.netbpf(["doctor"]).ok();
    assert!(
        doctor.stdout.contains("shaping      pfifo at netbpf0 is bypassed by traffic between containers"),
        "{doctor}"
    );
    lab.host(["tc", "qdisc", "del", "dev", "netbpf0", "root"]).ok();
    assert!(!lab.netbpf(["doctor"]).ok().stdout.contains("shaping"));
}
