//! The groups of tests that need root: their order, and which run at the same time. Must not know what they test.

use std::{
    env,
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result};
use xtask::toolchain;

use super::{Stage, command, stage, written};
use crate::{
    cargo::{Executable, Kind},
    engines::Engine,
    roots::{self, Root},
};

/// The tests of the whole system, which also run on other kernels.
pub const LAB: &str = "lab";
/// The tests with a Docker engine. They run with each engine.
const DOCKER: &str = "docker";
/// The variable with the directory of an engine that is not the system's.
const ENGINE: &str = "DOCKER_ROOT";
/// The tests with podman.
const PODMAN: &str = "podman";
/// The tests of Docker beside all other engines.
const TOGETHER: &str = "together::";
/// Groups that mostly wait: twice as many tests as CPUs run at once.
const WAITING: &[&str] = &[DOCKER, PODMAN, LAB];
/// A group that installs packages for minutes, and measures nothing. It runs beside those that mostly wait, and yields
/// to them.
const BESIDE: &str = "install";
/// Its module of tests that boot Debian suites. Variables such as `TRIXIE_ROOT` have their root file systems.
const BOOTED: &str = "booted::";
/// The module of tests that measure. They run one at a time after all others: together with others, each would occupy a
/// thread of the test runner until no other test runs.
const ALONE: &str = "alone::";
/// Modules of the lab that run again with the other setting of each fast path: names and connections must be the same. The
/// variable has options of each daemon of a lab.
const BOTH_WAYS: &[&str] = &["flows::", "multihomed::", "names::", "outside::", "ports::", "reach::"];
const OTHER_WAY: (&str, &str) = ("NETBPF_DAEMON_OPTIONS", "--fast-names=off --fast-flows=on");
/// The variable with which the test runner limits concurrent tests.
const THREADS: &str = "RUST_TEST_THREADS";

/// The groups, and what their tests get.
pub struct Groups<'a> {
    pub built: &'a [Executable],
    pub netbpf: &'a Path,
    pub xtask: &'a Path,
    /// The engines for the tests of Docker.
    pub engines: &'a [&'static Engine],
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
        // First, because fetching an engine may fail.
        let with_engines = waiting.iter().filter(|group| group.name == DOCKER);
        let with_engines = with_engines.map(|group| self.with_engines(group)).collect::<Result<Vec<_>>>()?;
        let mut stages = Vec::new();
        for group in busy {
            stages.push(stage(&name(group), vec![self.tests(group)])?);
        }
        let (shown, later) = thread::scope(|scope| {
            let later =
                scope.spawn(|| beside.iter().map(|group| self.yielding(group)).collect::<Result<Vec<_>>>());
            let of_docker = with_engines.into_iter().flatten().map(|(name, tests)| stage(&name, vec![tests]));
            let others = waiting.iter().filter(|group| group.name != DOCKER);
            let others = others.map(|group| {
                let mut tests = at_once(self.tests(group))?;
                if group.name == PODMAN && !self.listed(group)?.is_empty() {
                    tests.envs(podman_roots()?);
                }
                stage(&name(group), vec![tests])
            });
            let shown = of_docker.chain(others).collect::<Result<Vec<_>>>();
            (shown, later.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        stages.extend(shown?);
        for group in waiting.iter().filter(|group| group.name == LAB) {
            stages.extend(self.the_other_way(group)?);
        }
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

    /// The tests of Docker for each engine that runs any of them, and the names of these stages.
    fn with_engines(&self, group: &Executable) -> Result<Vec<(String, Command)>> {
        let all = self.listed(group)?;
        let mut stages = Vec::new();
        for engine in self.engines {
            let chosen: Vec<&str> = all.iter().map(String::as_str).filter(|test| engine.runs(test)).collect();
            if chosen.is_empty() {
                continue;
            }
            let found =
                engine.find().with_context(|| format!("find the Docker engine of {}", engine.name))?;
            let mut tests = at_once(self.with_programs(command(group, &chosen)))?;
            tests.arg("--exact");
            tests.envs(found.root.map(|root| (ENGINE, root)));
            if chosen.iter().any(|test| test.starts_with(TOGETHER)) {
                tests.envs(podman_roots()?);
            }
            stages.push((format!("{} {}", group.name, found.version), tests));
        }
        Ok(stages)
    }

    /// The tests of both ways, if there are any, with the other one.
    fn the_other_way(&self, group: &Executable) -> Result<Option<Stage>> {
        let all = self.listed(group)?;
        let is_meant = |test: &&str| BOTH_WAYS.iter().any(|module| test.starts_with(module));
        let chosen: Vec<&str> = all.iter().map(String::as_str).filter(is_meant).collect();
        if chosen.is_empty() {
            return Ok(None);
        }
        let mut tests = at_once(self.with_programs(command(group, &chosen)))?;
        tests.arg("--exact").env(OTHER_WAY.0, OTHER_WAY.1);
        stage(&format!("{}, other fast paths", name(group)), vec![tests]).map(Some)
    }

    /// The tests that run alone, if there are any.
    fn one_at_a_time(&self, group: &Executable) -> Result<Option<Stage>> {
        let all = self.listed(group)?;
        let alone: Vec<&str> =
            all.iter().map(String::as_str).filter(|test| test.starts_with(ALONE)).collect();
        if alone.is_empty() {
            return Ok(None);
        }
        let mut tests = self.with_programs(command(group, &alone));
        tests.arg("--exact").env(THREADS, "1");
        stage(&format!("{}, alone", name(group)), vec![tests]).map(Some)
    }

    /// The names of a group's tests.
    fn listed(&self, group: &Executable) -> Result<Vec<String>> {
        let listed = self.tests(group).arg("--list").output();
        let listed = listed.with_context(|| format!("list the {}", name(group)))?.stdout;
        let listed =
            String::from_utf8(listed).with_context(|| format!("read the names of the {}", name(group)))?;
        Ok(listed.lines().filter_map(|line| Some(line.strip_suffix(": test")?.to_owned())).collect())
    }

    /// Runs tests with a low priority. Returns their output.
    fn yielding(&self, group: &Executable) -> Result<(Stage, String)> {
        let mut tests = Command::new("nice");
        tests.args(["-n", "10"]).arg(&group.path).args(self.filter).current_dir(&group.package);
        if self.listed(group)?.iter().any(|test| test.starts_with(BOOTED)) {
            for root in [roots::BOOKWORM, roots::TRIXIE] {
                let name = format!("{}_ROOT", root.suite.to_uppercase());
                tests.env(name, root.find().with_context(|| format!("make a root of {}", root.suite))?);
            }
        }
        written(&name(group), vec![self.with_programs(tests)])
    }
}

/// Tests that may run at the same time.
fn at_once(mut tests: Command) -> Result<Command> {
    tests.args(["--skip", ALONE]);
    if env::var_os(THREADS).is_none() {
        let threads = 2 * thread::available_parallelism().context("count CPUs")?.get();
        tests.env(THREADS, threads.to_string());
    }
    Ok(tests)
}

/// The root file systems with podman, by variables.
fn podman_roots() -> Result<Vec<(&'static str, PathBuf)>> {
    let root = |(variable, root): (_, Root)| Ok((variable, root.find().context("make podman's root")?));
    [roots::PODMAN, roots::PODMAN_CNI].into_iter().map(root).collect()
}

fn name(group: &Executable) -> String {
    format!("{} tests", group.name)
}
