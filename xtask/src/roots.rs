//! Root file systems of Debian suites for tests, in `target/roots`. Must not know how tests are started.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result};
use xtask::toolchain;

use crate::suite;

/// A suite's root file system.
#[derive(Debug)]
pub struct Root {
    /// The suite.
    pub suite: &'static str,
    /// Its directory. Another list of packages needs another one.
    folder: &'static str,
    packages: &'static [&'static str],
}

/// A Debian 12 with systemd, with what netbpf's package depends on, and with systemd-nspawn.
pub const BOOKWORM: Root = Root {
    suite: "bookworm",
    folder: "bookworm",
    packages: &["systemd-sysv", "systemd-container", "nftables", "iproute2", "iputils-ping"],
};

/// A Debian 13 with the same, and with podman 5.4, whose programs do not start with Debian 12's libraries.
pub const TRIXIE: Root = Root {
    suite: "trixie",
    folder: "trixie",
    packages: &[
        "systemd-sysv",
        "nftables",
        "iproute2",
        "iputils-ping",
        "podman",
        "netavark",
        "crun",
        "conmon",
        "catatonit",
        "containers-storage",
    ],
};

/// A Debian 12 with podman 4.3, which executes plugins of CNI. [`BOOKWORM`] stays without the packages that this needs.
pub const BOOKWORM_PODMAN: Root = Root {
    suite: "bookworm",
    folder: "bookworm-podman",
    packages: &[
        "podman",
        "containernetworking-plugins",
        "crun",
        "conmon",
        "catatonit",
        "containers-storage",
        "iproute2",
    ],
};

/// A root with podman and netavark, and the variable in which tests and benches find its path.
pub const PODMAN: (&str, Root) = ("PODMAN_ROOT", TRIXIE);

/// The same with plugins of CNI.
pub const PODMAN_CNI: (&str, Root) = ("PODMAN_CNI_ROOT", BOOKWORM_PODMAN);

/// Held while a root is made: groups of tests that run at the same time use the same.
static MAKING: Mutex<()> = Mutex::new(());

impl Root {
    /// Finds the root; makes it if it is not there.
    pub fn find(&self) -> Result<PathBuf> {
        let Self { suite, folder, packages } = self;
        let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let root = toolchain::workspace().join("target/roots").join(folder);
        if !root.is_dir() {
            // In a temporary directory until it is complete, because the next run uses what it finds.
            let partial = root.with_extension("partial");
            if partial.exists() {
                fs::remove_dir_all(&partial).with_context(|| format!("remove {}", partial.display()))?;
            }
            fs::create_dir_all(&partial).with_context(|| format!("create {}", partial.display()))?;
            suite::bootstrap(suite, packages, &partial)?;
            fs::rename(&partial, &root).with_context(|| format!("rename {}", partial.display()))?;
        }
        Ok(root)
    }
}
