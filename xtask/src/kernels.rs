//! Runs the lab tests on other kernels from Debian, booted with qemu from copies of the host's files. Uses
//! plain emulation, so that it works without virtualisation.

mod debian;
mod initramfs;
mod machine;

use std::{
    fs,
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Context, Result};
use xtask::toolchain;

use crate::test::{Counts, Stage, verified};

/// A kernel that netbpf must work on.
#[derive(Debug)]
pub struct Kernel {
    /// Its version, major and minor.
    pub version: &'static str,
    /// The Debian suite that has it.
    pub suite: &'static str,
    /// Whether the suite's newest kernel may be used when it does not have this version any more.
    pub or_newer: bool,
}

/// From the oldest supported kernel to the newest.
pub const KERNELS: &[Kernel] = &[
    Kernel { version: "5.10", suite: "bullseye", or_newer: false },
    Kernel { version: "6.1", suite: "bookworm", or_newer: false },
    Kernel { version: "6.12", suite: "trixie", or_newer: false },
    Kernel { version: "7.2", suite: "sid", or_newer: true },
];

/// The module of lab tests for these kernels.
const TESTS: &[&str] = &["kernels::"];

/// Runs the lab tests (or those that match `filter`) on each kernel, two at a time: one uses about one CPU.
pub fn run(kernels: &[&'static Kernel], netbpf: &Path, lab: &Path, filter: &[&str]) -> Result<Vec<Stage>> {
    let filter = if filter.is_empty() { TESTS } else { filter };
    // In sequence: apt runs only once at a time.
    let images = kernels
        .iter()
        .map(|kernel| {
            debian::fetch(kernel, &folder(kernel)).with_context(|| format!("fetch Linux {}", kernel.version))
        })
        .collect::<Result<Vec<_>>>()?;
    let tree = initramfs::Tree::new(netbpf, lab)?;
    let jobs: Vec<_> = kernels.iter().zip(images).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut outcomes = Vec::new();
        while let Some((kernel, image)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            outcomes.push(one(kernel, image, &tree, filter));
        }
        outcomes
    };
    let outcomes = thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut outcomes = work();
        outcomes.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        outcomes
    });
    let mut outcomes = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
    outcomes.sort_by_key(|outcome| kernels.iter().position(|kernel| kernel.version == outcome.version));
    for Outcome { shown, .. } in &outcomes {
        println!("{shown}");
    }
    Ok(outcomes.into_iter().map(|outcome| outcome.stage).collect())
}

/// The outcome of one kernel. It is printed at the end, because another kernel runs meanwhile.
struct Outcome {
    version: &'static str,
    stage: Stage,
    shown: String,
}

fn one(kernel: &Kernel, image: &debian::Image, tree: &initramfs::Tree, filter: &[&str]) -> Result<Outcome> {
    let name = format!("Linux {}", kernel.version);
    let started = Instant::now();
    let folder = folder(kernel);
    let initrd = folder.join("initrd");
    tree.write(image, filter, &initrd).with_context(|| format!("make the initramfs of {name}"))?;
    let run = machine::boot(&image.kernel, &initrd).with_context(|| format!("boot {name}"))?;
    let log = folder.join("console.log");
    fs::write(&log, &run.console).with_context(|| format!("write {}", log.display()))?;

    let mut counts = Counts::default();
    run.console.lines().for_each(|line| counts.add(line));
    let verified = run.console.lines().find_map(verified);
    // With a filter, the test that prints this may not run.
    let is_complete = verified.is_some() || filter != TESTS;
    let ok = run.exit_code == Some(0) && counts.failed == 0 && counts.passed > 0 && is_complete;
    let shown = if run.exit_code.is_some() { run.tests().to_owned() } else { run.tail() };
    let verdict = match run.exit_code {
        _ if ok => String::new(),
        Some(0) if !is_complete => format!("\n{name}: no test printed what the verifier processed"),
        Some(code) => format!("\n{name}: the tests ended with {code}; the console is in {}", log.display()),
        None => format!("\n{name}: the tests did not end; the console is in {}", log.display()),
    };
    let shown = format!("\n=== {name} ({})\n{}{verdict}", image.release, shown.trim());
    let stage = Stage { name, time: started.elapsed(), counts, ok, verified };
    Ok(Outcome { version: kernel.version, stage, shown })
}

/// The directory of a kernel's files.
fn folder(kernel: &Kernel) -> PathBuf {
    toolchain::workspace().join("target/kernels").join(kernel.version)
}
