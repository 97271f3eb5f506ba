//! What a confined process gives up before it reads anything: its user, its files, its capabilities, and the system calls
//! that it has no use for. Whatever cannot be given up ends it. It must not know what the process does with the rest.

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

/// Numbers that no tool gives to users: above those of people's accounts, below those of systemd's dynamic users
/// (systemd's UIDS-GIDS.md).
const UNUSED: RangeInclusive<u32> = 60578..=61183;

/// System calls that a running process makes, or its runtime and C library may: sockets that it has, memory, time, its
/// own end. The other calls that it makes are in [`rules`], with their arguments.
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

/// A user and group number that nobody has, another one for each `rank`. It may take as long as the host's user databases
/// take.
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

/// Root becomes `user`, whose root directory is an empty one that nothing can be made in: `root`, which is removed again, in
/// `dir`, root's own folder. Who is somebody else already has neither to lose. Nobody keeps a capability, or gets
/// one.
pub(super) fn become_user(user: u32, dir: &Path, root: &str) -> anyhow::Result<()> {
    set_no_new_privs().context("set no_new_privs")?;
    if Uid::effective().is_root() {
        empty_bounding_set().context("empty the capability bounding set")?;
        enter_nothing(dir, root).context("change to an empty root directory")?;
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
        setgroups(&[]).context("leave all groups")?;
        setresgid(gid, gid, gid).with_context(|| format!("become group {user}"))?;
        setresuid(uid, uid, uid).with_context(|| format!("become user {user}"))?;
        set_dumpable(false).context("keep others from its memory")?;
    }
    rustix::thread::clear_ambient_capability_set().context("drop ambient capabilities")?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).context("drop capabilities")?;
    ensure!(!Uid::effective().is_root() && !Uid::current().is_root(), "it is still root");
    Ok(())
}

/// From now on this thread makes no system calls but those of a running process. Others fail as those fail that a
/// kernel does not have, so that a C library which tries a new one first goes on with the old one.
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

/// Calls that are made with some arguments only: sockets of IP, memory that is not executed, and whether a descriptor
/// waits.
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

/// A removed folder: nothing is in it, and the kernel lets nobody make anything in it.
fn enter_nothing(dir: &Path, root: &str) -> io::Result<()> {
    let parent = open(dir, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let path = dir.join(root);
    match fs::create_dir(&path) {
        // Of one that was killed here.
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
            // One past the last that this kernel knows.
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
    fn a_restricted_thread_opens_no_file_and_signals_nobody_but_talks_over_ip() {
        // A filter is a thread's own, and those of threads that it starts.
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
    fn numbers_that_nobody_has_are_found() {
        let numbers = [0, 1].map(|rank| unused_user(rank).expect("a number"));
        assert!(numbers[1] < numbers[0]);
        for number in numbers {
            assert!(UNUSED.contains(&number));
            assert!(!fs::read_to_string("/etc/passwd").expect("users").contains(&format!(":{number}:")));
        }
    }
}
