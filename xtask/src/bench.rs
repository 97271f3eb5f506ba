//! `cargo xtask bench`: installs what the benchmark needs, builds it and netbpf in release mode, and executes
//! it. Must not know what is measured, and how: that is in tests/bench.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use xtask::toolchain;

use crate::{
    cargo,
    roots::PODMAN,
    setup::{self, Scope},
};

/// Measure netbpf beside a bare veth pair and Docker's bridges: a table, and JSON and a plot in target/bench
#[derive(clap::Args)]
pub struct Options {
    /// Only what matters most, in less than two minutes
    #[arg(long)]
    quick: bool,
    /// How often everything is measured
    #[arg(long, value_name = "N")]
    rounds: Option<u16>,
    /// How long each sample takes
    #[arg(long, value_name = "S")]
    seconds: Option<u32>,
    /// Only this scene; may be given again
    #[arg(long = "scene", value_name = "NAME")]
    scenes: Vec<String>,
    /// The most containers on one network
    #[arg(long, value_name = "N")]
    containers: Option<u32>,
    /// Measure this netbpf instead of building one
    #[arg(long, value_name = "FILE", env = "NETBPF_BIN")]
    netbpf: Option<PathBuf>,
    /// Measure this other netbpf beside it
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Without Docker, and so without bridges
    #[arg(long)]
    without_docker: bool,
    /// Make this run the published one, with which later runs are compared (tests/bench/published.json)
    #[arg(long, conflicts_with_all = ["quick", "scenes", "containers", "against", "without_docker"])]
    publish: bool,
}

/// Builds the benchmark and executes it in place of this process; returns only if that fails.
pub fn run(options: Options) -> Result<()> {
    setup::prepare(Scope::Bench)?;
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "the benchmark needs root for its namespaces:\n  sudo --preserve-env=HOME env \"PATH=$PATH\" cargo xtask bench"
        );
    }
    let mut build = vec!["build", "--release", "--package", "netbpf-tests", "--bin", "netbpf-bench"];
    if options.netbpf.is_none() {
        build.extend(["--package", "netbpf", "--bin", "netbpf"]);
    }
    let built = cargo::build(&build)?;
    let netbpf = match &options.netbpf {
        Some(netbpf) => netbpf.clone(),
        None => cargo::program(&built, "netbpf")?,
    };
    let bench = cargo::program(&built, "netbpf-bench")?;
    let mut command = command(&bench, &netbpf, &options);
    if !options.quick || !options.scenes.is_empty() {
        command.env(PODMAN.0, PODMAN.1.find().context("make podman's root")?);
    }
    let error = command.exec();
    Err(error).with_context(|| format!("start {}", bench.display()))
}

fn command(bench: &Path, netbpf: &Path, options: &Options) -> Command {
    let Options { quick, rounds, seconds, scenes, containers, netbpf: _, against, without_docker, publish } =
        options;
    let mut command = Command::new(bench);
    command.arg("--netbpf").arg(netbpf).arg("--out").arg(toolchain::workspace().join("target/bench"));
    let published = toolchain::workspace().join("tests/bench/published.json");
    if *publish || published.exists() {
        command.arg("--published").arg(published);
    }
    for (name, given) in [("--quick", quick), ("--without-docker", without_docker), ("--publish", publish)] {
        command.args(given.then_some(name));
    }
    let values =
        [("--rounds", rounds.map(u32::from)), ("--seconds", *seconds), ("--containers", *containers)];
    for (name, value) in values {
        command.args(value.map(|value| format!("{name}={value}")));
    }
    command.args(scenes.iter().map(|scene| format!("--scene={scene}")));
    if let Some(against) = against {
        command.arg("--against").arg(against);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_passed_to_the_benchmark() {
        let options = Options {
            quick: true,
            rounds: Some(7),
            seconds: None,
            scenes: vec!["rate".to_owned(), "names".to_owned()],
            containers: Some(100),
            netbpf: None,
            against: Some("/old".into()),
            without_docker: false,
            publish: true,
        };
        let command = command(Path::new("/bench"), Path::new("/new"), &options);
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        assert_eq!(words[..3], ["--netbpf", "/new", "--out"]);
        assert_eq!(
            words[6..],
            [
                "--quick",
                "--publish",
                "--rounds=7",
                "--containers=100",
                "--scene=rate",
                "--scene=names",
                "--against",
                "/old"
            ]
        );
    }
}
