//! Tests on a machine made of namespaces, with the root file system of a Debian suite and that suite's systemd as process 1, or
//! without systemd. The machine must not know what is installed on it.

mod nspawn;
mod package;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use netbpf_tests::{groups::ControlGroup, lab::eventually};
use tempfile::TempDir;

/// A suite's root file system, which `cargo xtask test` makes.
#[track_caller]
pub fn root_of(suite: &str) -> PathBuf {
    let variable = format!("{}_ROOT", suite.to_uppercase());
    let root = std::env::var_os(&variable);
    root.unwrap_or_else(|| panic!("{variable} is not set: run these tests by cargo xtask test")).into()
}

/// How long a machine may take to boot. It takes a few seconds by itself.
const BOOT_TIME: Duration = Duration::from_secs(120);

/// The namespaces of a machine, as `unshare` and `nsenter` name them.
const NAMESPACES: [&str; 6] = ["--net", "--mount", "--uts", "--ipc", "--pid", "--cgroup"];

/// Makes the mounts of a machine in `$PLACE`, over the root `$BELOW`, and becomes its process 1, `$@`. As in other
/// containers with systemd, what belongs to the whole kernel is read-only: `/sys`, and `/proc/sys` but for the network.
const BOOT: &str = r#"
mount -t tmpfs tmpfs "$PLACE"
mkdir "$PLACE/upper" "$PLACE/work" "$PLACE/root"
mount -t overlay overlay -o lowerdir="$BELOW",upperdir="$PLACE/upper",workdir="$PLACE/work" "$PLACE/root"
cd "$PLACE/root"
hostname machine
ip link set lo up
mount -t proc proc proc
mount --bind proc/sys proc/sys; mount -o remount,bind,ro proc/sys; mount --bind /proc/sys/net proc/sys/net
mount -t sysfs sysfs sys -o ro
mount -t cgroup2 cgroup2 sys/fs/cgroup; mount -t bpf bpf sys/fs/bpf
mount -t tmpfs tmpfs run; mount -t tmpfs tmpfs tmp; mount -t tmpfs tmpfs dev -o mode=755
mkdir dev/pts dev/shm
mount -t devpts devpts dev/pts -o newinstance,ptmxmode=0666
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
for node in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "dev/${node%:*}" c 1 "${node#*:}"; done
mknod -m 666 dev/tty c 5 0
mkdir tmp/old
pivot_root . tmp/old
exec env -i container=netbpf-tests PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -ec 'umount -l /tmp/old; rmdir /tmp/old; : > /run/machine; exec "$@"' sh "$@"
"#;

/// A machine. It ends with this value.
pub struct Machine {
    process: Child,
    /// Its process 1, as this process sees it.
    init: u32,
    _group: ControlGroup,
    _place: TempDir,
}

/// The end of a command.
#[derive(Debug)]
pub struct Ended {
    pub success: bool,
    /// Its output and its errors.
    pub said: String,
}

impl Machine {
    /// Boots a machine with systemd, and waits until it has booted.
    #[track_caller]
    pub fn boot(root: &Path) -> Self {
        let machine = Self::start(root, &["/lib/systemd/systemd"]);
        // Degraded if a unit of the suite's failed, such as one that loads modules of other kernels. Starting takes as long
        // as the machine is busy with other tests.
        let state = || machine.type_("systemctl is-system-running").said;
        let is_about_to_boot = || ["", "initializing", "starting"].contains(&state().as_str());
        let give_up = Instant::now() + BOOT_TIME;
        while is_about_to_boot() && Instant::now() < give_up {
            thread::sleep(Duration::from_millis(50));
        }
        eventually("a booted system", || ["running", "degraded"].contains(&state().as_str()).then_some(()));
        machine
    }

    /// A machine without systemd.
    #[track_caller]
    pub fn without_systemd(root: &Path) -> Self {
        Self::start(root, &["sleep", "infinity"])
    }

    #[track_caller]
    fn start(root: &Path, init: &[&str]) -> Self {
        let place = tempfile::tempdir().expect("a folder for a machine");
        let group = ControlGroup::new(&place.path().file_name().expect("a name").to_string_lossy());
        let process = Command::new("sh")
            .args(["-ec", r#"echo 0 > "$GROUP"; exec "$@""#, "sh"])
            .arg("unshare")
            .args(NAMESPACES)
            .args(["--fork", "--kill-child"])
            .args(["sh", "-ec", BOOT, "sh"])
            .args(init)
            .env("GROUP", group.entrance())
            .env("PLACE", place.path())
            .env("BELOW", root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare");
        let children = format!("/proc/{0}/task/{0}/children", process.id());
        let init = eventually("process 1", || fs::read_to_string(&children).ok()?.trim().parse().ok());
        let machine = Self { process, init, _group: group, _place: place };
        // Until then, it has the file system of the tests.
        eventually("a root of its own", || machine.path("/run/machine").exists().then_some(()));
        machine
    }

    /// A command of a shell on the machine.
    pub fn command(&self, typed: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string()]).args(NAMESPACES);
        command.args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"]);
        command.args(["sh", "-c", typed]).stdin(Stdio::null());
        command
    }

    /// Runs a command of a shell to its end.
    pub fn type_(&self, typed: &str) -> Ended {
        let output = self.command(&format!("({typed}) 2>&1")).output().expect("nsenter");
        Ended {
            success: output.status.success(),
            said: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        }
    }

    /// Runs a command that must succeed. Returns what it said.
    #[track_caller]
    pub fn succeeds(&self, typed: &str) -> String {
        let Ended { success, said } = self.type_(typed);
        assert!(success, "$ {typed}\n{said}");
        said
    }

    /// A file of the machine, as this process sees it.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Process 1 ends with it, and with that one all others.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
