//! Creates the small system for a booted kernel: busybox, the tests' tools with their libraries, the kernel's
//! modules, netbpf and the tests, and an `/init` that runs them. Must not contain anything that the host
//! lacks.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use xtask::toolchain;

use super::debian::Image;
use crate::{
    suite::list,
    tools::{self, For, TOOLS},
};

/// The line before the tests' output.
pub const BEGIN: &str = "--- netbpf: tests begin";
/// Start of the line after the tests' output; the exit code follows.
pub const END: &str = "--- netbpf: tests end with ";

/// Modules that netbpf and its tests need, unless they are built in.
const MODULES: &[&str] = &[
    "veth",
    "bridge",
    "macvlan",
    "tun",
    "cls_bpf",
    "sch_ingress",
    "nf_tables",
    "nf_conntrack_netlink",
    "nft_chain_nat",
    "nft_connlimit",
    "nft_ct",
    "nft_fib_inet",
    "nft_masq",
    "nft_nat",
    "nft_tproxy",
];
/// Modules of older kernels; newer ones have them in nf_tables.
const OLD_MODULES: &[&str] = &["nft_counter", "nft_objref"];
/// Programs of the system that are copied, besides the tools: the shell, and those that start others. Those
/// of busybox would start its own `ip` and `ping` instead of the real ones.
const SYSTEM: &[&str] = &["dash", "env", "find", "nice", "nohup", "setsid", "timeout", "xargs"];

const INIT: &str = include_str!("init.sh");

/// The files for all kernels.
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Copies the files from this machine.
    pub fn new(netbpf: &Path, lab: &Path) -> Result<Self> {
        let root = toolchain::workspace().join("target/kernels/tree");
        remove(&root)?;
        for folder in [
            "usr/bin",
            "usr/sbin",
            "usr/lib",
            "usr/lib64",
            "etc",
            "proc",
            "sys",
            "dev",
            "tmp",
            "run",
            "var",
            "root",
        ] {
            create(&root.join(folder))?;
        }
        for folder in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{folder}"), root.join(folder)).with_context(|| format!("link {folder}"))?;
        }
        let tree = Self { root };
        let wanted = TOOLS.iter().filter(|tool| tool.wanted.contains(&For::Kernels)).map(|tool| tool.program);
        let mut libraries = BTreeSet::new();
        for program in wanted.chain(SYSTEM.iter().copied()) {
            let file = tools::find_of_system(program).with_context(|| format!("find {program} in /usr"))?;
            libraries.extend(tree.program(&file, &format!("usr/bin/{program}"))?);
        }
        symlink("dash", tree.root.join("usr/bin/sh")).context("link sh")?;
        for (program, path) in [(netbpf, "usr/bin/netbpf"), (lab, "usr/bin/netbpf-lab")] {
            libraries.extend(tree.program(program, path)?);
            strip(&tree.root.join(path))?;
        }
        let busybox = tools::find_of_system("busybox").context("find busybox in /usr")?;
        libraries.extend(tree.program(&busybox, "usr/bin/busybox")?);
        for library in libraries {
            tree.copy(&library, &inside(&library)?)?;
            // xdp-filter has programs for the kernel there.
            if library.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libbpf.")) {
                tree.folder(&library.with_file_name("bpf"))?;
            }
        }
        tree.applets(&busybox)?;
        tree.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")?;
        tree.file("etc/group", "root:x:0:\nnogroup:x:65534:\n")?;
        tree.file("etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost\n")?;
        tree.file("etc/hostname", "netbpf\n")?;
        tree.file("etc/nsswitch.conf", "hosts: files dns\n")?;
        tree.file("etc/resolv.conf", "")?;
        Ok(tree)
    }

    /// Writes the archive for one kernel: these files, its modules, and its `/init`.
    pub fn write(&self, image: &Image, filter: &[&str], archive: &Path) -> Result<()> {
        let extra = archive.with_extension("tree");
        remove(&extra)?;
        create(&extra.join("modules"))?;
        for (order, module) in modules(image)?.iter().enumerate() {
            unpack(module, &extra.join(format!("modules/{order:02}.ko")))?;
        }
        let init =
            INIT.replace("@BEGIN@", BEGIN).replace("@END@", END).replace("@FILTER@", &filter.join(" "));
        write(&extra.join("init"), &init)?;
        fs::set_permissions(extra.join("init"), fs::Permissions::from_mode(0o755))
            .context("make /init a program")?;
        // The kernel unpacks concatenated archives into one tree.
        let mut file = fs::File::create(archive).with_context(|| format!("create {}", archive.display()))?;
        for tree in [&self.root, &extra] {
            cpio(tree, &file).with_context(|| format!("pack {}", tree.display()))?;
        }
        io::Write::flush(&mut file).with_context(|| format!("write {}", archive.display()))
    }

    /// Copies the files of a folder.
    fn folder(&self, folder: &Path) -> Result<()> {
        for file in list(folder)? {
            self.copy(&file, &inside(&file)?)?;
        }
        Ok(())
    }

    /// Copies a program and returns its libraries.
    fn program(&self, from: &Path, to: &str) -> Result<Vec<PathBuf>> {
        let from = from.canonicalize().with_context(|| format!("find {}", from.display()))?;
        self.copy(&from, to)?;
        tools::libraries(&from)
    }

    fn copy(&self, from: &Path, to: &str) -> Result<()> {
        let to = self.root.join(to);
        if let Some(folder) = to.parent() {
            create(folder)?;
        }
        fs::copy(from, &to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
        Ok(())
    }

    /// Creates a link for every program of busybox that is not there already.
    fn applets(&self, busybox: &Path) -> Result<()> {
        let output = Command::new(busybox).arg("--list").output().context("start busybox")?;
        for applet in String::from_utf8_lossy(&output.stdout).lines() {
            let link = self.root.join("usr/bin").join(applet);
            if link.symlink_metadata().is_err() {
                symlink("busybox", &link).with_context(|| format!("link {}", link.display()))?;
            }
        }
        Ok(())
    }

    fn file(&self, path: &str, text: &str) -> Result<()> {
        write(&self.root.join(path), text)
    }
}

/// Removes debug information from a program: it is most of its size.
fn strip(program: &Path) -> Result<()> {
    let status = Command::new("strip").arg("--strip-debug").arg(program).status().context("start strip")?;
    if !status.success() {
        bail!("strip {}: {status}", program.display());
    }
    Ok(())
}

/// The path of a library, with the links to its directory on the host resolved.
fn inside(library: &Path) -> Result<String> {
    let name = library.file_name().with_context(|| format!("{} is no library", library.display()))?;
    let folder = library.parent().unwrap_or(Path::new("/"));
    let folder = folder.canonicalize().with_context(|| format!("find {}", folder.display()))?;
    Ok(folder.join(name).to_string_lossy().trim_start_matches('/').to_owned())
}

/// The kernel's module files, in the order of loading.
fn modules(image: &Image) -> Result<Vec<PathBuf>> {
    let modprobe = tools::find("modprobe").context("find modprobe")?;
    let mut files = Vec::new();
    for module in MODULES.iter().chain(OLD_MODULES) {
        let output = Command::new(&modprobe)
            .arg("-d")
            .arg(&image.root)
            .args(["-S", &image.release, "--show-depends", module])
            .output()
            .context("start modprobe")?;
        if !output.status.success() {
            if OLD_MODULES.contains(module) {
                continue;
            }
            bail!(
                "find the module {module} of {}: {}",
                image.release,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        // `insmod FILE`, or `builtin NAME`.
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            if let Some(file) = line.strip_prefix("insmod ") {
                let file = PathBuf::from(file.trim());
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
    }
    Ok(files)
}

/// Decompresses a module: busybox's insmod does not.
fn unpack(module: &Path, to: &Path) -> Result<()> {
    if module.extension().is_none_or(|extension| extension != "xz") {
        fs::copy(module, to).with_context(|| format!("copy {}", module.display()))?;
        return Ok(());
    }
    let file = fs::File::create(to).with_context(|| format!("create {}", to.display()))?;
    let status = Command::new("xz").args(["-dc"]).arg(module).stdout(file).status().context("start xz")?;
    if !status.success() {
        bail!("unpack {}: {status}", module.display());
    }
    Ok(())
}

/// Appends a tree to an archive.
fn cpio(tree: &Path, archive: &fs::File) -> Result<()> {
    let mut find = Command::new("find")
        .current_dir(tree)
        .arg(".")
        .stdout(Stdio::piped())
        .spawn()
        .context("start find")?;
    let names = find.stdout.take().context("read find's output")?;
    let mut cpio = Command::new("busybox");
    cpio.args(["cpio", "-o", "-H", "newc", "-R", "0:0"]).current_dir(tree).stdin(names).stderr(Stdio::null());
    cpio.stdout(archive.try_clone().context("share the archive")?);
    let packed = cpio.status().context("start busybox")?;
    let found = find.wait().context("wait for find")?;
    if !packed.success() || !found.success() {
        bail!("find: {found}, cpio: {packed}");
    }
    Ok(())
}

fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}
