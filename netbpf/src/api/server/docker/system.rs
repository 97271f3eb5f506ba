//! `_ping`, `version`, `info` and `system df` for Docker's clients.

use std::collections::HashMap;

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use bollard::models::{
    LocalNodeState, PluginsInfo, SwarmInfo, SystemInfo, SystemInfoCgroupDriverEnum, SystemVersion,
    SystemVersionComponents, SystemVersionPlatform,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    super::{container, report},
    NEWEST, OLDEST, Shared,
};
use crate::{api::types, daemon};

/// `GET /_ping`, `HEAD /_ping`. The builder is the old one, which asks this server and no plugin.
pub async fn ping() -> Response {
    let headers = [
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (header::PRAGMA, "no-cache"),
        (header::HeaderName::from_static("builder-version"), "1"),
        (header::HeaderName::from_static("swarm"), "inactive"),
    ];
    (headers, "OK").into_response()
}

/// `GET /version`.
pub async fn version() -> Json<SystemVersion> {
    let types::Version { version, kernel_version, arch, layout, .. } = report::version();
    let arch = goarch(&arch);
    let details = [
        ("ApiVersion", NEWEST.to_string()),
        ("MinAPIVersion", OLDEST.to_string()),
        ("Arch", arch.to_owned()),
        ("KernelVersion", kernel_version.clone()),
        ("Layout", layout.to_string()),
        ("Os", "linux".to_owned()),
    ];
    let details: HashMap<_, _> = details.map(|(key, value)| (key.to_owned(), value)).into();
    Json(SystemVersion {
        platform: Some(SystemVersionPlatform { name: "netbpf".into() }),
        components: Some(vec![SystemVersionComponents {
            // Clients print the component of this name as the server.
            name: "Engine".into(),
            version: version.clone(),
            details: Some(details),
        }]),
        version: Some(version),
        api_version: Some(NEWEST.to_string()),
        min_api_version: Some(OLDEST.to_string()),
        os: Some("linux".into()),
        arch: Some(arch.to_owned()),
        kernel_version: Some(kernel_version),
        ..SystemVersion::default()
    })
}

/// Go's name of an architecture.
fn goarch(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `GET /info`.
pub async fn info(State(docker): Shared) -> Json<SystemInfo> {
    let machine = daemon::machine();
    let types::Version { arch, .. } = report::version();
    let info = report::info(docker.daemon.info().await);
    let number = |number: usize| i64::try_from(number).ok();
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    Json(SystemInfo {
        id: Some(info.name.clone()),
        containers: number(info.containers),
        containers_running: number(info.containers_running),
        containers_paused: Some(0),
        containers_stopped: number(info.containers_stopped),
        images: Some(0),
        driver: Some("none".into()),
        driver_status: Some(vec![
            vec!["Attachment".into(), info.attachment],
            vec!["BPF File System".into(), info.bpffs.display().to_string()],
        ]),
        docker_root_dir: Some(info.state_dir.display().to_string()),
        plugins: Some(PluginsInfo {
            volume: names(&[]),
            network: names(&["bridge", "host", "null"]),
            authorization: names(&[]),
            log: names(&["local"]),
        }),
        memory_limit: Some(false),
        swap_limit: Some(false),
        ipv4_forwarding: Some(true),
        debug: Some(false),
        system_time: Some(Timestamp::now().to_string()),
        logging_driver: Some("local".into()),
        cgroup_driver: Some(SystemInfoCgroupDriverEnum::NONE),
        kernel_version: Some(info.kernel_version),
        operating_system: Some("Linux".into()),
        os_type: Some("linux".into()),
        architecture: Some(arch),
        ncpu: number(machine.cpus),
        mem_total: i64::try_from(machine.memory).ok(),
        name: Some(info.name),
        labels: Some(Vec::new()),
        experimental_build: Some(false),
        server_version: Some(info.server_version),
        swarm: Some(SwarmInfo { local_node_state: Some(LocalNodeState::INACTIVE), ..SwarmInfo::default() }),
        live_restore_enabled: Some(true),
        warnings: Some(info.contested),
        security_options: Some(Vec::new()),
        ..SystemInfo::default()
    })
}

/// `GET /system/df`, in the form up to API 1.51 and in the later one. A container uses no disk but for its log.
pub async fn disk_usage(State(docker): Shared) -> Json<Value> {
    let now = Timestamp::now();
    let lines = docker.daemon.views().containers(|_, _| true);
    let running = lines.iter().filter(|line| line.container.status() == "running").count();
    let containers: Vec<_> = lines.iter().map(|line| container::summary(line, now)).collect();
    let usage = |active: usize, total: usize| json!({ "ActiveCount": active, "TotalCount": total, "Reclaimable": 0, "TotalSize": 0, "Items": [] });
    Json(json!({
        "LayersSize": 0,
        "Images": [],
        "Containers": containers,
        "Volumes": [],
        "BuildCache": [],
        "ContainerUsage": usage(running, lines.len()),
        "ImageUsage": usage(0, 0),
        "VolumeUsage": usage(0, 0),
        "BuildCacheUsage": usage(0, 0),
    }))
}
