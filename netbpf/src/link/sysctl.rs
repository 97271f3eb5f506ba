//! Reads and writes settings below `/proc/sys`. Those below `net` are of the calling thread's namespace.
//! Never creates a file.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use rustix::{
    fs::{Mode, OFlags, open, openat},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};

use super::Error;
use crate::fault;

/// The value of a setting: `net/ipv4/ip_forward` is `/proc/sys/net/ipv4/ip_forward`.
///
/// # Errors
/// [`Error::Failed`]: `ENOENT` if this kernel has no such setting, or there is no such interface
/// ([`Error::is_missing`]).
pub fn read(setting: &str) -> Result<String, Error> {
    let path = path(setting);
    let text = fs::read_to_string(&path)
        .map_err(|error| Error::failed("read", path.display().to_string(), error))?;
    Ok(text.trim_end().to_owned())
}

/// Writes a setting if its value differs. Returns whether it was written.
///
/// # Errors
/// [`Error::Failed`] as of [`read`]; `EINVAL` for a value that the kernel does not accept; `EROFS` where
/// `/proc/sys` is mounted read-only.
pub fn write(setting: &str, value: &str) -> Result<bool, Error> {
    if read(setting)? == value {
        return Ok(false);
    }
    set(setting, value)?;
    Ok(true)
}

/// The settings of the host, for a module that must work without a host in tests.
#[derive(Clone, Debug, Default)]
pub struct Sysctls;

impl Sysctls {
    /// Those of the calling threads' namespaces.
    pub fn new() -> Self {
        Self
    }

    /// As [`read`].
    ///
    /// # Errors
    /// As of [`read`].
    pub fn read(&self, setting: &str) -> Result<String, Error> {
        read(setting)
    }

    /// As [`write()`].
    ///
    /// # Errors
    /// As of [`write()`].
    pub fn write(&self, setting: &str, value: &str) -> Result<bool, Error> {
        write(setting, value)
    }
}

/// Writes settings of interfaces through a procfs of its own (`fsopen`, Linux 5.2), which costs 50 µs. In the
/// shared `/proc` the kernel keeps an entry `net/ipv6` for each namespace that was ever used there, and
/// searches all of them, at 0.2 to 1 µs each, for that of the calling thread.
pub(super) struct Procfs(OwnedFd);

impl Procfs {
    /// Use it for one namespace only: otherwise it too collects entries. Falls back to the shared `/proc` if
    /// none can be created.
    pub fn open() -> Result<Self, Error> {
        let own = || {
            let procfs = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_create(&procfs)?;
            fsmount(&procfs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        };
        let shared = |_| open("/proc", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let opened = own().or_else(shared).map_err(io::Error::from);
        opened.map(Self).map_err(|error| Error::failed("open", "/proc", error))
    }

    /// Turns IPv6 off on an interface. Does nothing if the interface has no IPv6: the kernel lacks it, or the
    /// MTU is too small.
    pub fn disable_ipv6(&self, interface: &str) -> Result<(), Error> {
        match self.set(&format!("net/ipv6/conf/{interface}/disable_ipv6"), "1") {
            Err(error) if error.is_missing() => Ok(()),
            result => result,
        }
    }

    /// Turns IPv6 on, on an interface that is down. It gets only the addresses that are added to it and the
    /// link-local one of its MAC; none from routers. They survive when somebody sets the interface down and
    /// up: the kernel keeps the added ones (Linux 4.6) and makes the link-local one again.
    pub fn enable_ipv6(&self, interface: &str) -> Result<(), Error> {
        const EUI64: &str = "0";
        for (setting, value) in
            [("addr_gen_mode", EUI64), ("accept_ra", "0"), ("keep_addr_on_down", "1"), ("disable_ipv6", "0")]
        {
            self.set(&format!("net/ipv6/conf/{interface}/{setting}"), value)?;
        }
        Ok(())
    }

    fn set(&self, setting: &str, value: &str) -> Result<(), Error> {
        let open = |()| {
            Ok(openat(&self.0, format!("sys/{setting}"), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?)
        };
        fault::call("write a setting")
            .and_then(open)
            .and_then(|file| write_alone(file.into(), value))
            .map_err(|error| Error::failed("write", format!("{value} to {}", path(setting).display()), error))
    }
}

fn set(setting: &str, value: &str) -> Result<(), Error> {
    let path = path(setting);
    fault::call("write a setting")
        .and_then(|()| File::options().write(true).open(&path))
        .and_then(|file| write_alone(file, value))
        .map_err(|error| Error::failed("write", format!("{value} to {}", path.display()), error))
}

/// While somebody changes links, the kernel does not wait to write settings of interfaces, but starts the call again until
/// it can (`restart_syscall`). Several threads that do so leave no CPU for the one that changes links.
fn write_alone(mut file: File, value: &str) -> io::Result<()> {
    static WRITER: Mutex<()> = Mutex::new(());
    let _alone = WRITER.lock().unwrap_or_else(PoisonError::into_inner);
    file.write_all(value.as_bytes())
}

fn path(setting: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(setting)
}
