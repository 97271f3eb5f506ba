//! Beside a Docker engine with networks and rules of its own.

use netbpf_tests::lab::{Lab, Process, eventually};

use super::{outside::Neighbourhood, reach};

/// Everything that the engine has is in a folder of the lab's.
const ENGINE: [&str; 11] = [
    "dockerd",
    "--data-root=/run/engine/data",
    "--exec-root=/run/engine/exec",
    "--pidfile=/run/engine/pid",
    "--host=unix:///run/engine/docker.sock",
    "--storage-driver=vfs",
    "--log-level=warn",
    "--default-address-pool=base=10.200.0.0/16,size=24",
    "--bip=10.199.0.1/24",
    "--registry-mirror=http://127.0.0.1:9",
    "--userland-proxy=true",
];

pub const DOCKER: &str = "docker -H unix:///run/engine/docker.sock";

/// Starts the engine, with more options, and waits until it answers.
#[track_caller]
pub fn start_engine(lab: &Lab, options: &str) -> Process {
    lab.host(["mkdir", "-p", "/run/engine"]).ok();
    let engine = lab.spawn(ENGINE.into_iter().chain(options.split_whitespace()));
    eventually("the engine answers", || {
        lab.host(["sh", "-c", &format!("{DOCKER} version")]).status.success().then_some(())
    });
    engine
}

/// Ends the engine, and removes what engines leave.
#[track_caller]
pub fn stop_engine(lab: &Lab, engine: Process) {
    engine.signal(nix::sys::signal::Signal::SIGTERM);
    let _ = engine.output();
    let clear = "for link in $(ip -br link show type bridge | cut -d' ' -f1); do ip link del $link; done
                 for file in $(cut -d' ' -f2 /proc/self/mounts | grep ^/run/ | grep -e engine -e docker); do busybox umount $file; done
                 rm -rf /run/engine /run/docker /run/xtables.lock /run/containerd; nft flush ruleset";
    lab.host(["sh", "-c", clear]).ok();
}

/// The engine's rules, without counters and without ours.
fn rules(lab: &Neighbourhood) -> String {
    let save = "iptables-save | grep -v -e '^#' -e 'netbpf' | sed 's/\\[.*\\]//' | sort";
    lab.host(["sh", "-c", save]).ok().stdout
}

#[test]
fn a_docker_engine_and_netbpf_leave_each_other_alone() {
    let lab = Neighbourhood::start();
    let engine = start_engine(&lab, "");
    // As the engine has it where it turned forwarding on itself.
    lab.host(["iptables", "-P", "FORWARD", "DROP"]).ok();
    lab.host(["sh", "-c", &format!("{DOCKER} network create theirs")]).ok();
    let before = rules(&lab);
    assert!(before.contains("MASQUERADE"), "{before}");

    reach::people(&lab);
    reach::each_row(&lab);
    assert_eq!(rules(&lab), before, "no rule of theirs was touched");

    // Theirs come again, ours stay.
    lab.host(["sh", "-c", &format!("{DOCKER} network rm theirs")]).ok();
    lab.host(["sh", "-c", &format!("{DOCKER} network create others")]).ok();
    reach::each_row(&lab);
    stop_engine(&lab, engine);
    // With everything flushed, netbpf's part comes back by itself.
    eventually("netbpf's table is back", || {
        lab.host(["nft", "list", "table", "inet", "netbpf"]).status.success().then_some(())
    });
    reach::each_row(&lab);
}
