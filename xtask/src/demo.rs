//! `cargo xtask demo`: runs the acceptance story and checks it, in namespaces of its own, which remove
//! everything at the end. The host is not affected.

mod story;

use std::{
    env, fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::{WaitStatus, wait},
    },
    unistd::Pid,
};

use self::story::{STORY, Step};
use crate::{
    run,
    setup::{self, Scope},
};

/// Run the acceptance story step by step in namespaces of its own, and print the output
#[derive(clap::Args)]
pub struct Options {
    /// Which part of the demo this process is
    #[arg(long, hide = true, default_value = "outside")]
    part: Part,
    /// The directory of the demo
    #[arg(long, hide = true)]
    folder: Option<PathBuf>,
    /// Use this netbpf instead of building one
    #[arg(long, value_name = "FILE")]
    netbpf: Option<PathBuf>,
}

/// The processes of the demo.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The process that the user started.
    Outside,
    /// The init process of the PID namespace: when it ends, all others do.
    Init,
    /// The process that runs the story.
    Stage,
}

/// Timeout of a command of the story, in seconds.
const TIMEOUT_SECONDS: &str = "30";
/// Timeout for the daemon to answer or to stop.
const DAEMON_PATIENCE: Duration = Duration::from_secs(15);

/// Builds netbpf and runs the story.
pub fn run(options: Options) -> Result<()> {
    let Options { part, folder, netbpf } = options;
    match (part, folder, netbpf) {
        (Part::Init, Some(folder), Some(netbpf)) => init(&folder, &netbpf),
        (Part::Stage, Some(folder), Some(netbpf)) => stage(&folder, &netbpf),
        (_, _, netbpf) => outside(netbpf),
    }
}

fn outside(netbpf: Option<PathBuf>) -> Result<()> {
    setup::prepare(Scope::Demo)?;
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "the demo needs root for its namespaces:\n  sudo --preserve-env=HOME env \"PATH=$PATH\" cargo xtask demo"
        );
    }
    let netbpf = match netbpf {
        Some(netbpf) => netbpf.canonicalize().with_context(|| format!("find {}", netbpf.display()))?,
        None => run::build()?,
    };
    let folder = env::temp_dir().join(format!("netbpf-demo-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    unshare(CloneFlags::CLONE_NEWPID).context("make a PID namespace for the demo")?;
    let status = part("init", &folder, &netbpf)?.wait().context("wait for the demo")?;
    fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    if !status.success() {
        bail!("the demo failed");
    }
    Ok(())
}

/// Runs this program again, as another part of the demo.
fn part(name: &str, folder: &Path, netbpf: &Path) -> Result<Child> {
    Command::new(env::current_exe().context("find this program")?)
        .args(["demo", "--part", name, "--folder"])
        .arg(folder)
        .arg("--netbpf")
        .arg(netbpf)
        .spawn()
        .with_context(|| format!("start the demo's {name}"))
}

/// Reaps orphans of the killed daemon until the stage ends.
fn init(folder: &Path, netbpf: &Path) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("end with the process that started this")?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS)
        .context("make a mount, a network and a UTS namespace for the demo")?;
    mount_private(None, Path::new("/"), None, MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    mount_private(Some("proc"), Path::new("/proc"), Some("proc"), MsFlags::empty())?;
    let stage = Pid::from_raw(part("stage", folder, netbpf)?.id() as i32);
    loop {
        match wait().context("wait for the demo's stage")? {
            WaitStatus::Exited(pid, 0) if pid == stage => return Ok(()),
            status if status.pid() == Some(stage) => bail!("the story was interrupted"),
            _ => {}
        }
    }
}

fn stage(folder: &Path, netbpf: &Path) -> Result<()> {
    let stage = Stage { folder, netbpf };
    fs::create_dir_all(stage.bpffs()).context("create a folder for the maps")?;
    mount_private(Some("bpf"), &stage.bpffs(), Some("bpf"), MsFlags::empty())?;
    stage.shell("ip link set lo up")?;
    stage.play()
}

fn mount_private(source: Option<&str>, target: &Path, kind: Option<&str>, flags: MsFlags) -> Result<()> {
    mount(source, target, kind, flags, None::<&str>).with_context(|| format!("mount {}", target.display()))
}

/// The environment of the story.
struct Stage<'a> {
    folder: &'a Path,
    netbpf: &'a Path,
}

impl Stage<'_> {
    fn bpffs(&self) -> PathBuf {
        self.folder.join("bpf")
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("run/netbpf.sock")
    }

    fn daemon_log(&self) -> PathBuf {
        self.folder.join("daemon.log")
    }

    fn play(&self) -> Result<()> {
        println!("This host is an empty network namespace. All commands work on your host in the same way.");
        let mut daemon = None;
        let (mut typed, mut complaints) = (0, 0);
        for step in STORY {
            match step {
                Step::Say(text) => println!("\n# {text}"),
                Step::Type(command, expected) => {
                    typed += 1;
                    println!("$ {command}");
                    let (code, output) = self.shell(command)?;
                    print!("{output}");
                    for complaint in expected.iter().filter_map(|expect| expect.complaint(code, &output)) {
                        complaints += 1;
                        println!("!!! NOT AS EXPECTED: {complaint}");
                    }
                }
                Step::Start => daemon = Some(self.start()?),
                Step::Kill => end(daemon.take(), "kill -9 DAEMON", Signal::SIGKILL)?,
                Step::Stop => end(daemon.take(), "kill DAEMON", Signal::SIGTERM)?,
            }
        }
        println!("\n{typed} commands, {complaints} not as expected");
        if complaints > 0 {
            println!("\nThe daemon said:\n{}", fs::read_to_string(self.daemon_log()).unwrap_or_default());
            bail!("the story has unexpected results");
        }
        Ok(())
    }

    /// Runs a shell command, and returns its exit code and all its output.
    fn shell(&self, command: &str) -> Result<(i32, String)> {
        let path = env::var_os("PATH").unwrap_or_default();
        let netbpf = self.netbpf.parent().map(Path::to_path_buf);
        let path =
            env::join_paths(netbpf.into_iter().chain(env::split_paths(&path))).context("extend PATH")?;
        let output = Command::new("timeout")
            .args([TIMEOUT_SECONDS, "sh", "-c", &format!("exec 2>&1; {command}")])
            .env("PATH", path)
            .env("NETBPF_SOCKET", self.socket())
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("run {command}"))?;
        // As in a shell.
        let code = output.status.code().or(output.status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
        Ok((code, String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    fn start(&self) -> Result<Child> {
        println!("$ netbpf daemon &");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.daemon_log())
            .context("open the daemon's log")?;
        let mut daemon = Command::new(self.netbpf)
            .arg("daemon")
            .arg("--state-dir")
            .arg(self.folder.join("state"))
            .arg("--run-dir")
            .arg(self.folder.join("run"))
            .arg("--bpffs")
            .arg(self.bpffs().join("netbpf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("share the daemon's log")?)
            .stderr(log)
            .spawn()
            .context("start the daemon")?;
        let answers = await_until(|| {
            let ended = daemon.try_wait().is_ok_and(|status| status.is_some());
            Ok(ended || self.shell("netbpf version")?.0 == 0)
        })?;
        if !answers || daemon.try_wait().context("check the daemon")?.is_some() {
            let said = fs::read_to_string(self.daemon_log()).unwrap_or_default();
            bail!("the daemon does not answer; it said:\n{said}");
        }
        Ok(daemon)
    }
}

fn end(daemon: Option<Child>, typed: &str, signal: Signal) -> Result<()> {
    println!("$ {typed}");
    let Some(mut daemon) = daemon else { bail!("the story stops a daemon that does not run") };
    kill(Pid::from_raw(daemon.id() as i32), signal).context("signal the daemon")?;
    if !await_until(|| Ok(daemon.try_wait().context("wait for the daemon")?.is_some()))? {
        bail!("the daemon does not stop after {signal}");
    }
    Ok(())
}

/// Waits until `done` returns true; false after a timeout.
fn await_until(mut done: impl FnMut() -> Result<bool>) -> Result<bool> {
    let started = Instant::now();
    while !done()? {
        if started.elapsed() > DAEMON_PATIENCE {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(true)
}
