//! The namespaces of one host, and the process that holds them. When it ends, the kernel kills every process of the
//! host, removes its mounts and deletes its links.
#![expect(unsafe_code, reason = "process 1 is a fork, because no program exists for it")]

use std::{
    fs::{File, create_dir},
    io::{Read, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use nix::{
    libc,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::{
        signal::{SigHandler, Signal, signal},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork},
};

const NOTHING: Option<&str> = None;

/// A host made of namespaces.
pub struct Host {
    init: Pid,
    /// Process 1 ends when this is closed.
    life: Option<UnixStream>,
    entrance: Entrance,
}

/// The namespaces of a host, for a thread that starts a process there.
#[derive(Clone)]
pub struct Entrance(Arc<[(File, CloneFlags)]>);

impl Host {
    /// Creates a host: `lo` is up, and `/run` and `/sys/fs/bpf` are empty and its own.
    pub fn new() -> Self {
        let (life, end) = UnixStream::pair().expect("a pair of sockets");
        // In a thread, because this process must stay in its namespaces.
        let init = thread::spawn(move || {
            make_namespaces();
            start_init(&end)
        })
        .join()
        .expect("a host");
        let mut host = Self { init, life: Some(life), entrance: Entrance::of(init) };
        let ready = host.life.as_mut().map(|life| life.read_exact(&mut [0]));
        assert!(matches!(ready, Some(Ok(()))), "process 1 of a host mounts /proc");
        host
    }

    /// The host's namespaces, for a thread that leaves those of this process for good.
    pub fn entrance(&self) -> Entrance {
        self.entrance.clone()
    }

    /// A file of the host by its absolute path there, as this process sees it.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let inside = path.as_ref().strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", self.init)).join(inside)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.life.take());
        let ended = waitpid(self.init, None);
        if !thread::panicking() {
            ended.expect("process 1 of a host ends");
        }
    }
}

impl Entrance {
    fn of(init: Pid) -> Self {
        let namespaces = [
            ("net", CloneFlags::CLONE_NEWNET),
            ("mnt", CloneFlags::CLONE_NEWNS),
            ("uts", CloneFlags::CLONE_NEWUTS),
            ("pid", CloneFlags::CLONE_NEWPID),
        ];
        Self(
            namespaces
                .map(|(name, kind)| {
                    (File::open(format!("/proc/{init}/ns/{name}")).expect("a namespace of a host"), kind)
                })
                .into(),
        )
    }

    /// Moves the calling thread to the host. Processes that it starts from now on are processes of the host.
    pub fn enter(&self) -> nix::Result<()> {
        unshare(CloneFlags::CLONE_FS)?;
        self.0.iter().try_for_each(|(namespace, kind)| setns(namespace, *kind))
    }
}

fn make_namespaces() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
        .expect("lab tests make namespaces: run them as root, with `cargo xtask test`");
    let mounted = || {
        mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
        // As on a booted host: `ip netns` and the sandboxes' mounts need mount propagation.
        mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_SHARED, NOTHING)?;
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
        // The first `ip netns add` would create this and leave it.
        create_dir("/run/netns").map_err(|_| nix::Error::last())?;
        mount(Some("/run/netns"), "/run/netns", NOTHING, MsFlags::MS_BIND, NOTHING)?;
        // That of the machine would be there again when a test unmounts the lab's.
        while umount2("/sys/fs/bpf", MntFlags::MNT_DETACH).is_ok() {}
        mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), NOTHING)
    };
    mounted().expect("the mounts of a host");
    let lo = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(lo.expect("iproute2's ip").success(), "lo goes up");
    // A new namespace copies ip_forward from the machine. The rate limit would suppress ICMP errors for frequent
    // senders, and tests would wait for a resolver to which there is no route.
    for (setting, value) in [("ip_forward", "0"), ("icmp_ratelimit", "0")] {
        std::fs::write(format!("/proc/sys/net/ipv4/{setting}"), value).expect("a setting of the host");
    }
    // Last, because the next child is process 1.
    unshare(CloneFlags::CLONE_NEWPID).expect("a namespace of processes");
}

/// Starts process 1: it mounts `/proc`, reports that, and waits until `life` is closed. The calling thread must have
/// unshared its PID namespace.
fn start_init(life: &UnixStream) -> Pid {
    // SAFETY: other threads may hold locks (of the allocator, of stdio) that nobody will release in the child, so the
    // child only makes system calls: be_init allocates nothing and does not panic.
    match unsafe { fork() }.expect("process 1 of a host") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => be_init(life),
    }
}

fn be_init(mut life: &UnixStream) -> ! {
    // SAFETY: the child of a fork has one thread, and nothing in it uses a descriptor but `life` after this. Copies of
    // other tests' pipes would keep their readers waiting. An ignored SIGCHLD makes the kernel bury orphans.
    unsafe {
        let _ = signal(Signal::SIGCHLD, SigHandler::SigIgn);
        let own = life.as_raw_fd() as libc::c_uint;
        libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, own - 1, 0);
        libc::syscall(libc::SYS_close_range, own + 1, libc::c_uint::MAX, 0);
    }
    let nothing = None::<&std::ffi::CStr>;
    let mounted = mount(Some(c"proc"), c"/proc", Some(c"proc"), MsFlags::empty(), nothing).is_ok();
    if mounted && life.write_all(&[0]).is_ok() {
        let _ = life.read(&mut [0]);
    }
    // SAFETY: ends the process without running anything of the parent's, such as exit handlers.
    unsafe { libc::_exit(0) }
}
