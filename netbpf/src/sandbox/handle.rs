//! The daemon's handle on a supervisor: starts one, finds one again, waits for its end.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid},
};
use tokio::{io::unix::AsyncFd, task};

use super::{
    error::{Error, call},
    protocol::{Channel, Request, Response},
    sealed::SealedProgram,
    spec::{DIAGNOSTICS, EXIT, Exit, PID, SOCKET, Spec, exit_status},
    supervisor::READY,
    sys,
};
use crate::process;

/// A supervisor, running or just ended. If this is dropped before [`Supervisor::start`], the sandbox ends; later, it
/// goes on. Must be created within a tokio runtime.
#[derive(Debug)]
pub struct Supervisor {
    dir: PathBuf,
    pid: u32,
    start_time: u64,
    pidfd: AsyncFd<OwnedFd>,
    /// The other end is the supervisor's stdin. If this end closes before the start, the supervisor ends.
    lease: Mutex<Option<ChildStdin>>,
}

impl Supervisor {
    /// Starts a supervisor (`program supervise --dir DIR`), and returns when its namespaces exist and its files are
    /// mounted. `dir` exists and belongs to this sandbox only; files of an earlier run in it are replaced.
    ///
    /// # Errors
    /// [`Error::Setup`] with the supervisor's message if the sandbox cannot be built.
    pub async fn spawn(program: &Arc<SealedProgram>, dir: &Path, spec: &Spec) -> Result<Supervisor, Error> {
        let (program, dir, spec) = (Arc::clone(program), dir.to_owned(), spec.clone());
        let work_dir = dir.clone();
        let (pid, lease) = blocking(move || launch(&program, &work_dir, &spec)).await?;
        // The process is our child, so its PID cannot be reused before it is reaped in `wait`.
        let mut supervisor = Supervisor::hold(dir, pid)?;
        supervisor.lease = Mutex::new(Some(lease));
        Ok(supervisor)
    }

    /// Finds the running supervisor of `dir` by its PID and start time. `None` if it has ended. Changes nothing, because
    /// the sandbox may have been started again: the files in `dir` then belong to the later run.
    pub fn find(dir: &Path, pid: u32, start_time: u64) -> Option<Supervisor> {
        Supervisor::hold(dir.to_owned(), pid).ok().filter(|found| found.start_time == start_time)
    }

    /// The same for a daemon that has just started. If the supervisor has ended, its container is ended, too, and
    /// [`exit_status`] tells how. The sandbox must not be started meanwhile.
    pub fn adopt(dir: &Path, pid: u32, start_time: u64) -> Option<Supervisor> {
        let found = Supervisor::find(dir, pid, start_time);
        if found.is_none() {
            kill_orphan(dir);
        }
        found
    }

    /// Opens the pidfd first and compares the start time then, so that a reused PID is noticed.
    fn hold(dir: PathBuf, pid: u32) -> Result<Supervisor, Error> {
        let failed = || call::<io::Error>("watch supervisor", pid);
        let number = Pid::from_raw(pid as i32).ok_or(io::ErrorKind::InvalidInput.into()).map_err(failed())?;
        let pidfd = pidfd_open(number, PidfdFlags::empty()).map_err(|errno| failed()(errno.into()))?;
        let start_time = process::start_time(pid).ok_or(Error::Gone)?;
        let pidfd = sys::register(pidfd).map_err(failed())?;
        Ok(Supervisor { dir, pid, start_time, pidfd, lease: Mutex::new(None) })
    }

    /// The supervisor's PID. It is not the container's first process, but it holds the container's namespaces.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The supervisor's start time in clock ticks since boot, for [`Supervisor::adopt`].
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// The sandbox's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of the container's network namespace; valid as long as the supervisor runs.
    pub fn netns_path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.pid).into()
    }

    /// The PID of the command on the host; `None` if it is not running.
    pub fn pid1(&self) -> Option<u32> {
        first_process(&self.dir).map(|(pid, _)| pid)
    }

    /// Whether the supervisor has not ended yet.
    pub fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(self.pidfd.get_ref(), PollFlags::IN)];
        matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
    }

    /// A descriptor that becomes readable when the supervisor ends.
    pub(super) fn watch_end(&self) -> io::Result<AsyncFd<OwnedFd>> {
        sys::register(self.pidfd.get_ref().try_clone()?)
    }

    /// Runs the command. If it cannot be started, the sandbox has ended on return, and the error has Docker's message
    /// and exit code.
    ///
    /// # Errors
    /// [`Error::Start`] if the command cannot be started; [`Error::Gone`] if the supervisor has ended;
    /// [`Error::Protocol`] if it is one of another version.
    pub async fn start(&self) -> Result<(), Error> {
        match self.ask(Request::Start).await {
            Ok(()) => {
                self.release();
                Ok(())
            }
            Err(Error::Start { exit_code: exit_code @ (126 | 127), message }) => {
                self.wait().await;
                let what = "failed to create task for container: unable to start container process";
                Err(Error::Start { exit_code, message: format!("{what}: {message}") })
            }
            Err(error) => Err(error),
        }
    }

    /// Ends a sandbox that was not started, and waits for its end.
    pub async fn abandon(self) {
        self.release();
        self.wait().await;
    }

    fn release(&self) {
        self.lease.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    }

    /// Sends the command a signal. Process 1 receives only SIGKILL and signals for which it has a handler.
    ///
    /// # Errors
    /// [`Error::Gone`] if the command does not run; [`Error::Start`], with the message, if the kernel knows no such
    /// signal.
    pub async fn signal(&self, number: i32) -> Result<(), Error> {
        self.ask(Request::Signal { number }).await
    }

    /// Kills the supervisor, and the container with it. No exit status is written.
    pub fn kill(&self) {
        // Fails only if the supervisor has ended already.
        let _ = pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
    }

    /// Waits for the end of the supervisor, and of the container with it. May be called several times, also
    /// concurrently.
    pub async fn wait(&self) -> Exit {
        // Fails only when the runtime ends.
        let _ = self.pidfd.readable().await;
        let id = WaitId::PidFd(self.pidfd.get_ref().as_fd());
        // Fails for an adopted supervisor, which is not our child and need not be reaped.
        let _ = waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        if let Some(orphan) = kill_orphan(&self.dir).and_then(|pidfd| sys::register(pidfd).ok()) {
            let _ = orphan.readable().await;
        }
        exit_status(&self.dir)
    }

    /// Asks for `exec`, with the program's streams. Returns the channel that tells of its end, and its terminal if it has
    /// one.
    pub(super) async fn ask_exec(
        &self,
        request: Request,
        streams: Vec<OwnedFd>,
    ) -> Result<(Channel, Vec<OwnedFd>), Error> {
        let socket = self.dir.join(SOCKET);
        blocking(move || {
            let channel = Channel::connect(&socket).map_err(|_| Error::Gone)?;
            let streams: Vec<_> = streams.iter().map(OwnedFd::as_fd).collect();
            match channel.ask(&request, &streams)? {
                (Response::Started, fds) => Ok((channel, fds)),
                (other, _) => Err(Error::Protocol(format!("{other:?}"))),
            }
        })
        .await
    }

    async fn ask(&self, request: Request) -> Result<(), Error> {
        let socket = self.dir.join(SOCKET);
        blocking(move || {
            let channel = Channel::connect(&socket).map_err(|_| Error::Gone)?;
            match channel.ask(&request, &[])? {
                (Response::Started | Response::Done, _) => Ok(()),
                (other, _) => Err(Error::Protocol(format!("{other:?}"))),
            }
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    task::spawn_blocking(work).await.map_err(|error| call("run", "a task")(io::Error::other(error)))?
}

fn launch(program: &SealedProgram, dir: &Path, spec: &Spec) -> Result<(u32, ChildStdin), Error> {
    for name in [EXIT, PID, SOCKET] {
        match fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(call("remove", dir.join(name).display())(error));
            }
            _ => {}
        }
    }
    spec.write(dir)?;
    let path = dir.join(DIAGNOSTICS);
    let diagnostics = File::create(&path).map_err(call("create", path.display()))?;
    let failed = || call::<io::Error>("start", program.path().display());
    let mut child = Command::new(program.executable())
        .arg0(program.path())
        .args(["supervise".as_ref(), "--dir".as_ref(), dir.as_os_str()])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(diagnostics)
        .spawn()
        .map_err(failed())?;
    let (Some(lease), Some(mut report)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(failed()(io::ErrorKind::BrokenPipe.into()));
    };
    let mut text = String::new();
    let read = report.read_to_string(&mut text);
    if read.is_ok() && text == READY {
        return Ok((child.id(), lease));
    }
    drop(lease);
    let _ = child.wait();
    match text.is_empty() {
        true => Err(Error::Setup(format!("the supervisor ended; see {}", path.display()))),
        false => Err(Error::Setup(text)),
    }
}

fn first_process(dir: &Path) -> Option<(u32, u64)> {
    let text = fs::read_to_string(dir.join(PID)).ok()?;
    let (pid, start_time) = text.trim_end().split_once(' ')?;
    Some((pid.parse().ok()?, start_time.parse().ok()?))
}

/// Kills the container's first process if it is still running. That happens only if the supervisor was killed: the
/// process is about to die, or it has changed its user, which clears its parent death signal. Returns a pidfd that
/// becomes readable at its end. The socket that the supervisor left is removed.
fn kill_orphan(dir: &Path) -> Option<OwnedFd> {
    let _ = fs::remove_file(dir.join(SOCKET));
    let (pid, start_time) = first_process(dir)?;
    let _ = fs::remove_file(dir.join(PID));
    let pidfd = pidfd_open(Pid::from_raw(pid as i32)?, PidfdFlags::empty()).ok()?;
    if process::start_time(pid) != Some(start_time) {
        return None;
    }
    let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    Some(pidfd)
}
