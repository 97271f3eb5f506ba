//! The namespaces of one host, and the process that holds them. When it goes, the kernel ends every process on the host,
//! unmounts what was mounted and deletes the links.
#![expect(unsafe_code, reason = "only fork makes a process 1 without a program to run as it")]

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
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::{
        signal::{SigHandler, Signal, signal},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork},
};

const NOTHING: Option<&str> = None;

/// A host of its own.
pub struct Host {
    init: Pid,
    /// Closed when the host goes, which is what process 1 waits for.
    life: Option<UnixStream>,
    entrance: Entrance,
}

/// The way into a host, for a thread that will start a process there.
#[derive(Clone)]
pub struct Entrance(Arc<[(File, CloneFlags)]>);

impl Host {
    /// Makes one: `lo` is up, `/run` and `/sys/fs/bpf` are empty and its own.
    pub fn new() -> Self {
        let (life, end) = UnixStream::pair().expect("a pair of sockets");
        // A thread, because it is to be in these namespaces, and this one is not.
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

    /// For a thread that leaves this process's namespaces for good.
    pub fn entrance(&self) -> Entrance {
        self.entrance.clone()
    }

    /// The host's file of this absolute path, as this process sees it.
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

    /// Moves the calling thread into the host; what it starts from now on is a process there.
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
        // As on a host that boots: `ip netns` and the sandboxes' mounts need mounts that propagate.
        mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_SHARED, NOTHING)?;
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
        // What the first `ip netns add` would make, and leave.
        create_dir("/run/netns").map_err(|_| nix::Error::last())?;
        mount(Some("/run/netns"), "/run/netns", NOTHING, MsFlags::MS_BIND, NOTHING)?;
        mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), NOTHING)
    };
    mounted().expect("the mounts of a host");
    let lo = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(lo.expect("iproute2's ip").success(), "lo goes up");
    // A new namespace takes the first from the machine. The second would keep errors from who asks often: a resolver
    // that nobody has a route to is then waited for.
    for (setting, value) in [("ip_forward", "0"), ("icmp_ratelimit", "0")] {
        std::fs::write(format!("/proc/sys/net/ipv4/{setting}"), value).expect("a setting of the host");
    }
    // Last, because the next process is process 1.
    unshare(CloneFlags::CLONE_NEWPID).expect("a namespace of processes");
}

/// Process 1: mounts `/proc`, says so, and sits until `life` ends. The calling thread has unshared its PID namespace.
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
