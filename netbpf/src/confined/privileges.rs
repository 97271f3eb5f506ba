//! Drops the privileges of a confined process before it reads any input: its user, its file system, its capabilities,
//! and all system calls that it does not need. If one of them cannot be dropped, the process ends. Must not know what
//! the process does.

use std::{fs, io, ops::RangeInclusive, path::Path};

use anyhow::{Context, anyhow, ensure};
use nix::{
    fcntl::{OFlag, open},
    libc,
    sys::{
        prctl::{set_dumpable, set_no_new_privs},
        stat::Mode,
    },
    unistd::{
        Gid, Group, Uid, UnlinkatFlags, User, chdir, chroot, setgroups, setresgid, setresuid, unlinkat,
    },
};
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

/// UIDs and GIDs that no tool assigns: above those of regular accounts, below those of systemd's dynamic users
/// (systemd's UIDS-GIDS.md).
const UNUSED: RangeInclusive<u32> = 60578..=61183;

/// System calls without restrictions on their arguments, needed by a running process or by its runtime and C library:
/// for its sockets, memory, time and its own end. [`rules`] has those that are allowed with some arguments only.
const CALLS: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_futex,
    libc::SYS_getpeername,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_write,
    libc::SYS_writev,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
];

/// A number that is neither a user's nor a group's, a different one for each `rank`. Takes as long as the host's user
/// databases do.
pub(super) fn unused_user(rank: usize) -> io::Result<u32> {
    let mut passed = 0;
    for number in UNUSED.rev() {
        let user = User::from_uid(Uid::from_raw(number))?;
        let group = Group::from_gid(Gid::from_raw(number))?;
        if user.is_none() && group.is_none() {
            if passed == rank {
                return Ok(number);
            }
            passed += 1;
        }
    }
    let range = format!("{} to {}", UNUSED.start(), UNUSED.end());
    Err(io::Error::other(format!("every user number from {range} has an account")))
}

/// If the process is root, it becomes `user` in an empty root directory where nothing can be created: the directory
/// `root` in `dir`, which only root can write to, and which is removed again. A process that is not root has neither to
/// give up. In both cases it drops all capabilities for good.
pub(super) fn become_user(user: u32, dir: &Path, root: &str) -> anyhow::Result<()> {
    set_no_new_privs().context("set no_new_privs")?;
    if Uid::effective().is_root() {
        empty_bounding_set().context("empty the capability bounding set")?;
        enter_nothing(dir, root).context("change to an empty root directory")?;
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
        setgroups(&[]).context("leave all groups")?;
        setresgid(gid, gid, gid).with_context(|| format!("become group {user}"))?;
        setresuid(uid, uid, uid).with_context(|| format!("become user {user}"))?;
        set_dumpable(false).context("protect its memory from other processes")?;
    }
    rustix::thread::clear_ambient_capability_set().context("drop ambient capabilities")?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).context("drop capabilities")?;
    ensure!(!Uid::effective().is_root() && !Uid::current().is_root(), "it is still root");
    Ok(())
}

/// Restricts the thread to the system calls of a running process. All others fail with ENOSYS, so a C library that
/// tries a new call first falls back to the old one.
pub(super) fn restrict_calls() -> anyhow::Result<()> {
    let filter = filter().map_err(|error| anyhow!("{error}")).context("make the system call filter")?;
    apply_filter(&filter).map_err(|error| anyhow!("{error}")).context("apply the system call filter")
}

fn filter() -> Result<BpfProgram, seccompiler::Error> {
    let others = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let architecture = std::env::consts::ARCH.try_into()?;
    let calls = CALLS.iter().map(|call| (*call, Vec::new())).chain(rules()?).collect();
    Ok(SeccompFilter::new(calls, others, SeccompAction::Allow, architecture)?.try_into()?)
}

/// System calls that are allowed with some arguments only: IP sockets, memory that is not executable, and FIONBIO.
fn rules() -> Result<Vec<(i64, Vec<SeccompRule>)>, seccompiler::Error> {
    let only = |argument, operator, value: i32| {
        let value = value.unsigned_abs().into();
        SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?])
    };
    let executed = SeccompCmpOp::MaskedEq(libc::PROT_EXEC.unsigned_abs().into());
    let fionbio = u64::from(u32::try_from(libc::FIONBIO).unwrap_or_default());
    let fionbio = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, fionbio)?;
    Ok(vec![
        (
            libc::SYS_socket,
            vec![only(0, SeccompCmpOp::Eq, libc::AF_INET)?, only(0, SeccompCmpOp::Eq, libc::AF_INET6)?],
        ),
        (libc::SYS_mmap, vec![only(2, executed.clone(), 0)?]),
        (libc::SYS_mprotect, vec![only(2, executed, 0)?]),
        (libc::SYS_ioctl, vec![SeccompRule::new(vec![fionbio])?]),
    ])
}

/// Changes to a removed directory: it is empty, and the kernel lets nobody create anything in it.
fn enter_nothing(dir: &Path, root: &str) -> io::Result<()> {
    let parent = open(dir, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let path = dir.join(root);
    match fs::create_dir(&path) {
        // A process that was killed here has left it behind.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    chroot(&path)?;
    chdir("/")?;
    Ok(unlinkat(&parent, root, UnlinkatFlags::RemoveDir)?)
}

fn empty_bounding_set() -> io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The number after the last capability that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, net::UdpSocket, os::unix::net::UnixListener, thread};

    use nix::{
        errno::Errno,
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    use super::*;

    #[test]
    fn a_restricted_thread_opens_no_file_sends_no_signal_but_uses_ip_sockets() {
        // A filter applies to a thread and to the threads that it starts.
        let restricted = thread::spawn(|| {
            restrict_calls().expect("a filter");
            let refused = |error: io::Error| error.raw_os_error() == Some(libc::ENOSYS);
            let file = File::open("/dev/null").err().is_some_and(refused);
            let signal = kill(Pid::this(), None::<Signal>) == Err(Errno::ENOSYS);
            let local = UnixListener::bind("/nowhere").err().is_some_and(refused);
            let process = std::process::Command::new("/bin/true").spawn().err().is_some_and(refused);
            let socket = UdpSocket::bind("127.0.0.1:0").is_ok();
            [file, signal, local, process, socket]
        });
        assert_eq!(restricted.join().expect("a thread that ends"), [true; 5]);
    }

    #[test]
    fn an_unused_user_number_is_found() {
        let numbers = [0, 1].map(|rank| unused_user(rank).expect("a number"));
        assert!(numbers[1] < numbers[0]);
        for number in numbers {
            assert!(UNUSED.contains(&number));
            assert!(!fs::read_to_string("/etc/passwd").expect("users").contains(&format!(":{number}:")));
        }
    }
}
