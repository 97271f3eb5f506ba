//! Real podman on a lab's host. It is in a root file system of its own, because it needs newer libraries than Debian 12's.

use crate::{
    engine::netbpf,
    lab::{Lab, Output, Process, eventually},
};

/// The variable with podman's root file system.
const ROOT: &str = "PODMAN_ROOT";

/// Enters podman's root and stays there. `/run` is the lab's own, and shared, so that netbpf's daemon sees the network
/// namespaces that podman mounts there; all other mounts are podman's own. crun refuses a second hierarchy of cgroups.
const ENTER: &str = r#"
root=/srv/root
mount -t tmpfs tmpfs /srv
mkdir -p $root /srv/upper /srv/work
mount -t overlay overlay -o lowerdir="$PODMAN_ROOT",upperdir=/srv/upper,workdir=/srv/work $root
mkdir -p $root/image/bin $root/image/tmp $root/image/etc $root/usr/lib/netavark $root/.old $root/etc/containers $root/var/lib/containers
cp "$(command -v busybox)" $root/image/bin/busybox
for applet in sh sleep nslookup ping httpd; do ln -s busybox $root/image/bin/$applet; done
echo hello > $root/image/index.html
cp "$NETBPF" $root/usr/lib/netavark/netbpf
printf '[network]\nnetwork_backend="netavark"\nnetavark_plugin_dirs=["/usr/lib/netavark"]\n[engine]\ncgroup_manager="cgroupfs"\n' \
    > $root/etc/containers/containers.conf
echo nameserver 192.0.2.1 > $root/etc/resolv.conf
mount -t proc proc $root/proc; mount --rbind /sys $root/sys; mount --rbind /dev $root/dev; mount --rbind /run $root/run
mount --make-rprivate $root/sys; mount --make-rprivate $root/dev
mount -t tmpfs tmpfs $root/tmp; mount -t tmpfs tmpfs $root/var/lib/containers
! mountpoint -q $root/sys/fs/cgroup/unified || umount $root/sys/fs/cgroup/unified
cd $root
exec unshare --mount --propagation unchanged sh -ec '
    for mount in / /srv /srv/root; do mount --make-private $mount; done
    pivot_root . .old; cd /
    # The lab keeps its mounts.
    /image/bin/busybox mount --make-rprivate /.old; /image/bin/busybox umount -l /.old
    exec /image/bin/busybox sleep 1234567'
"#;

/// podman on a lab's host.
pub struct Podman<'a> {
    lab: &'a Lab,
    /// The process that holds its mounts.
    holder: Process,
    pid: u32,
}

impl<'a> Podman<'a> {
    /// Enters its root.
    #[track_caller]
    pub fn enter(lab: &'a Lab) -> Self {
        let root = std::env::var(ROOT)
            .unwrap_or_else(|_| panic!("{ROOT} is not set: run these tests by cargo xtask test"));
        let holder = lab.spawn([
            "env",
            &format!("{ROOT}={root}"),
            &format!("NETBPF={}", netbpf()),
            "sh",
            "-ec",
            ENTER,
        ]);
        let entered = eventually("podman's root", || match holder.is_running() {
            true => lab.processes("busybox sleep 1234567").first().copied().map(Some),
            false => Some(None),
        });
        match entered {
            Some(pid) => Self { lab, holder, pid },
            None => panic!("podman's root cannot be entered: {}", holder.output()),
        }
    }

    /// Runs `podman ARGUMENTS`; arguments are separated by spaces.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    pub fn podman(&self, arguments: &str) -> Output {
        let pid = self.pid.to_string();
        let enter = ["nsenter", "-t", &pid, "-m", "env", "PODMAN_IGNORE_CGROUPSV1_WARNING=1", "podman"];
        self.lab.host(enter.into_iter().chain(arguments.split_whitespace()))
    }

    /// Starts a container that only sleeps.
    #[track_caller]
    pub fn run(&self, name: &str, options: &str) {
        self.podman(&format!(
            "run -d --name {name} --cap-add NET_RAW {options} --rootfs /image sleep 1000000"
        ))
        .ok();
    }

    /// Runs a command in a container.
    pub fn exec(&self, container: &str, command: &str) -> Output {
        self.podman(&format!("exec {container} {command}"))
    }

    /// Ends it; its containers must be removed.
    pub fn leave(self) {
        let Self { lab, holder, .. } = self;
        // Nothing is to be read of it.
        drop(holder);
        lab.host(["sh", "-c", "rm -rf /run/crun /run/containers /run/libpod /run/netns /run/lock; mount --make-rprivate /srv; umount -l /srv/root /srv; rm -rf /run/mount"]).ok();
    }
}
