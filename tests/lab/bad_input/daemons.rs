//! Daemons that cannot start or be reached, and invalid requests to the API.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use netbpf_tests::lab::{Lab, STATE_DIR};

use super::Setup;
use crate::world::{World, netbpf};

#[test]
fn the_error_without_a_daemon_names_the_socket() {
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
fn a_second_daemon_in_the_same_network_namespace_is_told_whose_interface_it_met() {
    let lab = Lab::start();
    let world = World::of(&lab);
    let device = lab.host(["ip", "-j", "link", "show", "netbpf0"]).ok().json();
    let group = device[0]["group"].as_str().expect("a group").to_owned();
    let own = ["--state-dir", "/run/third", "--run-dir", "/run/fourth", "--bpffs", "/sys/fs/bpf/other"];
    let second = lab.netbpf(["daemon"].iter().chain(&own)).fails_with(1, "");
    let said = format!(
        "interface number 1100000 is already taken by netbpf0 of link group {group}: another netbpf daemon probably uses \
         this network namespace, or has left interfaces here (ip link show group {group})\n"
    );
    assert!(second.stderr.ends_with(&said), "{second}");
    lab.host(["rm", "-r", "/run/third", "/run/fourth"]).ok();
    world.assert_unchanged(&lab, "a daemon with another's network namespace");
}

#[test]
fn an_invalid_state_file_is_refused_and_left_as_it_is() {
    let lab = Lab::without_daemon();
    std::fs::create_dir(lab.path(STATE_DIR)).expect("the state directory");
    let file = lab.path(STATE_DIR).join("netbpf.redb");
    let refused = |what: &str| {
        let before = std::fs::read(&file).expect("the state file");
        let output = lab.netbpf(["daemon", "--state-dir", STATE_DIR]).fails_with(1, "");
        let start = format!(
            "netbpf: {STATE_DIR}/netbpf.redb is no state file of netbpf, or a damaged one, and was left as it is; put a \
             copy of it back, or move it away to start without its networks and containers: "
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
    lab.netbpf(["network", "create", "other"]).ok();
    lab.kill_daemon();
    let whole = std::fs::read(&file).expect("the state file");
    for length in [whole.len() / 2, 4096, 100, 0] {
        std::fs::write(&file, &whole[..length]).expect("a truncated file");
        refused(&format!("the first {length} bytes of a file that was not closed"));
    }
    for (what, place) in
        [("the first bytes", 0..64), ("both commits", 64..320), ("the whole header", 0..4096)]
    {
        let mut damaged = whole.clone();
        damaged[place].fill(0x5a);
        std::fs::write(&file, &damaged).expect("a damaged file");
        refused(&format!("garbage in place of {what}"));
    }
    std::fs::write(&file, &whole).expect("the state file");
    lab.start_daemon();
    lab.netbpf(["network", "inspect", "mynet", "other"]).ok();
}

#[test]
fn a_daemon_without_root_says_so() {
    let lab = Lab::without_daemon();
    lab.host(["cp", netbpf(), "/run/netbpf-copy"]).ok();
    let output = lab
        .host(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/run/netbpf-copy", "daemon"])
        .fails_with(1, "");
    assert_eq!(output.stderr, "netbpf: netbpf daemon needs root: run it with sudo\n");
    lab.host(["rm", "/run/netbpf-copy"]).ok();
}

#[test]
fn a_user_without_access_is_told_who_has_it() {
    let lab = Lab::start();
    lab.host(["cp", netbpf(), "/run/netbpf-copy"]).ok();
    let output = lab
        .host(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/run/netbpf-copy", "ps"])
        .fails_with(1, "");
    assert_eq!(
        output.stderr,
        "permission denied while trying to connect to the netbpf daemon at unix:///run/netbpf/netbpf.sock: become root \
         or a member of the group netbpf\n"
    );
    lab.host(["rm", "/run/netbpf-copy"]).ok();
}

#[test]
fn the_api_answers_invalid_requests_with_json() {
    let setup = Setup::new();
    let ask = |method: &str, path: &str, body: &str| {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: netbpf\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream =
            UnixStream::connect(setup.lab.path("/run/netbpf/netbpf.sock")).expect("the daemon listens");
        // A daemon that refuses a long body may close the connection before it has read everything.
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
        ("POST", "/networks/mynet/connect", "{}", 400, "invalid container name or ID: value is empty"),
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
        setup.world.assert_unchanged(&setup.lab, &format!("{method} {path} {body}"));
    }
    for (method, path, body, status, start) in [
        (
            "GET",
            "/v99/info",
            "",
            400,
            "client version 99.0 is too new. Maximum supported API version is 1.55",
        ),
        (
            "GET",
            "/v1.23/info",
            "",
            400,
            "client version 1.23 is too old. Minimum supported API version is 1.24",
        ),
        ("GET", "/v1.41/../info", "", 404, "page not found"),
        ("GET", "/v1.41//info", "", 404, "page not found"),
        ("GET", "/v1%2E41/info", "", 404, "page not found"),
        ("GET", "/v1.41/v1.41/info", "", 404, "page not found"),
        ("GET", "/v1.41", "", 404, "page not found"),
        ("PATCH", "/v1.41/info", "", 405, "method not allowed"),
        ("POST", "/v1.41/containers/one/exec", "{}", 400, "No exec command specified"),
        ("POST", "/v1.41/containers/one/exec", r#"{"Cmd":null}"#, 400, "No exec command specified"),
        ("POST", "/v1.41/containers/one/exec", r#"{"Cmd":"sh"}"#, 400, "invalid JSON: invalid type"),
        ("POST", "/v1.41/containers/ended/exec", r#"{"Cmd":["true"]}"#, 409, "container "),
        ("POST", "/v1.41/exec/x/start", "{}", 404, "No such exec instance: x"),
        ("POST", "/v1.41/exec/x%00y/start", "not JSON", 400, "invalid JSON"),
        ("POST", "/v1.41/exec/x/resize?h=-1&w=2", "", 400, "Failed to deserialize query string"),
        ("GET", "/v1.41/exec/x/json", "", 404, "No such exec instance: x"),
        ("GET", "/v1.41/containers/one/logs", "", 400, "must specify at least one of"),
        ("GET", "/v1.41/containers/one/logs?stdout=1&since=soon", "", 400, "invalid since: soon"),
        ("GET", "/v1.41/containers/one/stats?stream=0&one-shot=1&stream=0", "", 400, "Failed to deserialize"),
        ("GET", "/v1.41/containers/one/top?ps_args=--nosuch", "", 500, "ps: "),
        ("POST", "/v1.41/containers/one/wait?condition=rain", "", 400, "invalid condition"),
        ("POST", "/v1.41/containers/one/update", "{}", 501, "netbpf limits no CPU and no memory"),
        ("POST", "/v1.41/containers/create", "not JSON", 501, "netbpf has no images"),
        ("POST", "/v1.41/images/create", &"x".repeat(4 << 20), 501, "netbpf has no images"),
    ] {
        let (found, message) = ask(method, path, body);
        assert_eq!(found, status, "{method} {path}: {message}");
        assert!(message.starts_with(start), "{method} {path}: {message}");
    }
    setup.world.assert_unchanged(&setup.lab, "invalid requests of Docker's clients");
    let huge = format!(r#"{{"Name":"{}"}}"#, "x".repeat(8 << 20));
    let (status, _) = ask("POST", "/networks/create", &huge);
    assert_eq!(status, 413);
    setup.world.assert_unchanged(&setup.lab, "a huge body");
}
