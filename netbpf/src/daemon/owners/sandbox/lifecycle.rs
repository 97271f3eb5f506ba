//! Starts, watches and stops sandboxes. The end of the process removes everything that the container had in
//! networks, whatever the cause of the end.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use nix::libc::{SIGKILL, SIGTERM};

use crate::{
    daemon::{
        Daemon, Error, Happened,
        effects::{folders, transaction::Transaction},
        fault,
        names::links,
        owners::sandbox::{own_sandbox, restarts::with_restart, spec::spec_of, supervisor_of},
        ports::lease::WithoutAddress,
        state::{refuse, world::World},
    },
    model::{Attachment, Container, Id, Restart, Sandbox, State},
    private,
    sandbox::{self, Supervisor},
    store::Change,
};

/// The exit code if a restart by policy failed.
const EXIT_CANNOT: i32 = 125;

/// The exit code if a user's start failed and the container ran before (Docker's).
const EXIT_NOT_STARTED: i32 = 128;

impl Daemon {
    /// `start`.
    ///
    /// # Errors
    /// [`Error::NoContainer`], [`Error::Managed`], [`Error::Foreign`], or [`Error::NotModified`] if it runs.
    /// [`Error::CommandFailed`] or the error of another step: those before it are undone. `inspect` shows the
    /// error; with `--rm` the container is removed.
    pub async fn start_container(self: &Arc<Self>, key: &str) -> Result<(), Error> {
        let id = self.find_subject(key)?;
        let _locked = self.state.lock_container(id).await;
        self.start_locked(id, true).await
    }

    /// Start a container, for a user or by its policy. The caller must hold its lock.
    pub(in crate::daemon) async fn start_locked(
        self: &Arc<Self>,
        id: Id,
        by_user: bool,
    ) -> Result<(), Error> {
        let before = with_restart(self.state.container(&id)?, |restart| restart.start(by_user));
        refuse(&before, "start")?;
        let sandbox = own_sandbox(&before)?;
        if matches!(before.state, State::Running { .. }) {
            return Err(Error::NotModified);
        }
        match self.try_start(&before, sandbox).await {
            Ok(supervisor) => {
                self.watch(id, supervisor);
                self.names.refresh_links_to(id).await;
                Ok(())
            }
            Err(error) => {
                self.owners.followers.stop_waiting_for(&id);
                if sandbox.auto_remove {
                    self.state.world().put_container(before);
                    // The error to return is that of the start.
                    if let Err(error) = self.forget(&id) {
                        tracing::warn!("remove container {id}, which did not start: {error}");
                    }
                    return Err(error);
                }
                let mut delay = None;
                let failed = match by_user {
                    true => Container { state: not_started(&before.state, &error), ..before },
                    false => with_restart(before, |restart| {
                        delay = restart.fail(EXIT_CANNOT, error.to_string());
                    }),
                };
                self.state.world().put_container(failed.clone());
                self.state.commit(&[Change::PutContainer(failed)])?;
                if let Some(delay) = delay {
                    self.restart_later(id, delay);
                }
                Err(error)
            }
        }
    }

    /// Start a container completely or not at all.
    async fn try_start(self: &Arc<Self>, before: &Container, sandbox: &Sandbox) -> Result<Supervisor, Error> {
        let mut change = self.begin()?;
        check_networks(before, &self.state.world())?;
        links::check(before, &self.state.world())?;
        let (spec, _joined) = spec_of(&self.options, &self.state, &self.host, before, sandbox)?;
        // It is below the run directory, which is empty after a reboot.
        private::make_folder(&self.host.folders.of_supervisor(&before.id), folders::group())?;
        let mut after = before.clone();
        let done = self.start_steps(&mut change, before, &mut after, sandbox, &spec).await;
        let (supervisor, joined) = change.end(done).await?;
        self.tell_of_members(&after.id, &joined, "connect");
        self.events.tell(&after, Happened::Started);
        Ok(supervisor)
    }

    /// First leases and namespaces, then network and names, then the record, then the command. So a command
    /// never runs without its network, or without a record in the store. Returns the networks that the
    /// container has joined, too.
    async fn start_steps(
        self: &Arc<Self>,
        change: &mut Transaction,
        before: &Container,
        after: &mut Container,
        sandbox: &Sandbox,
        spec: &sandbox::Spec,
    ) -> Result<(Supervisor, Vec<Id>), Error> {
        let joined = change.lease_endpoints(after, None, &[])?;
        let ports = change.lease_ports(before, after, WithoutAddress::Refuse).await;
        ports.map_err(|error| Error::StartNetworking(Box::new(error)))?;
        self.names.make_files(after, sandbox)?;
        fault::before("start the supervisor")?;
        let supervisor =
            Supervisor::spawn(&self.program, &self.host.folders.of_supervisor(&after.id), spec).await?;
        after.state = State::Running {
            supervisor: Some((supervisor.pid(), supervisor.start_time())),
            started: Timestamp::now(),
        };
        let prepared = async {
            fault::after("start the supervisor");
            if after.attachments.iter().any(|attachment| attachment.endpoint.is_some()) {
                self.wire_steps(change, before, after).await?;
            }
            change.commit(&[Change::PutContainer(after.clone())])?;
            self.state.world().put_container(after.clone());
            self.names.open_links()?;
            self.owners.followers.connect(&after.id, &self.host.folders.log_of(&after.id), &supervisor)?;
            Ok::<_, Error>(())
        }
        .await;
        if let Err(error) = prepared {
            supervisor.abandon().await;
            return Err(error);
        }
        fault::before("start the command")?;
        match supervisor.start().await.map_err(command_failed) {
            Ok(()) => {
                fault::after("start the command");
                Ok((supervisor, joined))
            }
            Err(error) => {
                supervisor.kill();
                supervisor.wait().await;
                Err(error)
            }
        }
    }

    /// Wait for a sandbox's end and clean up.
    pub(in crate::daemon) fn watch(self: &Arc<Self>, id: Id, supervisor: Supervisor) {
        let daemon = Arc::clone(self);
        tokio::spawn(async move {
            supervisor.wait().await;
            let _locked = daemon.state.lock_container(id).await;
            match daemon.clear_up(id, supervisor.pid()).await {
                Ok(Some(delay)) => daemon.restart_later(id, delay),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(container = %id.short(), %error, "clear up after the end");
                }
            }
        });
    }

    /// The supervisor of a stored sandbox, if it still runs; otherwise its end is recorded.
    pub(in crate::daemon) async fn find_sandbox_again(
        self: &Arc<Self>,
        container: &Container,
    ) -> Result<Option<Supervisor>, Error> {
        let State::Running { supervisor: Some((pid, start_time)), .. } = container.state else {
            return Ok(None);
        };
        let supervisor = Supervisor::adopt(&self.host.folders.of_supervisor(&container.id), pid, start_time);
        if supervisor.is_none() {
            self.clear_up(container.id, pid).await?;
        }
        Ok(supervisor)
    }

    /// Record the end of a sandbox and remove everything that it had. Returns the delay until its restart, if
    /// any.
    pub(in crate::daemon) async fn clear_up(
        self: &Arc<Self>,
        id: Id,
        pid: u32,
    ) -> Result<Option<Duration>, Error> {
        let Ok(before) = self.state.container(&id) else { return Ok(None) };
        let State::Running { supervisor: Some((running, _)), started } = before.state else {
            return Ok(None);
        };
        let Some(sandbox) = before.sandbox() else { return Ok(None) };
        if running != pid {
            return Ok(None);
        }
        let exit = sandbox::exit_status(&self.host.folders.of_supervisor(&id));
        tracing::info!(container = before.name, code = exit.code, "ended");
        let ran = exit.finished.duration_since(started);
        self.events.tell(&before, Happened::Died { code: exit.code, ran });
        let after = Container {
            state: State::Exited { code: exit.code, started, finished: exit.finished, error: String::new() },
            attachments: before
                .attachments
                .iter()
                .map(|attachment| Attachment { endpoint: None, ..attachment.clone() })
                .collect(),
            mappings: Vec::new(),
            ..before.clone()
        };
        let mut delay = None;
        let ran = ran.try_into().unwrap_or_default();
        let after = with_restart(after, |restart| delay = restart.end(exit.code, ran));
        let is_removed = sandbox.auto_remove;
        // A full disk must not keep an ended container in the network. The next start of the daemon detects
        // its end again.
        if let Err(error) = self.state.commit(&[Change::PutContainer(after.clone())]) {
            tracing::error!(container = after.name, %error, "record the end");
        }
        // Names, ports and leases first, the new state last: a client that sees the container ended finds
        // nothing of it left.
        self.unwire_committed(&before, &after).await;
        self.state.world().put_container(after);
        self.names.refresh_links_to(id).await;
        self.owners.ends.note(id, exit.code);
        let forgotten = if is_removed { self.forget(&id) } else { Ok(()) };
        self.owners.ends.announce();
        forgotten.map(|()| delay)
    }

    /// Wait until this run of a container has ended and is cleaned up. It may have been started again by
    /// then.
    pub(in crate::daemon) async fn ended(&self, run: &Container) {
        let mut news = self.owners.ends.subscribe();
        let is_running = || self.state.world().container(&run.id).is_some_and(|now| now.state == run.state);
        while is_running() && news.changed().await.is_ok() {}
    }

    /// Send a signal to a running sandbox. The caller must hold its lock, so that the event of its end comes
    /// later.
    pub(in crate::daemon) async fn end(&self, container: &Container, signal: i32) -> Result<(), Error> {
        match supervisor_of(container, &self.host.folders)?.signal(signal).await {
            // It ended meanwhile.
            Err(sandbox::Error::Gone) => return Err(Error::NotRunning(container.id.to_string())),
            sent => sent?,
        }
        self.events.tell(container, Happened::Killed(signal));
        Ok(())
    }

    /// `kill`.
    ///
    /// # Errors
    /// [`Error::NoContainer`], [`Error::Managed`], [`Error::Foreign`], [`Error::NotRunning`];
    /// [`Error::Sandbox`] if the kernel knows no such signal; [`Error::Store`]: no signal was sent.
    pub async fn kill_container(&self, key: &str, signal: i32) -> Result<(), Error> {
        let id = self.find_subject(key)?;
        let _locked = self.state.lock_container(id).await;
        let container = self.state.container(&id)?;
        refuse(&container, "kill")?;
        own_sandbox(&container)?;
        // As in Docker, these two signals prevent a restart.
        if matches!(signal, SIGKILL | SIGTERM) {
            self.note_restart(id, Restart::stop)?;
        }
        self.end(&container, signal).await
    }

    /// `stop`: a signal, and SIGKILL after a timeout. Returns when nothing of the container is left in
    /// networks.
    ///
    /// # Errors
    /// [`Error::NotModified`] if it does not run; otherwise as of [`Daemon::kill_container`].
    pub async fn stop_container(
        self: &Arc<Self>,
        key: &str,
        signal: i32,
        timeout: Duration,
    ) -> Result<(), Error> {
        let id = self.find_subject(key)?;
        let container = {
            let _locked = self.state.lock_container(id).await;
            let container = self.state.container(&id)?;
            refuse(&container, "stop")?;
            own_sandbox(&container)?;
            let status = container.status();
            if !matches!(status, "running" | "restarting") {
                return Err(Error::NotModified);
            }
            self.note_restart(id, Restart::stop)?;
            if status == "restarting" {
                self.events.tell(&container, Happened::Stopped);
                return Ok(());
            }
            match self.end(&container, signal).await {
                Err(Error::NotRunning(_)) | Ok(()) => {}
                Err(error) => return Err(error),
            }
            container
        };
        if tokio::time::timeout(timeout, self.ended(&container)).await.is_err() {
            let locked = self.state.lock_container(id).await;
            match self.end(&container, SIGKILL).await {
                Err(Error::NotRunning(_)) | Ok(()) => {}
                Err(error) => return Err(error),
            }
            drop(locked);
            self.ended(&container).await;
        }
        self.events.tell(&container, Happened::Stopped);
        Ok(())
    }

    /// `restart`.
    ///
    /// # Errors
    /// As of [`Daemon::stop_container`], but without [`Error::NotModified`]. As of
    /// [`Daemon::start_container`]: it is stopped then.
    pub async fn restart_container(
        self: &Arc<Self>,
        key: &str,
        signal: i32,
        timeout: Duration,
    ) -> Result<(), Error> {
        match self.stop_container(key, signal, timeout).await {
            Ok(()) | Err(Error::NotModified) => {}
            Err(error) => return Err(error),
        }
        self.start_container(key).await?;
        let container = self.state.container(&self.find_subject(key)?)?;
        self.events.tell(&container, Happened::Restarted);
        Ok(())
    }
}

/// Checks that no network was removed while the container was stopped.
fn check_networks(container: &Container, world: &World) -> Result<(), Error> {
    match container.attachments.iter().find(|attachment| world.network(&attachment.network).is_none()) {
        Some(attachment) => Err(Error::NoNetwork(attachment.network.to_string())),
        None => Ok(()),
    }
}

/// Converts the error of a command that could not be executed.
fn command_failed(error: sandbox::Error) -> Error {
    match error {
        sandbox::Error::Start { exit_code, message } => Error::CommandFailed { message, exit_code },
        error => Error::Sandbox(error),
    }
}

/// The state of a container that a user could not start. As in Docker, one that ran before has exited.
fn not_started(before: &State, error: &Error) -> State {
    let code = match error {
        Error::CommandFailed { exit_code, .. } => (*exit_code).into(),
        _ => EXIT_NOT_STARTED,
    };
    let error = error.to_string();
    match *before {
        State::Exited { started, finished, .. } => State::Exited { code, started, finished, error },
        State::Created { .. } | State::Running { .. } => State::Created { error },
    }
}
