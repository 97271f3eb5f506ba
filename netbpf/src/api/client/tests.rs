//! Tests of the client with servers that echo the request.

use std::{collections::HashMap, convert::Infallible};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query},
    http::StatusCode,
    response::IntoResponse,
    routing::{get, post},
};
use futures::stream;
use serde_json::json;

use super::*;

/// A server for one client.
struct Daemon {
    client: Client,
    _folder: tempfile::TempDir,
}

fn daemon(router: Router) -> Daemon {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("netbpf.sock");
    let listener = tokio::net::UnixListener::bind(&socket).expect("a socket");
    tokio::spawn(async move { axum::serve(listener, router).await });
    Daemon { client: Client::new(socket), _folder: folder }
}

fn refuse(status: StatusCode, message: &str, exit_code: Option<u8>) -> impl IntoResponse + use<> {
    (status, Json(types::Error { message: message.to_owned(), exit_code }))
}

#[tokio::test]
async fn names_and_filters_arrive_as_typed() {
    let router = Router::new()
        .route(
            "/networks/{name}",
            axum::routing::delete(|Path(name): Path<String>| async move {
                refuse(StatusCode::NOT_FOUND, &format!("network {name} not found"), None)
            }),
        )
        .route(
            "/containers/json",
            get(|Query(query): Query<HashMap<String, String>>| async move {
                refuse(StatusCode::BAD_REQUEST, &format!("{} {}", query["all"], query["filters"]), None)
            }),
        );
    let daemon = daemon(router);
    for name in ["mynet", "test@#$ %2F", "a/b?c", "übung", "netns:/run/x"] {
        let error = daemon.client.remove_network(name).await.expect_err("nothing is there");
        assert_eq!(error.to_string(), format!("Error response from daemon: network {name} not found"));
        assert!(error.is_not_found());
    }
    let filters = [("name", "a"), ("label", "x=1&2"), ("name", "b")];
    let filters = filters.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let error = daemon.client.containers(true, &filters).await.expect_err("an echo");
    let echo = r#"Error response from daemon: true {"name":["a","b"],"label":["x=1&2"]}"#;
    assert_eq!(error.to_string(), echo);
}

#[tokio::test]
async fn a_network_is_created() {
    let router = Router::new().route(
        "/networks/create",
        post(|Json(network): Json<NetworkCreate>| async move {
            let id = format!("{} {}", network.name, network.ipam.config[0].subnet);
            (StatusCode::CREATED, Json(types::NetworkCreated { id, warning: String::new() }))
        }),
    );
    let daemon = daemon(router);
    let config = vec![types::IpamConfig { subnet: "10.0.0.0/8".to_owned(), ..Default::default() }];
    let ipam = types::Ipam { config, ..Default::default() };
    let network = NetworkCreate { name: "mynet".to_owned(), ipam, ..Default::default() };
    let created = daemon.client.create_network(&network).await.expect("it is made");
    assert_eq!(created.id, "mynet 10.0.0.0/8");
}

#[tokio::test]
async fn an_error_of_start_has_an_exit_code_and_304_is_no_error() {
    let router = Router::new()
        .route(
            "/containers/{name}/start",
            post(|| async { refuse(StatusCode::BAD_REQUEST, "no such file", Some(127)) }),
        )
        .route("/containers/{name}/stop", post(|| async { StatusCode::NOT_MODIFIED }));
    let daemon = daemon(router);
    let error = daemon.client.start("web").await.expect_err("no such command");
    assert!(matches!(error, Error::Refused { exit_code: Some(127), .. }), "{error:?}");
    daemon.client.stop("web", Some(3), None).await.expect("it is stopped");
}

#[tokio::test]
async fn log_lines_are_complete_however_the_stream_is_split() {
    let line = |text: &str| json!({ "log": text, "stream": "stdout", "time": "" }).to_string() + "\n";
    let bytes = (line("one\n") + &line("zwölf")).into_bytes();
    let router = Router::new().route(
        "/containers/{name}/logs",
        get(move || async move {
            let pieces: Vec<_> = bytes.chunks(7).map(|piece| Ok::<_, Infallible>(piece.to_vec())).collect();
            Body::from_stream(stream::iter(pieces))
        }),
    );
    let daemon = daemon(router);
    let mut logs = daemon.client.logs("web", &LogQuery::default()).await.expect("logs");
    let mut texts = Vec::new();
    while let Some(line) = logs.next().await.expect("a line") {
        texts.push(line.log);
    }
    assert_eq!(texts, ["one\n", "zwölf"]);
}

#[tokio::test]
async fn every_error_has_its_message() {
    let client = Client::new("/nowhere/netbpf.sock");
    let error = client.version().await.expect_err("nobody listens");
    assert_eq!(
        error.to_string(),
        "Cannot connect to the netbpf daemon at unix:///nowhere/netbpf.sock. Is the netbpf daemon running?"
    );
    let error = client.network("").await.expect_err("no name");
    assert_eq!(error.to_string(), "invalid network name or ID: value is empty");
    let router = Router::new().route("/version", get(|| async { "hello" }));
    let error = daemon(router).client.version().await.expect_err("no JSON");
    assert!(error.to_string().starts_with("GET /version: unexpected message: "), "{error}");
    let error = daemon(Router::new()).client.info().await.expect_err("no such path");
    assert_eq!(error.to_string(), "Error response from daemon: GET /info: 404 Not Found");
}
