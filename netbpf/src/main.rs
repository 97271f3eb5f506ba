//! Arguments → daemon, name responder, supervisor or command line; the only file that knows them all.

use std::{env, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    // Before anything else: the supervisor must have one thread and be small.
    if let [command, flag, dir] = arguments.as_slice()
        && command == "supervise"
        && flag == "--dir"
    {
        return match netbpf::sandbox::supervise(Path::new(dir)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    ExitCode::FAILURE
}
