//! Requests of runtimes that execute netbpf as their network plugin: routes, and their conversion.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Query, State},
    http::StatusCode,
    routing::{get, post},
};
use serde::Deserialize;

use super::{MAX_CREATE_BODY, Shared, endpoint, error::Error, parse, whole};
use crate::{
    api::{
        ports,
        types::{
            Attach, Attached, AttachedAddress, AttachedInterface, AttachmentKey, CheckAttached,
            CollectAttached, Detach,
        },
    },
    daemon::{self, AttachRequest, Daemon},
    model::{Runtime, check_container_name},
};

/// The routes below `/attachments`.
pub fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/attachments/attach", post(attach).layer(DefaultBodyLimit::max(MAX_CREATE_BODY)))
        .route("/attachments/detach", post(detach))
        .route("/attachments/check", post(check))
        .route("/attachments/collect", post(collect))
        .route("/attachments/status", get(status))
}

async fn attach(State(daemon): Shared, body: Bytes) -> Result<Json<Attached>, Error> {
    let request = request(parse(&body)?)?;
    Ok(Json(attached(whole(async move { daemon.attach(request).await }).await?)))
}

async fn detach(State(daemon): Shared, body: Bytes) -> Result<StatusCode, Error> {
    let Detach { key: named, namespace } = parse(&body)?;
    let (key, namespace) = (key(named)?, (!namespace.is_empty()).then(|| PathBuf::from(namespace)));
    whole(async move { daemon.detach(&key, namespace.as_deref()).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn check(State(daemon): Shared, body: Bytes) -> Result<Json<Attached>, Error> {
    let CheckAttached { key: named, namespace } = parse(&body)?;
    Ok(Json(attached(daemon.check_attached(&key(named)?, &PathBuf::from(namespace)).await?)))
}

async fn collect(State(daemon): Shared, body: Bytes) -> Result<StatusCode, Error> {
    let CollectAttached { runtime, configuration, keep } = parse(&body)?;
    let runtime = parse_runtime(&runtime)?;
    let keep: Vec<_> = keep.into_iter().map(|kept| (kept.container, kept.interface)).collect();
    whole(async move { daemon.collect(runtime, &configuration, &keep).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct StatusQuery {
    network: String,
}

async fn status(State(daemon): Shared, Query(query): Query<StatusQuery>) -> Result<StatusCode, Error> {
    daemon.attach_status(&query.network)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Parses a request to attach.
pub fn request(message: Attach) -> Result<AttachRequest, Error> {
    let Attach {
        key: named,
        name,
        is_pod,
        namespace,
        namespace_inode,
        networks,
        port_bindings,
        reserves_ports,
        dns,
    } = message;
    // podman and Kubernetes have names of one character; Docker has none.
    if name.len() != 1 || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        check_container_name(&name)?;
    }
    if networks.is_empty() {
        return Err(Error::Invalid("no network is named".to_owned()));
    }
    let server = |text: &String| {
        text.parse::<IpAddr>()
            .map_err(|_| Error::Invalid(format!("invalid name server: {}", text.escape_debug())))
    };
    Ok(AttachRequest {
        key: key(named)?,
        name,
        is_pod,
        namespace: namespace.into(),
        inode: (namespace_inode != 0).then_some(namespace_inode),
        networks: networks
            .into_iter()
            .map(|joined| Ok((joined.network, endpoint::parse(joined.endpoint_config)?)))
            .collect::<Result<_, Error>>()?,
        publish: ports::published(&port_bindings)?,
        reserves_ports,
        servers: dns.iter().map(server).collect::<Result<_, _>>()?,
    })
}

fn key(message: AttachmentKey) -> Result<daemon::AttachmentKey, Error> {
    let AttachmentKey { runtime, container, configuration, interface } = message;
    if container.is_empty() || container.contains(char::is_control) {
        return Err(Error::Invalid(format!("invalid container ID: {}", container.escape_debug())));
    }
    let invalid = |error| Error::Invalid(format!("invalid interface {}: {error}", interface.escape_debug()));
    Ok(daemon::AttachmentKey {
        runtime: parse_runtime(&runtime)?,
        container,
        configuration,
        interface: interface.parse().map_err(invalid)?,
    })
}

fn parse_runtime(text: &str) -> Result<Runtime, Error> {
    text.parse().map_err(|error| Error::Invalid(format!("{}: {error}", text.escape_debug())))
}

fn attached(attached: daemon::Attached) -> Attached {
    let interface = |interface: daemon::AttachedInterface| AttachedInterface {
        name: interface.name,
        mac_address: interface.mac.to_string(),
        mtu: interface.mtu,
        host_interface: interface.host_interface,
        network: interface.network,
        addresses: interface
            .addresses
            .into_iter()
            .map(|(address, gateway)| AttachedAddress {
                address: address.to_string(),
                gateway: gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
            })
            .collect(),
        default_routes: interface.default_routes.iter().map(IpAddr::to_string).collect(),
    };
    Attached {
        interfaces: attached.interfaces.into_iter().map(interface).collect(),
        resolver: attached.resolver.map(|resolver| resolver.to_string()).unwrap_or_default(),
    }
}
