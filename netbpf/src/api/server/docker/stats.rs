//! `stats`: what a container uses, in the form that Docker's clients compute percentages from. It has no cgroup, so CPU
//! time and memory are those of its processes.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    body::Body,
    extract::{Path, Query, State},
    http::header,
    response::{IntoResponse, Response},
};
use bollard::models::{
    ContainerCpuStats, ContainerCpuUsage, ContainerMemoryStats, ContainerNetworkStats, ContainerPidsStats,
    ContainerStatsResponse,
};
use futures::{StreamExt as _, future::ready, stream};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::{sync::Mutex, time::sleep};

use super::{super::error::Error, Docker, Shared};
use crate::{
    api::request::Flag,
    daemon::{self, Daemon, EndpointStats, Machine, Usage},
    model::{Container, Id, State as ContainerState},
};

/// The time between two samples, which is Docker's.
const PAUSE: Duration = Duration::from_secs(1);

/// The last counters of all endpoints. Clients ask for each container by itself, and the kernel tells of all at once.
#[derive(Default)]
pub struct Counters(Mutex<Option<(Instant, Arc<Vec<EndpointStats>>)>>);

impl Counters {
    async fn get(&self, daemon: &Daemon) -> Result<Arc<Vec<EndpointStats>>, daemon::Error> {
        let mut last = self.0.lock().await;
        if let Some((time, counters)) = last.as_ref()
            && time.elapsed() < PAUSE / 2
        {
            return Ok(Arc::clone(counters));
        }
        let counters = Arc::new(daemon.endpoint_stats().await?);
        *last = Some((Instant::now(), Arc::clone(&counters)));
        Ok(counters)
    }
}

#[derive(Deserialize)]
pub struct StatsQuery {
    #[serde(default = "yes")]
    stream: Flag,
    #[serde(default, rename = "one-shot")]
    one_shot: Flag,
}

fn yes() -> Flag {
    Flag(true)
}

/// `GET /containers/C/stats`: a stream; or one sample, with the one before it unless it is `one-shot`.
pub async fn stats(
    State(docker): Shared,
    Path(container): Path<String>,
    Query(query): Query<StatsQuery>,
) -> Result<Response, Error> {
    let first = Sample::take(&docker, &container).await?;
    // A sample of another one, if the name is given to it.
    let id = first.container.id.to_string();
    if query.stream.0 {
        // The events end when the daemon stops.
        let end = docker.daemon.events().follow(None, None).for_each(|_| ready(()));
        let lines = stream::unfold((None, Some(first)), move |state| {
            let (docker, id) = (docker.clone(), id.clone());
            async move { next(&docker, &id, state).await }
        });
        let body = Body::from_stream(lines.take_until(end));
        return Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response());
    }
    if query.one_shot.0 || !matches!(first.container.state, ContainerState::Running { .. }) {
        return Ok(Json(message(&first, None)).into_response());
    }
    sleep(PAUSE).await;
    let second = Sample::take(&docker, &id).await?;
    Ok(Json(message(&second, Some(&first))).into_response())
}

/// The previous sample, and the next one if it was taken already.
type Samples = (Option<Sample>, Option<Sample>);

/// The next line of a stream; none when the container is removed.
async fn next(
    docker: &Docker,
    id: &str,
    (before, taken): Samples,
) -> Option<(Result<String, Infallible>, Samples)> {
    let sample = match taken {
        Some(sample) => sample,
        None => {
            sleep(PAUSE).await;
            Sample::take(docker, id).await.ok()?
        }
    };
    let text = serde_json::to_string(&message(&sample, before.as_ref()));
    Some((Ok(text.expect("a message has no failing serializer") + "\n"), (Some(sample), None)))
}

/// What a container and its host used at one moment.
struct Sample {
    time: Timestamp,
    container: Container,
    usage: Usage,
    machine: Machine,
    endpoints: Arc<Vec<EndpointStats>>,
}

impl Sample {
    async fn take(docker: &Docker, key: &str) -> Result<Self, daemon::Error> {
        let endpoints = docker.counters.get(&docker.daemon).await?;
        let (container, usage) = docker.daemon.usage(key)?;
        Ok(Self { time: Timestamp::now(), container, usage, machine: daemon::machine(), endpoints })
    }

    fn cpu(&self) -> ContainerCpuStats {
        let Usage { user, system, .. } = self.usage;
        ContainerCpuStats {
            cpu_usage: Some(ContainerCpuUsage {
                total_usage: Some(user + system),
                usage_in_usermode: Some(user),
                usage_in_kernelmode: Some(system),
                percpu_usage: None,
            }),
            system_cpu_usage: Some(self.machine.time),
            online_cpus: u32::try_from(self.machine.cpus).ok(),
            throttling_data: None,
        }
    }

    fn networks(&self, shown: Id) -> HashMap<String, ContainerNetworkStats> {
        let own = self.endpoints.iter().filter(|endpoint| endpoint.id == shown);
        own.map(|endpoint| (endpoint.interface.clone(), network(endpoint))).collect()
    }
}

fn network(endpoint: &EndpointStats) -> ContainerNetworkStats {
    ContainerNetworkStats {
        rx_bytes: Some(endpoint.received.bytes),
        rx_packets: Some(endpoint.received.packets),
        rx_errors: Some(0),
        rx_dropped: Some(0),
        tx_bytes: Some(endpoint.sent.bytes),
        tx_packets: Some(endpoint.sent.packets),
        tx_errors: Some(0),
        tx_dropped: Some(endpoint.dropped.packets),
        ..ContainerNetworkStats::default()
    }
}

fn message(sample: &Sample, before: Option<&Sample>) -> ContainerStatsResponse {
    let (id, name) = sample.container.shown();
    ContainerStatsResponse {
        id: Some(id.to_string()),
        name: Some(format!("/{name}")),
        os_type: Some("linux".into()),
        read: Some(sample.time.to_string()),
        preread: Some(before.map_or("0001-01-01T00:00:00Z".to_owned(), |before| before.time.to_string())),
        num_procs: Some(0),
        cpu_stats: Some(sample.cpu()),
        precpu_stats: Some(before.map(Sample::cpu).unwrap_or_default()),
        memory_stats: Some(ContainerMemoryStats {
            usage: Some(sample.usage.memory),
            limit: Some(sample.machine.memory),
            stats: Some(HashMap::new()),
            ..ContainerMemoryStats::default()
        }),
        pids_stats: Some(ContainerPidsStats { current: Some(sample.usage.processes), limit: None }),
        networks: Some(sample.networks(id)),
        ..ContainerStatsResponse::default()
    }
}
