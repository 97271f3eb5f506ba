//! The Debian packages on a Debian 12 and a Debian 13: with systemd as process 1, and without it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::LazyLock,
};

use netbpf_tests::lab::eventually;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Ended, Machine, root_of};
use crate::task::{netbpf, xtask};

/// The folder of the packages in a machine.
const DEBS: &str = "/tmp/debs";
/// Version of the later package.
const LATER: &str = "9.0";

/// Packages of the built program, in this version and a later one.
pub static PACKAGES: LazyLock<Packages> = LazyLock::new(Packages::make);

pub struct Packages {
    first: PathBuf,
    symbols: PathBuf,
    later: PathBuf,
}

impl Packages {
    fn make() -> Self {
        // A static value is not dropped, so the folder is cargo's, and there once.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        // Without the debug information, which takes minutes to compress. Its symbols remain.
        let program = folder.join("netbpf");
        let mut strip = Command::new("strip");
        strip.args(["--strip-debug", "-o"]).arg(&program).arg(netbpf());
        assert!(strip.status().expect("strip").success());
        let [first, symbols] = package(&program, &folder.join("first"), "");
        let [later, _] = package(&program, &folder.join("later"), &format!("--version {LATER}"));
        let [same, same_symbols] = package(&program, &folder.join("again"), "");
        for (one, other) in [(&first, &same), (&symbols, &same_symbols)] {
            assert!(fs::read(one).expect("it") == fs::read(other).expect("it"), "{} differs", one.display());
        }
        Self { first, symbols, later }
    }

    /// Copies the packages to a machine.
    #[track_caller]
    pub fn give_to(&self, machine: &Machine) {
        fs::create_dir(machine.path(DEBS)).expect("a folder");
        for (deb, name) in [(&self.first, "first.deb"), (&self.later, "later.deb")] {
            fs::copy(deb, machine.path(DEBS).join(name)).expect("a copy");
        }
    }
}

/// Runs `cargo xtask package`. Returns the paths of the packages.
#[track_caller]
fn package(program: &Path, output: &Path, options: &str) -> [PathBuf; 2] {
    let mut task = Command::new(xtask());
    task.arg("package")
        .arg("--program")
        .arg(program)
        .arg("--output")
        .arg(output)
        .args(["--compression", "1"]);
    let ended = task.args(options.split_whitespace()).output().expect("the task runs");
    assert!(ended.status.success(), "{ended:?}");
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    let paths: Vec<PathBuf> = said.lines().map(PathBuf::from).collect();
    paths.try_into().unwrap_or_else(|_| panic!("two packages: {said}"))
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All files of a machine with their kinds, modes and targets, without dpkg's own and the journal.
#[track_caller]
fn files(machine: &Machine) -> String {
    machine.succeeds(
        "find / -xdev \\( -path /var/lib/dpkg -o -path /var/cache -o -path /var/log -o -path /var/lib/systemd/catalog \
         -o -path /tmp \\) -prune -o -printf '%p %y %m %l\\n' | sort",
    )
}

/// What netbpf may leave in the kernel and in `/run`.
#[track_caller]
fn traces(machine: &Machine) -> String {
    machine.succeeds("ip -brief link; nft list ruleset; ls /sys/fs/bpf; find /run/netbpf /run/docker 2>&1; readlink /proc/[0-9]*/exe | grep netbpf || true")
}

/// Packets between two containers, which the test counts.
struct Traffic(Child);

impl Traffic {
    #[track_caller]
    fn start(machine: &Machine) -> Self {
        // A process of its own in the container, so that it outlives the program's file.
        let inside = machine.succeeds("netbpf inspect -f '{{.State.Pid}}' one");
        let address =
            machine.succeeds("netbpf inspect -f '{{.NetworkSettings.Networks.mynet.IPAddress}}' two");
        let ping = format!("exec nsenter --target {inside} --net ping -i 0.02 {address}");
        Self(machine.command(&ping).stdout(Stdio::piped()).spawn().expect("nsenter"))
    }

    /// Ends it, and checks that no packet was lost.
    #[track_caller]
    fn end_complete(self) {
        // nsenter forks, because it enters a namespace of processes.
        let children =
            fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.0.id())).expect("children");
        let ping = children.trim().parse().expect("one child");
        kill(Pid::from_raw(ping), Signal::SIGINT).expect("a signal");
        let said = text(self.0.wait_with_output().expect("an end"));
        assert!(said.contains(" 0% packet loss"), "{said}");
    }
}

/// Starts two containers in a network with names.
#[track_caller]
fn start_containers(machine: &Machine) {
    machine.succeeds("netbpf network create --subnet 10.1.0.0/24 mynet");
    for name in ["one", "two"] {
        machine.succeeds(&format!("netbpf run -d --name {name} --net mynet -- sleep infinity"));
    }
    machine.succeeds("netbpf exec one ping -c1 -W1 two");
}

#[track_caller]
fn remove_containers(machine: &Machine) {
    machine.succeeds("netbpf rm -f one two && netbpf network rm mynet");
}

fn lives_under_systemd(suite: &str) {
    let machine = Machine::boot(&root_of(suite));
    PACKAGES.give_to(&machine);
    machine.succeeds("mkdir -p /etc/cni/net.d /opt/cni/bin");
    let before = (files(&machine), traces(&machine));

    // An administrator's policy holds.
    machine
        .succeeds("printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d");
    machine.succeeds("dpkg -i /tmp/debs/first.deb && rm /usr/sbin/policy-rc.d");
    let stopped = machine.type_("systemctl is-active netbpf.service netbpf.socket").said;
    assert_eq!(stopped, "inactive\ninactive");
    machine.succeeds("dpkg --purge netbpf");

    machine.succeeds("dpkg -i /tmp/debs/first.deb");
    let both = "netbpf.service netbpf.socket";
    assert_eq!(
        machine.succeeds(&format!("systemctl is-active {both}; systemctl is-enabled {both}")),
        "active\nactive\nenabled\nenabled"
    );
    start_containers(&machine);

    // An upgrade restarts the daemon. Traffic and commands go on.
    let traffic = Traffic::start(&machine);
    let daemon = "systemctl show --property=MainPID netbpf.service";
    let former = machine.succeeds(daemon);
    let busy = "touch /tmp/busy; while [ -e /tmp/busy ]; do netbpf network ls >/dev/null || exit 1; done";
    let commands = machine.command(busy).spawn().expect("nsenter");
    eventually("commands", || machine.path("/tmp/busy").exists().then_some(()));
    machine.succeeds("dpkg -i /tmp/debs/later.deb");
    machine.succeeds("rm /tmp/busy");
    text(commands.wait_with_output().expect("an end"));
    traffic.end_complete();
    assert_ne!(machine.succeeds(daemon), former);
    assert_eq!(machine.succeeds("dpkg-query --show --showformat='${Version}' netbpf"), LATER);
    machine.succeeds("netbpf exec two ping -c1 -W1 one");

    // Without the package, they still go on. They are not forgotten as long as they do.
    let traffic = Traffic::start(&machine);
    let said = machine.succeeds("dpkg --remove netbpf");
    assert!(said.contains("\nContainers and networks continue until the machine is rebooted"), "{said}");
    assert_eq!(machine.type_(&format!("systemctl is-active {both}")).said, "inactive\ninactive");
    let Ended { success, said } = machine.type_("dpkg --purge netbpf");
    assert!(
        !success && said.contains("programs are still attached (/sys/fs/bpf/netbpf): install netbpf again"),
        "{said}"
    );
    traffic.end_complete();
    machine.succeeds("dpkg -i /tmp/debs/first.deb");
    machine.succeeds("netbpf exec one ping -c1 -W1 two");

    remove_containers(&machine);
    machine.succeeds("netbpf cni enable bridge; dpkg --purge netbpf");
    assert!(!machine.type_("dpkg --status netbpf").success);
    assert_eq!((files(&machine), traces(&machine)), before);
}

fn lives_without_systemd(suite: &str) {
    let machine = Machine::without_systemd(&root_of(suite));
    PACKAGES.give_to(&machine);
    let before = (files(&machine), traces(&machine));
    let said = machine.succeeds("dpkg -i /tmp/debs/first.deb");
    let usual = ["Selecting ", "(Reading ", "Preparing ", "Unpacking ", "Setting up ", "Created symlink "];
    assert!(said.lines().all(|line| usual.iter().any(|word| line.starts_with(word))), "{said}");
    let daemon = machine
        .command("echo $$ > /tmp/daemon; exec netbpf daemon")
        .stderr(Stdio::null())
        .spawn()
        .expect("nsenter");
    eventually("a daemon that answers", || machine.type_("netbpf version").success.then_some(()));
    start_containers(&machine);
    remove_containers(&machine);
    machine.succeeds("kill $(cat /tmp/daemon)");
    text(daemon.wait_with_output().expect("an end"));
    machine.succeeds("dpkg --remove netbpf");
    machine.succeeds("dpkg --purge netbpf");
    assert_eq!((files(&machine), traces(&machine)), before);
}

#[test]
fn it_lives_on_debian_12() {
    lives_under_systemd("bookworm");
    lives_without_systemd("bookworm");
}

#[test]
fn it_lives_on_debian_13() {
    lives_under_systemd("trixie");
    lives_without_systemd("trixie");
}

#[test]
fn symbols_are_found_by_the_build_id() {
    let folder = tempfile::tempdir().expect("a folder");
    for deb in [&PACKAGES.first, &PACKAGES.symbols] {
        let mut unpack = Command::new("dpkg-deb");
        assert!(unpack.arg("-x").arg(deb).arg(folder.path()).status().expect("dpkg-deb").success());
    }
    let read = |option: &str, file: &Path| {
        text(Command::new("readelf").arg(option).arg(file).output().expect("readelf"))
    };
    let program = folder.path().join("usr/bin/netbpf");
    let notes = read("--notes", &program);
    let id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).expect("a build ID");
    let symbols = folder.path().join(format!("usr/lib/debug/.build-id/{}/{}.debug", &id[..2], &id[2..]));
    assert!(read("--sections", &symbols).contains(".symtab"));
    assert!(!read("--sections", &program).contains(".symtab"));
}

#[test]
fn lintian_finds_no_fault() {
    let checked = Command::new("lintian")
        .args(["--fail-on", "error,warning,info", "--display-info", "--allow-root"])
        // Not for the symbols, which are incomplete here.
        .arg(&PACKAGES.first)
        .output()
        .expect("lintian");
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}{}", String::from_utf8_lossy(&checked.stderr));
}
