//! `cargo xtask test`: runs all tests, those with few requirements first, and prints the total. Must not skip
//! tests: one that cannot run has failed.

mod groups;
mod left;
mod runner;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use groups::{Groups, LAB};
use xtask::toolchain;

use crate::{
    cargo::{self, Executable, Kind},
    engines::{ENGINES, Engine},
    fuzz,
    kernels::{self, KERNELS, Kernel},
    setup::{self, Scope},
    step::took,
};

/// Set up what the tests need and run them all: pure ones, packets through the programs, the lab, other kernels
#[derive(clap::Args)]
pub struct Options {
    /// Run the tests of this kernel only: 5.10, 6.1, 6.12, 7.2 or all; `none` runs everything but these
    #[arg(long, value_name = "VERSION", value_parser = Choice::parse)]
    kernel: Option<Choice>,
    /// Run the tests of Docker with this engine only: that of the system, or of the Debian suite trixie or sid
    #[arg(long, value_name = "ENGINE", value_parser = engine, conflicts_with = "quick")]
    engine: Option<&'static Engine>,
    /// Only the pure tests: less than a minute once they are built, and no need of root or of any tool
    #[arg(long, conflicts_with = "kernel")]
    quick: bool,
    /// Only tests with this text in their name
    filter: Option<String>,
}

/// The choice of `--kernel`.
#[derive(Clone, Copy, Debug)]
enum Choice {
    None,
    All,
    One(&'static Kernel),
}

impl Choice {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "all" => Ok(Self::All),
            version => {
                KERNELS.iter().find(|kernel| kernel.version == version).map(Self::One).ok_or_else(|| {
                    let versions: Vec<_> = KERNELS.iter().map(|kernel| kernel.version).collect();
                    format!("expected {}, all or none", versions.join(", "))
                })
            }
        }
    }
}

/// The value of `--engine`.
fn engine(name: &str) -> Result<&'static Engine, String> {
    let found = ENGINES.iter().find(|engine| engine.name == name);
    found.ok_or_else(|| {
        let names: Vec<_> = ENGINES.iter().map(|engine| engine.name).collect();
        format!("expected {}", names.join(", "))
    })
}

/// The result of one group of tests.
#[derive(Debug)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Its duration.
    pub time: Duration,
    /// The counts of the test runners.
    pub counts: Counts,
    /// Whether all tests ran and none failed.
    pub ok: bool,
    /// The number of instructions that the verifier processed, from the lab's output; none if no test of the
    /// group prints it.
    pub verified: Option<String>,
}

/// How long the last processes of tests have to end.
const ENDING: Duration = Duration::from_secs(5);

/// The text before the number of instructions that the verifier processed, in a line of the lab.
const VERIFIED: &str = "the verifier processed ";

/// The verifier's number in a line of the lab, if there is one.
pub fn verified(line: &str) -> Option<String> {
    line.split_once(VERIFIED).map(|(_, verified)| verified.to_owned())
}

/// Figures that tests print as `words: number`, for the report.
const FIGURES: &[Figure] = &[
    Figure { words: "kills tried", all: Joined::Sum },
    Figure { words: "kills survived", all: Joined::Sum },
    Figure { words: "failed steps tried", all: Joined::Sum },
    Figure { words: "failed steps survived", all: Joined::Sum },
    Figure { words: "random commands with faults", all: Joined::Sum },
    Figure { words: LEAKS, all: Joined::Sum },
    Figure { words: "restarts under traffic", all: Joined::Sum },
    Figure { words: "packets lost", all: Joined::Sum },
    Figure { words: "longest outage of names in ms", all: Joined::Most },
    Figure { words: "changes by others undone", all: Joined::Sum },
    Figure { words: "longest repair in ms", all: Joined::Most },
    Figure { words: "operations done", all: Joined::Sum },
    Figure { words: "longest operation in ms", all: Joined::Most },
    Figure { words: "limits reached", all: Joined::Sum },
    Figure { words: "fuzz inputs", all: Joined::Sum },
    Figure { words: "hostile frames sent", all: Joined::Sum },
    Figure { words: "hostile frames passed on", all: Joined::Sum },
    Figure { words: "containers replaced under traffic", all: Joined::Sum },
];

/// Tests of the lab that left something on their host, or removed something from it.
const LEAKS: &str = "hosts with leaks";

/// The text by which such a test fails.
const LEAK: &str = "the host is not as it was";

struct Figure {
    words: &'static str,
    all: Joined,
}

/// How the numbers of several tests are combined.
enum Joined {
    Sum,
    Most,
}

impl Joined {
    fn join(&self, one: u64, other: u64) -> u64 {
        match self {
            Self::Sum => one + other,
            Self::Most => one.max(other),
        }
    }
}

/// Numbers of tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Passed tests.
    pub passed: u32,
    /// Failed tests.
    pub failed: u32,
    /// The figures that they printed, by index in [`FIGURES`]; none if no test printed it.
    figures: [Option<u64>; FIGURES.len()],
}

/// Runs the chosen tests. An error if any fails.
pub fn run(options: Options) -> Result<()> {
    let Options { kernel, engine, quick, filter } = options;
    let here = !quick && matches!(kernel, None | Some(Choice::None));
    let kernels: Vec<&'static Kernel> = match kernel {
        _ if quick => Vec::new(),
        None | Some(Choice::All) => KERNELS.iter().collect(),
        Some(Choice::One(kernel)) => vec![kernel],
        Some(Choice::None) => Vec::new(),
    };
    setup::prepare(match (quick, kernels.is_empty()) {
        (true, _) => Scope::Build,
        (false, true) => Scope::TestHere,
        (false, false) => Scope::Test,
    })?;
    if here && !nix::unistd::geteuid().is_root() {
        bail!(
            "these tests need root. Pure ones do not: cargo xtask test --quick. All of them:\n  sudo --preserve-env=HOME env \"PATH=$PATH\" cargo xtask test"
        );
    }

    let built = cargo::build(&[&["build", "--all-targets"], cargo::PACKAGES].concat())?;
    let netbpf = cargo::program(&built, "netbpf")?;
    let xtask = cargo::program(&built, "xtask")?;
    let filter: Vec<&str> = filter.as_deref().into_iter().collect();
    let before = left::processes(&netbpf);
    let mut stages = Vec::new();
    if here || quick {
        stages.push(stage("pure tests", pure(&built).map(|tests| command(tests, &filter)).collect())?);
    }
    // Single targets have a command of their own, and building them takes a minute.
    if here && filter.is_empty() {
        stages.push(fuzz::all()?);
    }
    if here {
        let engines: Vec<&'static Engine> =
            ENGINES.iter().filter(|it| engine.is_none_or(|one| one.name == it.name)).collect();
        let groups =
            Groups { built: &built, netbpf: &netbpf, xtask: &xtask, engines: &engines, filter: &filter };
        stages.extend(groups.run()?);
    }
    if !kernels.is_empty() {
        let lab = built.iter().find(|it| it.name == LAB && it.kind == Kind::Tests);
        let lab = lab.context("cargo built no lab tests")?;
        stages.extend(kernels::run(&kernels, &netbpf, &lab.path, &filter)?);
    }
    stages.extend(failure_of(&left::since(&before, &netbpf, ENDING)));
    report(&stages)
}

/// Tests that leave processes of netbpf have failed, whatever they say.
fn failure_of(left: &left::Processes) -> Option<Stage> {
    for (pid, arguments) in left {
        println!("a test left the process {pid}: netbpf {arguments}");
    }
    (!left.is_empty()).then(|| Stage {
        name: "processes left".to_owned(),
        time: Duration::ZERO,
        counts: Counts { failed: 1, ..Counts::default() },
        ok: false,
        verified: None,
    })
}

/// The tests that need no root: those of all packages except `tests`.
fn pure(built: &[Executable]) -> impl Iterator<Item = &Executable> {
    let tests = toolchain::workspace().join("tests");
    built.iter().filter(move |executable| executable.kind != Kind::Program && executable.package != tests)
}

fn command(tests: &Executable, filter: &[&str]) -> Command {
    let mut command = Command::new(&tests.path);
    command.args(filter).current_dir(&tests.package);
    command
}

/// Runs one group of tests, and prints their output.
fn stage(name: &str, commands: Vec<Command>) -> Result<Stage> {
    follow(name, commands, |line| println!("{line}"))
}

/// Runs one group of tests, and returns their output.
fn written(name: &str, commands: Vec<Command>) -> Result<(Stage, String)> {
    let mut text = String::new();
    let stage = follow(name, commands, |line| {
        text.push_str(line);
        text.push('\n');
    })?;
    Ok((stage, text))
}

fn follow(name: &str, commands: Vec<Command>, mut print: impl FnMut(&str)) -> Result<Stage> {
    print(&format!("\n=== {name}"));
    let started = Instant::now();
    let mut counts = Counts::default();
    if name.starts_with(LAB) {
        counts.tell(LEAKS, Some(0));
    }
    let mut ok = true;
    let mut seen = None;
    for mut command in commands {
        let passed = runner::follow(&mut command, runner::SILENCE, |line| {
            print(line);
            counts.add(line);
            seen = seen.take().or_else(|| verified(line));
        });
        ok &= passed.with_context(|| format!("run the {name}"))?;
    }
    Ok(Stage { name: name.to_owned(), time: started.elapsed(), counts, ok, verified: seen })
}

fn report(stages: &[Stage]) -> Result<()> {
    println!("\n{:<16} {:>7} {:>7}  {:<12}  verified", "", "passed", "failed", "time");
    let mut total = Counts::default();
    for Stage { name, time, counts, ok, verified } in stages {
        // A group that did not start counts as one failure.
        let failed = if *ok { counts.failed } else { counts.failed.max(1) };
        let verified = verified.as_deref().unwrap_or_default();
        let line = format!("{name:<16} {:>7} {failed:>7}  {:<12}  {verified}", counts.passed, took(*time));
        println!("{}", line.trim_end());
        FIGURES.iter().zip(&counts.figures).for_each(|(figure, told)| total.tell(figure.words, *told));
        total.passed += counts.passed;
        total.failed += failed;
    }
    print!("{}", total.told());
    println!("\n{} passed, {} failed", total.passed, total.failed);
    if total.failed > 0 {
        bail!("tests failed");
    }
    Ok(())
}

impl Counts {
    /// Adds the counts in a line: a runner's last line, `test result: ok. 12 passed; 0 failed; 0 ignored; …`,
    /// or figures.
    pub fn add(&mut self, line: &str) {
        for figure in FIGURES {
            let told = line.split_once(figure.words).and_then(|(_, told)| told.strip_prefix(": "));
            self.tell(figure.words, told.and_then(|number| number.trim().parse().ok()));
        }
        if line.contains(LEAK) {
            self.tell(LEAKS, Some(1));
        }
        let Some((_, result)) = line.split_once("test result: ") else { return };
        let number_of = |word: &str| {
            let words: Vec<&str> = result.split([' ', ';']).filter(|word| !word.is_empty()).collect();
            let at = words.iter().position(|it| *it == word)?;
            words[..at].last()?.parse::<u32>().ok()
        };
        self.passed += number_of("passed").unwrap_or_default();
        self.failed += number_of("failed").unwrap_or_default();
    }

    /// Adds a figure, if it was told.
    fn tell(&mut self, words: &str, told: Option<u64>) {
        for (Figure { all, .. }, known) in
            FIGURES.iter().zip(&mut self.figures).filter(|(figure, _)| figure.words == words)
        {
            *known = [*known, told].into_iter().flatten().reduce(|one, other| all.join(one, other));
        }
    }

    /// The figures that were told, a line each.
    fn told(&self) -> String {
        let told = FIGURES.iter().zip(&self.figures);
        let told = told.filter_map(|(figure, number)| Some((figure.words, (*number)?)));
        let lines: String = told.map(|(words, number)| format!("{words}: {number}\n")).collect();
        if lines.is_empty() { lines } else { format!("\n{lines}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_runners_add_up() {
        let mut counts = Counts::default();
        counts.add("running 3 tests");
        counts.add(
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.01s",
        );
        counts.add("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        counts.add("test kill::killed::run ... kills survived: 31");
        counts.add("failed steps survived: 12");
        counts.add("kills survived: 4");
        assert_eq!((counts.passed, counts.failed), (13, 2));
        assert_eq!(counts.told(), "\nkills survived: 35\nfailed steps survived: 12\n");
    }

    #[test]
    fn figures_add_up_or_the_largest_is_kept() {
        let mut counts = Counts::default();
        assert_eq!(counts.told(), "");
        for line in [
            "test alone::hitless::nothing_is_lost ... packets lost: 0",
            "longest outage of names in ms: 7",
            "longest outage of names in ms: 31",
            "longest outage of names in ms: 12",
            "packets lost: many",
            "the host is not as it was",
            "the host is not as it was",
        ] {
            counts.add(line);
        }
        assert_eq!(
            counts.told(),
            "\nhosts with leaks: 2\npackets lost: 0\nlongest outage of names in ms: 31\n"
        );
    }

    #[test]
    fn the_verifier_s_instructions_are_read_from_the_lab() {
        let line = "test kernels::programs ... the verifier processed 65811 instructions, 73755 with logs";
        assert_eq!(verified(line).as_deref(), Some("65811 instructions, 73755 with logs"));
        assert_eq!(verified("test kernels::programs ... ok"), None);
    }

    #[test]
    fn a_kernel_is_named_by_its_version() {
        assert!(matches!(Choice::parse("6.12"), Ok(Choice::One(kernel)) if kernel.version == "6.12"));
        assert!(matches!(Choice::parse("none"), Ok(Choice::None)));
        assert_eq!(
            Choice::parse("6.11").err().as_deref(),
            Some("expected 5.10, 6.1, 6.12, 7.2, all or none")
        );
    }
}
