//! The client of a Docker engine's API: looks up containers and networks, and reports events. Changes nothing in the
//! engine except the connections of containers to the engine's networks. Must not know what netbpf does with the
//! answers.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    models::{
        ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, EndpointIpamConfig,
        EndpointSettings, EventMessage, NetworkConnectRequest, NetworkDisconnectRequest,
    },
    query_parameters::EventsOptionsBuilder,
};
use futures::{Stream, StreamExt as _};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::model::{DockerContainer, EndpointRequest, Id, check_container_name};

/// How long an answer may take, in seconds. The engine does not answer about a container while it starts or stops that.
const TIMEOUT_SECONDS: u64 = 30;

/// The events after which a container may be elsewhere, have another name, or be gone. With the network events, its
/// name servers may have changed, too.
const EVENTS: [&str; 6] = ["start", "die", "rename", "destroy", "connect", "disconnect"];

/// Why the engine gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No container has this name or ID.
    #[error("No such container: {0}")]
    NotFound(String),
    /// There is no engine at the socket, or access to it is denied.
    #[error("Docker's socket {path}: {source}")]
    Socket {
        /// The path of the socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The engine refused the request; with its message.
    #[error("{0}")]
    Refused(String),
    /// The engine's answer is not valid.
    #[error("Docker's engine: {0}")]
    Engine(#[from] bollard::errors::Error),
    /// The engine lists a network without a valid ID.
    #[error("Docker's engine lists a network with an invalid ID: {0:?}")]
    UnknownNetwork(String),
    /// The engine's answer about a container lacks a field.
    #[error("Docker's engine: the answer about container {container} has no {what}")]
    Incomplete {
        /// The container's ID, as the engine sent it.
        container: String,
        /// The missing field.
        what: &'static str,
    },
}

/// A container of the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The container's ID.
    pub id: Id,
    /// Its name, without the slash.
    pub name: String,
    /// Its state.
    pub state: FoundState,
    /// When it was created.
    pub created: Timestamp,
    /// Its image.
    pub image: String,
    /// Its first process, with arguments.
    pub command: Vec<String>,
    /// Its host name.
    pub hostname: String,
    /// Its labels (`--label`).
    pub labels: BTreeMap<String, String>,
    /// The host's path of its `/etc/resolv.conf`.
    pub resolv_conf: Option<PathBuf>,
    /// The path of its network namespace while it is running.
    pub sandbox: Option<PathBuf>,
    /// Whether its network namespace is its own, neither the host's nor another container's.
    pub has_own_network: bool,
    /// Its aliases in each of the engine's networks.
    pub aliases: BTreeMap<Id, Vec<String>>,
}

/// A network of the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundNetwork {
    /// Its name.
    pub name: String,
    /// Its endpoints with their containers, without aliases. An endpoint that is being created has no container yet.
    pub endpoints: Vec<(Id, Option<DockerContainer>)>,
}

/// A network in the list of all networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedNetwork {
    /// Its ID.
    pub id: Id,
    /// Its subnets.
    pub subnets: Vec<IpNet>,
}

/// An event of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The container.
    pub container: Id,
    /// The network that the container joined.
    pub joined: Option<Id>,
    /// Whether the container got a new name.
    pub is_rename: bool,
}

/// The state of a container.
#[derive(Clone, Debug, PartialEq)]
pub enum FoundState {
    /// Not started yet.
    Created,
    /// It is running, or paused.
    Running {
        /// The PID of its first process.
        pid: u32,
        /// When it was started.
        started: Timestamp,
    },
    /// It has ended.
    Exited {
        /// The exit code of its first process.
        code: i32,
        /// When it was started.
        started: Timestamp,
        /// When it ended.
        finished: Timestamp,
    },
}

/// A Docker engine, which may be running or not.
#[derive(Clone, Debug)]
pub struct Engine {
    socket: PathBuf,
}

impl Engine {
    /// The engine behind this socket. No connection is made before the first request.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// A container by its name, its ID or a prefix of its ID.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the engine has no such container; [`Error::Socket`] if there is no engine.
    pub async fn find(&self, key: &str) -> Result<Found, Error> {
        let name = key.strip_prefix('/').unwrap_or(key);
        // The name becomes a part of a URL path.
        if check_container_name(name).is_err() {
            return Err(Error::NotFound(key.to_owned()));
        }
        let docker = self.connect().await?;
        match docker.inspect_container(name, None).await {
            Ok(container) => found(container),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {
                Err(Error::NotFound(key.to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A network by its ID.
    ///
    /// # Errors
    /// [`Error::Socket`] if there is no engine; [`Error::Engine`] if it has no such network, or does not answer in
    /// time.
    pub async fn network(&self, id: &Id) -> Result<FoundNetwork, Error> {
        let docker = self.connect().await?;
        let network = docker.inspect_network(&id.to_string(), None).await?;
        let members = network.containers.into_iter().flatten();
        Ok(FoundNetwork {
            name: network.name.filter(|name| !name.is_empty()).unwrap_or_else(|| id.short()),
            endpoints: members
                .filter_map(|(container, endpoint)| {
                    // Without a container, the endpoint is listed under its own ID.
                    let container = container.parse().ok().zip(endpoint.name);
                    let container = container.map(|(id, name)| DockerContainer { id, name, aliases: None });
                    Some((endpoint.endpoint_id?.parse().ok()?, container))
                })
                .collect(),
        })
    }

    /// All networks, of every driver.
    ///
    /// # Errors
    /// [`Error::Socket`] if there is no engine; [`Error::Engine`] if it refuses or does not answer in time;
    /// [`Error::UnknownNetwork`] if it lists an invalid ID: an incomplete list would be taken for the removal of a
    /// network.
    pub async fn networks(&self) -> Result<Vec<ListedNetwork>, Error> {
        let docker = self.connect().await?;
        docker.list_networks(None).await?.into_iter().map(listed).collect()
    }

    /// Connects a container to one of the engine's networks.
    ///
    /// # Errors
    /// [`Error::Refused`] with the engine's message.
    pub async fn connect_to(
        &self,
        network: &Id,
        container: &str,
        wanted: EndpointRequest,
    ) -> Result<(), Error> {
        let request = NetworkConnectRequest {
            container: container.to_owned(),
            endpoint_config: Some(EndpointSettings {
                ipam_config: Some(EndpointIpamConfig {
                    ipv4_address: wanted.ipv4.map(|address| address.to_string()),
                    ipv6_address: wanted.ipv6.map(|address| address.to_string()),
                    ..EndpointIpamConfig::default()
                }),
                mac_address: wanted.mac.map(|mac| mac.to_string()),
                aliases: Some(wanted.aliases),
                links: Some(wanted.links.iter().map(ToString::to_string).collect()),
                driver_opts: Some(wanted.options.given().into_iter().collect()),
                gw_priority: (wanted.gateway_priority != 0).then_some(wanted.gateway_priority),
                ..EndpointSettings::default()
            }),
        };
        let docker = self.connect().await?;
        docker.connect_network(&network.to_string(), request).await.map_err(refused)
    }

    /// Disconnects a container from one of the engine's networks.
    ///
    /// # Errors
    /// [`Error::Socket`] if there is no engine; [`Error::Refused`] with its message; [`Error::Engine`] if it does not
    /// answer in time: then the container may be disconnected or not.
    pub async fn disconnect_from(&self, network: &Id, container: &str, force: bool) -> Result<(), Error> {
        let request = NetworkDisconnectRequest { container: container.to_owned(), force: Some(force) };
        let docker = self.connect().await?;
        docker.disconnect_network(&network.to_string(), request).await.map_err(refused)
    }

    /// The events of containers since a moment. The stream ends with the engine.
    ///
    /// # Errors
    /// [`Error::Socket`] or [`Error::Engine`] if there is no engine, or no API version that both know. The stream
    /// yields [`Error::Engine`] if the connection breaks.
    pub async fn events(
        &self,
        since: Timestamp,
    ) -> Result<impl Stream<Item = Result<Event, Error>> + use<>, Error> {
        let docker = self.connect().await?;
        let filters = HashMap::from([("type", vec!["container", "network"]), ("event", EVENTS.to_vec())]);
        let options =
            EventsOptionsBuilder::default().since(&since.as_second().to_string()).filters(&filters).build();
        let concerning = async |event: Result<EventMessage, _>| match event {
            Ok(event) => concerned(event).map(Ok),
            Err(error) => Some(Err(Error::from(error))),
        };
        Ok(Box::pin(docker.events(Some(options)).filter_map(concerning)))
    }

    /// Connects to the engine and agrees on an API version: engines refuse versions that are too new or too old for
    /// them.
    async fn connect(&self) -> Result<Docker, Error> {
        let failed = |source| Error::Socket { path: self.socket.clone(), source };
        // Connecting ourselves gives a better error than the client library does.
        drop(tokio::net::UnixStream::connect(&self.socket).await.map_err(failed)?);
        let path = self.socket.to_str().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
        let docker = Docker::connect_with_unix(path, TIMEOUT_SECONDS, API_DEFAULT_VERSION)?;
        Ok(docker.negotiate_version().await?)
    }
}

fn refused(error: bollard::errors::Error) -> Error {
    match error {
        bollard::errors::Error::DockerResponseServerError { message, .. } => Error::Refused(message),
        error => error.into(),
    }
}

/// The container of an event. Network events name the container among their attributes.
fn concerned(event: EventMessage) -> Option<Event> {
    let is_rename = event.action.as_deref() == Some("rename");
    let is_connect = event.action.as_deref() == Some("connect");
    let actor = event.actor?;
    let id = actor.id?.parse().ok()?;
    let (container, joined) = match actor.attributes.unwrap_or_default().remove("container") {
        Some(container) => (container.parse().ok()?, is_connect.then_some(id)),
        None => (id, None),
    };
    Some(Event { container, joined, is_rename })
}

/// An ID that cannot be parsed is an error, because an incomplete list would be taken for the removal of a network.
fn listed(network: bollard::models::Network) -> Result<ListedNetwork, Error> {
    let id = network.id.unwrap_or_default();
    let configs = network.ipam.and_then(|ipam| ipam.config).into_iter().flatten();
    Ok(ListedNetwork {
        id: id.parse().map_err(|_| Error::UnknownNetwork(id))?,
        subnets: configs.filter_map(|config| config.subnet?.parse().ok()).collect(),
    })
}

fn found(container: ContainerInspectResponse) -> Result<Found, Error> {
    let text = container.id.unwrap_or_default();
    let missing = |what| Error::Incomplete { container: text.clone(), what };
    let config = container.config.unwrap_or_default();
    let settings = container.network_settings.unwrap_or_default();
    let mode = container.host_config.and_then(|config| config.network_mode).unwrap_or_default();
    Ok(Found {
        id: text.parse().map_err(|_| missing("ID"))?,
        name: container.name.ok_or_else(|| missing("name"))?.trim_start_matches('/').to_owned(),
        state: state(container.state.ok_or_else(|| missing("state"))?),
        created: container.created.and_then(|text| text.parse().ok()).ok_or_else(|| missing("time"))?,
        image: config.image.unwrap_or_default(),
        command: container.path.into_iter().chain(container.args.into_iter().flatten()).collect(),
        hostname: config.hostname.unwrap_or_default(),
        labels: config.labels.into_iter().flatten().collect(),
        resolv_conf: container.resolv_conf_path.filter(|path| !path.is_empty()).map(PathBuf::from),
        sandbox: settings.sandbox_key.filter(|path| !path.is_empty()).map(PathBuf::from),
        aliases: settings
            .networks
            .into_iter()
            .flatten()
            .filter_map(|(_, network)| aliases(network))
            .collect(),
        has_own_network: mode != "host" && !mode.starts_with("container:"),
    })
}

/// The ID of a network, and the aliases there. Engines from 25 on list those that the engine itself adds apart.
fn aliases(settings: EndpointSettings) -> Option<(Id, Vec<String>)> {
    let given = settings.aliases.into_iter().flatten();
    let mut names: Vec<_> = given.chain(settings.dns_names.into_iter().flatten()).collect();
    names.sort();
    names.dedup();
    Some((settings.network_id?.parse().ok()?, names))
}

fn state(state: ContainerState) -> FoundState {
    let time =
        |text: Option<String>| text.and_then(|text| text.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    let started = time(state.started_at);
    let pid = state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
    match pid.filter(|_| state.running.unwrap_or_default()) {
        Some(pid) => FoundState::Running { pid, started },
        None if state.status == Some(ContainerStateStatusEnum::CREATED) => FoundState::Created,
        None => FoundState::Exited {
            code: state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or_default(),
            started,
            finished: time(state.finished_at),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(text: &str) -> Result<Found, Error> {
        found(serde_json::from_str(text).expect("JSON as the engine sends it"))
    }

    fn container(state: &str, mode: &str) -> Found {
        let id = "ab".repeat(32);
        response(&format!(
            r#"{{"Id":"{id}","Name":"/tomcat01","Created":"2026-01-02T03:04:05.123456789Z",
                "Path":"sleep","Args":["9"],"State":{state},"ResolvConfPath":"",
                "HostConfig":{{"NetworkMode":"{mode}"}},
                "Config":{{"Image":"busybox:1","Hostname":"web","Labels":{{"a":"b"}}}}}}"#
        ))
        .expect("a container")
    }

    #[test]
    fn a_running_container_has_a_process() {
        let state = r#"{"Status":"running","Running":true,"Pid":77,"ExitCode":0,
                        "StartedAt":"2026-01-02T03:04:06Z","FinishedAt":"0001-01-01T00:00:00Z"}"#;
        let found = container(state, "default");
        let started = "2026-01-02T03:04:06Z".parse().expect("a time");
        assert_eq!(found.state, FoundState::Running { pid: 77, started });
        assert_eq!((found.name.as_str(), found.hostname.as_str()), ("tomcat01", "web"));
        assert_eq!((found.command.join(" "), found.resolv_conf), ("sleep 9".to_owned(), None));
        assert!(found.has_own_network);
    }

    #[test]
    fn a_restarting_container_has_exited() {
        let state = r#"{"Status":"restarting","Running":true,"Restarting":true,"Pid":0,"ExitCode":3,
                        "StartedAt":"2026-01-02T03:04:06Z","FinishedAt":"2026-01-02T03:04:07Z"}"#;
        assert!(matches!(container(state, "none").state, FoundState::Exited { code: 3, .. }));
        assert_eq!(container(r#"{"Status":"created"}"#, "none").state, FoundState::Created);
    }

    #[test]
    fn the_host_s_network_and_another_container_s_are_not_a_container_s_own() {
        for (mode, own) in [("default", true), ("none", true), ("host", false), ("container:abc", false)] {
            assert_eq!(container("{}", mode).has_own_network, own, "{mode}");
        }
    }

    #[test]
    fn a_listed_network_has_its_subnets() {
        let id = "cd".repeat(32);
        let network = |id: &str| {
            let text = format!(
                r#"{{"Id":"{id}","Driver":"bridge","IPAM":{{"Driver":"netbpf","Config":[{{"Subnet":"10.1.0.0/24"}},{{}}]}}}}"#
            );
            listed(serde_json::from_str(&text).expect("JSON as the engine sends it"))
        };
        let subnets = vec!["10.1.0.0/24".parse().expect("a subnet")];
        assert_eq!(
            network(&id).expect("a network"),
            ListedNetwork { id: id.parse().expect("an ID"), subnets }
        );
        network("bridge").expect_err("no ID");
    }

    #[test]
    fn a_container_without_a_valid_id_is_an_error() {
        let error = response(r#"{"Id":"12","Name":"/x"}"#).expect_err("no container");
        assert_eq!(error.to_string(), "Docker's engine: the answer about container 12 has no ID");
    }

    #[tokio::test]
    async fn without_an_engine_the_error_names_the_socket() {
        let engine = Engine::new(Path::new("/nonexistent/docker.sock"));
        let error = engine.find("tomcat01").await.expect_err("no engine");
        assert_eq!(
            error.to_string(),
            "Docker's socket /nonexistent/docker.sock: No such file or directory (os error 2)"
        );
        let error = engine.find("../networks").await.expect_err("no name");
        assert_eq!(error.to_string(), "No such container: ../networks");
    }
}
