//! The plugin socket: calls the daemon's methods for Docker's requests. Docker waits for an answer without a limit, so
//! every request is answered within [`TIME_LIMIT`]; what is finished later is undone.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixListener;

use super::{
    convert::{self, InvalidMessage},
    ipam, wire,
};
use crate::{
    api::connections,
    daemon::{Daemon, DockerEndpointRequest, DockerNetwork, DockerPorts},
};

/// How long a request may take.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// The maximum size of a message in bytes. A message may publish every TCP and UDP port with an entry for each.
const MAX_MESSAGE: usize = 32 << 20;
/// The media type of Docker's plugin protocol.
const MEDIA_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";

type Shared = State<Arc<Daemon>>;

/// Serves requests until `end`, and then until the running ones are finished. Errors of requests become responses with
/// the text in `Err`, which Docker shows.
pub async fn serve(
    listener: UnixListener,
    daemon: Arc<Daemon>,
    end: impl Future<Output = ()> + Send + 'static,
) {
    let router = Router::new()
        .route("/Plugin.Activate", post(activate))
        .route("/NetworkDriver.GetCapabilities", post(capabilities))
        .route("/NetworkDriver.GwAllocCheck", post(gw_alloc_check))
        .route("/NetworkDriver.CreateNetwork", post(create_network))
        .route("/NetworkDriver.DeleteNetwork", post(delete_network))
        // Only Docker's swarm calls these two, for drivers with networks that span hosts.
        .route("/NetworkDriver.AllocateNetwork", post(nothing_to_do))
        .route("/NetworkDriver.FreeNetwork", post(nothing_to_do))
        .route("/NetworkDriver.CreateEndpoint", post(create_endpoint))
        .route("/NetworkDriver.EndpointOperInfo", post(endpoint_oper_info))
        .route("/NetworkDriver.Join", post(join))
        .route("/NetworkDriver.Leave", post(leave))
        .route("/NetworkDriver.DeleteEndpoint", post(delete_endpoint))
        .route("/NetworkDriver.ProgramExternalConnectivity", post(program))
        .route("/NetworkDriver.RevokeExternalConnectivity", post(revoke))
        .route("/NetworkDriver.DiscoverNew", post(nothing_to_do))
        .route("/NetworkDriver.DiscoverDelete", post(nothing_to_do))
        .merge(ipam::routes())
        .fallback(async |uri: Uri| {
            refuse(StatusCode::NOT_FOUND, format!("unknown method {}", uri.path().trim_start_matches('/')))
        })
        .layer(DefaultBodyLimit::max(MAX_MESSAGE))
        .with_state(daemon);
    connections::serve(listener, router, end).await;
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The message is invalid.
    #[error(transparent)]
    InvalidMessage(#[from] InvalidMessage),
    /// The daemon refuses it.
    #[error(transparent)]
    Daemon(#[from] crate::daemon::Error),
}

/// An error response. Docker prints the text in `Err` after "remote: ".
fn refuse(status: StatusCode, err: String) -> Response {
    (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], Json(wire::Refusal { error: err.clone(), err }))
        .into_response()
}

/// A response with a body.
pub fn answer(answer: impl Serialize) -> Response {
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], Json(answer)).into_response()
}

/// Carries out a request within [`TIME_LIMIT`]. It is always finished, even if Docker closes the connection. If it is
/// finished too late to tell Docker, `undo` undoes it.
pub async fn call<Request, Done, Work, Undone>(
    body: Bytes,
    work: impl FnOnce(Request) -> Work,
    undo: impl FnOnce() -> Undone + Send + 'static,
) -> Response
where
    Request: DeserializeOwned,
    Done: Serialize + Send + 'static,
    Work: Future<Output = Result<Done, Error>> + Send + 'static,
    Undone: Future<Output = ()> + Send,
{
    if body.is_empty() {
        // Docker (20.10, for example) repeats a request without its body if the connection breaks in the middle of it.
        let err = "Docker's request came without a message, as after a restart of netbpf during the request: try again";
        return refuse(StatusCode::BAD_REQUEST, err.to_owned());
    }
    let request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, format!("invalid JSON: {error}")),
    };
    let mut working = tokio::spawn(work(request));
    match tokio::time::timeout(TIME_LIMIT, &mut working).await {
        Ok(Ok(Ok(done))) => answer(done),
        Ok(Ok(Err(error))) => {
            tracing::info!(%error, "refuse a request of Docker");
            refuse(StatusCode::OK, error.to_string())
        }
        Ok(Err(panicked)) => refuse(StatusCode::OK, format!("netbpf failed: {panicked}")),
        Err(_) => {
            tokio::spawn(async move {
                if let Ok(Ok(_)) = working.await {
                    undo().await;
                }
            });
            refuse(StatusCode::OK, format!("netbpf did not finish within {} s", TIME_LIMIT.as_secs()))
        }
    }
}

/// For requests that need no undo: a removal, or something that was there before.
async fn nothing() {}

async fn activate(State(daemon): Shared) -> Response {
    daemon.forget_unused_endpoints().await;
    answer(wire::Activated { implements: vec!["NetworkDriver", "IpamDriver"] })
}

async fn capabilities() -> Response {
    answer(wire::Capabilities { scope: "local", connectivity_scope: "local", gw_alloc_checker: true })
}

async fn nothing_to_do() -> Result<Response, Infallible> {
    Ok(answer(wire::Done {}))
}

async fn gw_alloc_check(body: Bytes) -> Response {
    let work = async move |message: wire::GwAllocCheck| Ok(convert::skipped_gateways(&message)?);
    call(body, work, nothing).await
}

async fn create_network(State(daemon): Shared, body: Bytes) -> Response {
    let asked: Option<wire::OfNetwork> = serde_json::from_slice(&body).ok();
    let late = Arc::clone(&daemon);
    let work = async move |message: wire::CreateNetwork| {
        daemon.create_docker_network(DockerNetwork::try_from(message)?).await?;
        Ok(wire::Done {})
    };
    call(body, work, async move || {
        if let Some(Ok(id)) = asked.map(|asked| convert::network_id(&asked.network_id)) {
            log_failed_undo(late.delete_docker_network(id).await);
        }
    })
    .await
}

async fn delete_network(State(daemon): Shared, body: Bytes) -> Response {
    let work = async move |message: wire::OfNetwork| {
        daemon.delete_docker_network(convert::network_id(&message.network_id)?).await?;
        Ok(wire::Done {})
    };
    call(body, work, nothing).await
}

async fn create_endpoint(State(daemon): Shared, body: Bytes) -> Response {
    let asked: Option<wire::OfEndpoint> = serde_json::from_slice(&body).ok();
    let late = Arc::clone(&daemon);
    let work = async move |message: wire::CreateEndpoint| {
        let interface = message.interface.clone();
        let wanted = DockerEndpointRequest::try_from(message)?;
        let prefixes = daemon.prefix_lengths(&wanted.network);
        let endpoint = daemon.create_docker_endpoint(wanted).await?;
        Ok(wire::EndpointCreated { interface: convert::chosen(&endpoint, prefixes, &interface) })
    };
    call(body, work, async move || {
        if let Some(Ok(id)) = asked.map(|asked| convert::endpoint_id(&asked.endpoint_id)) {
            log_failed_undo(late.delete_docker_endpoint(id).await);
        }
    })
    .await
}

fn log_failed_undo(undone: Result<(), crate::daemon::Error>) {
    if let Err(error) = undone {
        tracing::error!(%error, "undo a request that was finished too late for Docker");
    }
}

async fn endpoint_oper_info(State(daemon): Shared, body: Bytes) -> Response {
    let work = async move |message: wire::OfEndpoint| {
        let (network, endpoint) = ids(&message)?;
        daemon.check_docker_endpoint(network, endpoint)?;
        Ok(wire::EndpointOperInfo::default())
    };
    call(body, work, nothing).await
}

async fn join(State(daemon): Shared, body: Bytes) -> Response {
    let work = async move |message: wire::Join| {
        let network = convert::network_id(&message.network_id)?;
        let endpoint = convert::endpoint_id(&message.endpoint_id)?;
        let joined = daemon.join_docker_endpoint(network, endpoint, message.sandbox_key.into()).await?;
        Ok(wire::Joined::from(joined))
    };
    call(body, work, nothing).await
}

async fn leave(State(daemon): Shared, body: Bytes) -> Response {
    let work = async move |message: wire::OfEndpoint| {
        let (network, endpoint) = ids(&message)?;
        daemon.leave_docker_endpoint(network, endpoint).await?;
        Ok(wire::Done {})
    };
    call(body, work, nothing).await
}

async fn delete_endpoint(State(daemon): Shared, body: Bytes) -> Response {
    let work = async move |message: wire::OfEndpoint| {
        let (_, endpoint) = ids(&message)?;
        daemon.delete_docker_endpoint(endpoint).await?;
        Ok(wire::Done {})
    };
    call(body, work, nothing).await
}

async fn program(State(daemon): Shared, body: Bytes) -> Response {
    let asked: Option<wire::OfEndpoint> = serde_json::from_slice(&body).ok();
    let late = Arc::clone(&daemon);
    let work = async move |message: wire::ProgramExternalConnectivity| {
        let network = convert::network_id(&message.network_id)?;
        let endpoint = convert::endpoint_id(&message.endpoint_id)?;
        daemon.publish_docker_endpoint(network, endpoint, convert::ports(&message.options)?).await?;
        Ok(wire::Done {})
    };
    call(body, work, async move || {
        if let Some(Ok((network, endpoint))) = asked.map(|asked| ids(&asked)) {
            log_failed_undo(late.publish_docker_endpoint(network, endpoint, DockerPorts::default()).await);
        }
    })
    .await
}

async fn revoke(State(daemon): Shared, body: Bytes) -> Response {
    let work = async move |message: wire::OfEndpoint| {
        let (network, endpoint) = ids(&message)?;
        daemon.publish_docker_endpoint(network, endpoint, DockerPorts::default()).await?;
        Ok(wire::Done {})
    };
    call(body, work, nothing).await
}

fn ids(message: &wire::OfEndpoint) -> Result<(crate::model::Id, crate::model::Id), InvalidMessage> {
    Ok((convert::network_id(&message.network_id)?, convert::endpoint_id(&message.endpoint_id)?))
}
