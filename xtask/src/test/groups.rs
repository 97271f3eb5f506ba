//! The groups of tests that need root: their order, and which run at the same time. Must not know what they test.

use std::{env, panic::resume_unwind, path::Path, process::Command, thread};

use anyhow::{Context, Result};
use xtask::toolchain;

use super::{Stage, command, stage, written};
use crate::cargo::{Executable, Kind};

/// The tests of the whole system, which also run on other kernels.
pub const LAB: &str = "lab";
/// Groups that mostly wait: twice as many tests as CPUs run at once.
const WAITING: &[&str] = &["docker", LAB];
/// A group that installs packages for minutes, and measures nothing. It runs beside those that mostly wait, and yields
/// to them.
const BESIDE: &str = "install";
/// The module of tests that measure. They run one at a time after all others: together with others, each would occupy a
/// thread of the test runner until no other test runs.
const ALONE: &str = "alone::";
/// The variable with which the test runner limits concurrent tests.
const THREADS: &str = "RUST_TEST_THREADS";

/// The groups, and what their tests get.
pub struct Groups<'a> {
    pub built: &'a [Executable],
    pub netbpf: &'a Path,
    pub xtask: &'a Path,
    /// Only tests with these texts in their names.
    pub filter: &'a [&'a str],
}

impl Groups<'_> {
    /// Runs all groups, those with few requirements first.
    pub fn run(&self) -> Result<Vec<Stage>> {
        let groups = self.in_order();
        let (waiting, busy): (Vec<_>, Vec<_>) =
            groups.into_iter().partition(|group| WAITING.contains(&group.name.as_str()));
        let (beside, busy): (Vec<_>, Vec<_>) = busy.into_iter().partition(|group| group.name == BESIDE);
        let mut stages = Vec::new();
        for group in busy {
            stages.push(stage(&name(group), vec![self.tests(group)])?);
        }
        let (shown, later) = thread::scope(|scope| {
            let later =
                scope.spawn(|| beside.iter().map(|group| self.yielding(group)).collect::<Result<Vec<_>>>());
            let shown = waiting.iter().map(|group| self.together(group)).collect::<Result<Vec<_>>>();
            (shown, later.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        stages.extend(shown?);
        for (stage, output) in later? {
            print!("{output}");
            stages.push(stage);
        }
        for group in waiting {
            stages.extend(self.one_at_a_time(group)?);
        }
        Ok(stages)
    }

    /// Packets through programs first, the lab last.
    fn in_order(&self) -> Vec<&Executable> {
        let tests = toolchain::workspace().join("tests");
        let is_group = |it: &&Executable| it.kind != Kind::Program && it.package == tests;
        let mut groups: Vec<_> = self.built.iter().filter(is_group).collect();
        groups.sort_by_key(|group| (group.name == LAB, group.name != "packet", group.name.clone()));
        groups
    }

    fn tests(&self, group: &Executable) -> Command {
        self.with_programs(command(group, self.filter))
    }

    fn with_programs(&self, mut tests: Command) -> Command {
        tests.env("NETBPF_BIN", self.netbpf).env("XTASK_BIN", self.xtask);
        tests
    }

    /// The tests that may run at the same time.
    fn together(&self, group: &Executable) -> Result<Stage> {
        let mut tests = self.tests(group);
        tests.args(["--skip", ALONE]);
        if env::var_os(THREADS).is_none() {
            let threads = 2 * thread::available_parallelism().context("count CPUs")?.get();
            tests.env(THREADS, threads.to_string());
        }
        stage(&name(group), vec![tests])
    }

    /// The tests that run alone, if there are any.
    fn one_at_a_time(&self, group: &Executable) -> Result<Option<Stage>> {
        let listed = self.tests(group).arg("--list").output();
        let listed = listed.with_context(|| format!("list the {}", name(group)))?.stdout;
        let listed =
            String::from_utf8(listed).with_context(|| format!("read the names of the {}", name(group)))?;
        let all = listed.lines().filter_map(|line| line.strip_suffix(": test"));
        let alone: Vec<&str> = all.filter(|test| test.starts_with(ALONE)).collect();
        if alone.is_empty() {
            return Ok(None);
        }
        let mut tests = self.with_programs(command(group, &alone));
        tests.arg("--exact").env(THREADS, "1");
        stage(&format!("{}, alone", name(group)), vec![tests]).map(Some)
    }

    /// Runs tests with a low priority. Returns their output.
    fn yielding(&self, group: &Executable) -> Result<(Stage, String)> {
        let mut tests = Command::new("nice");
        tests.args(["-n", "10"]).arg(&group.path).args(self.filter).current_dir(&group.package);
        written(&name(group), vec![self.with_programs(tests)])
    }
}

fn name(group: &Executable) -> String {
    format!("{} tests", group.name)
}
