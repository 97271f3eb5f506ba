//! Starts the daemon, name responder, relay, supervisor, plugin or command line, as the arguments say. The only file that knows
//! them all.

use std::{
    env,
    ffi::{OsStr, OsString},
    mem::ManuallyDrop,
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use netbpf::{
    cli::{self, DaemonOptions, Process},
    cni, daemon, dns, heap, logging,
    model::XdpMode,
    netavark, relay, sandbox,
};
use tracing_subscriber::EnvFilter;

/// The most threads that wait for the kernel or the disk, beside one for each CPU. Each keeps its stack, and up to 230 KiB
/// that it has freed. What waits for such a thread is finished by the others without it, so few are enough.
const BLOCKING_THREADS: usize = 8;

fn main() -> ExitCode {
    let mut arguments = env::args_os();
    let program = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    match arguments.as_slice() {
        arguments if netavark::is_called(&program) => netavark::run(arguments),
        // A runtime executes it as a plugin, without arguments.
        [] if env::var_os(cni::COMMAND).is_some() => cni::run(match Path::new(&program).file_name() {
            Some(name) if name == "loopback" => cni::Plugin::Loopback,
            _ => cni::Plugin::Netbpf,
        }),
        // Processes that the daemon starts are recognized without the parser of the command line: there is a supervisor
        // for each container, and it must be small.
        [command, flag, dir] if command == "supervise" && flag == "--dir" => {
            finish(sandbox::supervise(Path::new(dir)))
        }
        [command, user, dir] if command == "responder" => finish(run_as(user, dir, dns::responder::run)),
        [command, user, dir] if command == "relay" => finish(run_as(user, dir, relay::run)),
        _ => match cli::parse() {
            Ok(Process::Daemon(options)) => finish(run_daemon(options)),
            Ok(Process::Client(client)) => cli::main(client),
            Err(code) => code,
        },
    }
}

fn run_as(
    user: &OsStr,
    dir: &OsStr,
    run: impl FnOnce(u32, &Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let user =
        user.to_str().and_then(|user| user.parse().ok()).context("the user number is missing or invalid")?;
    run(user, Path::new(dir))
}

fn run_daemon(options: DaemonOptions) -> anyhow::Result<()> {
    let filter = EnvFilter::new(format!("warn,netbpf={0},programs={0}", options.log_level.as_str()));
    logging::start(filter, false, std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let (docker_plugin, fast_names) = (options.docker_plugin(), options.fast_names());
    let fast_flows = options.fast_flows();
    let uplinks = options
        .xdp
        .into_iter()
        .map(|uplink| {
            let mode = if uplink.generic { XdpMode::Generic } else { XdpMode::Native };
            let interface =
                uplink.interface.parse().with_context(|| format!("--xdp {:?}", uplink.interface))?;
            Ok((interface, mode))
        })
        .collect::<anyhow::Result<_>>()?;
    let options = daemon::Options {
        state_dir: options.state_dir,
        run_dir: options.run_dir,
        bpffs: options.bpffs,
        docker_socket: options.docker_socket,
        program_logs: options.program_logs,
        icc: options.icc,
        fast_names,
        fast_flows,
        ip_forward_no_drop: options.ip_forward_no_drop,
        docker_plugin,
        uplinks,
    };
    let inherited = daemon::Inherited::from_env()?;
    heap::share();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()?;
    // Its tasks end with the process. They would panic in a runtime that is being shut down.
    ManuallyDrop::new(runtime).block_on(daemon::run(options, inherited))
}

fn finish<E: Into<anyhow::Error>>(done: Result<(), E>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("netbpf: {}", logging::with_causes(&error.into()));
            ExitCode::FAILURE
        }
    }
}
