//! `exec` of Docker's clients: create, start, resize, inspect. Keeps the programs between these requests: the daemon
//! only starts them.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bollard::models::{ExecConfig, ExecInspectResponse, ExecStartConfig, ProcessConfig};
use serde::Deserialize;

use super::{
    super::{
        error::{Error, refuse},
        parse,
    },
    ApiVersion, Docker, Shared,
    attach::{Connection, Output},
    frames,
};
use crate::{
    api::types::Created,
    daemon::{self, Command, Session, Source, Streams, Terminal},
    model::Id,
};

/// Number of programs that are kept. Beyond that, ended ones are forgotten, the oldest first.
const KEPT: usize = 1024;

/// The exit code of a program that could not be started for another reason than its own (Docker's).
const EXIT_CANNOT: i32 = 126;

/// The programs of all containers.
#[derive(Debug, Default)]
pub struct Execs(Mutex<VecDeque<Exec>>);

#[derive(Debug)]
struct Exec {
    id: Id,
    container: Id,
    config: ExecConfig,
    state: ExecState,
}

#[derive(Debug)]
enum ExecState {
    Created,
    /// With the size that its terminal shall have, if a client has sent one meanwhile.
    Starting(Option<(u16, u16)>),
    /// With its terminal, if it has one.
    Running(Option<Terminal>),
    Ended(i32),
}

impl Execs {
    fn all(&self) -> MutexGuard<'_, VecDeque<Exec>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a new program. Returns its ID; `None` if all that are kept run or may still be started.
    fn add(&self, container: Id, config: ExecConfig) -> Option<Id> {
        let mut all = self.all();
        if all.len() >= KEPT {
            let oldest = all.iter().position(|exec| matches!(exec.state, ExecState::Ended(_)));
            let oldest =
                oldest.or_else(|| all.iter().position(|exec| matches!(exec.state, ExecState::Created)));
            all.remove(oldest?);
        }
        let id = Id::random();
        all.push_back(Exec { id, container, config, state: ExecState::Created });
        Some(id)
    }

    /// Calls `work` with a program.
    fn with<T>(&self, key: &str, work: impl FnOnce(&mut Exec) -> Result<T, Error>) -> Result<T, Error> {
        match self.all().iter_mut().find(|exec| exec.id.to_string() == key) {
            Some(exec) => work(exec),
            None => Err(Error::NoExec(key.to_owned())),
        }
    }

    /// Marks a program as running, before it is started. Only one request may start it.
    fn begin(self: &Arc<Self>, key: &str) -> Result<Run, Error> {
        self.with(key, |exec| {
            let what = match exec.state {
                ExecState::Created => {
                    exec.state = ExecState::Starting(None);
                    return Ok(Run {
                        execs: Arc::clone(self),
                        id: exec.id,
                        container: exec.container,
                        config: exec.config.clone(),
                        code: EXIT_CANNOT,
                    });
                }
                ExecState::Starting(_) | ExecState::Running(_) => "is already running",
                ExecState::Ended(_) => "has already run",
            };
            Err(Error::ExecConflict(format!("exec command {key} {what}")))
        })
    }

    fn set(&self, id: Id, state: ExecState) {
        if let Some(exec) = self.all().iter_mut().find(|exec| exec.id == id) {
            if let (ExecState::Starting(Some(size)), ExecState::Running(Some(terminal))) =
                (&exec.state, &state)
            {
                terminal.resize(*size);
            }
            exec.state = state;
        }
    }
}

/// A program that a request has begun. It has ended when this is dropped.
#[derive(Debug)]
struct Run {
    execs: Arc<Execs>,
    id: Id,
    container: Id,
    config: ExecConfig,
    code: i32,
}

impl Run {
    /// Starts the program. If that fails, it has ended.
    async fn start(mut self, docker: &Docker, streams: Streams) -> Result<(Session, Self), daemon::Error> {
        let started = docker.daemon.exec(&self.container.to_string(), command(&self.config), streams).await;
        match started {
            Ok(session) => {
                self.execs.set(self.id, ExecState::Running(session.terminal()));
                Ok((session, self))
            }
            Err(error) => {
                self.code = error.exit_code().map_or(EXIT_CANNOT, Into::into);
                Err(error)
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.execs.set(self.id, ExecState::Ended(self.code));
    }
}

/// `POST /containers/C/exec`.
pub async fn create(
    State(docker): Shared,
    Path(container): Path<String>,
    body: Bytes,
) -> Result<Response, Error> {
    let config: ExecConfig = parse(&body)?;
    if config.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::Invalid("No exec command specified".into()));
    }
    if !matches!(config.user.as_deref().unwrap_or_default(), "" | "0" | "root" | "0:0" | "root:root") {
        return Err(Error::Unsupported("netbpf runs all programs of a container as root"));
    }
    let container = docker.daemon.check_exec(&container)?;
    let Some(id) = docker.execs.add(container, config) else {
        let message = format!("{KEPT} programs that exec has started run already");
        return Ok(refuse(StatusCode::TOO_MANY_REQUESTS, message, None));
    };
    let created = Created { id: id.to_string(), warnings: Vec::new() };
    Ok((StatusCode::CREATED, Json(created)).into_response())
}

/// `POST /exec/ID/start`. As in Docker, the program is started after the head of the answer. The reason why it cannot be
/// started is its output.
pub async fn start(
    State(docker): Shared,
    Path(id): Path<String>,
    Extension(version): Extension<ApiVersion>,
    connection: Connection,
    body: Bytes,
) -> Result<Response, Error> {
    let request: ExecStartConfig = match body.is_empty() {
        true => ExecStartConfig::default(),
        false => parse(&body)?,
    };
    let run = docker.execs.begin(&id)?;
    docker.daemon.check_exec(&run.container.to_string())?;
    let streams = streams(&run.config, &request);
    if request.detach == Some(true) {
        let (session, run) = run.start(&docker, streams).await?;
        tokio::spawn(carry(session, run, None));
        return Ok(StatusCode::OK.into_response());
    }
    let is_terminal = streams.terminal.is_some();
    let begin = |output: Output| async move {
        match run.start(&docker, streams).await {
            Ok((mut session, run)) => {
                let input = session.take_input();
                tokio::spawn(carry(session, run, Some(output)));
                input
            }
            Err(error) => {
                // It fails if the client is gone.
                let _ =
                    output.send(piece(Source::Stdout, format!("{error}\r\n").as_bytes(), is_terminal)).await;
                None
            }
        }
    };
    Ok(connection.answer(frames::content_type(version, is_terminal), begin))
}

fn command(config: &ExecConfig) -> Command {
    Command {
        argv: config.cmd.clone().unwrap_or_default(),
        env: config.env.clone().unwrap_or_default(),
        working_dir: config.working_dir.as_ref().filter(|dir| !dir.is_empty()).map(Into::into),
    }
}

fn streams(config: &ExecConfig, request: &ExecStartConfig) -> Streams {
    let size = || {
        let size = request.console_size.as_deref().or(config.console_size.as_deref());
        let number = |index| size.and_then(|size| u16::try_from(*size.get(index)?).ok()).unwrap_or_default();
        (number(0), number(1))
    };
    let wants = |stream: Option<bool>| stream == Some(true) && request.detach != Some(true);
    Streams {
        stdin: wants(config.attach_stdin),
        stdout: wants(config.attach_stdout),
        stderr: wants(config.attach_stderr),
        terminal: (config.tty == Some(true)).then(size),
    }
}

/// Carries a program's output to the client, and waits for its end, even if the client is gone. The end of the stream
/// comes last: the client asks for the exit code then.
async fn carry(mut session: Session, mut run: Run, mut output: Option<Output>) {
    let is_terminal = session.terminal().is_some();
    loop {
        let gone = async {
            match &output {
                Some(client) => client.closed().await,
                None => pending().await,
            }
        };
        let heard = tokio::select! {
            heard = session.next() => heard,
            () = gone => {
                session.close();
                output = None;
                continue;
            }
        };
        let Some((source, bytes)) = heard else { break };
        if let Some(client) = &output {
            // It fails if the client is gone, which the next round notices.
            let _ = client.send(piece(source, &bytes, is_terminal)).await;
        }
    }
    run.code = session.code().unwrap_or(EXIT_CANNOT);
    drop(run);
    drop(output);
}

fn piece(source: Source, bytes: &[u8], is_terminal: bool) -> Bytes {
    if is_terminal { Bytes::copy_from_slice(bytes) } else { frames::frame(source, bytes) }
}

#[derive(Deserialize)]
pub struct Size {
    h: u32,
    w: u32,
}

/// `POST /exec/ID/resize`.
pub async fn resize(
    State(docker): Shared,
    Path(id): Path<String>,
    Query(Size { h, w }): Query<Size>,
) -> Result<StatusCode, Error> {
    let number = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    let size = (number(h), number(w));
    docker.execs.with(&id, |exec| {
        match &mut exec.state {
            ExecState::Starting(wanted) => *wanted = Some(size),
            ExecState::Running(terminal) => terminal.iter().for_each(|terminal| terminal.resize(size)),
            ExecState::Created | ExecState::Ended(_) => {
                return Err(Error::ExecConflict(format!("exec process {id} is not running")));
            }
        }
        Ok(StatusCode::OK)
    })
}

/// `GET /exec/ID/json`.
pub async fn inspect(
    State(docker): Shared,
    Path(id): Path<String>,
) -> Result<Json<ExecInspectResponse>, Error> {
    docker.execs.with(&id, |exec| {
        let config = &exec.config;
        let mut words = config.cmd.iter().flatten().cloned();
        Ok(Json(ExecInspectResponse {
            can_remove: Some(false),
            detach_keys: Some(String::new()),
            id: Some(exec.id.to_string()),
            running: Some(matches!(exec.state, ExecState::Starting(_) | ExecState::Running(_))),
            exit_code: match exec.state {
                ExecState::Ended(code) => Some(code.into()),
                ExecState::Created | ExecState::Starting(_) | ExecState::Running(_) => None,
            },
            process_config: Some(ProcessConfig {
                privileged: Some(false),
                user: Some(String::new()),
                tty: config.tty,
                entrypoint: words.next(),
                arguments: Some(words.collect()),
            }),
            open_stdin: config.attach_stdin,
            open_stderr: config.attach_stderr,
            open_stdout: config.attach_stdout,
            container_id: Some(exec.container.to_string()),
            // The supervisor does not tell it.
            pid: Some(0),
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execs() -> Arc<Execs> {
        Arc::default()
    }

    #[test]
    fn a_program_is_started_once_and_ends_when_its_run_is_dropped() {
        let execs = execs();
        let id = execs.add(Id::random(), ExecConfig::default()).expect("room").to_string();
        let mut run = execs.begin(&id).expect("created");
        let refusal = |key: &str| execs.begin(key).err().map(|error| error.to_string());
        assert_eq!(refusal(&id), Some(format!("exec command {id} is already running")));
        run.code = 7;
        drop(run);
        let code = execs.with(&id, |exec| match exec.state {
            ExecState::Ended(code) => Ok(code),
            _ => panic!("it has not ended"),
        });
        assert_eq!(code.ok(), Some(7));
        assert_eq!(refusal(&id), Some(format!("exec command {id} has already run")));
        assert_eq!(refusal("x").as_deref(), Some("No such exec instance: x"));
    }

    #[test]
    fn ended_programs_make_room_first_and_running_ones_never_do() {
        let execs = execs();
        let ids: Vec<_> = (0..KEPT).filter_map(|_| execs.add(Id::random(), ExecConfig::default())).collect();
        let mut runs: Vec<_> = ids.iter().filter_map(|id| execs.begin(&id.to_string()).ok()).collect();
        assert!(execs.add(Id::random(), ExecConfig::default()).is_none());
        drop(runs.remove(5));
        assert!(execs.add(Id::random(), ExecConfig::default()).is_some());
        assert!(execs.with(&ids[5].to_string(), |_| Ok(())).is_err(), "forgotten");
        assert!(execs.add(Id::random(), ExecConfig::default()).is_some(), "one that was never started");
    }

    #[test]
    fn a_detached_program_has_no_streams() {
        let config = ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            tty: Some(true),
            console_size: Some(vec![24, 80]),
            ..ExecConfig::default()
        };
        let attached = streams(&config, &ExecStartConfig::default());
        assert_eq!((attached.stdin, attached.stdout, attached.stderr), (true, true, false));
        assert_eq!(attached.terminal, Some((24, 80)));
        let request = ExecStartConfig {
            detach: Some(true),
            console_size: Some(vec![50, 100_000]),
            ..ExecStartConfig::default()
        };
        let detached = streams(&config, &request);
        assert_eq!((detached.stdin, detached.stdout, detached.terminal), (false, false, Some((50, 0))));
    }
}
