//! Docker's Engine API, for Docker's clients: they begin each path with a version (`/v1.41/containers/json`). Most
//! requests are the same as netbpf's own; here are those that are Docker's only, and those that have another form
//! there. Converts only: the daemon does not know that its client is one of Docker's.

mod absent;
mod attach;
mod containers;
mod exec;
mod frames;
mod stats;
mod system;
mod top;
mod version;

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::error::refuse;
use crate::daemon::Daemon;
pub use version::{ApiVersion, NEWEST, OLDEST};

/// What these requests are answered from.
#[derive(Clone)]
struct Docker {
    daemon: Arc<Daemon>,
    execs: Arc<exec::Execs>,
    counters: Arc<stats::Counters>,
}

type Shared = axum::extract::State<Docker>;

/// Requests with a version are for Docker's routes, and all others for netbpf's own.
pub fn routes(own: Router, daemon: Arc<Daemon>) -> Router {
    let versioned = versioned(own.clone(), daemon);
    let front = async move |request: Request| front(request, own, versioned).await;
    let ping = get(system::ping).layer(middleware::map_response(headers));
    Router::new().route("/_ping", ping).fallback(front)
}

fn versioned(own: Router, daemon: Arc<Daemon>) -> Router {
    let docker = Docker { daemon, execs: Arc::default(), counters: Arc::default() };
    Router::new()
        .route("/_ping", get(system::ping))
        .route("/version", get(system::version))
        .route("/info", get(system::info))
        .route("/system/df", get(system::disk_usage))
        .route("/containers/create", post(containers::create))
        .route("/containers/prune", post(containers::prune))
        .route("/containers/{container}/wait", post(containers::wait))
        .route("/containers/{container}/logs", get(containers::logs))
        .route("/containers/{container}/attach", post(containers::attach))
        .route("/containers/{container}/top", get(top::top))
        .route("/containers/{container}/stats", get(stats::stats))
        .route("/containers/{container}/exec", post(exec::create))
        .route("/exec/{id}/start", post(exec::start))
        .route("/exec/{id}/resize", post(exec::resize))
        .route("/exec/{id}/json", get(exec::inspect))
        .merge(absent::routes())
        .fallback_service(own)
        .layer(middleware::map_response(super::refuse_in_json))
        .layer(middleware::map_response(headers))
        .with_state(docker)
}

async fn front(mut request: Request, own: Router, versioned: Router) -> Response {
    let target = request.uri().path_and_query().map(|target| version::split(target.as_str()));
    let router = match target.flatten() {
        None => own,
        Some((version, rest)) => match (version.check(), rest.parse()) {
            (Ok(()), Ok(rest)) => {
                *request.uri_mut() = rest;
                request.extensions_mut().insert(version);
                versioned
            }
            (Err(error), _) => return refuse(StatusCode::BAD_REQUEST, error.to_string(), None),
            (_, Err(_)) => return refuse(StatusCode::NOT_FOUND, "page not found".into(), None),
        },
    };
    match TowerToHyperService::new(router).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The headers of every answer to Docker's clients.
async fn headers(response: Response) -> Response {
    let server = concat!("netbpf/", env!("CARGO_PKG_VERSION"), " (linux)");
    let version = HeaderValue::try_from(NEWEST.to_string()).expect("digits and a dot");
    let headers = [
        (header::SERVER, HeaderValue::from_static(server)),
        (header::HeaderName::from_static("api-version"), version),
        (header::HeaderName::from_static("docker-experimental"), HeaderValue::from_static("false")),
        (header::HeaderName::from_static("ostype"), HeaderValue::from_static("linux")),
    ];
    (headers, response).into_response()
}
