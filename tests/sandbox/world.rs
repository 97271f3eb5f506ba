//! A sandbox for a test, and a check that it leaves nothing. Does not know networks.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use netbpf::sandbox::{Error, Exit, Files, Network, SOCKET, SealedProgram, Spec, Supervisor, logs};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A sandbox's directory and specification. Checks for leftovers on drop.
pub struct World {
    root: tempfile::TempDir,
    pub spec: Spec,
}

impl World {
    /// A sandbox on the host's files with its own network that runs this shell script.
    pub fn new(script: &str) -> World {
        let root = tempfile::Builder::new().prefix("netbpf-sandbox-").tempdir().unwrap();
        // Longer than a socket address may be.
        let dir = root.path().join("0123456789abcdef".repeat(7));
        fs::create_dir(&dir).unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let spec = Spec {
            id: "c0ffee".into(),
            hostname: "box".into(),
            command: ["/bin/busybox", "sh", "-c", script].map(String::from).into(),
            env: Vec::new(),
            working_dir: "/".into(),
            rootfs: None,
            no_new_privileges: false,
            hidden: Vec::new(),
            network: Network::New,
            files: Files {
                hosts: file("hosts", "127.0.0.1\tlocalhost\n10.9.8.7\tbox\n"),
                resolv_conf: file("resolv.conf", "nameserver 127.0.0.11\n"),
                hostname: file("hostname", "box\n"),
            },
            log: dir.join("log.jsonl"),
            socket_group: None,
        };
        World { root, spec }
    }

    /// The same with its own root file system that contains only busybox.
    pub fn with_rootfs(script: &str) -> World {
        let mut world = World::new(script);
        let rootfs = world.path("rootfs");
        fs::create_dir_all(rootfs.join("bin")).unwrap();
        fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
        for applet in ["sh", "cat", "ls", "tty", "stty", "mount", "sleep", "ps", "env", "pwd"] {
            std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(applet)).unwrap();
        }
        world.spec.rootfs = Some(rootfs);
        world
    }

    /// A path for the test beside the sandbox's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn dir(&self) -> PathBuf {
        self.spec.log.parent().unwrap().to_owned()
    }

    pub fn socket(&self) -> PathBuf {
        self.dir().join(SOCKET)
    }

    pub async fn spawn(&self) -> Result<Supervisor, Error> {
        let program = Arc::new(SealedProgram::open(&netbpf())?);
        Supervisor::spawn(&program, &self.dir(), &self.spec).await
    }

    pub async fn start(&self) -> Supervisor {
        let supervisor = self.spawn().await.unwrap();
        supervisor.start().await.unwrap();
        supervisor
    }

    /// Runs the script to its end. Returns its output and exit status.
    pub async fn run(&self) -> (String, Exit) {
        let exit = self.start().await.wait().await;
        (self.output().await, exit)
    }

    pub async fn output(&self) -> String {
        let mut log = logs::read(&self.spec.log, None, None).unwrap();
        let mut text = String::new();
        while let Some(line) = log.next().await.unwrap() {
            text += &line.log;
        }
        text
    }

    /// Waits until it has printed this, and nothing else.
    pub async fn prints(&self, expected: &str) {
        let mut output = String::new();
        for _ in 0..2000 {
            output = self.output().await;
            if output == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it prints {expected:?} within 20 s; it printed {output:?}");
    }

    /// Starts the sandbox by a daemon that exits right after, in a mount namespace where `etc` is mounted on `/etc`.
    pub fn start_by_another(&self, etc: Option<&Path>) -> Supervisor {
        let spec = self.path("spec");
        fs::write(&spec, serde_json::to_vec(&self.spec).unwrap()).unwrap();
        let script = match etc {
            Some(etc) => format!("mount --bind {} /etc && exec \"$@\"", etc.display()),
            None => "exec \"$@\"".into(),
        };
        let output = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"])
            .args([env!("CARGO_BIN_EXE_sandbox-client").as_ref(), "start".as_ref(), netbpf().as_os_str()])
            .args([self.dir(), spec])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let (pid, start_time) = text.trim().split_once(' ').unwrap();
        Supervisor::adopt(&self.dir(), pid.parse().unwrap(), start_time.parse().unwrap()).unwrap()
    }

    /// Starts the command line's `exec`.
    pub fn exec(&self, flags: &[&str], argv: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox-client"));
        command.arg("exec").args(flags).arg(self.socket()).args(argv).stdin(Stdio::null());
        command
    }

    /// Runs a shell script in the sandbox and returns its output.
    pub fn sh(&self, script: &str) -> String {
        let output = self.exec(&[], &["/bin/busybox", "sh", "-c", script]).output().unwrap();
        text(&output)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let root = self.root.path().to_str().unwrap();
        let processes = || {
            let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
            processes.filter_map(|process| {
                let command = fs::read(process.join("cmdline")).unwrap_or_default();
                let command = String::from_utf8_lossy(&command).replace('\0', " ");
                let pid = process.file_name()?.to_str()?.parse().ok()?;
                command.contains(root).then_some((Pid::from_raw(pid), command))
            })
        };
        if std::thread::panicking() {
            processes().for_each(|(pid, _)| kill(pid, Signal::SIGKILL).unwrap_or_default());
            return;
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(root), "mounts are left:\n{mounts}");
        let left: Vec<_> = processes().collect();
        assert!(left.is_empty(), "processes are left: {left:?}");
        let dir = self.dir();
        let mut files: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let known =
            ["exit.json", "hostname", "hosts", "log.jsonl", "resolv.conf", "spec.json", "supervisor.log"];
        files.retain(|file| !known.contains(&file.as_str()));
        assert!(files.is_empty(), "files are left: {files:?}");
    }
}

/// stdout and stderr together.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

pub fn netbpf() -> PathBuf {
    let path = std::env::var_os("NETBPF_BIN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/netbpf"), PathBuf::from);
    path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Reads lines of a running program's output up to `wanted`.
pub fn await_line(from: &mut impl io::BufRead, wanted: &str) {
    let mut seen = String::new();
    loop {
        let start = seen.len();
        assert_ne!(from.read_line(&mut seen).unwrap(), 0, "no {wanted:?} in {seen:?}");
        if seen[start..].trim_end() == wanted {
            return;
        }
    }
}

/// Whether the process is running, and not a zombie.
pub fn is_running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.starts_with(" Z"))
}

/// The name of a process's namespace, which is the same inside and outside.
pub fn namespace(pid: impl std::fmt::Display, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string()
}

/// The file that `name` refers to, opened.
pub fn open(name: &Path) -> OwnedFd {
    fs::File::open(name).unwrap().into()
}
