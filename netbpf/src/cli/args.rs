//! All commands with their arguments, and the kind of process that each of them is.

use std::{ffi::OsString, io::Write as _, path::PathBuf, process::ExitCode};

use clap::{
    CommandFactory, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{
    Error, cni, console::Console, container, daemon, doctor, drops, events, exec, explain, inspect, logs,
    man, metrics, network, output, port, run, stats, system,
};
use crate::api;

/// The kind of process.
#[expect(clippy::large_enum_variant, reason = "the process has only one")]
pub enum Process {
    /// The daemon.
    Daemon(daemon::Options),
    /// A command for the daemon.
    Client(Client),
}

/// Parses the command line of this process. If it is invalid or asks for help, prints that and returns the exit code.
///
/// # Errors
/// The exit code: 0 if help or the version was asked for; for an invalid command line 125 if it is one of `run`, as in
/// Docker, else 1.
pub fn parse() -> Result<Process, ExitCode> {
    parse_from(std::env::args_os()).map_err(|NoCommand { error, exit_code }| {
        // clap drops control sequences from a message without colours, so they are looked for in the arguments.
        let is_harmless = std::env::args_os().all(|argument| {
            let bytes = argument.as_encoded_bytes();
            output::escaped(bytes).as_bytes() == bytes
        });
        say(&error, is_harmless);
        ExitCode::from(exit_code)
    })
}

/// Prints clap's message, or one line for an unknown command, because many of Docker's do not exist. Without colours
/// and escaped if it quotes what a terminal would obey.
fn say(error: &clap::Error, is_harmless: bool) {
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(name)) = error.get(ContextKind::InvalidSubcommand)
    {
        let line = format!("netbpf: '{name}' is not a netbpf command; see 'netbpf --help'");
        return Console::of_process().print_error(&line);
    }
    // Errors are ignored: there is nowhere to report them.
    let _ = match is_harmless || !error.use_stderr() {
        true => error.print(),
        false => write!(Console::of_process().err, "{}", error.render()),
    };
}

/// An invalid command line, or a request for help.
#[derive(Debug)]
pub(super) struct NoCommand {
    error: clap::Error,
    /// The exit code of the process.
    pub exit_code: u8,
}

pub(super) fn parse_from(args: impl IntoIterator<Item = OsString>) -> Result<Process, NoCommand> {
    let args: Vec<OsString> = args.into_iter().collect();
    let Arguments { socket, command } = Arguments::try_parse_from(&args).map_err(|error| {
        let exit_code = match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
            // As in Docker: lower exit codes are the container's.
            _ if is_run(&args) => 125,
            _ => 1,
        };
        NoCommand { error, exit_code }
    })?;
    Ok(match command {
        Commands::Daemon(options) => Process::Daemon(options),
        Commands::Client(command) => {
            Process::Client(Client { client: api::client::Client::new(socket), command })
        }
    })
}

/// Whether an invalid command line is one of `run`.
fn is_run(args: &[OsString]) -> bool {
    let lenient = command().ignore_errors(true).try_get_matches_from(args);
    lenient.is_ok_and(|matches| matches.subcommand_name() == Some("run"))
}

/// All commands as clap's structure.
pub(super) fn command() -> clap::Command {
    Arguments::command()
}

/// Bridges containers with eBPF: docker0's networks, addresses and names without the kernel bridge
#[derive(Parser)]
#[command(
    name = "netbpf",
    version,
    propagate_version = false,
    max_term_width = 110,
    after_help = "Example:\n  \
        netbpf network create --subnet 192.168.0.0/16 --gateway 192.168.0.1 mynet\n  \
        netbpf run -d --name web --net mynet -- python3 -m http.server 80\n  \
        netbpf exec web ip address"
)]
struct Arguments {
    /// Path of the daemon's socket
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "NETBPF_SOCKET",
        default_value = api::SOCKET,
        hide_env_values = true
    )]
    socket: PathBuf,
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand)]
#[expect(clippy::large_enum_variant, reason = "the process has only one")]
enum Commands {
    /// Run the daemon in the foreground
    Daemon(daemon::Options),
    #[command(flatten)]
    Client(Command),
}

#[derive(Subcommand)]
#[expect(clippy::large_enum_variant, reason = "the process has only one")]
enum Command {
    /// Manage networks
    #[command(subcommand, after_help = "Example:\n  netbpf network ls")]
    Network(network::Command),
    /// Create a network (short for network create)
    Create(network::Create),
    /// List networks (short for network ls)
    Ls(network::Ls),
    /// Connect a container to a network (short for network connect)
    Connect(network::Connect),
    /// Disconnect a container from a network (short for network disconnect)
    Disconnect(network::Disconnect),
    /// Show details of networks and containers
    Inspect(inspect::Inspect),
    /// Create a container and run a command in it
    Run(run::Run),
    /// Run a command in a running container
    Exec(exec::Exec),
    /// Manage containers (the commands below, as in Docker)
    #[command(subcommand, after_help = "Example:\n  netbpf container ls -a")]
    Container(container::Command),
    /// List containers
    Ps(container::Ps),
    /// Start stopped containers
    Start(container::Start),
    /// Stop running containers
    Stop(container::Stop),
    /// Stop containers and start them again
    Restart(container::Restart),
    /// Send a signal to running containers
    Kill(container::Kill),
    /// Rename a container
    Rename(container::Rename),
    /// Change what containers may send in a network
    Update(container::Update),
    /// Remove containers
    Rm(container::Rm),
    /// List the published ports of a container
    Port(port::Port),
    /// Show a container's output
    Logs(logs::Logs),
    /// Show traffic of interfaces and frame counters by reason
    Stats(stats::Stats),
    /// Show what was dropped lately: from whom, to whom, and why
    Drops(drops::Drops),
    /// Watch frame counters by reason, every second
    Monitor(stats::Monitor),
    /// Print counters and facts for Prometheus, or serve them
    Metrics(metrics::Metrics),
    /// Show events of networks and containers
    Events(events::Events),
    /// Explain why a packet arrives, or does not
    Explain(explain::Explain),
    /// Show information about the daemon and its networks
    Info(system::Info),
    /// Show the versions of client and daemon
    Version(system::Version),
    /// Check whether this host can run the daemon
    Doctor(doctor::Doctor),
    /// Let runtimes use networks by CNI (containerd, podman 4, CRI-O)
    #[command(subcommand, after_help = "Example:\n  netbpf cni enable mynet")]
    Cni(cni::Command),
    /// Print a completion script for a shell
    Completion(Completion),
    /// Write the manual pages to a directory
    #[command(hide = true)]
    Man(man::Man),
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf completion bash > /etc/bash_completion.d/netbpf")]
struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

impl Completion {
    fn run(&self, console: &mut Console) -> Result<u8, Error> {
        // To memory first, because the generator panics if it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command(), "netbpf", &mut script);
        console.out.write_all(&script)?;
        Ok(0)
    }
}

/// A command for the daemon.
pub struct Client {
    client: api::client::Client,
    command: Command,
}

impl Client {
    pub(super) async fn run(self, console: &mut Console) -> Result<u8, Error> {
        let client = &self.client;
        match self.command {
            Command::Network(command) => command.run(client, console).await,
            Command::Create(args) => args.run(client, console).await,
            Command::Ls(args) => args.run(client, console).await,
            Command::Connect(args) => args.run(client, console).await,
            Command::Disconnect(args) => args.run(client).await,
            Command::Inspect(args) => args.objects(client, console).await,
            Command::Run(args) => args.run(client, console).await,
            Command::Exec(args) => args.run(client).await,
            Command::Container(command) => command.run(client, console).await,
            Command::Ps(args) => args.run(client, console).await,
            Command::Start(args) => args.run(client, console).await,
            Command::Stop(args) => args.run(client, console).await,
            Command::Restart(args) => args.run(client, console).await,
            Command::Kill(args) => args.run(client, console).await,
            Command::Rename(args) => args.run(client).await,
            Command::Update(args) => args.run(client, console).await,
            Command::Rm(args) => args.run(client, console).await,
            Command::Port(args) => args.run(client, console).await,
            Command::Logs(args) => args.run(client, console).await,
            Command::Stats(args) => args.run(client, console).await,
            Command::Drops(args) => args.run(client, console).await,
            Command::Monitor(args) => args.run(client, console).await,
            Command::Metrics(args) => args.run(client, console).await,
            Command::Events(args) => args.run(client, console).await,
            Command::Explain(args) => args.run(client, console).await,
            Command::Info(args) => args.run(client, console).await,
            Command::Version(args) => args.run(client, console).await,
            Command::Doctor(args) => args.run(client, console).await,
            Command::Cni(command) => command.run(client, console).await,
            Command::Completion(args) => args.run(console),
            Command::Man(args) => args.run(),
        }
    }
}
