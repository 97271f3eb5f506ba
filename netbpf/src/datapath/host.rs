//! Checks what the datapath needs of the host: privileges, a kernel with the features, a mounted bpffs.
//! Probes features instead of comparing versions. Loads nothing.

use std::{
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use aya::{
    programs::{ProgramType, SchedClassifier, TcAttachType},
    sys::{BpfHelper, is_helper_supported},
};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount, umount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
    unistd::geteuid,
};

use super::Error;
use crate::private;

/// The usual mount point of a bpffs.
const BPFFS: &str = "/sys/fs/bpf";

/// The source of netbpf's mount, as in `/proc/thread-self/mounts`. It identifies the mount that netbpf has to
/// undo.
const SOURCE: &str = "netbpf";

/// The way in which this kernel attaches programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// tcx links (Linux 6.6, and older kernels with a backport).
    Tcx,
    /// Filters of the clsact qdisc.
    Clsact,
}

impl std::fmt::Display for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}

impl Attachment {
    /// The kernel has tcx if it answers a query for tcx links.
    pub(super) fn of_kernel() -> Self {
        match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
            Ok(_) => Self::Tcx,
            Err(_) => Self::Clsact,
        }
    }
}

/// Returns an error of one line if a requirement is missing.
pub fn check() -> Result<(), Error> {
    if !geteuid().is_root() {
        return Err(Error::missing("netbpf needs root to load programs", "start it with sudo"));
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Err(Error::missing(
            "this kernel has no BTF (/sys/kernel/btf/vmlinux)",
            "boot one that was built with CONFIG_DEBUG_INFO_BTF, as distributions' kernels are",
        ));
    }
    let too_old = || {
        Error::missing(
            "this kernel is too old: it has no bpf_redirect_peer",
            "boot Linux 5.10 or a later one",
        )
    };
    let helper = BpfHelper::BPF_FUNC_redirect_peer;
    match is_helper_supported(ProgramType::SchedClassifier, helper) {
        Ok(true) => Ok(()),
        Ok(false) => Err(too_old()),
        Err(error) => Err(Error::failed("probe", "bpf_redirect_peer", error)),
    }
}

/// Creates a directory on a bpffs that only root can read. Nobody else can replace it.
pub fn make_folder(folder: &Path) -> Result<(), Error> {
    mount_for(folder)?;
    for parent in folder.ancestors().skip(1).filter(|parent| parent.exists()) {
        if !is_bpffs(parent)? {
            break;
        }
        private::check_parent(parent)?;
    }
    Ok(private::make_folder(folder, None)?)
}

/// Mounts a bpffs at the usual place, if `folder` is below it and none is mounted.
fn mount_for(folder: &Path) -> Result<(), Error> {
    let place = Path::new(BPFFS);
    if is_bpffs(folder)? {
        if folder.starts_with(place) && is_own_mount()? {
            // Earlier versions mounted it with access for everybody.
            private::make_folder(place, None)?;
        }
        return Ok(());
    }
    if folder.starts_with(place) && place.is_dir() && !is_bpffs(place)? {
        // Whoever can write there can remove pins, and with them the isolation of networks.
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some(SOURCE), place, Some("bpf"), flags, Some("mode=0700"))
            .map_err(|error| Error::failed("mount a bpf file system on", BPFFS, error))?;
        tracing::info!("mounted a bpf file system on {BPFFS}");
        if is_bpffs(folder)? {
            return Ok(());
        }
    }
    let there = existing(folder);
    Err(Error::missing(
        format!("{} is not on a bpf file system", folder.display()),
        format!("mount one, as in `mount -t bpf -o mode=0700 bpf {}`", there.display()),
    ))
}

/// Undoes [`mount_for`] if nothing else is pinned there.
pub fn unmount() -> Result<(), Error> {
    let failed = |error: io::Error| Error::failed("unmount", BPFFS, error);
    // Only the kernel's own files there have a dot in their names.
    let others =
        |name: io::Result<fs::DirEntry>| name.is_ok_and(|name| !name.file_name().as_bytes().contains(&b'.'));
    if is_own_mount()? && !fs::read_dir(BPFFS).map_err(failed)?.any(others) {
        match umount(BPFFS) {
            Ok(()) => tracing::info!("unmounted the bpf file system on {BPFFS}"),
            // Another process uses it.
            Err(Errno::EBUSY) => tracing::info!("the bpf file system on {BPFFS} is in use and stays"),
            Err(errno) => return Err(failed(errno.into())),
        }
    }
    Ok(())
}

/// Whether [`mount_for`] mounted the bpffs at the usual place.
fn is_own_mount() -> Result<bool, Error> {
    let mounts = fs::read("/proc/thread-self/mounts")
        .map_err(|error| Error::failed("read", "/proc/thread-self/mounts", error))?;
    // The last mount on a directory hides the others.
    let mut mounts = mounts.rsplit(|byte| *byte == b'\n').filter_map(|line| {
        let mut words = line.split(|byte| *byte == b' ');
        Some((words.next()?, words.next()?))
    });
    let source = mounts.find(|(_, place)| *place == BPFFS.as_bytes()).map(|(source, _)| source);
    Ok(source == Some(SOURCE.as_bytes()))
}

/// Whether a directory is on a bpffs, or would be if it existed.
fn is_bpffs(folder: &Path) -> Result<bool, Error> {
    let there = existing(folder);
    let info = statfs(&there).map_err(|error| Error::failed("look at", there.display(), error))?;
    Ok(info.filesystem_type() == BPF_FS_MAGIC)
}

/// The innermost directory of a path that exists.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/")).to_path_buf()
}
