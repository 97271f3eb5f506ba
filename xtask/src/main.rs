//! `cargo xtask TASK`: one file per task, each with its `Options` and its `run`. Knows no netbpf code, so that it builds
//! in seconds and before the kernel programs can be built.

mod cargo;
mod demo;
mod kernels;
mod run;
mod setup;
mod step;
mod test;
mod tools;

use std::process::ExitCode;

use clap::Parser;

/// netbpf's tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    Run(run::Options),
    Demo(demo::Options),
    Test(test::Options),
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Run(options) => run::run(options),
        Task::Demo(options) => demo::run(options),
        Task::Test(options) => test::run(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
