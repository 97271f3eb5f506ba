//! Arguments → daemon, name responder, supervisor or command line; the only file that knows them all.

use std::{env, ffi::OsString, path::Path, process::ExitCode};

use netbpf::{
    cli::{self, DaemonOptions, Process},
    daemon, dns, sandbox,
};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let words: Vec<_> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    // Before anything else: these two are netbpf's own processes, one a container or one a host, and have to be small.
    match words.as_slice() {
        ["supervise", "--dir", dir] => finish(sandbox::supervise(Path::new(dir))),
        ["responder"] => finish(dns::responder::run()),
        _ => match cli::parse() {
            Ok(Process::Daemon(options)) => finish(run_daemon(options)),
            Ok(Process::Client(client)) => cli::main(client),
            Err(code) => code,
        },
    }
}

fn run_daemon(options: DaemonOptions) -> anyhow::Result<()> {
    let filter = EnvFilter::new(format!("netbpf={0},programs={0},warn", options.log_level.as_str()));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    let options = daemon::Options {
        state_dir: options.state_dir,
        run_dir: options.run_dir,
        bpffs: options.bpffs,
        program_logs: options.program_logs,
    };
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(daemon::run(options))
}

fn finish<E: Into<anyhow::Error>>(done: Result<(), E>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netbpf: {:#}", error.into());
            ExitCode::FAILURE
        }
    }
}
