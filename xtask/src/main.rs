//! `cargo xtask TASK`: one file for each task, with its `Options` and its `run`. Must not import netbpf's
//! code, so that it builds in seconds and before the eBPF programs can be built.

mod apt;
mod bench;
mod cargo;
mod demo;
mod engines;
mod fuzz;
mod install;
mod kernels;
mod package;
mod roots;
mod run;
mod setup;
mod soak;
mod step;
mod suite;
mod test;
mod tools;
mod uninstall;

use std::process::ExitCode;

use clap::Parser;

/// netbpf's tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    Setup(setup::Options),
    Run(run::Options),
    Demo(demo::Options),
    Test(test::Options),
    Fuzz(fuzz::Options),
    Soak(soak::Options),
    Bench(bench::Options),
    Install(install::Options),
    Uninstall(uninstall::Options),
    Package(package::Options),
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Setup(options) => setup::run(options),
        Task::Run(options) => run::run(options),
        Task::Demo(options) => demo::run(options),
        Task::Test(options) => test::run(options),
        Task::Fuzz(options) => fuzz::run(options),
        Task::Soak(options) => soak::run(options),
        Task::Bench(options) => bench::run(options),
        Task::Install(options) => install::run(options),
        Task::Uninstall(options) => uninstall::run(options),
        Task::Package(options) => package::run(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
