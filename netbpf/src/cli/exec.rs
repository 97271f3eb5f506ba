//! `exec`: asks the daemon where the container is, and its supervisor to run the command; what it reads and writes goes
//! past the daemon.

use std::path::PathBuf;

use super::{Error, parsers};
use crate::{api::client::Client, sandbox};

/// `exec`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf exec tomcat01 ip address\n  netbpf exec -it tomcat01 bash")]
pub struct Exec {
    /// Let the command read what is typed
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// A variable of its environment; without a value, the one that is set here
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = parsers::env)]
    env: Vec<String>,
    /// Where it starts
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Name or ID
    container: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Exec {
    /// Does it. Returns the command's exit code.
    pub async fn run(self, client: &Client) -> Result<u8, Error> {
        let container = client.container(&self.container).await?;
        if !container.state.running {
            return Err(Error::NotRunning(container.id));
        }
        let run_dir = client.socket().parent().unwrap_or(client.socket());
        let socket = run_dir.join("containers").join(&container.id).join(sandbox::SOCKET);
        let command = sandbox::exec::Command {
            argv: self.command,
            env: parsers::set_variables(self.env),
            working_dir: self.workdir,
        };
        // Blocks, for nothing else is to be done.
        match sandbox::exec::run(&socket, command, self.interactive, self.tty) {
            Ok(code) => Ok(super::exit_code(code)),
            Err(sandbox::Error::Gone) => Err(Error::NotRunning(container.id)),
            Err(error) => Err(error.into()),
        }
    }
}
