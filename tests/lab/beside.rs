//! netbpf beside a Docker engine with its own networks and rules.

use netbpf_tests::lab::{Lab, Process, eventually};

use super::{outside::Neighbourhood, reach};

/// The engine's options: all of its files are in a directory of the lab.
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

/// Starts the engine with further options, and waits until it answers.
#[track_caller]
pub fn start_engine(lab: &Lab, options: &str) -> Process {
    lab.host(["mkdir", "-p", "/run/engine"]).ok();
    let engine = lab.spawn(ENGINE.into_iter().chain(options.split_whitespace()));
    eventually("the engine answers", || {
        lab.host(["sh", "-c", &format!("{DOCKER} version")]).status.success().then_some(())
    });
    engine
}

/// Stops the engine, and removes what every engine leaves behind.
#[track_caller]
pub fn stop_engine(lab: &Lab, engine: Process) {
    engine.signal(nix::sys::signal::Signal::SIGTERM);
    let _ = engine.output();
    let clear = "for link in $(ip -br link show type bridge | cut -d' ' -f1); do ip link del $link; done
                 for file in $(cut -d' ' -f2 /proc/self/mounts | grep ^/run/ | grep -e engine -e docker); do busybox umount $file; done
                 rm -rf /run/engine /run/docker /run/xtables.lock /run/containerd; nft flush ruleset";
    lab.host(["sh", "-c", clear]).ok();
}

/// The engine's rules, without counters and without netbpf's.
fn rules(lab: &Neighbourhood) -> String {
    let save = "iptables-save | grep -v -e '^#' -e 'netbpf' | sed 's/\\[.*\\]//' | sort";
    lab.host(["sh", "-c", save]).ok().stdout
}

#[test]
fn a_docker_engine_and_netbpf_leave_each_other_alone() {
    let lab = Neighbourhood::start();
    let engine = start_engine(&lab, "");
    // The engine sets this policy if it turns forwarding on itself.
    lab.host(["iptables", "-P", "FORWARD", "DROP"]).ok();
    lab.host(["sh", "-c", &format!("{DOCKER} network create theirs")]).ok();
    let before = rules(&lab);
    assert!(before.contains("MASQUERADE"), "{before}");

    reach::people(&lab);
    reach::each_row(&lab);
    assert_eq!(rules(&lab), before, "no rule of theirs was touched");
    traffic_that_docker_drops_stays_dropped(&lab);

    // Changes of the engine's networks change the engine's rules only.
    lab.host(["sh", "-c", &format!("{DOCKER} network rm theirs")]).ok();
    lab.host(["sh", "-c", &format!("{DOCKER} network create others")]).ok();
    reach::each_row(&lab);
    stop_engine(&lab, engine);
    // After a flush of all rules, netbpf restores its own.
    eventually("netbpf's table is back", || {
        lab.host(["nft", "list", "table", "inet", "netbpf"]).status.success().then_some(())
    });
    reach::each_row(&lab);
}

/// With a container of the engine at 10.199.0.2. It is a namespace, because there is no image to start a container
/// from.
#[track_caller]
fn traffic_that_docker_drops_stays_dropped(lab: &Neighbourhood) {
    let add = "ip netns add theirs; ip link add veththeirs type veth peer name eth0 netns theirs
               ip link set veththeirs master docker0 up
               ip -n theirs addr add 10.199.0.2/24 dev eth0; ip -n theirs link set eth0 up
               ip -n theirs route add default via 10.199.0.1";
    lab.host(["sh", "-ec", add]).ok();
    lab.run("guest", "");
    let reaches = |address: &str| lab.exec("guest", &format!("ping -c1 -W1 {address}")).status.success();
    lab.host(["ping", "-c1", "10.199.0.2"]).ok();
    eventually("guest reaches other hosts", || reaches("192.0.2.2").then_some(()));
    assert!(!reaches("10.199.0.2"), "two bridges are apart");
    // Rules in DOCKER-USER also apply to netbpf's containers.
    let user = |rule: &str| {
        lab.host(["sh", "-ec", &format!("iptables {rule}")]).ok();
    };
    let rule = "DOCKER-USER -d 192.0.2.2 -j DROP";
    user(&format!("-I {rule}"));
    assert!(!reaches("192.0.2.2") && reaches("203.0.113.2"));
    user(&format!("-D {rule}"));
    user("-I DOCKER-USER -j DROP");
    eventually("DOCKER-USER drops all", || (!reaches("203.0.113.2")).then_some(()));
    user("-D DOCKER-USER -j DROP");
    eventually("guest reaches other hosts again", || reaches("192.0.2.2").then_some(()));
    lab.netbpf(["rm", "-f", "guest"]).ok();
    lab.host(["ip", "netns", "del", "theirs"]).ok();
}
