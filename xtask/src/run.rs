//! `cargo xtask run`: from a fresh checkout to a daemon in the foreground.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use xtask::toolchain;

use crate::{
    cargo,
    setup::{self, Scope},
};

/// Install what is missing, build netbpf and its kernel programs, start the daemon in the foreground
#[derive(clap::Args)]
pub struct Options {
    /// Arguments for `netbpf daemon`
    #[arg(last = true)]
    daemon: Vec<OsString>,
}

/// Executes the daemon in place of this process, so that signals reach it. Returns only if that fails.
pub fn run(options: Options) -> Result<()> {
    let Options { daemon } = options;
    setup::prepare(Scope::Run)?;
    let netbpf = build()?;
    let mut command = Command::new(&netbpf);
    command.arg("daemon").args(&daemon);
    if !nix::unistd::geteuid().is_root() {
        bail!("the daemon needs root. Start it with:\n  sudo {}", typed(&command));
    }
    eprintln!(
        "{} runs in the foreground. For another terminal:\n  export PATH=\"{}:$PATH\"\n  netbpf run -d --name tomcat01 -- sleep infinity",
        typed(&command),
        netbpf.parent().unwrap_or(Path::new("")).display(),
    );
    Err(command.exec()).with_context(|| format!("start {}", netbpf.display()))
}

/// Builds the netbpf program in release mode.
pub fn build() -> Result<PathBuf> {
    let built = cargo::build(&["build", "--release", "--package", "netbpf"])?;
    cargo::program(&built, "netbpf")
}

/// A command as a user would type it in the workspace.
fn typed(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.strip_prefix(toolchain::workspace()).unwrap_or(program);
    let words = std::iter::once(program.as_os_str()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
