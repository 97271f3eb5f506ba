//! Real podman on a lab's host, in a root file system of its own: one suite's podman needs newer libraries than another has.

use crate::lab::{Lab, Output, Process, eventually};

/// By which plugins podman attaches its containers.
#[derive(Clone, Copy)]
pub enum Backend {
    /// podman 4.5 and later.
    Netavark,
    /// podman up to 4.
    Cni,
}

impl Backend {
    /// The variable with the root file system of a podman that has it.
    fn variable(self) -> &'static str {
        match self {
            Self::Netavark => "PODMAN_ROOT",
            Self::Cni => "PODMAN_CNI_ROOT",
        }
    }

    /// The directory for the root of a podman that has it.
    fn folder(self) -> &'static str {
        match self {
            Self::Netavark => "/srv",
            Self::Cni => "/mnt",
        }
    }

    /// The command that holds its mounts.
    fn hold(self) -> &'static str {
        match self {
            Self::Netavark => "sleep 1234567",
            Self::Cni => "sleep 1234568",
        }
    }

    /// What `containers.conf` says of networks.
    fn settings(self) -> &'static str {
        match self {
            Self::Netavark => r#"network_backend="netavark"\nnetavark_plugin_dirs=["/usr/lib/netavark"]"#,
            Self::Cni => r#"network_backend="cni""#,
        }
    }
}

/// Enters podman's root, in the directory `$0`, and stays there. `/run` is the lab's own, and shared, so that netbpf's daemon
/// sees the network namespaces that podman mounts there; all other mounts are podman's own. crun refuses a second hierarchy
/// of cgroups.
const ENTER: &str = r#"
root=$0/root
mount -t tmpfs tmpfs $0
mkdir -p $root $0/upper $0/work
mount -t overlay overlay -o lowerdir="$ROOT",upperdir=$0/upper,workdir=$0/work $root
mkdir -p $root/image/bin $root/image/tmp $root/image/etc $root/usr/lib/netavark $root/.old $root/etc/containers $root/var/lib/containers
cp "$(command -v busybox)" $root/image/bin/busybox
for applet in sh sleep nslookup ping httpd; do ln -s busybox $root/image/bin/$applet; done
echo hello > $root/image/index.html
cp "$NETBPF" $root/usr/bin/netbpf
ln -s /usr/bin/netbpf $root/usr/lib/netavark/netbpf
# Without CAP_SYS_RESOURCE, no limit can be raised.
limits='default_ulimits=["nofile=1024:1024","nproc=4096:4096"]'
printf '[containers]\n%s\n[network]\n%b\n[engine]\ncgroup_manager="cgroupfs"\ntmp_dir="/run/podman%s"\n' \
    "$limits" "$SETTINGS" $0 > $root/etc/containers/containers.conf
printf '[storage]\ndriver="overlay"\nrunroot="/run/containers%s"\ngraphroot="/var/lib/containers/storage"\n' $0 \
    > $root/etc/containers/storage.conf
echo nameserver 192.0.2.1 > $root/etc/resolv.conf
mount -t proc proc $root/proc; mount --rbind /sys $root/sys; mount --rbind /dev $root/dev; mount --rbind /run $root/run
mount --make-rprivate $root/sys; mount --make-rprivate $root/dev
mount -t tmpfs tmpfs $root/tmp; mount -t tmpfs tmpfs $root/var/lib/containers
! mountpoint -q $root/sys/fs/cgroup/unified || umount $root/sys/fs/cgroup/unified
cd $root
exec unshare --mount --propagation unchanged sh -ec '
    for mount in / $0 $0/root; do mount --make-private $mount; done
    pivot_root . .old; cd /
    # The lab keeps its mounts.
    /image/bin/busybox mount --make-rprivate /.old; /image/bin/busybox umount -l /.old
    exec /image/bin/busybox $HOLD' $0
"#;

/// Removes what podman leaves.
const LEAVE: &str = "
rm -rf /run/crun /run/containers /run/podman /run/libpod /run/netns /run/lock
mount --make-rprivate $0; umount -l $0/root $0; rm -rf /run/mount
";

/// podman on a lab's host.
pub struct Podman<'a> {
    lab: &'a Lab,
    backend: Backend,
    /// The process that holds its mounts.
    holder: Process,
    pid: u32,
}

impl<'a> Podman<'a> {
    /// Enters the root of a podman with this backend.
    #[track_caller]
    pub fn enter(lab: &'a Lab, backend: Backend) -> Self {
        let variable = backend.variable();
        let root = std::env::var(variable)
            .unwrap_or_else(|_| panic!("{variable} is not set: run these tests by cargo xtask test"));
        let holder = lab.spawn([
            "env",
            &format!("ROOT={root}"),
            &format!("NETBPF={}", lab.program().display()),
            &format!("SETTINGS={}", backend.settings()),
            &format!("HOLD={}", backend.hold()),
            "sh",
            "-ec",
            ENTER,
            backend.folder(),
        ]);
        let entered = eventually("podman's root", || match holder.is_running() {
            true => lab.processes(&format!("busybox {}", backend.hold())).first().copied().map(Some),
            false => Some(None),
        });
        match entered {
            Some(pid) => Self { lab, backend, holder, pid },
            None => panic!("podman's root cannot be entered: {}", holder.output()),
        }
    }

    /// Runs `podman ARGUMENTS`; arguments are separated by spaces.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    pub fn podman(&self, arguments: &str) -> Output {
        self.host(&format!("env PODMAN_IGNORE_CGROUPSV1_WARNING=1 podman {arguments}"))
    }

    /// Runs a command where podman is installed, such as `netbpf`; its words are separated by spaces.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    pub fn host(&self, command: &str) -> Output {
        let pid = self.pid.to_string();
        let enter = ["nsenter", "-t", &pid, "-m"];
        self.lab.host(enter.into_iter().chain(command.split_whitespace()))
    }

    /// Creates a network for its containers; options are separated by spaces.
    #[track_caller]
    pub fn create_network(&self, name: &str, options: &str) {
        match self.backend {
            Backend::Netavark => {
                self.podman(&format!("network create -d netbpf {options} {name}")).ok();
            }
            Backend::Cni => {
                self.lab.network(name, options);
                self.host(&format!("netbpf cni enable {name}")).ok();
            }
        }
    }

    /// Removes what podman knows of a network.
    #[track_caller]
    pub fn remove_network(&self, name: &str) {
        match self.backend {
            Backend::Netavark => self.podman(&format!("network rm {name}")).ok(),
            Backend::Cni => self.host(&format!("netbpf cni disable {name}")).ok(),
        };
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

    /// Ends it. Its containers must be removed, and those of the lab's other podman.
    pub fn leave(self) {
        let Self { lab, backend, holder, .. } = self;
        // Nothing is to be read of it.
        drop(holder);
        lab.host(["sh", "-c", LEAVE, backend.folder()]).ok();
    }
}
