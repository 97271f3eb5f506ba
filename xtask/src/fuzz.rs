//! `cargo xtask fuzz`: runs the fuzz targets in libFuzzer, one for each CPU at a time. Must not know what a target checks.
//!
//! Stable Rust suffices: [`INSTRUMENT`] lets LLVM count the edges of the control flow in netbpf's own code. The other
//! crates are those of the tests, so nothing of them is built again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use xtask::toolchain;

use crate::{
    cargo,
    setup::{self, Scope},
    step::took,
    test::{Counts, Stage},
};

/// Give random inputs to the parsers, and keep those that break a promise
#[derive(clap::Args)]
pub struct Options {
    /// Only targets with this text in their name
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = SECONDS)]
    seconds: u32,
}

/// How long each target runs in the tests.
const SECONDS: u32 = 30;
/// The program that cargo runs instead of rustc.
const INSTRUMENT: &str = "fuzz/instrument";
/// Inputs that once broke a target: a folder for each, and a name for each that says what was wrong.
const REGRESSIONS: &str = "fuzz/regressions";
/// Limits of libFuzzer: the longest input in bytes, the memory in MB, and the seconds that one input may take.
const LIMITS: [&str; 3] = ["-max_len=4096", "-rss_limit_mb=1024", "-timeout=10"];
/// The text before the number of inputs, in libFuzzer's statistics.
const EXECUTED: &str = "stat::number_of_executed_units:";

/// Runs the chosen targets. An error if an input broke one.
pub fn run(options: Options) -> Result<()> {
    let Options { target, seconds } = options;
    setup::prepare(Scope::Fuzz)?;
    let Stage { time, counts, ok, .. } = stage(target.as_deref(), seconds)?;
    println!("\n{} passed, {} failed in {}", counts.passed, counts.failed, took(time));
    if ok { Ok(()) } else { bail!("inputs broke a target") }
}

/// Runs all targets as a part of the tests.
pub fn all() -> Result<Stage> {
    stage(None, SECONDS)
}

fn stage(filter: Option<&str>, seconds: u32) -> Result<Stage> {
    let program = build()?;
    let listed = Command::new(&program).output().context("list the fuzz targets")?;
    let listed = String::from_utf8(listed.stdout).context("read the names of the fuzz targets")?;
    let targets: Vec<&str> =
        listed.lines().filter(|name| filter.is_none_or(|text| name.contains(text))).collect();
    if targets.is_empty() {
        bail!("no fuzz target has this text in its name; there are {}", listed.trim().replace('\n', ", "));
    }
    println!("\n=== fuzz targets, {seconds} s each");
    let started = Instant::now();
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = fuzz(&program, target, seconds).with_context(|| format!("fuzz {target}"));
            results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
        }
    };
    let threads = thread::available_parallelism().context("count CPUs")?.get();
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let mut counts = Counts::default();
    for result in results.into_inner().unwrap_or_else(PoisonError::into_inner) {
        let Outcome { inputs, clean } = result?;
        counts.add(&format!("fuzz inputs: {inputs}"));
        if clean { counts.passed += 1 } else { counts.failed += 1 }
    }
    let ok = counts.failed == 0;
    Ok(Stage { name: "fuzz targets".to_owned(), time: started.elapsed(), counts, ok, verified: None })
}

/// Builds the program with all targets.
fn build() -> Result<PathBuf> {
    let instrument = toolchain::workspace().join(INSTRUMENT);
    let wrapper = format!("build.rustc-workspace-wrapper={instrument:?}");
    let of_tests = ["--test", "fuzz", "--features", "netbpf-fuzz/libfuzzer", "--config", &wrapper];
    let built = cargo::build(&[&["build"], cargo::PACKAGES, &of_tests].concat())?;
    let fuzz = built.into_iter().find(|executable| executable.name == "fuzz");
    Ok(fuzz.context("cargo built no program fuzz")?.path)
}

/// The result of one target.
struct Outcome {
    inputs: u64,
    clean: bool,
}

/// Runs a target, and prints a line about it.
fn fuzz(program: &Path, target: &str, seconds: u32) -> Result<Outcome> {
    let workspace = toolchain::workspace();
    let folder = workspace.join("target/fuzz").join(target);
    let folders = ["corpus", "seeds", "found"].map(|name| folder.join(name));
    for folder in &folders {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let [corpus, seeds, found] = folders;
    let mut command = Command::new(program);
    command.env("FUZZ_TARGET", target).env("FUZZ_SEEDS", &seeds).args(LIMITS).args([
        format!("-max_total_time={seconds}"),
        format!("-artifact_prefix={}/", found.display()),
        "-print_final_stats=1".to_owned(),
        "-use_value_profile=1".to_owned(),
    ]);
    // It keeps new inputs in the first folder.
    command.args([corpus, seeds]);
    let regressions = workspace.join(REGRESSIONS).join(target);
    if regressions.is_dir() {
        command.arg(&regressions);
    }
    let output = command.output().context("start libFuzzer")?;
    let log = String::from_utf8_lossy(&output.stderr);
    let inputs = log.lines().find_map(|line| line.strip_prefix(EXECUTED)?.trim().parse().ok());
    let clean = output.status.success();
    if clean {
        let inputs = inputs.context("libFuzzer printed no number of inputs")?;
        println!("{target:<16} {inputs:>10} inputs");
        return Ok(Outcome { inputs, clean });
    }
    let end = folder.join("log");
    fs::write(&end, &*log).with_context(|| format!("write {}", end.display()))?;
    let is_cause = |line: &&str| line.contains("panicked at") || line.contains("ERROR: libFuzzer");
    let said: Vec<&str> = log.lines().skip_while(|line| !is_cause(line)).take(4).collect();
    println!(
        "{target:<16} FAILED: {}\n  The input is in {}, libFuzzer's output in {}. Keep it under a name that says what \
         was wrong, in {}.",
        said.join("\n  "),
        found.display(),
        end.display(),
        regressions.display()
    );
    Ok(Outcome { inputs: inputs.unwrap_or_default(), clean })
}
