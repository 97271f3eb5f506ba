//! LXC's containers in netbpf's networks, by the hook that README names.

use netbpf_tests::{
    groups::ControlGroup,
    lab::{Lab, Output, eventually},
};

use crate::world::netbpf;

/// Runs LXC's command `$@` where it finds no control groups but `$GROUP`. It makes groups where process 1 is.
const IN_GROUP: &str = r#"
echo 0 > "$GROUP"; echo 1 > "$GROUP"
exec unshare --cgroup --mount sh -ec '
    umount -R /sys/fs/cgroup 2>/dev/null || true
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    exec "$@"' sh "$@"
"#;

/// The container `web`, in which busybox is all there is. `$1` is netbpf.
const PREPARE: &str = r#"
root=/run/lxcs/web/rootfs
mkdir -p $root/bin $root/etc $root/proc $root/sys $root/dev $root/tmp $root/run
cp "$(command -v busybox)" $root/bin/busybox
for applet in sh sleep ping nslookup ip; do ln -s busybox $root/bin/$applet; done
echo nameserver 127.0.0.11 > $root/etc/resolv.conf
cat > /run/lxcs/web/config << END
lxc.uts.name = web
lxc.rootfs.path = dir:$root
lxc.init.cmd = /bin/sleep 1000000
lxc.net.0.type = empty
lxc.hook.version = 1
lxc.hook.start-host = $1 connect --alias \$LXC_NAME mynet pid:\$LXC_PID
lxc.hook.start-host = nsenter --target \$LXC_PID --net ip route add default via 10.1.0.1
END
"#;

/// LXC on a lab's host.
struct Lxc<'a> {
    lab: &'a Lab,
    group: ControlGroup,
}

impl<'a> Lxc<'a> {
    #[track_caller]
    fn prepare(lab: &'a Lab) -> Self {
        lab.host(["sh", "-ec", PREPARE, "sh", netbpf()]).ok();
        Self { lab, group: ControlGroup::new("lxc") }
    }

    /// Runs a command of LXC on the container.
    fn run(&self, command: &str, options: &str) -> Output {
        let group = format!("GROUP={}", self.group.entrance().display());
        let words = ["env", &group, "sh", "-ec", IN_GROUP, "sh", command, "-P", "/run/lxcs", "-n", "web"];
        self.lab.host(words.into_iter().chain(options.split_whitespace()))
    }

    /// Runs an applet of busybox in the container.
    fn exec(&self, applet: &str) -> Output {
        let pid = self.run("lxc-info", "-p -H").ok().text().to_owned();
        let enter = ["nsenter", "-t", &pid, "--net", "--mount", "--pid", "--root", "--wd=/"];
        self.lab.host(enter.into_iter().chain(format!("/bin/{applet}").split_whitespace()))
    }

    /// Ends it; its container must be stopped.
    #[track_caller]
    fn leave(self) {
        let exit = self.group.exit().display().to_string();
        self.lab
            .host(["sh", "-c", "echo 1 > \"$0\"; rm -rf /run/lxcs /run/lxc /run/lock /run/mount", &exit])
            .ok();
    }

    #[track_caller]
    fn stop(&self) {
        self.run("lxc-stop", "-k").ok();
        eventually("it is gone", || (self.lab.containers() == ["own"]).then_some(()));
    }
}

#[test]
fn its_hook_connects_a_container_which_is_gone_with_its_namespace() {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    lab.run("own", "--net mynet");
    let lxc = Lxc::prepare(&lab);
    for _ in 0..2 {
        lxc.run("lxc-start", "").ok();
        let inside = lxc.exec("ip address show eth0").ok();
        assert!(inside.text().contains("inet 10.1.0.3/24"), "{inside}");
        let routes = lxc.exec("ip route").ok();
        assert!(routes.text().contains("default via 10.1.0.1 dev eth0"), "{routes}");
        lxc.exec("ping -c1 -W1 own").ok();
        lab.exec("own", "ping -c1 -W1 web").ok();
        lab.kill_daemon();
        lxc.exec("ping -c1 -W1 own").ok();
        lab.start_daemon();
        lab.exec("own", "ping -c1 -W1 web").ok();
        lxc.stop();
    }

    // Without the network, the hook fails, and the container with it.
    lab.netbpf(["rm", "-f", "own"]).ok();
    lab.netbpf(["network", "rm", "mynet"]).ok();
    lxc.run("lxc-start", "").fails_with(1, "");
    assert!(lab.containers().is_empty());
    lxc.leave();
}
