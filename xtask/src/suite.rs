//! Packages of another Debian suite, fetched by apt and unpacked without installing. apt checks their signatures, with
//! lists and a cache of its own. Must not contain host names: the address of the archive is from this machine's apt
//! sources. Must not know what the packages are for.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::step;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A suite that need not be in the machine's sources.
pub struct Suite {
    name: &'static str,
    /// Its lists, its cache, and downloads.
    folder: PathBuf,
    options: Vec<OsString>,
}

impl Suite {
    /// Reads the lists of a suite into `folder`.
    pub fn read(name: &'static str, folder: &Path) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("create {}", part.display()))?;
        }
        let list = folder.join("sources.list");
        fs::write(&list, source(name)? + "\n").with_context(|| format!("write {}", list.display()))?;
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
        let suite = Self { name, folder: folder.to_owned(), options };
        let mut update = suite.command("apt-get");
        update.arg("update");
        step::run(&format!("reading the package lists of {name}"), update, |_| None)?;
        Ok(suite)
    }

    /// The names of packages that begin with `prefix`.
    pub fn packages(&self, prefix: &str) -> Result<Vec<String>> {
        let output =
            self.command("apt-cache").args(["pkgnames", prefix]).output().context("start apt-cache")?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    /// Fetches packages of the suite, and unpacks them into the empty directory `to`.
    pub fn unpack(&self, packages: &[&str], to: &Path) -> Result<()> {
        let debs = self.folder.join("debs");
        empty(&debs)?;
        let mut download = self.command("apt-get");
        download.current_dir(&debs).arg("download").args(packages);
        step::run(&format!("fetching {}", packages.join(" ")), download, |_| None)?;
        empty(to)?;
        for deb in list(&debs)? {
            let mut unpack = Command::new("dpkg-deb");
            unpack.arg("-x").arg(&deb).arg(to);
            step::run(&format!("unpacking packages of {}", self.name), unpack, |_| None)?;
        }
        fs::remove_dir_all(&debs).with_context(|| format!("remove {}", debs.display()))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options);
        command
    }
}

/// Makes the root file system of a suite, with packages and what they need, in the directory `to`.
pub fn bootstrap(name: &str, packages: &[&str], to: &Path) -> Result<()> {
    // Its mounts are not those of tests that run at the same time.
    let mut make = Command::new("unshare");
    make.args(["--mount", "mmdebstrap", "--quiet", "--variant=essential", "--skip=check/empty"]);
    // No need to survive a power failure.
    make.args(["--dpkgopt=force-unsafe-io", &format!("--include={}", packages.join(","))]);
    make.arg(name).arg(to).arg(source(name)?);
    step::run(&format!("making a root of {name} with {}", packages.join(" ")), make, |_| None)
}

/// The line of a list of sources for a suite.
fn source(name: &str) -> Result<String> {
    let signed = if Path::new(KEYRING).is_file() { format!(" signed-by={KEYRING}") } else { String::new() };
    Ok(format!("deb [arch=amd64{signed}] {} {name} main", archive()?))
}

/// The address of Debian's archive in this machine's sources.
fn archive() -> Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"])
        .output()
        .context("start apt-get")?;
    let targets = String::from_utf8_lossy(&output.stdout);
    let archive = targets.lines().find_map(|target| target.strip_prefix("Debian|Debian|"));
    match archive {
        Some(archive) => Ok(archive.to_owned()),
        None => bail!(
            "apt has no source of Debian; other kernels and Docker engines for tests are Debian's. Without them: \
             cargo xtask test --kernel none --engine system"
        ),
    }
}

/// The entries of a directory.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    paths.with_context(|| format!("read {}", folder.display()))
}

fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))
}
