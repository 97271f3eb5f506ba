//! Installs Debian packages. Starts no service, and leaves nothing else on the machine, even if it is killed.
//! Must not know what the packages are for.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use xtask::toolchain;

use crate::step::{self, Progress};

/// The programs that maintainer scripts use to start and stop services (Debian Policy 9.3.3.2,
/// deb-systemd-invoke(1)).
const STARTERS: &[&str] = &["invoke-rc.d", "deb-systemd-invoke"];

/// The file with which an administrator forbids to start services.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// The content that earlier versions of this task wrote there, and left if they were killed.
const OLD_POLICY: &str = "#!/bin/sh\nexit 101\n";
/// A text in the log that only these versions wrote.
const OLD_LOG: &str = "APT::Status-Fd=1";

/// dpkg's journal: not empty if dpkg was interrupted.
const JOURNAL: &str = "/var/lib/dpkg/updates";

/// Completes an interrupted installation, and installs `packages` without recommended ones.
pub fn install(packages: &[&str]) -> Result<()> {
    remove_old_policy()?;
    let mut update = apt_get();
    update.arg("update");
    step::run("reading Debian's package lists", update, progress)?;
    let path = path_without_starters()?;
    if fs::read_dir(JOURNAL).is_ok_and(|mut entries| entries.next().is_some()) {
        let mut configure = Command::new("dpkg");
        configure.args(["--configure", "--pending"]).env("PATH", &path).env("DEBIAN_FRONTEND", FRONTEND);
        // This fails if a package depends on one that is not unpacked; apt installs that one below.
        if let Err(error) = step::run("finishing an interrupted installation", configure, |_| None) {
            eprintln!("warning: {error:#}");
        }
    }
    let mut dpkg_path = OsString::from("DPkg::Path=");
    dpkg_path.push(path);
    let mut install = apt_get();
    install
        .arg("-o")
        .arg(dpkg_path)
        .args(["install", "--yes", "--no-install-recommends", "--fix-broken"])
        .args(packages);
    step::run("installing packages", install, progress)
}

/// Maintainer scripts ask no questions.
const FRONTEND: &str = "noninteractive";

/// apt-get that reports its progress in the step's output, by a descriptor of its own: apt closes the
/// descriptor of its reports for maintainer scripts, which need their standard output.
fn apt_get() -> Command {
    let mut command = Command::new("sh");
    command.env("DEBIAN_FRONTEND", FRONTEND).args(["-c", "exec apt-get \"$@\" 3>&1", "apt-get"]).args([
        "-o",
        "APT::Status-Fd=3",
        "-o",
        "DPkg::Lock::Timeout=300",
        "-o",
        "Dpkg::Use-Pty=0",
    ]);
    command
}

/// A search path for maintainer scripts that begins with dummies of [`STARTERS`]: tests need the programs of
/// servers, but no running servers. No file of the machine is changed, so nothing can be left behind.
fn path_without_starters() -> Result<OsString> {
    let folder = toolchain::workspace().join("target/no-services");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    for name in STARTERS {
        let link = folder.join(name);
        match symlink("/bin/true", &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("create {}", link.display()));
            }
            _ => {}
        }
    }
    let system = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    env::join_paths([folder].into_iter().chain(system.map(PathBuf::from)))
        .context("put a folder before the search path of maintainer scripts")
}

fn remove_old_policy() -> Result<()> {
    let policy = Path::new(POLICY);
    let log = fs::read_to_string(step::log_path()).unwrap_or_default();
    if is_old_policy(&fs::read_to_string(policy).unwrap_or_default(), &log) {
        fs::remove_file(policy).with_context(|| format!("remove {POLICY}"))?;
        eprintln!(
            "removed {POLICY}: an earlier version of this task left it, and it kept services from being started"
        );
    }
    Ok(())
}

/// Administrators write the same text, so the log must show that an earlier version installed something.
fn is_old_policy(policy: &str, log: &str) -> bool {
    policy == OLD_POLICY && log.contains(OLD_LOG)
}

/// Parses `dlstatus:1:20.5:Retrieving file 1 of 9`, `pmstatus:gcc:40.0:Unpacking gcc`.
fn progress(line: &str) -> Option<Progress> {
    let mut fields = line.splitn(4, ':');
    let kind = fields.next()?;
    let _number_or_package = fields.next()?;
    let percent: f64 = fields.next()?.parse().ok()?;
    let doing = fields.next()?.trim().to_owned();
    // Fetching and unpacking each count to 100 %.
    match kind {
        "dlstatus" => Some(Progress::Percent((percent / 2.0) as u64, doing)),
        "pmstatus" => Some(Progress::Percent((50.0 + percent / 2.0) as u64, doing)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetching_and_unpacking_are_half_of_the_progress_each() {
        let percent = |line: &str| match progress(line) {
            Some(Progress::Percent(percent, _)) => Some(percent),
            _ => None,
        };
        assert_eq!(percent("dlstatus:3:50.0:Retrieving file 3 of 9"), Some(25));
        assert_eq!(percent("pmstatus:gcc:50.0:Unpacking gcc"), Some(75));
        assert_eq!(percent("Setting up gcc (4:12.2.0-3) ..."), None);
    }

    #[test]
    fn a_policy_of_the_administrator_stays() {
        let log = "$ \"apt-get\" \"-o\" \"APT::Status-Fd=1\" \"update\"\n";
        assert!(is_old_policy(OLD_POLICY, log));
        assert!(!is_old_policy(OLD_POLICY, "$ \"apt-get\" \"update\"\n"), "nothing was installed from here");
        assert!(!is_old_policy("#!/bin/sh\n# No services in this image.\nexit 101\n", log));
        assert!(!is_old_policy("", log), "there is no policy");
    }
}
