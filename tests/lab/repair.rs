//! What somebody else takes away from netbpf on the host is back within a second, the log names it, and what is not
//! netbpf's stays as it is. Nothing is asked of the daemon meanwhile: the kernel's events tell it.

use std::{
    fs,
    time::{Duration, Instant},
};

use aya::programs::{SchedClassifier, TcAttachType};
use netbpf_tests::lab::{Lab, eventually, tell};

use super::pins::{folder, pin};

const BOUND: Duration = Duration::from_secs(1);

/// A table of somebody else's, which must stay as it is.
pub const THEIRS: &str = "add table inet theirs; add chain inet theirs f { type filter hook forward priority -10; }; \
                      add rule inet theirs f counter";

/// A host with the containers `web` (10.1.0.2) and `client` on the network `mynet`.
fn lab() -> Lab {
    let lab = Lab::start();
    lab.network("mynet", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    lab.run("web", "--net mynet -p 8080:80");
    lab.run("client", "--net mynet");
    lab.host(["nft", THEIRS]).ok();
    lab
}

/// The host side of a container's interface in a network.
#[track_caller]
pub fn host_side(lab: &Lab, container: &str, network: &str) -> String {
    let networks = lab.inspect(container)["NetworkSettings"]["Networks"].take();
    let endpoint = networks[network]["EndpointID"].as_str().expect("an endpoint").to_owned();
    format!("veth{}", &endpoint[..7])
}

/// A shell script that runs another one while a process is stopped.
pub fn while_stopped(pid: u32, script: &str) -> String {
    let stop = format!("kill -STOP {pid}; until grep -q '^State:.T' /proc/{pid}/status; do :; done");
    format!("{stop}; {script}; kill -CONT {pid}")
}

/// Runs a shell script as somebody else, and measures the time until `is_repaired`. The log must then have `said`, and
/// `doctor` too if it names what somebody did.
#[track_caller]
fn repaired(lab: &Lab, script: &str, said: &str, is_repaired: impl Fn() -> bool) {
    let logged = lab.daemon_log().len();
    lab.host(["sh", "-ec", script]).ok();
    let began = Instant::now();
    eventually(script, || is_repaired().then_some(()));
    let took = began.elapsed();
    eventually(&format!("{said:?} in the log"), || lab.daemon_log()[logged..].contains(said).then_some(()));
    if said.starts_with("somebody ") {
        eventually(&format!("{said:?} in doctor"), || {
            lab.netbpf(["doctor"])
                .stdout
                .lines()
                .any(|line| line.contains(said) && line.starts_with("note"))
                .then_some(())
        });
    }
    println!("{script}: {took:?}");
    tell("changes by others undone", 1);
    tell("longest repair in ms", took.as_millis() as u64);
    assert!(took <= BOUND, "{script}: repaired after {took:?}");
    let theirs = lab.host(["nft", "-s", "list", "table", "inet", "theirs"]).ok();
    assert!(theirs.stdout.contains("counter"), "{theirs}");
}

/// All that containers do works.
#[track_caller]
fn works(lab: &Lab) {
    for address in ["10.1.0.2", "10.1.0.1", "fd00:1::2", "web"] {
        lab.exec("client", &format!("ping -c1 -W2 {address}")).ok();
    }
    lab.host(["ping", "-c1", "-W2", "10.1.0.2"]).ok();
}

/// The names of the programs at an interface of the host.
fn programs_at(lab: &Lab, interface: &str, side: TcAttachType) -> Vec<String> {
    let (_, programs) = lab.on_host(|| SchedClassifier::query_tcx(interface, side)).expect("an interface");
    programs.iter().map(|program| program.name_as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_program_that_is_detached_by_its_link_is_attached_again() {
    let lab = lab();
    let device = lab.device("mynet");
    for (interface, side, program) in [
        (host_side(&lab, "web", "mynet"), TcAttachType::Ingress, "from_container"),
        (device, TcAttachType::Egress, "from_host"),
    ] {
        let script = format!("bpftool link detach pinned {}", pin(&format!("links/{interface}")));
        let said = format!("somebody took netbpf's program from {interface}: it is attached again");
        repaired(&lab, &script, &said, || programs_at(&lab, &interface, side) == [program]);
    }
    works(&lab);
    lab.host(["nft", "delete", "table", "inet", "theirs"]).ok();
}

#[test]
fn removed_pins_are_restored_and_nothing_is_detached_meanwhile() {
    let lab = lab();
    let veth = host_side(&lab, "web", "mynet");
    let numbers = || {
        let (_, programs) =
            lab.on_host(|| SchedClassifier::query_tcx(&veth, TcAttachType::Ingress)).expect("an interface");
        programs.iter().map(|program| program.id()).collect::<Vec<_>>()
    };
    let before = numbers();
    for name in ["maps/FDB", "maps/TAIL_CALLS", "programs/from_host", &format!("links/{veth}")] {
        let path = pin(name);
        let said = format!("somebody removed {path}: it is pinned again");
        repaired(&lab, &format!("rm {path}"), &said, || lab.path(&path).exists());
    }
    let folder = folder();
    let all = || lab.host(["sh", "-c", &format!("find {folder} | sort")]).stdout;
    let pins = all();
    // Some may be back before their directory is to be removed.
    repaired(&lab, &format!("rm -rf {folder} || true"), "pinned again", || all() == pins);
    repaired(&lab, "umount -l /sys/fs/bpf", "mounted a bpf file system on /sys/fs/bpf", || all() == pins);
    assert_eq!(numbers(), before, "the program was attached all the time");
    works(&lab);
    // The next daemon finds all of it.
    lab.kill_daemon();
    lab.host(["ping", "-c1", "-W2", "10.1.0.2"]).ok();
    lab.start_daemon();
    works(&lab);
    lab.host(["nft", "delete", "table", "inet", "theirs"]).ok();
    lab.netbpf(["rm", "-f", "web", "client"]).ok();
    lab.netbpf(["network", "rm", "mynet"]).ok();
    lab.stop_daemon();
    assert!(!fs::read_to_string(lab.path("/proc/1/mounts")).expect("mounts").contains(" bpf "));
    lab.host(["sh", "-ec", "mount -t bpf bpf /sys/fs/bpf; rm -rf /run/mount"]).ok();
}

#[test]
fn a_directory_of_pins_that_is_made_again_is_watched() {
    let lab = lab();
    let daemon = lab.processes("netbpf daemon")[0];
    for name in ["maps", "programs", "links"] {
        let folder = pin(name);
        let some = lab.host(["ls", &folder]).ok().stdout;
        let some = format!("{folder}/{}", some.lines().next().expect("a pin"));
        // All at once, before the daemon can restore one of them.
        let script = while_stopped(daemon, &format!("rm -r {folder}"));
        let said = format!("somebody removed {some}: it is pinned again");
        repaired(&lab, &script, &said, || lab.path(&some).exists());
        repaired(&lab, &format!("rm {some}"), &said, || lab.path(&some).exists());
    }
    works(&lab);
    lab.host(["nft", "delete", "table", "inet", "theirs"]).ok();
}

#[test]
fn pins_that_cannot_be_restored_are_reported() {
    let lab = lab();
    // All at once, before the daemon can restore one of them.
    let remove = "chmod 777 /sys/fs/bpf; rm -rf /sys/fs/bpf/netbpf";
    lab.host(["sh", "-ec", &while_stopped(lab.processes("netbpf daemon")[0], remove)]).ok();
    let said = "pins that somebody removed are missing: /sys/fs/bpf may be written by others than root";
    eventually("doctor names them", || {
        let doctor = lab.netbpf(["doctor"]);
        (doctor.status.code() == Some(1) && doctor.stdout.contains(said)).then_some(())
    });
    assert_eq!(lab.daemon_log().matches(said).count(), 1, "{}", lab.daemon_log());
    works(&lab);
    // The daemon tries again with the next event.
    lab.host(["chmod", "700", "/sys/fs/bpf"]).ok();
    let script = "mount -t tmpfs tmpfs /mnt; umount /mnt; rm -rf /run/mount";
    repaired(&lab, script, "are pinned again", || lab.path(pin("maps/FDB")).exists());
    assert!(!lab.netbpf(["doctor"]).stdout.contains(said));
    lab.host(["nft", "delete", "table", "inet", "theirs"]).ok();
}

#[test]
fn a_deleted_interface_of_a_container_is_made_again() {
    let lab = lab();
    let (veth, device) = (host_side(&lab, "web", "mynet"), lab.device("mynet"));
    let before = lab.inspect("web");
    let inside = || lab.in_network_of("web", "ip -br address show eth0; ip route; ip -6 route show default");
    let seen = inside().stdout;
    let said = format!("somebody deleted {veth}: it is made again");
    let works_again = || {
        let reached = lab.exec("client", "ping -c1 -W0.1 web").status.success();
        reached && lab.exec("web", "ping -c1 -W0.1 10.1.0.1").status.success()
    };
    repaired(&lab, &format!("ip link del {veth}"), &said, works_again);
    // The container's side, from inside.
    let inner = format!("nsenter -t {} -n ip link del eth0", lab.pid("web"));
    repaired(&lab, &inner, &said, works_again);
    assert_eq!(inside().stdout, seen);
    assert_eq!(lab.inspect("web"), before);
    let said = format!("somebody deleted {device}: it is made again");
    repaired(&lab, &format!("ip link del {device}"), &said, works_again);
    works(&lab);
    // One who does not stop has his way, and that is told.
    let doctor = eventually("it is left alone", || {
        let _ = lab.host(["ip", "link", "del", &veth]);
        let doctor = lab.netbpf(["doctor"]);
        doctor.stdout.contains("again and again").then_some(doctor)
    });
    let line = format!("somebody changes {veth} again and again: it is left alone for 60 s");
    assert!(doctor.fails_with(1, "").stdout.contains(&line));
    lab.netbpf(["restart", "-t", "0", "web"]).ok();
    works(&lab);
    lab.host(["nft", "delete", "table", "inet", "theirs"]).ok();
}

#[test]
fn a_container_that_ends_is_not_taken_for_one_whose_interface_was_deleted() {
    let lab = Lab::start();
    for round in 0..5 {
        lab.run("web", "");
        if round % 2 == 0 {
            lab.host(["kill", "-9", &lab.pid("web").to_string()]).ok();
            eventually("it has ended", || (lab.inspect("web")["State"]["Running"] == false).then_some(()));
        }
        lab.netbpf(["rm", "-f", "web"]).ok();
    }
    let log = lab.daemon_log();
    assert!(!log.contains("somebody deleted") && !log.contains("ERROR"), "{log}");
}

#[test]
fn a_flushed_packet_filter_is_restored() {
    let lab = lab();
    let table = || lab.host(["nft", "-s", "list", "table", "inet", "netbpf"]).stdout;
    let whole = table();
    let said = "somebody changed the packet filter: netbpf's part is put in place again";
    let reload = format!("nft flush ruleset; nft '{THEIRS}'");
    for script in ["nft delete table inet netbpf", "nft flush table inet netbpf", &reload] {
        repaired(&lab, script, said, || table() == whole);
    }
    // What ufw does: it replaces its chains, and the policy drops what no rule accepts.
    let ufw = "printf '*filter\\n:FORWARD DROP [0:0]\\nCOMMIT\\n' | iptables-restore";
    lab.host(["sh", "-ec", ufw]).ok();
    let began = Instant::now();
    eventually("netbpf's rules are in the chain", || {
        lab.host(["iptables", "-S", "FORWARD"]).stdout.contains("netbpf").then_some(())
    });
    assert!(began.elapsed() <= BOUND, "{:?}", began.elapsed());
    lab.host([
        "sh",
        "-ec",
        "nft delete table ip filter; nft delete table inet theirs; rm -f /run/xtables.lock",
    ])
    .ok();
}

#[test]
fn forwarding_that_is_turned_off_is_turned_on_again() {
    let lab = lab();
    let device = lab.device("mynet");
    let values = |name: &str| lab.host(["sysctl", "-n", name]).stdout.trim() == "1";
    let all = "net.ipv4.ip_forward";
    let said = format!("somebody set {all} to 0");
    repaired(&lab, &format!("sysctl -qw {all}=0"), &said, || values(all));
    works(&lab);
    let of_device = format!("net.ipv4.conf.{device}.forwarding");
    let said = format!("somebody set net.ipv4.conf.{device}.forwarding to 0");
    repaired(&lab, &format!("sysctl -qw {of_device}=0"), &said, || values(&of_device));
    lab.host(["nft", "delete", "table", "inet", "theirs"]).ok();
}

#[test]
fn a_removed_namespace_leaves_its_network() {
    let lab = lab();
    lab.host(["ip", "netns", "add", "blue"]).ok();
    lab.netbpf(["connect", "mynet", "netns:blue"]).ok();
    let names = || lab.netbpf(["ps", "-a", "--format", "{{.Names}}"]).stdout;
    assert!(names().contains("netns:blue"));
    let said = "its network namespace is gone container=\"netns:blue\"";
    repaired(&lab, "ip netns del blue", said, || !names().contains("netns:blue"));
    works(&lab);
    lab.host(["nft", "delete", "table", "inet", "theirs"]).ok();
}
