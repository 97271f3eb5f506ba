//! Installation on a host made of namespaces with an empty /usr/local, with and without systemd.

use std::{fs, os::unix::fs::PermissionsExt};

use netbpf_tests::lab::{Lab, Output};

use crate::task::{install, xtask};

/// A fake systemctl that logs its arguments and fails for those in /run/refused.
const SYSTEMCTL: &str = "#!/bin/sh\necho \"$*\" >> /run/asked\n! grep -qsxF \"$*\" /run/refused\n";

/// A host for the installation.
struct Machine {
    lab: Lab,
}

impl Machine {
    #[track_caller]
    fn new() -> Self {
        let lab = Lab::without_daemon();
        // An empty /var/lib, so that a bug cannot purge the machine's own state.
        for folder in ["/usr/local", "/var/lib"] {
            lab.host(["mount", "-t", "tmpfs", "tmpfs", folder]).ok();
        }
        Self { lab }
    }

    /// A host with a fake systemd.
    #[track_caller]
    fn with_systemd() -> Self {
        let machine = Self::new();
        fs::create_dir_all(machine.lab.path("/run/systemd/system")).expect("a folder");
        fs::create_dir_all(machine.lab.path("/run/fake")).expect("a folder");
        let systemctl = machine.lab.path("/run/fake/systemctl");
        fs::write(&systemctl, SYSTEMCTL).expect("a program");
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).expect("a program");
        machine
    }

    #[track_caller]
    fn task(&self, task: &str) -> Output {
        let path = format!("PATH=/run/fake:{}", std::env::var("PATH").unwrap_or_default());
        let xtask = xtask().display().to_string();
        self.lab.host(["env", &path, &xtask].into_iter().chain(task.split_whitespace()))
    }

    /// The calls of systemctl since the last time.
    #[track_caller]
    fn asked(&self) -> Vec<String> {
        let path = self.lab.path("/run/asked");
        let asked = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        asked.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn files(&self) -> String {
        self.lab.host(["sh", "-c", "find /usr/local -mindepth 1 | sort"]).ok().stdout
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.lab.host(["umount", "/usr/local", "/var/lib"]).ok();
            self.lab
                .host(["rm", "-rf", "/run/systemd", "/run/fake", "/run/refused", "/run/asked", "/run/mount"])
                .ok();
        }
    }
}

#[test]
fn without_systemd_the_manual_start_command_is_printed() {
    let machine = Machine::new();
    let said = machine.task(&install("")).ok();
    assert_eq!(
        said.text().lines().last(),
        Some("systemd does not run here; to start the daemon by hand, as root: /usr/local/bin/netbpf daemon")
    );
    machine
        .lab
        .host(["/usr/local/bin/netbpf", "version"])
        .fails_with(1, "Cannot connect to the netbpf daemon");
    machine.lab.start_daemon();
    let said = machine.task("uninstall").ok();
    assert_eq!(said.text().lines().last(), Some("a daemon that was started by hand still runs"));
    assert_eq!(machine.files(), "");
    machine.lab.stop_daemon();
}

#[test]
fn systemd_accepts_the_units() {
    let machine = Machine::new();
    machine.task(&install("")).ok();
    let verified = machine.lab.host([
        "systemd-analyze",
        "verify",
        "--man=no",
        "--recursive-errors=no",
        "/usr/local/lib/systemd/system/netbpf.service",
        "/usr/local/lib/systemd/system/netbpf.socket",
    ]);
    assert_eq!(verified.ok().stderr, "");
}

#[test]
fn with_systemd_the_daemon_is_started_and_stopped() {
    let machine = Machine::with_systemd();
    machine.task(&install("")).ok();
    let start = [
        "daemon-reload",
        "enable netbpf.socket netbpf.service",
        "start netbpf.socket",
        "restart netbpf.service",
    ];
    assert_eq!(machine.asked(), start);
    machine.task("uninstall").ok();
    assert_eq!(machine.asked(), ["disable --now netbpf.service netbpf.socket", "daemon-reload"]);
    assert_eq!(machine.files(), "");
    machine.task(&install("--no-start")).ok();
    assert_eq!(machine.asked(), ["daemon-reload"]);
    machine.task("uninstall").ok();
}

#[test]
fn a_daemon_that_does_not_start_is_not_installed() {
    let machine = Machine::with_systemd();
    fs::write(machine.lab.path("/run/refused"), "restart netbpf.service\n").expect("a file");
    let failed = machine.task(&install("")).fails_with(1, "journalctl -u netbpf");
    assert_eq!(failed.stderr.lines().count(), 1, "{failed}");
    assert_eq!(machine.files(), "");
    assert_eq!(machine.asked()[4..], ["disable --now netbpf.service netbpf.socket", "daemon-reload"]);
    // The earlier version is restored and started again.
    machine.lab.host(["rm", "/run/refused"]).ok();
    machine.task(&install("")).ok();
    let before = machine.files();
    machine.asked();
    fs::write(machine.lab.path("/run/refused"), "enable netbpf.socket netbpf.service\n").expect("a file");
    machine.task(&install("")).fails_with(1, "journalctl -u netbpf");
    assert_eq!(machine.files(), before);
    assert_eq!(machine.asked()[2..], ["daemon-reload", "enable netbpf.socket netbpf.service"]);
    machine.lab.host(["rm", "/run/refused"]).ok();
    machine.task("uninstall").ok();
}

#[test]
fn only_root_installs_on_the_machine_itself() {
    let machine = Machine::new();
    machine.lab.host(["cp", &xtask().display().to_string(), "/run/xtask"]).ok();
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/run/xtask"];
    for task in ["install", "uninstall"] {
        let refused = machine.lab.host(nobody.into_iter().chain([task])).fails_with(1, "only root may");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused}");
    }
    machine.lab.host(["rm", "/run/xtask"]).ok();
}

#[test]
fn a_purge_is_refused_while_containers_or_networks_exist() {
    let machine = Machine::new();
    machine.task(&install("")).ok();
    machine.lab.start_daemon();
    machine.lab.run("tomcat01", "");
    let refused = "1 containers and 0 networks are left: remove them first (netbpf rm -f, netbpf network rm)";
    machine.task("uninstall --purge").fails_with(1, refused);
    machine.lab.kill_daemon();
    machine.task("uninstall --purge").fails_with(1, "programs are still attached (/sys/fs/bpf/netbpf)");
    machine.lab.host(["/usr/local/bin/netbpf", "version"]).fails_with(1, "");
    machine.task("uninstall").ok();
    machine.lab.start_daemon();
    machine.lab.netbpf(["rm", "-f", "tomcat01"]).ok();
}
