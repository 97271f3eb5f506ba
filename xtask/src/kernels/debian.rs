//! Debian's kernels for virtual machines: which packages have them, and what is in these.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::Kernel;
use crate::{
    step,
    suite::{Suite, list},
};

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

/// The kernel in `folder`; fetched if it is not there.
pub fn fetch(kernel: &Kernel, folder: &Path) -> Result<Image> {
    let root = folder.join("root");
    if !root.is_dir() {
        let suite = Suite::read(kernel.suite, &folder.join("apt"))?;
        let names = suite.packages("linux-")?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let packages = choose(&names, kernel.version, kernel.or_newer);
        if packages.is_empty() {
            bail!("{} has no kernel {} for the cloud", kernel.suite, kernel.version);
        }
        // In a temporary directory until it is complete, because the next run uses what it finds.
        let partial = folder.join("root.partial");
        suite.unpack(&packages.iter().map(String::as_str).collect::<Vec<_>>(), &partial)?;
        // Newer packages have no /lib, where depmod and modprobe look.
        if !partial.join("lib").exists() {
            std::os::unix::fs::symlink("usr/lib", partial.join("lib")).context("link lib to usr/lib")?;
        }
        let mut depmod = Command::new(crate::tools::find("depmod").context("find depmod")?);
        depmod.arg("-b").arg(&partial).arg(release(&partial)?);
        step::run(&format!("listing the modules of Linux {}", kernel.version), depmod, |_| None)?;
        fs::rename(&partial, &root).with_context(|| format!("rename {}", partial.display()))?;
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
