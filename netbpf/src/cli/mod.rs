//! The command line: Docker's commands, flags, output and exit codes, as a client of the daemon's API. One file for
//! each noun: it defines the arguments (clap), turns them into API messages, and passes the answers to `render`. `main`
//! recognizes the daemon's other processes before any of this.

mod args;
mod attachment;
mod cni;
mod console;
mod container;
mod daemon;
mod doctor;
mod drops;
mod each;
mod error;
mod events;
mod exec;
mod explain;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod inspect;
mod logs;
mod man;
mod metrics;
mod network;
mod output;
mod parsers;
mod port;
mod render;
mod run;
mod stats;
mod subnet;
mod system;
mod template;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

pub use args::{Client, Process, parse};
pub use daemon::Options as DaemonOptions;
pub use error::Error;

use console::Console;

/// Runs one command against the daemon. Returns its exit code.
pub fn main(client: Client) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime);
    let mut console = Console::of_process();
    let ended = runtime.and_then(|runtime| runtime.block_on(client.run(&mut console)));
    match ended.and_then(|code| Ok(console.out.flush().map(|()| code)?)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            if !error.is_broken_pipe() {
                console.print_error(&error);
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// The exit code of a process: only the lowest byte counts.
fn exit_code(code: i32) -> u8 {
    code.to_le_bytes()[0]
}
