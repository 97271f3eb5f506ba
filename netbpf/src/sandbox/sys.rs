//! System calls that Rust cannot check: fork, signal dispositions, descriptors by number, ioctls without wrappers.
//! Makes no decisions.

#![expect(unsafe_code, reason = "each block says what makes it sound")]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    libc,
    sys::{
        signal::{SigSet, Signal},
        socket::{AddressFamily, SockFlag, SockType, socket},
    },
    unistd::{ForkResult, Pid, fork},
};
use tokio::io::unix::AsyncFd;

/// Runs `child` in a new process and returns its PID. The process ends when `child` returns.
///
/// Only for the supervisor: it is sound because that has one thread.
pub(super) fn spawn(child: impl FnOnce()) -> nix::Result<Pid> {
    // SAFETY: the supervisor never starts a second thread, so the child finds no lock held and no state half changed.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            child();
            // SAFETY: _exit ends the process; nothing of the supervisor's is flushed or dropped a second time.
            unsafe { libc::_exit(127) }
        }
    }
}

/// Resets all signals to their default disposition and empties the mask, as a program expects.
pub(super) fn reset_signals() -> io::Result<()> {
    for signal in Signal::iterator().map(|s| s as i32).chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
        if signal != libc::SIGKILL && signal != libc::SIGSTOP {
            // SAFETY: SIG_DFL installs no handler.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    Ok(SigSet::empty().thread_set_mask()?)
}

/// Closes every descriptor above stderr except `keep`. The caller must execute a program next: no owner of a closed
/// descriptor runs again.
pub(super) fn close_others(keep: BorrowedFd<'_>) -> io::Result<()> {
    let keep = keep.as_raw_fd();
    for (first, last) in [(3, keep - 1), (keep + 1, RawFd::MAX)] {
        if first <= last {
            // SAFETY: close_range (5.9) takes three numbers; what it closes has no user left, see above.
            let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

/// Brings `lo` up in the current network namespace.
pub(super) fn loopback_up() -> io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: ifreq is plain data, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives until the call returns.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The network namespace of a socket.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN` there.
pub fn namespace_of(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: SIOCGSKNS (4.10) takes no argument.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGSKNS) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel has just opened it for this call: nobody else owns it.
        number => Ok(unsafe { OwnedFd::from_raw_fd(number) }),
    }
}

/// Registers a descriptor with the current tokio runtime.
///
/// # Errors
/// If epoll cannot wait for it: `EPERM` for a regular file.
pub fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the AsyncFd owns the descriptor, which therefore stays open and the same while it is registered.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}
