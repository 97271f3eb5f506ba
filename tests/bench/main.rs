//! `netbpf-bench`, which `cargo xtask bench` builds and runs: measures netbpf, a bare veth pair, a kernel bridge as
//! Docker uses it, and that bridge with br_netfilter and Docker's rules; interleaved in one run, on hosts made of
//! namespaces. This file has the options, the order of steps, and the clean-up.

mod cpu;
mod crowd;
mod figures;
mod measure;
mod pair;
mod plot;
mod probe;
mod published;
mod question;
mod report;
mod said;
mod scenes;
mod targets;
mod world;

use std::{
    panic::{self, AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::atomic::Ordering,
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use netbpf_tests::{engine::Engine, lab::Lab};
use serde_json::{Value, json};

use crate::{
    measure::{INTERRUPTED, Plan, Session},
    pair::Cpus,
    published::Ratios,
    scenes::{SCENES, Scene},
    world::{Hosts, World},
};

/// Measures netbpf beside its alternatives
#[derive(Parser)]
struct Options {
    /// Only the most important figures, in less than two minutes
    #[arg(long)]
    quick: bool,
    /// Number of rounds [default: 10, quick: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Length of each sample in seconds
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only this scene; may be repeated
    #[arg(long = "scene", value_name = "NAME", value_parser = scene)]
    scenes: Vec<&'static Scene>,
    /// The netbpf program to measure
    #[arg(long, value_name = "FILE", env = "NETBPF_BIN", value_parser = program)]
    netbpf: PathBuf,
    /// Another netbpf program to compare with
    #[arg(long, value_name = "FILE", value_parser = program)]
    against: Option<PathBuf>,
    /// Without Docker, and so without bridges: netbpf and the bare veth pair only
    #[arg(long)]
    without_docker: bool,
    /// The maximum number of containers in one network
    #[arg(long, value_name = "N", default_value_t = 3000)]
    containers: u32,
    /// The published run, with which this one is compared
    #[arg(long, value_name = "FILE")]
    published: Option<PathBuf>,
    /// Make this run the published one
    #[arg(long, requires = "published")]
    publish: bool,
    /// Directory for the results
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

fn scene(name: &str) -> Result<&'static Scene, String> {
    SCENES.iter().find(|scene| scene.name == name).ok_or_else(|| {
        let names: Vec<_> = SCENES.iter().map(|scene| scene.name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// Absolute, because it is executed from other directories.
fn program(path: &str) -> std::io::Result<PathBuf> {
    Path::new(path).canonicalize()
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.split_first() {
        Some((first, probe)) if first == "probe" => probe::run(probe),
        _ => run(&Options::parse()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the benchmark needs root for its namespaces");
    }
    end_on_signals()?;
    // Before a run that takes long.
    let published = options.published.as_deref().filter(|_| !options.publish).map(read).transpose()?;
    let rounds = options.rounds.unwrap_or(if options.quick { 2 } else { 10 });
    let session = Session::new(Plan {
        rounds: rounds.into(),
        seconds: options.seconds,
        quick: options.quick,
        containers: options.containers,
    });
    let chosen: Vec<&Scene> = match options.scenes.as_slice() {
        [] => SCENES.iter().filter(|scene| scene.quick || !options.quick).collect(),
        chosen => chosen.to_vec(),
    };
    // A failed command of the lab panics with all details, which fails its scene only. The hosts end in any case: with
    // their first process the kernel ends everything in them.
    panic::set_hook(Box::new(|_| {}));
    let failures = catch_unwind(AssertUnwindSafe(|| measure(options, &session, &chosen)));
    session.end();
    let failures = match failures {
        Ok(failures) => failures?,
        Err(panic) => vec![format!("the hosts: {}", panic_text(panic.as_ref()))],
    };
    conclude(options, &session, published.as_ref(), &failures)
}

/// Creates the hosts, runs the scenes, removes the hosts. Returns the failures.
fn measure(options: &Options, session: &Session, chosen: &[&'static Scene]) -> Result<Vec<String>> {
    let cpus = cpus()?;
    session.doing("making the hosts");
    let hosts = Hosts {
        bare: Lab::without_daemon().unchecked(),
        docker: (!options.without_docker).then(|| Lab::without_daemon().unchecked()),
        netbpf: Lab::start_program(&options.netbpf).unchecked(),
        against: options.against.as_deref().map(|against| Lab::start_program(against).unchecked()),
        programs: (options.netbpf.clone(), options.against.clone()),
    };
    let engine = hosts.docker.as_ref().map(Engine::start);
    let world = World::new(&hosts, engine.as_ref(), cpus)?;
    let mut failures = Vec::new();
    for (number, scene) in (1..).zip(chosen) {
        session.begin(scene.name, number, chosen.len());
        let done = catch_unwind(AssertUnwindSafe(|| (scene.run)(&world, session)));
        let failed = match done {
            Ok(done) => done.err().map(|error| format!("{error:#}")),
            Err(panic) => Some(panic_text(panic.as_ref())),
        };
        if INTERRUPTED.load(Ordering::Relaxed) {
            failures.push(format!("{}: interrupted", scene.name));
            break;
        }
        failures.extend(failed.map(|error| format!("{}: {error}", scene.name)));
    }
    session.doing("taking the hosts away");
    drop(world);
    drop(engine);
    drop(hosts);
    Ok(failures)
}

/// Writes and prints the results.
fn conclude(
    options: &Options,
    session: &Session,
    published: Option<&Ratios>,
    failures: &[String],
) -> Result<()> {
    let figures = session.figures();
    let targets = targets::targets(&figures);
    if !figures.is_empty() {
        std::fs::create_dir_all(&options.out).with_context(|| format!("create {}", options.out.display()))?;
        let machine = machine(options, session.plan);
        let text = |key: &str| machine[key].as_str().unwrap_or_default();
        let below = format!(
            "{} CPUs ({}), Linux {}, {}, medians of {} rounds or more; lines: quartiles",
            machine["cpus"],
            text("cpu"),
            text("kernel"),
            text("netbpf"),
            session.plan.rounds
        );
        let kept = published::json(&machine, &figures);
        let results = report::json(machine, &figures, &targets, failures);
        write(&options.out.join("bench.json"), &format!("{results:#}\n"))?;
        print!("{}", report::tables(&figures));
        println!("\nTargets\n{}", report::targets_table(&targets));
        if let Some(published) = published {
            println!("Beside the published run\n{}", published::changes(published, &figures));
        }
        // Not a run of which a part failed.
        if options.publish
            && failures.is_empty()
            && let Some(file) = &options.published
        {
            write(file, &format!("{kept:#}\n"))?;
        }
        println!(
            "±: half the distance between the quartiles of at least {} rounds; ×: how many times better netbpf is, the median of \
             pairs from the same round.",
            session.plan.rounds
        );
        let is_drawn = plot::write(&options.out, &figures, &below)?;
        let plot = if is_drawn { ", bench.svg, bench.png" } else { "" };
        println!("In {}: bench.json{plot}", options.out.display());
    }
    for failure in failures {
        eprintln!("failed: {failure}");
    }
    if !failures.is_empty() {
        bail!("not everything was measured");
    }
    Ok(())
}

/// The properties of the machine on which figures depend.
fn machine(options: &Options, plan: Plan) -> Value {
    let said = |program: &Path, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "cpu": model.map(|(_, model)| model),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": said(Path::new("uname"), &["-r"]),
        "netbpf": said(&options.netbpf, &["--version"]),
        "docker": said(Path::new("dockerd"), &["--version"]),
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "quick": plan.quick,
    })
}

/// Reads the published run.
fn read(path: &Path) -> Result<Ratios> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    published::read(&text).with_context(|| format!("read {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// The last two of the CPUs that this process may use: the first one handles most interrupts.
fn cpus() -> Result<Cpus> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).context("ask for CPUs")?;
    let all = 0..nix::sched::CpuSet::count();
    let mut usable = all.filter(|cpu| set.is_set(*cpu).unwrap_or_default()).rev();
    Ok(Cpus { one: usable.next().context("no CPU may be used")?, other: usable.next() })
}

/// The first signal ends the run in order, the second at once.
fn end_on_signals() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if INTERRUPTED.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
            }
        });
    });
    Ok(())
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}
