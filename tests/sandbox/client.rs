//! The callers of a sandbox as separate processes, so that tests can give them a terminal or a mount namespace, or kill
//! them. Knows the sandbox's interface only.
//!
//! `start EXE DIR SPEC` is a daemon that starts a sandbox, prints its supervisor's PID and start time, and exits; `exec
//! [-i] [-t] SOCKET COMMAND…` is the command line.

use std::{env, fs, path::Path, process::exit, sync::Arc};

use netbpf::sandbox::{SealedProgram, Supervisor, exec};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["start", exe, dir, spec] => start(exe.as_ref(), dir.as_ref(), spec.as_ref()),
        ["exec", rest @ ..] => {
            let flags = rest.iter().take_while(|a| matches!(**a, "-i" | "-t")).count();
            let (flags, rest) = rest.split_at(flags);
            let (socket, argv) = rest.split_first().ok_or_else(|| anyhow::anyhow!("no socket"))?;
            let argv = argv.iter().map(|a| a.to_string()).collect();
            let command = exec::Command { argv, ..Default::default() };
            match exec::run(Path::new(socket), command, flags.contains(&"-i"), flags.contains(&"-t")) {
                Ok(code) => exit(code),
                Err(netbpf::sandbox::Error::Start { exit_code, message }) => {
                    eprintln!("{message}");
                    exit(exit_code.into())
                }
                Err(error) => {
                    eprintln!("{error}");
                    exit(1)
                }
            }
        }
        _ => anyhow::bail!("unknown arguments {arguments:?}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn start(exe: &Path, dir: &Path, spec: &Path) -> anyhow::Result<()> {
    let spec = serde_json::from_slice(&fs::read(spec)?)?;
    let program = Arc::new(SealedProgram::open(exe)?);
    let supervisor = Supervisor::spawn(&program, dir, &spec).await?;
    supervisor.start().await?;
    println!("{} {}", supervisor.pid(), supervisor.start_time());
    Ok(())
}
