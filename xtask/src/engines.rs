//! The engines for the tests of netbpf's driver: the system's Docker, and Docker of other Debian suites, in
//! `target/engines`. Must not know how tests are started.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use xtask::toolchain;

use crate::suite::Suite;

/// An engine.
#[derive(Debug)]
pub struct Engine {
    /// What users of the tests call it: `system`, or a Debian suite.
    pub name: &'static str,
    /// The Debian suite that has it; none for the system's.
    suite: Option<&'static str>,
    /// The module of tests to run with it; all if empty.
    only: &'static str,
}

/// The module of tests that need an engine from 28 on.
const NEWEST: &str = "newest::";

/// From the oldest supported engine to the newest. Debian 12 has 20.10; when this was written, trixie had 26.1 and sid
/// 28.5. All of them start with Debian 12's libraries and its runc.
pub const ENGINES: &[Engine] = &[
    Engine { name: "system", suite: None, only: "" },
    Engine { name: "trixie", suite: Some("trixie"), only: "story::" },
    Engine { name: "sid", suite: Some("sid"), only: "" },
];

/// The engine, its client, what starts its containers, and docker-compose.
const PACKAGES: &[&str] = &["docker.io", "docker-cli", "containerd", "docker-compose"];

/// An engine that can be started.
pub struct Found {
    /// Its version, major and minor.
    pub version: String,
    /// The directory that it was unpacked into; none for the system's.
    pub root: Option<PathBuf>,
}

impl Engine {
    /// Whether a test is to run with this engine.
    pub fn runs(&self, test: &str) -> bool {
        test.starts_with(self.only) && (self.suite == Some("sid") || !test.starts_with(NEWEST))
    }

    /// Finds the engine; fetches it if it is not there.
    pub fn find(&self) -> Result<Found> {
        let root = self.suite.map(unpacked).transpose()?;
        let program = match &root {
            Some(root) => root.join("usr/sbin/dockerd"),
            None => crate::tools::find("dockerd").context("find dockerd")?,
        };
        Ok(Found { version: version(&program)?, root })
    }
}

/// The directory with a suite's engine.
fn unpacked(suite: &'static str) -> Result<PathBuf> {
    let folder = toolchain::workspace().join("target/engines").join(suite);
    let root = folder.join("root");
    if !root.is_dir() {
        // In a temporary directory until it is complete, because the next run uses what it finds.
        let partial = folder.join("root.partial");
        Suite::read(suite, &folder.join("apt"))?.unpack(PACKAGES, &partial)?;
        fs::rename(&partial, &root).with_context(|| format!("rename {}", partial.display()))?;
    }
    Ok(root)
}

/// The version of a dockerd that starts on this machine.
fn version(program: &Path) -> Result<String> {
    let said = Command::new(program).arg("--version").output();
    let said = said.with_context(|| format!("start {}", program.display()))?;
    let text = String::from_utf8_lossy(&said.stdout);
    match parse_version(&text) {
        Some(version) => Ok(version),
        None => bail!("{} --version: {}", program.display(), String::from_utf8_lossy(&said.stderr).trim()),
    }
}

/// Parses `Docker version 28.5.2+dfsg4, build 3ef3c07` into `28.5`.
fn parse_version(text: &str) -> Option<String> {
    let numbers = text.strip_prefix("Docker version ")?;
    let mut numbers = numbers.split(|c: char| !c.is_ascii_digit());
    let [major, minor] = [numbers.next()?, numbers.next()?];
    (!major.is_empty() && !minor.is_empty()).then(|| format!("{major}.{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_tells_its_version() {
        let version = |text| parse_version(text);
        assert_eq!(version("Docker version 20.10.24+dfsg1, build 297e128\n").as_deref(), Some("20.10"));
        assert_eq!(version("Docker version 28.5.2+dfsg4, build 3ef3c07\n").as_deref(), Some("28.5"));
        assert_eq!(version("dockerd: /lib/libc.so.6: version `GLIBC_2.38' not found\n"), None);
    }

    #[test]
    fn every_test_runs_with_the_newest_engine_and_those_for_it_with_no_other() {
        let [system, trixie, sid] = ENGINES else { panic!("three engines") };
        let runs = |test| [system, trixie, sid].map(|engine| engine.runs(test));
        assert_eq!(runs("story::ports"), [true, true, true]);
        assert_eq!(runs("crowd::batches"), [true, false, true]);
        assert_eq!(runs("newest::gateways"), [false, false, true]);
    }
}
