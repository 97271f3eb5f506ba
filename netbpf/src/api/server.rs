//! The server of the API: turns paths, queries and bodies into calls of the daemon, and results into status codes and
//! JSON. Makes no decisions.

mod attachment;
mod container;
mod create;
mod docker;
mod drops;
mod endpoint;
mod error;
mod explain;
mod metrics;
mod network;
mod report;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::{StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use futures::{Stream, StreamExt as _, TryStreamExt as _, future::ready};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;

use super::{
    connections,
    events::Selection,
    filters::Filters,
    request::{self, Flag},
    types::{
        ContainerResource, ContainerSummary, ContainerUpdate, ContainerWait, Created, Explanation, Info,
        NetworkConnect, NetworkConnected, NetworkCreated, NetworkDisconnect, NetworkResource, NetworkUpdate,
        NetworksPruned, Stats, Version,
    },
};
use crate::{
    daemon::{self, Daemon, Until},
    model::{AccessChange, Id, Network, Options},
};
use error::{Error, refuse};

type Shared = State<Arc<Daemon>>;

/// The maximum size of a request to create a container, in bytes. It may publish every TCP and UDP port with an entry
/// for each.
const MAX_CREATE_BODY: usize = 32 << 20;

/// Serves until `end`, and then until all running requests are answered. Errors of requests become responses with
/// Docker's status code.
pub async fn serve(
    listener: UnixListener,
    daemon: Arc<Daemon>,
    end: impl Future<Output = ()> + Send + 'static,
) {
    let own = routes().with_state(Arc::clone(&daemon));
    connections::serve(listener, docker::routes(own, daemon), end).await;
}

fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/version", get(version))
        .route("/info", get(info))
        .route("/stats", get(stats))
        .route("/drops", get(drops::list))
        .route("/metrics", get(show_metrics))
        .route("/events", get(events))
        .route("/explain", get(show_explanations))
        .route("/networks", get(list_networks))
        .route("/networks/create", post(create_network))
        .route("/networks/prune", post(prune_networks))
        .route("/networks/{network}", get(inspect_network))
        .route("/networks/{network}", delete(remove_network))
        .route("/networks/{network}/connect", post(connect))
        .route("/networks/{network}/disconnect", post(disconnect))
        .route("/networks/{network}/update", post(update_network))
        .route("/containers/json", get(list_containers))
        .route("/containers/create", post(create_container).layer(DefaultBodyLimit::max(MAX_CREATE_BODY)))
        .route("/containers/{container}/json", get(inspect_container))
        .route("/containers/{container}/start", post(start))
        .route("/containers/{container}/stop", post(stop))
        .route("/containers/{container}/restart", post(restart))
        .route("/containers/{container}/kill", post(kill))
        .route("/containers/{container}/rename", post(rename))
        .route("/containers/{container}/update", post(update_container))
        .route("/containers/{container}/wait", post(wait))
        .route("/containers/{container}/logs", get(logs))
        .route("/containers/{container}", delete(remove_container))
        .merge(attachment::routes())
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "page not found".into(), None) })
        .layer(middleware::map_response(refuse_in_json))
}

/// Carries out a change to its end, even if the client disconnects, which cancels the request's own task.
async fn whole<T: Send + 'static>(
    change: impl Future<Output = Result<T, daemon::Error>> + Send + 'static,
) -> Result<T, daemon::Error> {
    match tokio::spawn(change).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Turns errors of axum itself (query, method, size of the body) into the daemon's format.
async fn refuse_in_json(response: Response) -> Response {
    const MAX_ERROR_BODY: usize = 4096;
    let status = response.status();
    let is_json = |value: &header::HeaderValue| value.as_bytes().starts_with(b"application/json");
    if !status.is_client_error() || response.headers().get(header::CONTENT_TYPE).is_some_and(is_json) {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), MAX_ERROR_BODY).await.unwrap_or_default();
    let message = match text.is_empty() {
        true => status.canonical_reason().unwrap_or("refused").to_lowercase(),
        false => String::from_utf8_lossy(&text).into_owned(),
    };
    refuse(status, message, None)
}

/// Parses a JSON body, whatever its declared type.
fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    request::body(body).map_err(|error| Error::Invalid(format!("invalid JSON: {error}")))
}

/// Parses a time; `None` if the text is empty.
fn parse_time(key: &str, text: &str) -> Result<Option<Timestamp>, Error> {
    let bad = || Error::Invalid(format!("invalid {key}: {text}: expected a time (RFC 3339)"));
    (!text.is_empty()).then(|| request::time(text).ok_or_else(bad)).transpose()
}

async fn version() -> Json<Version> {
    Json(report::version())
}

async fn info(State(daemon): Shared) -> Json<Info> {
    Json(report::info(daemon.info().await))
}

#[derive(Deserialize)]
struct StatsQuery {
    #[serde(default)]
    containers: String,
}

async fn stats(State(daemon): Shared, Query(query): Query<StatsQuery>) -> Result<Json<Stats>, Error> {
    let containers: Vec<&str> = query.containers.split(',').filter(|name| !name.is_empty()).collect();
    Ok(Json(report::stats(daemon.stats(&containers).await?)))
}

async fn show_metrics(State(daemon): Shared) -> Result<Response, Error> {
    let snapshot = metrics::Snapshot {
        stats: daemon.stats(&[]).await?,
        networks: daemon.views().networks(|_, _| true),
        containers: daemon.views().containers(|_, _| true),
        maps: daemon.map_fill()?,
        usage: daemon::own_usage(),
    };
    let text = metrics::text(&snapshot)?;
    Ok(([(header::CONTENT_TYPE, metrics::FORMAT)], text).into_response())
}

#[derive(Deserialize)]
struct ExplainQuery {
    from: String,
    to: Option<String>,
    what: Option<String>,
}

async fn show_explanations(
    State(daemon): Shared,
    Query(ExplainQuery { from, to, what }): Query<ExplainQuery>,
) -> Result<Json<Vec<Explanation>>, Error> {
    let explained = daemon.explain(&daemon::Question { from, to, what }).await?;
    Ok(Json(explained.iter().map(explain::message).collect()))
}

#[derive(Deserialize)]
struct EventsQuery {
    #[serde(default)]
    since: String,
    #[serde(default)]
    until: String,
    #[serde(default)]
    filters: String,
}

async fn events(State(daemon): Shared, Query(query): Query<EventsQuery>) -> Result<Response, Error> {
    let (since, until) = (parse_time("since", &query.since)?, parse_time("until", &query.until)?);
    let filters = FiltersQuery { filters: query.filters }.parse()?;
    let events = daemon.events().follow(since, until);
    let selection = Selection::parse(&filters)?;
    Ok(lines(events.filter_map(move |event| {
        let event = report::event(&event);
        ready(selection.matches(&event).then_some(Ok::<_, Infallible>(event)))
    })))
}

#[derive(Deserialize)]
struct FiltersQuery {
    #[serde(default)]
    filters: String,
}

impl FiltersQuery {
    fn parse(&self) -> Result<Filters, Error> {
        Ok(Filters::parse(&self.filters)?)
    }
}

async fn list_networks(
    State(daemon): Shared,
    Query(query): Query<FiltersQuery>,
) -> Result<Json<Vec<NetworkResource>>, Error> {
    let filter = query.parse()?.networks()?;
    let networks = daemon.views().networks(|network, in_use| filter.matches(network, in_use));
    Ok(Json(networks.into_iter().map(network::resource).collect()))
}

async fn create_network(
    State(daemon): Shared,
    body: axum::body::Bytes,
) -> Result<(StatusCode, Json<NetworkCreated>), Error> {
    let request = network::parse(parse(&body)?)?;
    let warning = Options::warnings(&request.given).join("\n");
    let id = whole(async move { daemon.create_network(request).await }).await?;
    Ok((StatusCode::CREATED, Json(NetworkCreated { id: id.to_string(), warning })))
}

async fn prune_networks(
    State(daemon): Shared,
    Query(query): Query<FiltersQuery>,
) -> Result<Json<NetworksPruned>, Error> {
    let filter = query.parse()?.prune(Timestamp::now())?;
    let matches = move |network: &Network| filter.matches(network);
    let networks_deleted = whole(async move { daemon.prune_networks(matches).await }).await?;
    Ok(Json(NetworksPruned { networks_deleted }))
}

async fn inspect_network(
    State(daemon): Shared,
    Path(network): Path<String>,
) -> Result<Json<NetworkResource>, Error> {
    Ok(Json(network::resource(daemon.views().network(&network)?)))
}

async fn remove_network(State(daemon): Shared, Path(network): Path<String>) -> Result<StatusCode, Error> {
    whole(async move { daemon.remove_network(&network).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn connect(
    State(daemon): Shared,
    Path(network): Path<String>,
    body: axum::body::Bytes,
) -> Result<Json<NetworkConnected>, Error> {
    let NetworkConnect { container, endpoint_config } = parse(&body)?;
    let request = endpoint::parse(endpoint_config)?;
    let warnings = request.options.warnings().collect();
    whole(async move { daemon.connect(&network, &container, request).await }).await?;
    Ok(Json(NetworkConnected { warnings }))
}

async fn disconnect(
    State(daemon): Shared,
    Path(network): Path<String>,
    body: axum::body::Bytes,
) -> Result<StatusCode, Error> {
    let NetworkDisconnect { container, force } = parse(&body)?;
    whole(async move { daemon.disconnect(&network, &container, force).await }).await?;
    Ok(StatusCode::OK)
}

async fn update_network(
    State(daemon): Shared,
    Path(network): Path<String>,
    body: axum::body::Bytes,
) -> Result<StatusCode, Error> {
    let NetworkUpdate { options } = parse(&body)?;
    let change = AccessChange::parse(options)?;
    whole(async move { daemon.update_network(&network, change).await }).await?;
    Ok(StatusCode::OK)
}

#[derive(Deserialize)]
struct ListQuery {
    #[serde(default)]
    all: Flag,
    /// How many of the newest ones, of any state; all if it is not positive.
    #[serde(default)]
    limit: i64,
    #[serde(default)]
    filters: String,
}

async fn list_containers(
    State(daemon): Shared,
    Query(ListQuery { all, limit, filters }): Query<ListQuery>,
) -> Result<Json<Vec<ContainerSummary>>, Error> {
    let filter = FiltersQuery { filters }.parse()?.containers()?;
    let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0);
    let all = all.0 || limit.is_some() || filter.asks_for_state();
    let containers = daemon.views().containers(|container, networks| {
        let network = |id: &Id| networks.iter().find(|network| network.id == *id).copied();
        (all || matches!(container.status(), "running" | "restarting")) && filter.matches(container, network)
    });
    let now = Timestamp::now();
    let lines = containers.iter().take(limit.unwrap_or(usize::MAX));
    Ok(Json(lines.map(|line| container::summary(line, now)).collect()))
}

#[derive(Deserialize)]
struct CreateQuery {
    #[serde(default)]
    name: String,
}

async fn create_container(
    State(daemon): Shared,
    Query(query): Query<CreateQuery>,
    body: axum::body::Bytes,
) -> Result<(StatusCode, Json<Created>), Error> {
    let request = create::parse(&query.name, parse(&body)?)?;
    let (id, warnings) = daemon.create_container(request).await?;
    Ok((StatusCode::CREATED, Json(Created { id: id.to_string(), warnings })))
}

async fn inspect_container(
    State(daemon): Shared,
    Path(container): Path<String>,
) -> Result<Json<ContainerResource>, Error> {
    Ok(Json(container::resource(&daemon.inspect_container(&container).await?)))
}

async fn start(State(daemon): Shared, Path(container): Path<String>) -> Result<StatusCode, Error> {
    whole(async move { daemon.start_container(&container).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct StopQuery {
    /// In seconds; without an end if it is negative. The default is Docker's.
    #[serde(default = "ten")]
    t: i64,
    #[serde(default)]
    signal: String,
}

fn ten() -> i64 {
    10
}

impl StopQuery {
    fn signal(&self, default: nix::sys::signal::Signal) -> Result<i32, Error> {
        parse_signal(&self.signal, default)
    }

    fn timeout(&self) -> Duration {
        u64::try_from(self.t).map_or(Duration::MAX, Duration::from_secs)
    }
}

/// Parses `TERM`, `SIGTERM` or `15`.
fn parse_signal(text: &str, default: nix::sys::signal::Signal) -> Result<i32, Error> {
    if text.is_empty() {
        return Ok(default as i32);
    }
    let name = text.to_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    match (text.parse::<i32>(), name.parse::<nix::sys::signal::Signal>()) {
        (Ok(number @ 1..=64), _) => Ok(number),
        (_, Ok(signal)) => Ok(signal as i32),
        _ => Err(Error::Invalid(format!("invalid signal: {text}"))),
    }
}

async fn stop(
    State(daemon): Shared,
    Path(container): Path<String>,
    Query(query): Query<StopQuery>,
) -> Result<StatusCode, Error> {
    let signal = query.signal(nix::sys::signal::SIGTERM)?;
    let timeout = query.timeout();
    whole(async move { daemon.stop_container(&container, signal, timeout).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn restart(
    State(daemon): Shared,
    Path(container): Path<String>,
    Query(query): Query<StopQuery>,
) -> Result<StatusCode, Error> {
    let signal = query.signal(nix::sys::signal::SIGTERM)?;
    let timeout = query.timeout();
    whole(async move { daemon.restart_container(&container, signal, timeout).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct KillQuery {
    #[serde(default)]
    signal: String,
}

async fn kill(
    State(daemon): Shared,
    Path(container): Path<String>,
    Query(query): Query<KillQuery>,
) -> Result<StatusCode, Error> {
    let signal = parse_signal(&query.signal, nix::sys::signal::SIGKILL)?;
    whole(async move { daemon.kill_container(&container, signal).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn rename(
    State(daemon): Shared,
    Path(container): Path<String>,
    Query(query): Query<CreateQuery>,
) -> Result<StatusCode, Error> {
    let name = create::container_name(&query.name)?;
    let name = name.ok_or_else(|| Error::Invalid("Neither old nor new names may be empty".into()))?;
    whole(async move { daemon.rename_container(&container, &name).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn update_container(
    State(daemon): Shared,
    Path(container): Path<String>,
    body: axum::body::Bytes,
) -> Result<StatusCode, Error> {
    let ContainerUpdate { network, driver_opts } = parse(&body)?;
    let change = AccessChange::parse(driver_opts)?;
    whole(async move { daemon.update(&network, &container, change).await }).await?;
    Ok(StatusCode::OK)
}

async fn wait(State(daemon): Shared, Path(container): Path<String>) -> Result<Json<ContainerWait>, Error> {
    Ok(Json(ContainerWait { status_code: daemon.wait_container(&container, Until::Ended)?.await? }))
}

#[derive(Deserialize)]
struct LogsQuery {
    #[serde(default)]
    follow: Flag,
    #[serde(default)]
    tail: String,
    #[serde(default)]
    since: String,
}

async fn logs(
    State(daemon): Shared,
    Path(container): Path<String>,
    Query(query): Query<LogsQuery>,
) -> Result<Response, Error> {
    let (tail, since) = (parse_tail(&query.tail)?, parse_time("since", &query.since)?);
    let lines = daemon.logs(&container, query.follow.0, tail, since).await?;
    Ok(self::lines(lines.map_ok(report::log_line)))
}

/// Parses a number of lines; `None` for all.
fn parse_tail(text: &str) -> Result<Option<usize>, Error> {
    let bad = || Error::Invalid(format!("invalid tail: {text}: expected a number or all"));
    (!matches!(text, "" | "all")).then(|| text.parse().map_err(|_| bad())).transpose()
}

/// A streamed response with one JSON text per line.
fn lines<T: Serialize + 'static, E: Into<axum::BoxError> + 'static>(
    messages: impl Stream<Item = Result<T, E>> + Send + 'static,
) -> Response {
    let texts = messages.map_ok(|message| {
        let text = serde_json::to_string(&message).expect("a message has no failing serializer");
        text + "\n"
    });
    ([(header::CONTENT_TYPE, "application/jsonl")], Body::from_stream(texts)).into_response()
}

#[derive(Deserialize)]
struct RemoveQuery {
    #[serde(default)]
    force: Flag,
}

async fn remove_container(
    State(daemon): Shared,
    Path(container): Path<String>,
    Query(query): Query<RemoveQuery>,
) -> Result<StatusCode, Error> {
    whole(async move { daemon.remove_container(&container, query.force.0).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}
