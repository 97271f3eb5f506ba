//! The daemon as a service: its notifications to the service manager, sockets that are held during a restart, and the
//! privileges that its unit leaves.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use netbpf_tests::lab::{Lab, NotifySocket, STATE_DIR};
use nix::sys::signal::Signal;

use crate::world::netbpf;

const UNIT: &str = include_str!("../../xtask/src/install/netbpf.service");

/// Sends the first request of a Docker engine.
#[track_caller]
fn ask_like_docker(lab: &Lab) -> UnixStream {
    let mut stream =
        UnixStream::connect(lab.path("/run/docker/plugins/netbpf.sock")).expect("the plugin's socket");
    let question =
        "POST /Plugin.Activate HTTP/1.1\r\nHost: netbpf\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    stream.write_all(question.as_bytes()).expect("a question");
    stream
}

#[track_caller]
fn is_answered(mut stream: UnixStream) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_daemon_is_ready_when_both_sockets_answer() {
    let lab = Lab::without_daemon();
    let notifications = NotifySocket::open(&lab);
    let notify = format!("NOTIFY_SOCKET={}", NotifySocket::PATH);
    let daemon = lab.spawn(["env", &notify, netbpf(), "daemon", "--state-dir", STATE_DIR]);
    let heard = notifications.receive_until("READY=1");
    lab.netbpf(["info"]).ok();
    is_answered(ask_like_docker(&lab));
    assert_eq!(heard[0], "STATUS=loading the programs");
    assert!(!heard.contains(&"STOPPING=1".to_owned()));

    // The responder outlives the daemon, and must not notify the manager.
    lab.run("tomcat01", "");
    let [responder] = lab.processes("netbpf responder")[..] else { panic!("one name responder") };
    let environment = std::fs::read_to_string(lab.path(format!("/proc/{responder}/environ"))).expect("it");
    assert!(!environment.contains("NOTIFY_SOCKET"), "{environment}");
    lab.netbpf(["rm", "-f", "tomcat01"]).ok();

    daemon.signal(Signal::SIGTERM);
    notifications.receive_until("STOPPING=1");
    daemon.output().ok();
    std::fs::remove_file(lab.path(NotifySocket::PATH)).expect("the socket's file");
}

#[test]
fn a_daemon_runs_even_if_notifications_fail() {
    let lab = Lab::without_daemon();
    lab.start_daemons_by(&["env", "NOTIFY_SOCKET=/run/nobody"]);
    lab.start_daemon();
    lab.netbpf(["info"]).ok();
}

#[test]
fn requests_during_a_restart_wait() {
    let lab = Lab::without_daemon();
    lab.hold_sockets();
    let early = lab.spawn_netbpf(["network", "create", "--subnet", "10.1.0.0/24", "mynet"]);
    lab.start_daemon();
    early.output().ok();
    lab.run("web01", "--net mynet");

    lab.stop_daemon();
    let run = lab.spawn_netbpf(["run", "-d", "--name", "web02", "--net", "mynet", "--", "sleep", "infinity"]);
    let inspect = lab.spawn_netbpf(["inspect", "web01"]);
    let docker = ask_like_docker(&lab);
    lab.start_daemon();
    is_answered(docker);
    run.output().ok();
    assert_eq!(inspect.output().ok().json()[0]["Name"], "/web01");
    lab.exec("web02", "ping -c1 web01").ok();

    // The sockets also stay open when the daemon is killed.
    lab.kill_daemon();
    let listed = lab.spawn_netbpf(["ps", "-q"]);
    lab.start_daemon();
    assert_eq!(listed.output().ok().text().lines().count(), 2);
    lab.netbpf(["rm", "-f", "web01", "web02"]).ok();
    lab.netbpf(["network", "rm", "mynet"]).ok();
    lab.release_sockets();
}

#[test]
fn no_command_fails_while_the_daemon_is_restarted_again_and_again() {
    let lab = Lab::without_daemon();
    lab.hold_sockets();
    lab.start_daemon();
    let script = format!("while [ ! -e /run/end ]; do {} network ls >/dev/null || exit 1; done", netbpf());
    let busy: Vec<_> = (0..3).map(|_| lab.spawn(["sh", "-c", &script])).collect();
    for _ in 0..3 {
        lab.restart_daemon();
    }
    std::fs::write(lab.path("/run/end"), "").expect("a file");
    busy.into_iter().for_each(|script| drop(script.output().ok()));
    std::fs::remove_file(lab.path("/run/end")).expect("the file");
    lab.release_sockets();
}

#[test]
fn held_sockets_have_the_right_permissions() {
    let lab = Lab::without_daemon();
    lab.hold_sockets();
    lab.start_daemon();
    let modes = lab.host(["stat", "-c", "%a", "/run/netbpf/netbpf.sock", "/run/docker/plugins/netbpf.sock"]);
    assert_eq!(modes.ok().text(), "660\n600");
    lab.release_sockets();
}

#[test]
fn the_unit_s_capabilities_are_sufficient() {
    let rights = UNIT
        .lines()
        .filter_map(|line| line.strip_prefix("CapabilityBoundingSet="))
        .flat_map(str::split_whitespace);
    let rights: String =
        rights.map(|right| format!(",+{}", right.trim_start_matches("CAP_").to_lowercase())).collect();
    assert!(rights.contains("+net_admin"), "{rights}");
    let lab = Lab::without_daemon();
    lab.start_daemons_by(&["setpriv", "--bounding-set", &format!("-all{rights}")]);
    lab.start_daemon();
    lab.network("mynet", "--ipv6 --subnet 10.1.0.0/24 --subnet 2001:db8::/64");
    lab.run("web01", "--net mynet -p 8080:80");
    lab.run("web02", "--net mynet");
    lab.exec("web02", "ping -c1 web01").ok();
    lab.exec("web02", "ping -6 -c1 web01").ok();
    lab.host(["ip", "netns", "add", "blue"]).ok();
    lab.netbpf(["connect", "mynet", "netns:blue"]).ok();
    lab.host(["nsenter", "--net=/run/netns/blue", "ping", "-c1", "10.1.0.2"]).ok();
    lab.restart_daemon();
    lab.exec("web02", "ping -c1 web01").ok();
    assert_eq!(lab.netbpf(["port", "web01", "80"]).ok().text().lines().next(), Some("0.0.0.0:8080"));
    lab.netbpf(["disconnect", "mynet", "netns:blue"]).ok();
    lab.host(["ip", "netns", "del", "blue"]).ok();
}
