//! A real containerd on a lab's host, which executes netbpf as its CNI plugin.

use nix::sys::signal::Signal;

use crate::{
    engine::search_path,
    lab::{Lab, Output, Process, eventually},
};

/// Where containerd keeps everything, on the lab's own file system.
const CONFIGURATION: &str = r#"
version = 2
root = "/run/containerd/root"
state = "/run/containerd/state"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/box:1"
disable_apparmor = true
restrict_oom_score_adj = true
"#;

/// A client of its API for Kubernetes.
const PODS: &str = include_str!("cri.py");

/// `ctr` uses `/etc/cni`, `/opt/cni` and `/var/lib/cni` only: they are the lab's own. Then an image of busybox, whose name
/// server does not exist.
const PREPARE: &str = "
for dir in etc opt var/lib; do
    mkdir -p /run/over/$dir/upper /run/over/$dir/work
    mount -t overlay over -o lowerdir=/$dir,upperdir=/run/over/$dir/upper,workdir=/run/over/$dir/work /$dir
done
root=/run/over/root; mkdir -p $root/bin $root/tmp $root/etc; cp $(command -v busybox) $root/bin/busybox
echo nameserver 192.0.2.53 > $root/etc/resolv.conf
for applet in sh sleep ping nslookup ip; do ln -s busybox $root/bin/$applet; done
";

/// Removes all that is left.
const CLEAN: &str = "umount /etc /opt /var/lib; find /run/containerd -name shm -exec umount {} + || true; rm -rf /run/containerd /run/nri /run/over /run/mount";

/// The processes of containers that ctr started, whose IDs are `default-NAME` for plugins.
pub struct Containerd<'a> {
    lab: &'a Lab,
    daemon: Option<Process>,
}

impl<'a> Containerd<'a> {
    /// Starts it, with the network `mynet` for its containers.
    #[track_caller]
    pub fn start(lab: &'a Lab) -> Self {
        lab.host(["sh", "-ec", PREPARE]).ok();
        lab.host([
            "sh",
            "-c",
            "mkdir -p /run/containerd; printf %s \"$0\" > /run/containerd/config",
            CONFIGURATION,
        ])
        .ok();
        lab.netbpf(["cni", "enable", "mynet"]).ok();
        let mut containerd = Self { lab, daemon: None };
        containerd.start_again();
        containerd
    }

    /// Starts it again with its data.
    #[track_caller]
    pub fn start_again(&mut self) {
        let path = format!("PATH={}", search_path());
        self.daemon = Some(self.lab.spawn(["env", &path, "containerd", "-c", "/run/containerd/config"]));
        eventually("a containerd that answers", || self.ctr("version").status.success().then_some(()));
    }

    /// Kills it; its containers go on.
    pub fn kill(&mut self) {
        let daemon = self.daemon.take().expect("containerd runs");
        daemon.signal(Signal::SIGKILL);
        let _ = daemon.output();
    }

    /// Runs `ctr ARGUMENTS`; arguments are separated by spaces.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    pub fn ctr(&self, arguments: &str) -> Output {
        let path = format!("PATH={}", search_path());
        self.lab.host(["env", &path, "ctr"].into_iter().chain(arguments.split_whitespace()))
    }

    /// Starts a container with a root directory of its own, without an image.
    #[track_caller]
    pub fn run(&self, name: &str) {
        self.ctr(&format!("run -d --cni --rootfs /run/over/root {name} /bin/sleep 1000000")).ok();
    }

    /// Runs an applet of busybox in a container.
    pub fn exec(&self, name: &str, command: &str) -> Output {
        self.ctr(&format!("task exec --exec-id x {name} /bin/{command}"))
    }

    /// Creates the image of all pods, and waits until containerd is ready for them.
    #[track_caller]
    pub fn prepare_pods(&self) {
        self.cri("image /run/over/root /run/over/box.tar localhost/box:1").ok();
        self.ctr("-n k8s.io image import /run/over/box.tar").ok();
        eventually("a network for pods", || self.cri("ready").status.success().then_some(()));
    }

    /// Asks its API for Kubernetes; `tests/src/cri.py` tells what can be asked.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    pub fn cri(&self, arguments: &str) -> Output {
        self.lab.host(["python3", "-c", PODS].into_iter().chain(arguments.split_whitespace()))
    }

    /// Kills a container's process, and forgets the container, as a user does.
    #[track_caller]
    pub fn remove(&self, name: &str) {
        // It may have ended.
        let _ended = self.ctr(&format!("task rm -f {name}"));
        self.ctr(&format!("container rm {name}")).ok();
    }

    /// Ends it, and removes what it needed. Its containers must be removed.
    #[track_caller]
    pub fn end(mut self) {
        let daemon = self.daemon.take().expect("containerd runs");
        daemon.signal(Signal::SIGTERM);
        let _ = daemon.output();
        self.lab.host(["sh", "-ec", CLEAN]).ok();
    }
}
