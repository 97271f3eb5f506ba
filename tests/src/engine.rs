//! A Docker engine on a lab's host: dockerd with its own data directory and one image. Leaves nothing behind.

use std::{
    cell::{Cell, RefCell},
    env,
    path::Path,
    sync::LazyLock,
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::lab::{Lab, Output, Process, answers, eventually};

/// The variable with the directory of an unpacked engine. Without it the system's engine is used.
const ROOT: &str = "DOCKER_ROOT";

static PROGRAMS: LazyLock<Programs> = LazyLock::new(|| {
    let root = env::var(ROOT).unwrap_or_default();
    assert!(root.is_empty() || Path::new(&root).is_absolute(), "{ROOT} is an absolute path");
    let plugin = format!("{root}/usr/libexec/docker/cli-plugins/docker-compose");
    Programs {
        client: format!("{root}/usr/bin/docker"),
        daemon: format!("{root}/usr/sbin/dockerd"),
        compose: if Path::new(&plugin).exists() { plugin } else { "/usr/bin/docker-compose".to_owned() },
        path: format!("{root}/usr/sbin:{root}/usr/bin:{}", env::var("PATH").unwrap_or_default()),
    }
});

/// The programs of one engine.
struct Programs {
    client: String,
    daemon: String,
    compose: String,
    /// The search path on which the engine finds its containerd and its proxy first.
    path: String,
}

/// The client that came with the engine. Another one in the PATH may be too new for it.
pub fn client() -> &'static str {
    &PROGRAMS.client
}

/// The `docker-compose` that came with the engine.
pub fn compose() -> &'static str {
    &PROGRAMS.compose
}

/// The search path for shell scripts that call `docker`.
pub fn search_path() -> &'static str {
    &PROGRAMS.path
}

/// How long an engine may take to answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The image of all containers: busybox.
pub const IMAGE: &str = "box:1";

/// The path of the program under test, for shell scripts.
pub fn netbpf() -> String {
    std::env::var("NETBPF_BIN")
        .unwrap_or_else(|_| format!("{}/../target/debug/netbpf", env!("CARGO_MANIFEST_DIR")))
}

/// A name server in Python: answers 203.0.113.9 for `known.example`, and NXDOMAIN for all other names. Its argument is
/// its address. Without a server that answers, Docker's resolver does not answer either, and its client waits.
pub const NAME_SERVER: &str = "
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 53))
while True:
    question, asker = server.recvfrom(1500)
    end = question.index(0, 12) + 5
    known = question[12:end - 4].lower() == b'\\x05known\\x07example\\0'
    header = question[:2] + (b'\\x81\\x80' if known else b'\\x81\\x83') + bytes([0, 1, 0, known, 0, 0, 0, 0])
    record = b'\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4\\xcb\\0\\x71\\x09' if known else b''
    server.sendto(header + question[12:end] + record, asker)
";

/// The engine's data directory, on the lab's own file system.
const DATA: &str = "/run/dockerdata";

/// Ends containers that a killed engine was starting and that the next one does not know: engines from 25 on leave some.
/// `/proc` has the processes and mounts of the lab only.
const END_LOST: &str = r#"
    for process in /proc/[0-9]*; do
        case $(tr '\0' ' ' <$process/cmdline) in
        */containerd-shim-runc-v2\ * | runc\ init\ *) kill -9 ${process#/proc/} ;;
        esac
    done
    while read -r _ at _; do
        case $at in /run/docker/*/rootfs | /run/dockerdata/*) umount -l $at ;; esac
    done </proc/mounts
"#;

/// A running engine.
pub struct Engine<'a> {
    lab: &'a Lab,
    /// Further options of dockerd.
    options: &'static str,
    daemon: RefCell<Option<Process>>,
    was_killed: Cell<bool>,
}

impl<'a> Engine<'a> {
    /// Starts an engine and creates the image.
    #[track_caller]
    pub fn start(lab: &'a Lab) -> Self {
        Self::start_with(lab, "")
    }

    /// Starts an engine with further options of dockerd.
    #[track_caller]
    pub fn start_with(lab: &'a Lab, options: &'static str) -> Self {
        let engine = Self { lab, options, daemon: RefCell::default(), was_killed: Cell::default() };
        engine.start_again();
        let image = "root=/run/dockerroot; mkdir -p $root/bin $root/tmp $root/www; cp $(command -v busybox) $root/bin/busybox
             for applet in $(busybox --list | grep -vx busybox); do ln -sf busybox $root/bin/$applet; done
             echo hello > $root/www/index.html; mkdir $root/www/cgi-bin
             printf '#!/bin/sh\necho; echo $REMOTE_ADDR\n' > $root/www/cgi-bin/peer; chmod +x $root/www/cgi-bin/peer
             tar -C $root -c . | \"$0\" import - box:1; rm -r $root";
        lab.host(["sh", "-ec", image, client()]).ok();
        engine
    }

    /// Starts the engine again with its data.
    #[track_caller]
    pub fn start_again(&self) {
        self.spawn();
        self.wait();
    }

    /// Starts the engine without waiting for it.
    #[track_caller]
    pub fn spawn(&self) {
        let mut slot = self.daemon.borrow_mut();
        assert!(slot.is_none(), "the engine runs already");
        let path = format!("PATH={}", search_path());
        let command = ["env", &path, &PROGRAMS.daemon, "--data-root", DATA, "--storage-driver", "overlay2"];
        *slot = Some(self.lab.spawn(command.into_iter().chain(self.options.split_whitespace())));
    }

    /// Waits until the engine answers. It listens long before: a request waits until it is ready, and costs less than a
    /// client that is started again and again.
    #[track_caller]
    pub fn wait(&self) {
        let socket = self.lab.path("/run/docker.sock");
        eventually("an engine that answers", || answers(&socket, TIMEOUT).then_some(()));
    }

    /// The engine's major version.
    #[track_caller]
    pub fn version(&self) -> u32 {
        let said = self.docker("version --format {{.Server.Version}}").ok();
        let major = said.text().split('.').next().and_then(|major| major.parse().ok());
        major.unwrap_or_else(|| panic!("a version: {said}"))
    }

    /// Stops the engine by SIGTERM, as an administrator does.
    #[track_caller]
    pub fn stop(&self) {
        let daemon = self.daemon.borrow_mut().take().expect("the engine runs");
        daemon.signal(Signal::SIGTERM);
        daemon.output().ok();
    }

    /// Kills the engine by SIGKILL, as in a crash. Its containers go on.
    #[track_caller]
    pub fn kill(&self) {
        let daemon = self.daemon.borrow_mut().take().expect("the engine runs");
        daemon.signal(Signal::SIGKILL);
        self.was_killed.set(true);
        // containerd, which has the same output, ends with it.
        let _ = daemon.output();
    }

    /// Runs `docker ARGUMENTS`; arguments are separated by spaces.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    pub fn docker(&self, arguments: &str) -> Output {
        self.spawn_docker(arguments).output()
    }

    /// Starts `docker ARGUMENTS` in the background.
    #[track_caller]
    pub fn spawn_docker(&self, arguments: &str) -> Process {
        self.lab.spawn([client()].into_iter().chain(arguments.split_whitespace()))
    }

    /// Starts a container that only sleeps. `options` are those of `docker run`.
    #[track_caller]
    pub fn run(&self, name: &str, options: &str) {
        self.docker(&format!("run -d --name {name} {options} {IMAGE} sleep 1000000")).ok();
    }

    /// Runs a command in a container.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    pub fn exec(&self, container: &str, command: &str) -> Output {
        self.docker(&format!("exec {container} {command}"))
    }

    /// A container's endpoint in a network, as `docker inspect` prints it.
    #[track_caller]
    pub fn endpoint(&self, container: &str, network: &str) -> serde_json::Value {
        let mut inspected = self.docker(&format!("inspect {container}")).ok().json();
        inspected[0]["NetworkSettings"]["Networks"][network].take()
    }

    /// Removes all containers.
    #[track_caller]
    pub fn remove_containers(&self) {
        let containers = self.docker("ps -aq").ok();
        if !containers.text().is_empty() {
            self.docker(&format!("rm -f {}", containers.text())).ok();
        }
    }
}

impl Drop for Engine<'_> {
    /// Removes the bridge, rules and directories that every dockerd leaves on its host.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.remove_containers();
        self.docker("network prune -f").ok();
        self.stop();
        if self.was_killed.get() {
            // A process may end by itself meanwhile.
            let _ = self.lab.host(["sh", "-c", END_LOST]);
        }
        let tables = self.lab.host(["nft", "list", "tables"]).ok();
        for table in tables.text().lines().filter_map(|line| line.strip_prefix("table ")) {
            if !table.contains("netbpf") {
                self.lab.host(["nft", "delete", "table"].into_iter().chain(table.split(' '))).ok();
            }
        }
        self.lab.host(["ip", "link", "delete", "docker0"]).ok();
        // The plugin's socket is removed by netbpf.
        let script = format!(
            "umount /run/docker/netns/* 2>/dev/null; find /run/docker -mindepth 1 -maxdepth 1 ! -name plugins -exec rm -r {{}} +
             rm -rf {DATA} /run/containerd /run/mount /run/docker.pid /run/docker.sock /run/xtables.lock"
        );
        self.lab.host(["sh", "-c", &script]).ok();
        assert!(!Path::new(&self.lab.path(DATA)).exists());
    }
}
