//! Requests for containers that have another form for Docker's clients: output in frames, `wait` with a condition.

use std::convert::Infallible;

use axum::{
    Extension, Json,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::header,
    response::{IntoResponse, Response},
};
use bollard::models::{ContainerPruneResponse, ContainerWaitExitError, ContainerWaitResponse};
use futures::{
    StreamExt as _, TryStreamExt as _,
    future::{Either, ready},
    stream::{self, BoxStream},
};
use jiff::Timestamp;
use serde::Deserialize;

use super::{
    super::{FiltersQuery, error::Error, parse_tail, parse_time},
    ApiVersion, Shared, absent,
    attach::{Connection, Output},
    frames::{self, Selection},
};
use crate::{
    api::request::Flag,
    daemon::{self, Until},
    model::State as ContainerState,
};

/// `POST /containers/create`: there is no image that a container could be created from.
pub async fn create() -> Error {
    Error::Unsupported(absent::NO_IMAGES)
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct LogsQuery {
    stdout: Flag,
    stderr: Flag,
    follow: Flag,
    timestamps: Flag,
    tail: String,
    since: String,
    until: String,
}

/// `GET /containers/C/logs`.
pub async fn logs(
    State(docker): Shared,
    Path(container): Path<String>,
    Extension(version): Extension<ApiVersion>,
    Query(query): Query<LogsQuery>,
) -> Result<Response, Error> {
    let selection =
        Selection { stdout: query.stdout.0, stderr: query.stderr.0, timestamps: query.timestamps.0 };
    if !selection.stdout && !selection.stderr {
        return Err(Error::Invalid("must specify at least one of 'stdout' or 'stderr'".into()));
    }
    let since = parse_time("since", &query.since)?;
    let until = parse_time("until", &query.until)?.filter(|until| *until != Timestamp::UNIX_EPOCH);
    let lines = docker.daemon.logs(&container, query.follow.0, parse_tail(&query.tail)?, since).await?;
    let is_over =
        move |time: &str| until.is_some_and(|until| time.parse::<Timestamp>().is_ok_and(|time| time > until));
    let frames = lines
        .try_take_while(move |line| ready(Ok(!is_over(&line.time))))
        .try_filter_map(move |line| ready(Ok(selection.frame(&line))));
    // A container that writes nothing more is followed until then.
    let end = match until {
        Some(until) => Either::Left(tokio::time::sleep(
            until.duration_since(Timestamp::now()).try_into().unwrap_or_default(),
        )),
        None => Either::Right(std::future::pending()),
    };
    let body = match query.follow.0 {
        true => Body::from_stream(frames.take_until(end)),
        false => Body::from_stream(frames),
    };
    Ok(([(header::CONTENT_TYPE, frames::content_type(version, false))], body).into_response())
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct AttachQuery {
    stream: Flag,
    logs: Flag,
    stdout: Flag,
    stderr: Flag,
}

/// `POST /containers/C/attach`. A container of netbpf has no input.
pub async fn attach(
    State(docker): Shared,
    Path(container): Path<String>,
    Extension(version): Extension<ApiVersion>,
    Query(query): Query<AttachQuery>,
    connection: Connection,
    _body: Bytes,
) -> Result<Response, Error> {
    let selection = Selection { stdout: query.stdout.0, stderr: query.stderr.0, timestamps: false };
    let lines = match (query.stream.0, query.logs.0) {
        (true, past) => docker.daemon.attach_to_output(&container, past)?.boxed(),
        (false, true) => docker.daemon.logs(&container, false, None, None).await?.boxed(),
        (false, false) => stream::empty().boxed(),
    };
    Ok(connection.answer(frames::content_type(version, false), |output| async move {
        tokio::spawn(carry(lines, selection, output));
        None
    }))
}

async fn carry<E>(
    mut lines: BoxStream<'static, Result<daemon::Record, E>>,
    selection: Selection,
    output: Output,
) {
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            () = output.closed() => return,
        };
        let Some(Ok(line)) = line else { return };
        if let Some(frame) = selection.frame(&line)
            && output.send(frame).await.is_err()
        {
            return;
        }
    }
}

#[derive(Deserialize)]
pub struct WaitQuery {
    #[serde(default)]
    condition: String,
}

/// `POST /containers/C/wait`. The head of the answer comes at once: it tells the client that nothing is missed from now
/// on.
pub async fn wait(
    State(docker): Shared,
    Path(container): Path<String>,
    Query(query): Query<WaitQuery>,
) -> Result<Response, Error> {
    let until = match query.condition.as_str() {
        "" | "not-running" => Until::NotRunning,
        "next-exit" => Until::NextExit,
        "removed" => Until::Removed,
        other => return Err(Error::Invalid(format!("invalid condition: {other:?}"))),
    };
    let wait = docker.daemon.wait_container(&container, until)?;
    let answer = async move {
        let answer = match wait.await {
            Ok(code) => ContainerWaitResponse { status_code: code.into(), error: None },
            Err(error) => ContainerWaitResponse {
                status_code: -1,
                error: Some(ContainerWaitExitError { message: Some(error.to_string()) }),
            },
        };
        let text = serde_json::to_string(&answer).expect("a message has no failing serializer");
        Ok::<_, Infallible>(text + "\n")
    };
    let body = Body::from_stream(stream::once(answer));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// `POST /containers/prune`: removes the containers that do not run.
pub async fn prune(
    State(docker): Shared,
    Query(query): Query<FiltersQuery>,
) -> Result<Json<ContainerPruneResponse>, Error> {
    let filter = query.parse()?.prune(Timestamp::now())?;
    let stopped = docker.daemon.views().containers(|container, _| {
        let runs = matches!(container.state, ContainerState::Running { .. });
        container.sandbox().is_some() && !runs && filter.matches_container(container)
    });
    let mut removed = Vec::new();
    for line in stopped {
        let (daemon, id) = (docker.daemon.clone(), line.container.id.to_string());
        let key = id.clone();
        // One that was started or removed meanwhile is left alone.
        if super::super::whole(async move { daemon.remove_container(&key, false).await }).await.is_ok() {
            removed.push(id);
        }
    }
    Ok(Json(ContainerPruneResponse { containers_deleted: Some(removed), space_reclaimed: Some(0) }))
}
