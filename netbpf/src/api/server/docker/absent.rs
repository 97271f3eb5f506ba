//! What netbpf does not have: images, builds, volumes, plugins, swarms, limits of CPU and memory. Lists are empty, and
//! everything else is refused in one sentence, with the status code that Docker's clients expect.

use axum::{
    Json, Router,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{MethodRouter, any, get, post},
};
use serde_json::{Value, json};

use super::{
    super::error::{Error, refuse},
    Docker,
};

/// Why nothing is created from an image.
pub const NO_IMAGES: &str =
    "netbpf has no images: `netbpf run` starts a command of the host, or of a directory (--rootfs)";
const NO_VOLUMES: &str = "netbpf has no volumes: its containers use files of the host or of a directory";
const NO_PLUGINS: &str = "netbpf has no plugins";
const NO_PAUSE: &str = "netbpf cannot pause containers";
const NO_LIMITS: &str =
    "netbpf limits no CPU and no memory; options of its networks change by `netbpf update`";
const NO_FILES: &str = "netbpf copies no files: its containers use files of the host or of a directory";
const NO_TERMINAL: &str = "containers of netbpf have no terminal; programs that exec starts may have one";

/// The routes of all of these.
pub fn routes() -> Router<Docker> {
    let images = Router::new()
        .route("/images/json", list(json!([])))
        .route("/images/prune", prune(json!({ "ImagesDeleted": [], "SpaceReclaimed": 0 })))
        .route("/images/create", refused(NO_IMAGES))
        .route("/images/load", refused(NO_IMAGES))
        .route("/images/search", refused(NO_IMAGES))
        .route("/images/get", refused(NO_IMAGES))
        .route("/images/{*name}", any(no_image))
        .route("/build", refused(NO_IMAGES))
        .route("/build/prune", prune(json!({ "CachesDeleted": [], "SpaceReclaimed": 0 })))
        .route("/build/cancel", refused(NO_IMAGES))
        .route("/commit", refused(NO_IMAGES))
        .route("/auth", refused(NO_IMAGES))
        .route("/session", refused(NO_IMAGES))
        .route("/grpc", refused(NO_IMAGES))
        .route("/distribution/{*name}", refused(NO_IMAGES));
    let volumes = Router::new()
        .route("/volumes", list(json!({ "Volumes": [], "Warnings": [] })))
        .route("/volumes/create", refused(NO_VOLUMES))
        .route("/volumes/prune", prune(json!({ "VolumesDeleted": [], "SpaceReclaimed": 0 })))
        .route("/volumes/{name}", any(no_volume));
    let plugins = Router::new()
        .route("/plugins", list(json!([])))
        .route("/plugins/{*name}", get(no_plugin).fallback(async || Error::Unsupported(NO_PLUGINS)));
    let mut swarm = Router::new();
    for name in ["swarm", "nodes", "services", "tasks", "secrets", "configs"] {
        swarm = swarm
            .route(&format!("/{name}"), any(no_swarm))
            .route(&format!("/{name}/{{*rest}}"), any(no_swarm));
    }
    let mut of_containers = Router::new();
    for (action, why) in [
        ("pause", NO_PAUSE),
        ("unpause", NO_PAUSE),
        ("update", NO_LIMITS),
        ("resize", NO_TERMINAL),
        ("archive", NO_FILES),
        ("export", NO_FILES),
        ("changes", NO_FILES),
        ("checkpoints", NO_FILES),
        ("attach/ws", "netbpf speaks no WebSocket"),
    ] {
        of_containers = of_containers.route(&format!("/containers/{{container}}/{action}"), refused(why));
    }
    images.merge(volumes).merge(plugins).merge(swarm).merge(of_containers)
}

fn list(empty: Value) -> MethodRouter<Docker> {
    get(async move || Json(empty))
}

fn prune(nothing: Value) -> MethodRouter<Docker> {
    post(async move || Json(nothing))
}

fn refused(why: &'static str) -> MethodRouter<Docker> {
    any(async move || Error::Unsupported(why))
}

async fn no_image(Path(name): Path<String>) -> Response {
    let name = ["/json", "/history", "/push", "/tag", "/get", "/attestations"]
        .iter()
        .find_map(|action| name.strip_suffix(action))
        .unwrap_or(&name);
    refuse(StatusCode::NOT_FOUND, format!("No such image: {name}"), None)
}

async fn no_volume(Path(name): Path<String>) -> Response {
    refuse(StatusCode::NOT_FOUND, format!("get {name}: no such volume"), None)
}

async fn no_plugin(Path(name): Path<String>) -> Response {
    let name = name.strip_suffix("/json").unwrap_or(&name);
    refuse(StatusCode::NOT_FOUND, format!("plugin {name:?} not found"), None)
}

/// The words by which clients recognize a host without a swarm.
async fn no_swarm() -> Response {
    let message = "This node is not a swarm manager: netbpf has no swarm".to_owned();
    refuse(StatusCode::SERVICE_UNAVAILABLE, message, None).into_response()
}
