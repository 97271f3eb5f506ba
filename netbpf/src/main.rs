//! Arguments → daemon, name responder, supervisor or command line; the only file that knows them all.

use std::process::ExitCode;

use netbpf::cli::{self, Process};

fn main() -> ExitCode {
    match cli::parse() {
        Ok(Process::Supervisor(args)) => exit(netbpf::sandbox::supervise(&args.dir)),
        Ok(Process::Responder | Process::Daemon(_)) => {
            eprintln!("netbpf: this build has no daemon");
            ExitCode::FAILURE
        }
        Ok(Process::Client(client)) => cli::main(client),
        Err(code) => code,
    }
}

fn exit(result: Result<(), impl std::fmt::Display>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
