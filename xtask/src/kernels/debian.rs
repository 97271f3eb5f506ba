//! Fetches Debian's kernels for virtual machines by apt, and unpacks them without installing. Must not
//! contain host names: the address of the archive is from this machine's apt sources.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::Kernel;
use crate::step;

/// A kernel that can be booted.
#[derive(Debug)]
pub struct Image {
    /// Its release, as in `uname -r`.
    pub release: String,
    /// The kernel.
    pub kernel: PathBuf,
    /// A directory with its modules in `lib/modules/RELEASE`.
    pub root: PathBuf,
}

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The kernel in `folder`; fetched if it is not there.
pub fn fetch(kernel: &Kernel, folder: &Path) -> Result<Image> {
    let root = folder.join("root");
    if !root.is_dir() {
        let apt = Apt::new(kernel.suite, &folder.join("apt"))?;
        let mut update = apt.command("apt-get");
        update.arg("update");
        step::run(&format!("reading the package lists of {}", kernel.suite), update, |_| None)?;

        let packages = apt.packages(kernel)?;
        let debs = folder.join("debs");
        empty(&debs)?;
        let mut download = apt.command("apt-get");
        download.current_dir(&debs).arg("download").args(&packages);
        step::run(&format!("fetching {}", packages.join(" ")), download, |_| None)?;

        // In a temporary directory until it is complete, because the next run uses what it finds.
        let partial = folder.join("root.partial");
        empty(&partial)?;
        for deb in list(&debs)? {
            let mut unpack = Command::new("dpkg");
            unpack.arg("-x").arg(&deb).arg(&partial);
            step::run(&format!("unpacking Linux {}", kernel.version), unpack, |_| None)?;
        }
        // Newer packages have no /lib, where depmod and modprobe look.
        if !partial.join("lib").exists() {
            std::os::unix::fs::symlink("usr/lib", partial.join("lib")).context("link lib to usr/lib")?;
        }
        let mut depmod = Command::new(crate::tools::find("depmod").context("find depmod")?);
        depmod.arg("-b").arg(&partial).arg(release(&partial)?);
        step::run(&format!("listing the modules of Linux {}", kernel.version), depmod, |_| None)?;
        fs::rename(&partial, &root).with_context(|| format!("rename {}", partial.display()))?;
        fs::remove_dir_all(&debs).with_context(|| format!("remove {}", debs.display()))?;
    }
    let release = release(&root)?;
    let kernel =
        [root.join(format!("boot/vmlinuz-{release}")), root.join(format!("lib/modules/{release}/vmlinuz"))]
            .into_iter()
            .find(|file| file.is_file())
            .with_context(|| format!("find vmlinuz in {}", root.display()))?;
    Ok(Image { release, kernel, root })
}

fn release(root: &Path) -> Result<String> {
    let modules = list(&root.join("lib/modules"))?;
    let [folder] = modules.as_slice() else { bail!("{} has not exactly one kernel", root.display()) };
    Ok(folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
}

/// apt with lists and caches of its own, for a suite that need not be in the machine's sources.
struct Apt {
    options: Vec<OsString>,
}

impl Apt {
    fn new(suite: &str, folder: &Path) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("create {}", part.display()))?;
        }
        let signed =
            if Path::new(KEYRING).is_file() { format!(" signed-by={KEYRING}") } else { String::new() };
        let source = format!("deb [arch=amd64{signed}] {} {suite} main\n", archive()?);
        let list = folder.join("sources.list");
        fs::write(&list, source).with_context(|| format!("write {}", list.display()))?;
        let mut options = Vec::new();
        let mut option = |name: &str, value: &Path| {
            options.push("-o".into());
            let mut text = OsString::from(name);
            text.push("=");
            text.push(value);
            options.push(text);
        };
        option("Dir::Etc::sourcelist", &list);
        option("Dir::Etc::sourceparts", Path::new("/dev/null"));
        option("Dir::State::Lists", &folder.join("lists"));
        option("Dir::Cache", &folder.join("cache"));
        option("Acquire::Languages", Path::new("none"));
        // The user _apt may not write to root's directory.
        option("APT::Sandbox::User", Path::new(""));
        Ok(Self { options })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options);
        command
    }

    /// The packages that hold the newest kernel of this version that the suite has.
    fn packages(&self, kernel: &Kernel) -> Result<Vec<String>> {
        let output =
            self.command("apt-cache").args(["pkgnames", "linux-"]).output().context("start apt-cache")?;
        let names = String::from_utf8_lossy(&output.stdout);
        let packages = choose(&names.lines().collect::<Vec<_>>(), kernel.version, kernel.or_newer);
        if packages.is_empty() {
            bail!("{} has no kernel {} for the cloud", kernel.suite, kernel.version);
        }
        Ok(packages)
    }
}

/// The packages of the newest kernel of `version` among `names`. If there is none, and with `or_newer`: of
/// the newest kernel.
fn choose(names: &[&str], version: &str, or_newer: bool) -> Vec<String> {
    let releases = || {
        names.iter().filter_map(|name| {
            let release = name.strip_prefix("linux-image-")?;
            (release.starts_with(|first: char| first.is_ascii_digit()) && release.ends_with("-cloud-amd64"))
                .then_some(release)
        })
    };
    let of_version =
        |release: &&str| release.strip_prefix(version).is_some_and(|rest| rest.starts_with(['.', '-', '+']));
    let newest = releases().filter(of_version).max_by_key(|release| numbers(release));
    let Some(release) =
        newest.or_else(|| releases().filter(|_| or_newer).max_by_key(|release| numbers(release)))
    else {
        return Vec::new();
    };
    // Newer suites have a kernel in two packages, and the image package is empty.
    let halves = [format!("linux-binary-{release}"), format!("linux-modules-{release}")];
    if halves.iter().all(|half| names.contains(&half.as_str())) {
        halves.into()
    } else {
        vec![format!("linux-image-{release}")]
    }
}

/// The numbers in a release, for comparison: `5.10.0-32-cloud-amd64` is newer than `5.10.0-9-cloud-amd64`.
fn numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// The address of Debian's archive in this machine's sources.
fn archive() -> Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"])
        .output()
        .context("start apt-get")?;
    let targets = String::from_utf8_lossy(&output.stdout);
    targets
        .lines()
        .find_map(|target| target.strip_prefix("Debian|Debian|"))
        .map(str::to_owned)
        .context("apt has no source of Debian; kernels for tests are Debian's. Without them: cargo xtask test --kernel none")
}

fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    paths.with_context(|| format!("read {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_version_is_chosen() {
        let names = [
            "linux-image-cloud-amd64",
            "linux-image-5.10.0-9-cloud-amd64",
            "linux-image-5.10.0-32-cloud-amd64",
            "linux-image-5.10.0-32-cloud-amd64-dbg",
            "linux-image-5.10.0-33-amd64",
            "linux-image-5.1.0-99-cloud-amd64",
        ];
        assert_eq!(choose(&names, "5.10", false), ["linux-image-5.10.0-32-cloud-amd64"]);
        assert_eq!(choose(&names, "5.1", false), ["linux-image-5.1.0-99-cloud-amd64"]);
        assert!(choose(&names, "6.1", false).is_empty());
    }

    #[test]
    fn a_newer_kernel_is_chosen_in_two_packages() {
        let names = [
            "linux-image-7.3.1+deb14-cloud-amd64",
            "linux-binary-7.3.1+deb14-cloud-amd64",
            "linux-modules-7.3.1+deb14-cloud-amd64",
        ];
        let halves = ["linux-binary-7.3.1+deb14-cloud-amd64", "linux-modules-7.3.1+deb14-cloud-amd64"];
        assert_eq!(choose(&names, "7.2", true), halves);
    }
}
