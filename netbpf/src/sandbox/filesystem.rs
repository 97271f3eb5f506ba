//! The container's view of the file system: its `/etc` files, `/sys`, `/proc`, and with `--rootfs` its root and `/dev`.
//! Everything is a mount in the container's mount namespace; the host's files are never changed. Mount points that are
//! missing in a rootfs are created there, as Docker does.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind},
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    libc,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::stat::{Mode, SFlag, makedev, mknod},
    unistd::{fchdir, pivot_root},
};

use rustix::{
    fs::CWD,
    mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree},
};

use super::{
    error::{Error, call},
    spec::Spec,
};

/// Read-only: UID 0 may write to these files, and the container's UID 0 is the host's.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Hidden: they reveal information about the host, or its secrets.
const HIDDEN: [&str; 9] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
];
const DEVICES: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const RESTRICTED: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const NONE: Option<&str> = None;

/// The parts of the view that the supervisor keeps.
pub(super) struct View {
    /// The sandbox's files and their mount points, if the host can replace these. Kept open, because their paths may be
    /// hidden.
    mounted: Vec<(File, &'static str)>,
    /// Becomes readable when a mount of this namespace changes.
    pub changes: Option<File>,
    /// The container's `/dev/pts`; `None` if it has none.
    pub terminals: Option<OwnedFd>,
}

/// Builds the view in the current mount namespace, which is a new copy of the host's. The current network namespace
/// must be the container's.
pub(super) fn enter(spec: &Spec, dir: &Path) -> Result<View, Error> {
    // Not private: what the host unmounts must be unmounted here, too. Otherwise the container would keep devices and
    // namespaces of the host busy.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)
        .map_err(call("set the propagation of", "/"))?;
    remove_bpffs()?;
    let changes = OpenOptions::new().read(true).open("/proc/self/mountinfo");
    let mut view = View { mounted: Vec::new(), changes: None, terminals: None };
    let root = match &spec.rootfs {
        Some(root) => root.canonicalize().map_err(call("open rootfs", root.display()))?,
        None => PathBuf::from("/"),
    };
    if root == Path::new("/") {
        make_room(spec, dir)?;
        for (source, target) in spec.files.targets() {
            let source = File::open(source).map_err(call("open", source.display()))?;
            bind_file(&source, target).map_err(call("mount on", target))?;
            view.mounted.push((source, target));
        }
        view.changes = Some(changes.map_err(call("open", "/proc/self/mountinfo"))?);
        mount_sys()?;
        spec.hidden.iter().try_for_each(|path| hide(path))?;
    } else {
        change_root(spec, &root)?;
    }
    view.terminals = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open("/dev/pts")
        .ok()
        .map(OwnedFd::from);
    Ok(view)
}

/// Mounts `/proc` for the caller's PID namespace. Call it in the first process of that.
pub(super) fn mount_proc() -> Result<(), Error> {
    mount(Some("proc"), "/proc", Some("proc"), RESTRICTED, NONE).map_err(call("mount proc on", "/proc"))?;
    for path in READ_ONLY.into_iter().filter(|path| Path::new(path).exists()) {
        bind(Path::new(path), path)?;
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | RESTRICTED;
        mount(NONE, path, NONE, flags, NONE).map_err(call("make read-only", path))?;
    }
    HIDDEN.iter().try_for_each(|path| hide(Path::new(path)))
}

impl View {
    /// Mounts the files again that the host has replaced: when a file is renamed onto a mount point, as network
    /// managers do, the kernel removes the mount in every namespace. Returns false if a target is missing at the moment
    /// or about to be renamed.
    pub fn repair(&self) -> bool {
        self.mounted
            .iter()
            .all(|(source, target)| same_file(source, target) || bind_file(source, target).is_ok())
    }
}

/// Unmounts all bpf file systems. Since Linux 5.19, UID 0 may open pinned maps and write to them without any
/// capability, and the container must not change its network.
fn remove_bpffs() -> Result<(), Error> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(call("read", "/proc/self/mountinfo"))?;
    for point in mounts.lines().filter_map(bpffs).rev() {
        match umount2(&point, MntFlags::MNT_DETACH) {
            // Another mount covers it, so it cannot be reached.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(call("unmount", point.display())(errno)),
        }
    }
    Ok(())
}

/// The mount point in a line of mountinfo, if it is of a bpf file system. Spaces are octal escapes there.
fn bpffs(line: &str) -> Option<PathBuf> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let point = mount.split(' ').nth(4).filter(|_| filesystem.starts_with("bpf "))?;
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    Some(escapes.iter().fold(point.to_owned(), |path, (code, text)| path.replace(code, text)).into())
}

/// Covers a directory by an empty one, and a file or socket by `/dev/null`.
fn hide(path: &Path) -> Result<(), Error> {
    let failed = || call::<nix::Error>("hide", path.display());
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            mount(Some("tmpfs"), path, Some("tmpfs"), RESTRICTED | MsFlags::MS_RDONLY, NONE).map_err(failed())
        }
        Ok(_) => mount(Some("/dev/null"), path, NONE, MsFlags::MS_BIND, NONE).map_err(failed()),
        Err(_) => Ok(()),
    }
}

fn same_file(source: &File, target: &str) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (source, target) = (source.metadata().map(identity), fs::metadata(target).map(identity));
    matches!((source, target), (Ok(source), Ok(target)) if source == target)
}

/// Mounts an open file of this mount namespace (`open_tree`, Linux 5.2).
fn bind_file(source: &File, target: &str) -> rustix::io::Result<()> {
    let clone =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(source, "", clone)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    move_mount(&tree, "", CWD, target, flags)
}

fn bind(source: &Path, target: &str) -> Result<(), Error> {
    mount(Some(source), target, NONE, MsFlags::MS_BIND, NONE)
        .map_err(call("mount", format!("{} on {target}", source.display())))
}

/// Creates missing mount points. If the host lacks a file, or has a dangling link in its place, the container's `/etc`
/// becomes an overlay over the host's that contains the file.
fn make_room(spec: &Spec, dir: &Path) -> Result<(), Error> {
    let missing: Vec<_> =
        spec.files.targets().into_iter().filter(|(_, target)| !Path::new(target).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let layers = dir.join("etc");
    let failed = || call::<io::Error>("make", layers.display());
    fs::create_dir_all(&layers).map_err(failed())?;
    mount(Some("tmpfs"), &layers, Some("tmpfs"), RESTRICTED, NONE)
        .map_err(call("mount tmpfs on", layers.display()))?;
    for layer in ["upper", "work"] {
        fs::create_dir(layers.join(layer)).map_err(failed())?;
    }
    // A relative path, so that none of its characters is special in the mount options.
    std::env::set_current_dir(&layers).map_err(failed())?;
    let options = Some("lowerdir=/etc,upperdir=upper,workdir=work");
    mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), options)
        .map_err(call("mount overlay on", format!("/etc, because {} is missing", missing[0].1)))?;
    std::env::set_current_dir("/").map_err(failed())?;
    // The overlay keeps its layers without this mount.
    umount2(&layers, MntFlags::MNT_DETACH).map_err(call("unmount", layers.display()))?;
    fs::remove_dir(&layers).map_err(failed())?;
    for (_, target) in missing {
        if fs::symlink_metadata(target).is_ok() {
            fs::remove_file(target).map_err(call("replace", target))?;
        }
        File::create(target).map_err(call("create", target))?;
    }
    Ok(())
}

fn mount_sys() -> Result<(), Error> {
    let failed = || call("mount sysfs on", "/sys");
    let flags = RESTRICTED | MsFlags::MS_RDONLY;
    match mount(Some("sysfs"), "/sys", Some("sysfs"), flags, NONE) {
        // With the host's network, sysfs is mounted there already, together with the host's mounts in it.
        Err(Errno::EBUSY) => {
            mount(Some("/sys"), "/sys", NONE, MsFlags::MS_BIND, NONE).map_err(failed())?;
            mount(NONE, "/sys", NONE, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags, NONE).map_err(failed())
        }
        result => result.map_err(failed()),
    }
}

/// Changes to the root directory `root`. No link in a rootfs is followed before the host's root is unmounted, because
/// `..` leads out of `/` until then. The host's files are mounted in the new `/dev` in the meantime.
fn change_root(spec: &Spec, root: &Path) -> Result<(), Error> {
    let failed = |op| call::<nix::Error>(op, root.display());
    mount(Some(root), root, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE).map_err(failed("mount"))?;
    let host = File::open("/").map_err(call("open", "/"))?;
    std::env::set_current_dir(root).map_err(call("enter", root.display()))?;
    // The old root is now mounted on top of the new one; relative paths still start in the old one.
    pivot_root(".", ".").map_err(failed("change root to"))?;
    fchdir(&host).map_err(failed("leave"))?;
    if fs::create_dir("/dev").is_err() && !fs::symlink_metadata("/dev").is_ok_and(|dev| dev.is_dir()) {
        return Err(Error::Setup(format!("rootfs {}: /dev is no directory", root.display())));
    }
    mount_dev()?;
    let parked =
        spec.files.targets().map(|(source, target)| (source, target, target.replace("/etc/", "/dev/.")));
    for (source, _, parked) in &parked {
        File::create(parked).map_err(call("create", parked))?;
        bind(source.strip_prefix("/").unwrap_or(source), parked)?;
    }
    umount2(".", MntFlags::MNT_DETACH).map_err(call("unmount", "the host's root"))?;
    std::env::set_current_dir("/").map_err(call("enter", root.display()))?;

    for dir in ["/etc", "/proc", "/sys"] {
        fs::create_dir_all(dir).map_err(call("create in rootfs", dir))?;
    }
    for (_, target, parked) in &parked {
        create_file(Path::new(target)).map_err(call("create in rootfs", target))?;
        mount(Some(parked.as_str()), *target, NONE, MsFlags::MS_MOVE, NONE)
            .map_err(call("mount on", target))?;
        fs::remove_file(parked).map_err(call("remove", parked))?;
    }
    mount_sys()
}

/// Creates an empty file if there is none, also at the target of a dangling link. An existing file is not opened: it
/// may be a device, or a FIFO, which would block.
fn create_file(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        found => return found.map(drop),
    }
    let create = |path: &Path| OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
    if fs::symlink_metadata(path).is_err() {
        return create(path).map(drop);
    }
    let target = path.parent().unwrap_or(path).join(fs::read_link(path)?);
    fs::create_dir_all(target.parent().unwrap_or(&target))?;
    create(&target).map(drop)
}

/// Creates Docker's devices and no others.
fn mount_dev() -> Result<(), Error> {
    let tmpfs = |target, flags, options| {
        mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(options))
            .map_err(call("mount tmpfs on", target))
    };
    tmpfs("/dev", MsFlags::MS_NOSUID, "mode=755,size=64m")?;
    for (name, major, minor) in DEVICES {
        let path = Path::new("/dev").join(name);
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&path, SFlag::S_IFCHR, mode, makedev(major, minor)).map_err(call("create", path.display()))?;
        // `mknod` applies the umask.
        fs::set_permissions(&path, Permissions::from_mode(mode.bits()))
            .map_err(call("open to all", path.display()))?;
    }
    let links = [
        ("pts/ptmx", "/dev/ptmx"),
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ];
    for (target, link) in links {
        symlink(target, link).map_err(call("create", link))?;
    }
    for dir in ["/dev/pts", "/dev/shm"] {
        fs::create_dir(dir).map_err(call("create", dir))?;
    }
    let options = Some("newinstance,ptmxmode=0666,mode=0620,gid=5");
    mount(Some("devpts"), "/dev/pts", Some("devpts"), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, options)
        .map_err(call("mount devpts on", "/dev/pts"))?;
    tmpfs("/dev/shm", RESTRICTED, "mode=1777,size=64m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bpf_file_systems_are_found_wherever_they_are_mounted() {
        let line = "32 25 0:28 / /run/my\\040bpf rw,nosuid shared:9 - bpf bpf rw,mode=700";
        assert_eq!(bpffs(line), Some("/run/my bpf".into()));
        assert_eq!(bpffs("32 25 0:28 / /bpf rw - tmpfs bpf rw"), None);
    }
}
