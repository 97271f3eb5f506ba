//! The lab tests on other kernels: Debian's, booted under qemu without any of the host's files but the copies they get.
//! Plain emulation, so that it works where no virtualisation is.

mod debian;
mod initramfs;
mod machine;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, anyhow};
use xtask::toolchain;

use crate::test::{Counts, Stage, verified};

/// A kernel that netbpf must work on.
#[derive(Debug)]
pub struct Kernel {
    /// Its version, as far as it matters.
    pub version: &'static str,
    /// The suite of Debian that has it.
    pub suite: &'static str,
    /// That suite moves on: when it does not have this kernel any more, its newest one is as good.
    pub or_newer: bool,
}

/// From the oldest that is supported to the newest there is.
pub const KERNELS: &[Kernel] = &[
    Kernel { version: "5.10", suite: "bullseye", or_newer: false },
    Kernel { version: "6.1", suite: "bookworm", or_newer: false },
    Kernel { version: "6.12", suite: "trixie", or_newer: false },
    Kernel { version: "7.2", suite: "sid", or_newer: true },
];

/// The module of the lab tests that runs on these kernels.
const TESTS: &[&str] = &["kernels::"];
/// Kernels that run at the same time. One uses about one processor.
const AT_ONCE: usize = 2;

/// Runs the lab tests (or those that `filter` names) on each kernel.
pub fn run(kernels: &[&'static Kernel], netbpf: &Path, lab: &Path, filter: &[&str]) -> Result<Vec<Stage>> {
    let filter = if filter.is_empty() { TESTS } else { filter };
    let mut stages = Vec::new();
    // One after the other: apt takes one at a time.
    let images = kernels
        .iter()
        .map(|kernel| {
            debian::fetch(kernel, &folder(kernel)).with_context(|| format!("fetch Linux {}", kernel.version))
        })
        .collect::<Result<Vec<_>>>()?;
    let tree = initramfs::Tree::new(netbpf, lab)?;
    let jobs: Vec<_> = kernels.iter().zip(images).collect();
    for jobs in jobs.chunks(AT_ONCE) {
        let outcomes = thread::scope(|scope| {
            let running: Vec<_> = jobs
                .iter()
                .map(|(kernel, image)| scope.spawn(|| one(kernel, image, &tree, filter)))
                .collect();
            running
                .into_iter()
                .map(|job| job.join().unwrap_or_else(|_| Err(anyhow!("the thread of a kernel panicked"))))
                .collect::<Result<Vec<_>>>()
        })?;
        stages.extend(outcomes);
    }
    Ok(stages)
}

fn one(kernel: &Kernel, image: &debian::Image, tree: &initramfs::Tree, filter: &[&str]) -> Result<Stage> {
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
    // Tests that a filter chose need not tell.
    let is_complete = verified.is_some() || filter != TESTS;
    let ok = run.exit_code == Some(0) && counts.failed == 0 && counts.passed > 0 && is_complete;
    // In one go: another kernel's thread prints too.
    let shown = if run.exit_code.is_some() { run.tests().to_owned() } else { run.tail() };
    let verdict = match run.exit_code {
        _ if ok => String::new(),
        Some(0) if !is_complete => format!("\n{name}: no test printed what the verifier processed"),
        Some(code) => format!("\n{name}: the tests ended with {code}; the console is in {}", log.display()),
        None => format!("\n{name}: the tests did not end; the console is in {}", log.display()),
    };
    println!("\n=== {name} ({})\n{}{verdict}", image.release, shown.trim());
    Ok(Stage { name, time: started.elapsed(), counts, ok, verified })
}

/// Where a kernel's files are kept.
fn folder(kernel: &Kernel) -> PathBuf {
    toolchain::workspace().join("target/kernels").join(kernel.version)
}
