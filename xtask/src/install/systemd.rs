//! The systemd of this machine, if it runs: reloads units, starts and stops them. Must not know their paths.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

const SOCKET: &str = "netbpf.socket";
const SERVICE: &str = "netbpf.service";

/// A running systemd.
#[derive(Clone, Copy, Debug)]
pub struct Systemd(());

impl Systemd {
    /// Whether systemd runs, as sd_booted(3).
    pub fn running() -> Option<Self> {
        Path::new("/run/systemd/system").is_dir().then_some(Self(()))
    }

    /// Reloads all units.
    pub fn reload(self) -> Result<()> {
        systemctl(&["daemon-reload"])
    }

    /// Starts the daemon now and at boot. A running daemon is restarted; its sockets stay.
    pub fn start(self) -> Result<()> {
        systemctl(&["enable", SOCKET, SERVICE])?;
        systemctl(&["start", SOCKET])?;
        systemctl(&["restart", SERVICE])
    }

    /// Stops the daemon, now and at boot. In one command: the socket would start the daemon again.
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
