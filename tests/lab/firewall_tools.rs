//! The real ufw and firewalld on the same host: after each of their commands, containers and published ports work within a
//! second, the log says so, and the tool's own rules are as it made them. Both run with configurations of their own.
//!
//! firewalld's packages are unpacked in `target`, not installed: an installed firewalld starts with the machine, and closes
//! its ports.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
    time::{Duration, Instant},
};

use netbpf_tests::lab::{Lab, Process, eventually, tell};
use nix::sys::signal::Signal;

use super::outside::{Neighbourhood, ask};

/// How long traffic may be cut after a command.
const BOUND: Duration = Duration::from_secs(1);

/// A directory with ufw's configuration, mounted over the machine's.
const UFW: &str = "mkdir /run/ufw.etc; cp -a /etc/ufw/. /run/ufw.etc; mount --bind /run/ufw.etc /etc/ufw";
const NO_UFW: &str = "umount /etc/ufw; rm -rf /run/ufw.etc /run/mount /run/ufw.lock /run/xtables.lock; \
                      for table in ip.filter ip6.filter; do nft delete table ${table%.*} ${table#*.}; done";

/// The rules of others: those of all tables but netbpf's, without netbpf's rules in them. Tables and chains are sorted,
/// because a reload may make them in another order.
#[track_caller]
fn theirs(lab: &Lab) -> String {
    let mut parts: BTreeMap<(&str, &str), String> = BTreeMap::new();
    let (mut table, mut part) = ("", "");
    let all = lab.host(["nft", "-s", "list", "ruleset"]).ok().stdout;
    for line in all.lines() {
        match (line.starts_with("table "), line.ends_with('{')) {
            (true, _) => (table, part) = (line, ""),
            (false, true) => part = line,
            (false, false) => {}
        }
        if table != "table inet netbpf {" && !line.contains("comment \"netbpf\"") {
            *parts.entry((table, part)).or_default() += &format!("{line}\n");
        }
    }
    parts.into_values().collect()
}

/// A container with a published port, on a host without daemon where the tool has run already.
#[track_caller]
fn start(lab: &Lab) {
    lab.start_daemon();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    let server = ["socat", "TCP-LISTEN:80,fork,reuseaddr", "SYSTEM:echo reached"];
    let options = "run -d --name web --net mynet -p 8080:80 --";
    lab.netbpf(options.split(' ').chain(server)).ok();
    lab.run("client", "--net mynet");
}

/// Containers reach each other and other hosts, and other hosts the published port.
fn works(lab: &Neighbourhood) -> bool {
    let published = lab.on("far", &ask("192.0.2.1:8080")).text() == "reached";
    published
        && ["web", "192.0.2.2"]
            .iter()
            .all(|to| lab.exec("client", &format!("ping -c1 -W0.2 {to}")).status.success())
}

/// The tool does something; everything works within a second, and the tool's rules are as `expected`. If a chain is given,
/// the log names it.
#[track_caller]
fn comes_back(lab: &Neighbourhood, what: &str, change: impl FnOnce(), chain: &str, expected: &str) {
    let logged = lab.daemon_log().len();
    change();
    let began = Instant::now();
    eventually(&format!("everything works after {what}"), || works(lab).then_some(()));
    let took = began.elapsed();
    println!("{what}: {took:?}");
    assert!(took <= BOUND, "{what}: works after {took:?}");
    tell("changes by others undone", 1);
    tell("longest repair in ms", took.as_millis() as u64);
    eventually(&format!("a line about {chain:?} in the log after {what}"), || {
        lab.daemon_log()[logged..].contains(chain).then_some(())
    });
    let now = theirs(lab);
    let only_in = |one: &str, other: &str| -> Vec<String> {
        one.lines().filter(|line| !other.lines().any(|it| it == *line)).map(str::to_owned).collect()
    };
    let (new, gone) = (only_in(&now, expected), only_in(expected, &now));
    assert!(now == expected, "{what}: new: {new:#?}, gone: {gone:#?}, or in another order");
}

#[test]
fn ufw_is_enabled_reloaded_and_disabled() {
    const COMMANDS: [(&str, &str); 6] = [
        ("ufw --force enable", "ip filter FORWARD"),
        ("ufw reload", "ip filter FORWARD"),
        ("ufw disable", ""),
        ("ufw --force enable", "ip filter FORWARD"),
        ("ufw default deny routed", "ip filter FORWARD"),
        ("ufw disable", ""),
    ];
    let lab = Neighbourhood::without_daemon();
    lab.host(["sh", "-ec", UFW]).ok();
    lab.host(["ufw", "deny", "9999"]).ok();
    // What ufw makes of each command without netbpf.
    let expected = COMMANDS.map(|(command, _)| {
        lab.host(command.split(' ')).ok();
        theirs(&lab)
    });
    assert!(expected[0].contains("policy drop"), "{}", expected[0]);
    start(&lab);
    for ((command, chain), expected) in COMMANDS.iter().zip(&expected) {
        comes_back(&lab, command, || drop(lab.host(command.split(' ')).ok()), chain, expected);
    }
    lab.host(["sh", "-c", NO_UFW]).ok();
}

/// What firewalld needs besides Python and the libraries of `nft` and `dbus-daemon`.
const PACKAGES: &[&str] = &[
    "firewalld",
    "python3-firewall",
    "python3-nftables",
    "python3-dbus",
    "python3-gi",
    "gir1.2-glib-2.0",
    "libgirepository-1.0-1",
];

/// Where they are unpacked, from the machine's package source if they are not there yet.
static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let root = target.join("firewalld");
    if !root.exists() {
        let partial = tempfile::tempdir_in(&target).expect("a folder for firewalld");
        let debs = partial.path().join("debs");
        fs::create_dir(&debs).expect("a folder for packages");
        // As root, because others cannot read a temporary folder of root's.
        let options = ["-o", "APT::Sandbox::User=root", "download"];
        succeeds(Command::new("apt-get").args(options).args(PACKAGES).current_dir(&debs));
        for deb in fs::read_dir(&debs).expect("packages") {
            let deb = deb.expect("a package").path();
            succeeds(Command::new("dpkg").arg("-x").arg(deb).arg(partial.path().join("root")));
        }
        fs::rename(partial.path().join("root"), &root).expect("firewalld");
    }
    root.canonicalize().expect("firewalld")
});

#[track_caller]
fn succeeds(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A bus on which everybody may do everything.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=/run/firewall/bus</listen>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>"#;

/// A shell command that runs one of firewalld's programs, from its own packages and on its own bus.
fn of_firewalld(program: &str, arguments: &str) -> String {
    let root = ROOT.display();
    let libraries = format!("{root}/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    format!(
        "PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={root}/usr/lib/python3/dist-packages LD_LIBRARY_PATH={libraries} \
         GI_TYPELIB_PATH={libraries}/girepository-1.0 DBUS_SYSTEM_BUS_ADDRESS=unix:path=/run/firewall/bus \
         exec /usr/bin/python3 {root}/usr/{program} {arguments}"
    )
}

fn firewall_cmd(arguments: &str) -> String {
    of_firewalld("bin/firewall-cmd", arguments)
}

/// Starts firewalld and waits until it answers.
#[track_caller]
fn firewalld(lab: &Lab) -> Process {
    let options = format!(
        "--nofork --nopid --log-file /run/firewall/log --default-config {}/usr/lib/firewalld --system-config /run/firewall/etc",
        ROOT.display()
    );
    let daemon = lab.spawn(["sh", "-c", &of_firewalld("sbin/firewalld", &options)]);
    eventually("firewalld answers", || {
        lab.host(["sh", "-c", &firewall_cmd("--state")]).status.success().then_some(())
    });
    daemon
}

#[test]
fn firewalld_is_reloaded_stopped_and_started() {
    let lab = Neighbourhood::without_daemon();
    lab.host(["mkdir", "-p", "/run/firewall"]).ok();
    lab.host(["cp", "-r", &format!("{}/etc/firewalld", ROOT.display()), "/run/firewall/etc"]).ok();
    fs::write(lab.path("/run/firewall/bus.conf"), BUS).expect("a configuration");
    let bus = lab.spawn(["dbus-daemon", "--config-file=/run/firewall/bus.conf", "--nofork", "--nopidfile"]);
    eventually("a bus", || lab.path("/run/firewall/bus").exists().then_some(()));
    let daemon = firewalld(&lab);
    let whole = theirs(&lab);
    assert!(whole.contains("chain filter_FORWARD"), "{whole}");
    start(&lab);
    assert_eq!(theirs(&lab), whole);
    for options in ["--reload", "--complete-reload"] {
        let reload = || drop(lab.host(["sh", "-c", &firewall_cmd(options)]).ok());
        comes_back(&lab, options, reload, CHAIN, &whole);
    }
    let stop = || {
        daemon.signal(Signal::SIGTERM);
        let _ = daemon.output();
    };
    comes_back(&lab, "the end of firewalld", stop, "", "");
    let mut daemon = None;
    comes_back(&lab, "the start of firewalld", || daemon = Some(firewalld(&lab)), CHAIN, &whole);
    drop((daemon, bus));
    lab.host(["sh", "-ec", "nft delete table inet firewalld; rm -rf /run/firewall /run/firewalld"]).ok();
}

/// firewalld's chain for forwarded packets.
const CHAIN: &str = "inet firewalld filter_FORWARD";
