//! `cargo xtask soak`: installs what the tests need, builds them, and runs one of them for hours. Must not know what
//! that test does: that is in tests/lab/alone/soak.rs.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    cargo::{self, Executable, Kind},
    setup::{self, Scope},
};

/// Do for hours what the tests do once, with traffic, and see whether anything grows: memory, descriptors, map entries
#[derive(clap::Args)]
pub struct Options {
    /// How long
    #[arg(long, value_name = "N", default_value_t = 2.0, value_parser = hours)]
    hours: f64,
    /// The same random choices as in the run that printed this seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// The test.
const TEST: &str = "alone::soak::everything_for_hours";
/// Its group.
const LAB: &str = "lab";

/// Builds and runs the test.
pub fn run(options: Options) -> Result<()> {
    setup::prepare(Scope::TestHere)?;
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "the soak needs root for its namespaces:\n  sudo --preserve-env=HOME env \"PATH=$PATH\" cargo xtask soak"
        );
    }
    let built = cargo::build(&[&["build", "--all-targets"], cargo::PACKAGES].concat())?;
    let netbpf = cargo::program(&built, "netbpf")?;
    let lab = built.iter().find(|it| it.name == LAB && it.kind == Kind::Tests);
    let lab = lab.context("cargo built no lab tests")?;
    let status = command(lab, &netbpf, &options).status().context("start the lab tests")?;
    if !status.success() {
        bail!("the soak failed");
    }
    Ok(())
}

fn command(lab: &Executable, netbpf: &Path, Options { hours, seed }: &Options) -> Command {
    let mut command = Command::new(&lab.path);
    command.args(["--exact", TEST, "--nocapture"]).current_dir(&lab.package);
    command.env("NETBPF_BIN", netbpf).env("NETBPF_SOAK_SECONDS", format!("{:.0}", hours * 3600.0));
    if let Some(seed) = seed {
        command.env("NETBPF_SOAK_SEED", seed.to_string());
    }
    command
}

fn hours(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(hours) if hours > 0.0 && hours < 1000.0 => Ok(hours),
        _ => Err("expected a number of hours, such as 2 or 0.5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_gets_seconds_and_the_seed() {
        let lab = Executable {
            name: LAB.to_owned(),
            kind: Kind::Tests,
            package: "/w/tests".into(),
            path: "/t/lab-1".into(),
        };
        let command = command(&lab, Path::new("/t/netbpf"), &Options { hours: 1.5, seed: Some(7) });
        let set: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some(format!("{}={}", name.display(), value?.display())))
            .collect();
        assert_eq!(set, ["NETBPF_BIN=/t/netbpf", "NETBPF_SOAK_SECONDS=5400", "NETBPF_SOAK_SEED=7"]);
    }

    #[test]
    fn hours_are_positive() {
        assert_eq!(hours("0.5"), Ok(0.5));
        for text in ["0", "-1", "NaN", "two"] {
            assert!(hours(text).is_err(), "{text}");
        }
    }
}
