//! netbpf under a real containerd, which executes it as its CNI plugin.

use netbpf_tests::lab::{Lab, Output, Process, eventually};
use nix::sys::signal::Signal;

/// Where containerd keeps everything, on the lab's own file system.
const CONFIGURATION: &str = "\
version = 2
root = \"/run/containerd/root\"
state = \"/run/containerd/state\"
disabled_plugins = [\"io.containerd.grpc.v1.cri\"]
[grpc]
address = \"/run/containerd/containerd.sock\"
";

/// `ctr` uses `/etc/cni`, `/opt/cni` and `/var/lib/cni` only: they are the lab's own. Then an image of busybox.
const PREPARE: &str = "
for dir in etc opt var/lib; do
    mkdir -p /run/over/$dir/upper /run/over/$dir/work
    mount -t overlay over -o lowerdir=/$dir,upperdir=/run/over/$dir/upper,workdir=/run/over/$dir/work /$dir
done
root=/run/over/root; mkdir -p $root/bin $root/tmp $root/etc; cp $(command -v busybox) $root/bin/busybox
for applet in sh sleep ping nslookup ip; do ln -s busybox $root/bin/$applet; done
";

/// The processes of containers that ctr started, whose IDs are `default-NAME` for plugins.
struct Containerd<'a> {
    lab: &'a Lab,
    daemon: Option<Process>,
}

impl<'a> Containerd<'a> {
    fn start(lab: &'a Lab) -> Self {
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

    fn start_again(&mut self) {
        self.daemon = Some(self.lab.spawn(["containerd", "-c", "/run/containerd/config"]));
        eventually("a containerd that answers", || self.ctr("version").status.success().then_some(()));
    }

    fn kill(&mut self) {
        let daemon = self.daemon.take().expect("containerd runs");
        daemon.signal(Signal::SIGKILL);
        let _ = daemon.output();
    }

    fn ctr(&self, arguments: &str) -> Output {
        self.lab.host(["ctr"].into_iter().chain(arguments.split_whitespace()))
    }

    /// Starts a container with the root directory of [`PREPARE`], without an image.
    #[track_caller]
    fn run(&self, name: &str) {
        self.ctr(&format!("run -d --cni --rootfs /run/over/root {name} /bin/sleep 1000000")).ok();
    }

    /// Runs an applet of busybox in a container.
    fn exec(&self, name: &str, command: &str) -> Output {
        self.ctr(&format!("task exec --exec-id x {name} /bin/{command}"))
    }

    /// Kills a container's process, and forgets the container, as a user does.
    #[track_caller]
    fn remove(&self, name: &str) {
        self.ctr(&format!("task rm -f {name}"));
        self.ctr(&format!("container rm {name}")).ok();
    }
}

#[test]
fn its_containers_are_in_the_network_as_long_as_they_run() {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    lab.run("own", "--net mynet");
    let mut containerd = Containerd::start(&lab);
    containerd.run("one");
    containerd.run("two");
    assert_eq!(lab.containers(), ["default-one", "default-two", "own"]);
    for (container, address) in [("one", "10.1.0.3"), ("two", "10.1.0.4")] {
        let inside = containerd.exec(container, "ip address show eth0").ok();
        assert!(inside.text().contains(&format!("inet {address}/24")), "{inside}");
    }
    containerd.exec("one", "ping -c1 -W1 10.1.0.4").ok();
    let found = containerd.exec("one", "nslookup own 127.0.0.11").ok();
    assert!(found.text().contains("10.1.0.2"), "{found}");
    lab.exec("own", "ping -c1 -W1 default-two").ok();

    // Either daemon may be killed: the traffic goes on, and the other one works.
    containerd.kill();
    lab.exec("own", "ping -c1 -W1 10.1.0.3").ok();
    containerd.start_again();
    lab.kill_daemon();
    containerd.exec("one", "ping -c1 -W1 10.1.0.4").ok();
    lab.start_daemon();
    containerd.run("three");
    assert_eq!(lab.containers(), ["default-one", "default-three", "default-two", "own"]);

    // After `run -d`, ctr detaches no container.
    containerd.remove("one");
    eventually("it is gone", || (lab.containers() == ["default-three", "default-two", "own"]).then_some(()));
    containerd.run("one");
    for name in ["one", "two", "three"] {
        containerd.remove(name);
    }
    eventually("all are gone", || (lab.containers() == ["own"]).then_some(()));
    lab.netbpf(["cni", "disable", "mynet"]).ok();
    let daemon = containerd.daemon.take().expect("containerd runs");
    daemon.signal(Signal::SIGTERM);
    let _ = daemon.output();
    lab.host(["sh", "-ec", "umount /etc /opt /var/lib; find /run/containerd -name shm -exec umount {} + || true; rm -rf /run/containerd /run/over /run/mount"]).ok();
}
