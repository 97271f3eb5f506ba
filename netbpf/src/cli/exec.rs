//! `exec`: asks the daemon for the container, then has the container's supervisor run the command. Input and output do
//! not pass through the daemon.

use std::path::PathBuf;

use super::{Error, parsers};
use crate::{api::client::Client, sandbox};

/// `exec`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf exec tomcat01 ip address\n  netbpf exec -it tomcat01 bash")]
pub struct Exec {
    /// Connect standard input to the command
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Environment variable; without a value, it is taken from this environment
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = parsers::env)]
    env: Vec<String>,
    /// Directory where the command starts
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Name or ID
    container: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Exec {
    /// Runs the command. Returns its exit code.
    pub async fn run(self, client: &Client) -> Result<u8, Error> {
        let container = client.container(&self.container).await?;
        // The daemon has files of a sandbox only.
        if container.hosts_path.is_empty() {
            return Err(Error::NotASandbox(container.name.trim_start_matches('/').to_owned()));
        }
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
        // Blocks the thread: nothing else runs in it.
        match sandbox::exec::run(&socket, command, self.interactive, self.tty) {
            Ok(code) => Ok(super::exit_code(code)),
            Err(sandbox::Error::Gone) => Err(Error::NotRunning(container.id)),
            Err(error) => Err(error.into()),
        }
    }
}
