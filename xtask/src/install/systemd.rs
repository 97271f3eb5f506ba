//! The systemd of this machine, if it runs one: told of units, asked to start and stop them. Must not know where they are.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

const SOCKET: &str = "netbpf.socket";
const SERVICE: &str = "netbpf.service";

/// One that runs.
#[derive(Clone, Copy, Debug)]
pub struct Systemd(());

impl Systemd {
    /// sd_booted(3).
    pub fn running() -> Option<Self> {
        Path::new("/run/systemd/system").is_dir().then_some(Self(()))
    }

    /// Have it read its units again.
    pub fn reload(self) -> Result<()> {
        systemctl(&["daemon-reload"])
    }

    /// Now and whenever the machine starts. A daemon that runs is replaced; its sockets stay.
    pub fn start(self) -> Result<()> {
        systemctl(&["enable", SOCKET, SERVICE])?;
        systemctl(&["start", SOCKET])?;
        systemctl(&["restart", SERVICE])
    }

    /// Now and for good. Both in one command: the socket would start the daemon again.
    pub fn stop(self) -> Result<()> {
        systemctl(&["disable", "--now", SERVICE, SOCKET])
    }
}

fn systemctl(arguments: &[&str]) -> Result<()> {
    let called = || format!("systemctl {}", arguments.join(" "));
    let output = Command::new("systemctl").args(arguments).output().with_context(called)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", called(), said.lines().next().unwrap_or("failed"));
    }
    Ok(())
}
