//! A Docker engine as its API shows it: who a container is, and what happens to containers. It changes nothing there but
//! who is in networks that are the engine's. It must not know what netbpf makes of the answers.

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

use crate::model::{DockerContainer, Id, check_container_name};

/// Seconds that an answer may take: the engine says nothing of a container while it starts or stops it.
const TIMEOUT_SECONDS: u64 = 30;

/// What can change where a container is, what it is called, or whether it is; and, of networks, whom it asks for names.
const EVENTS: [&str; 6] = ["start", "die", "rename", "destroy", "connect", "disconnect"];

/// Why the engine does not say.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody has this name or ID.
    #[error("No such container: {0}")]
    NotFound(String),
    /// There is no engine, or it may not be asked.
    #[error("Docker's socket {path}: {source}")]
    Socket {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It does not do what it was asked to: its own words.
    #[error("{0}")]
    Refused(String),
    /// It answers something else.
    #[error("Docker's engine: {0}")]
    Engine(#[from] bollard::errors::Error),
    /// What it says of a network makes no sense.
    #[error("Docker's engine lists a network whose ID is no ID: {0:?}")]
    UnknownNetwork(String),
    /// What it says of a container makes no sense.
    #[error("Docker's engine says of container {container}: no {what}")]
    Incomplete {
        /// Which.
        container: String,
        /// What is missing.
        what: &'static str,
    },
}

/// What a user wants of an endpoint in a network of the engine's, as typed; the engine judges it. What is empty is the
/// engine's to choose.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// `--ip`.
    pub ipv4: String,
    /// `--ip6`.
    pub ipv6: String,
    /// `--mac-address`.
    pub mac: String,
    /// `--alias`.
    pub aliases: Vec<String>,
    /// `--link`.
    pub links: Vec<String>,
    /// `--driver-opt`.
    pub options: BTreeMap<String, String>,
    /// `--gw-priority`.
    pub gateway_priority: i64,
}

/// A container.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Docker's.
    pub id: Id,
    /// Without the slash.
    pub name: String,
    /// What it does.
    pub state: FoundState,
    /// When it was made.
    pub created: Timestamp,
    /// What it was made of.
    pub image: String,
    /// Its first process, with arguments.
    pub command: Vec<String>,
    /// Its UTS host name.
    pub hostname: String,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// The host's file that is its `/etc/resolv.conf`.
    pub resolv_conf: Option<PathBuf>,
    /// The file that holds its network namespace while it runs.
    pub sandbox: Option<PathBuf>,
    /// Whether its network namespace is its own: neither the host's nor another container's.
    pub has_own_network: bool,
}

/// A network.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundNetwork {
    /// What it is called.
    pub name: String,
    /// Its endpoints, with their containers; one that is about to be a container's has none yet.
    pub endpoints: Vec<(Id, Option<DockerContainer>)>,
}

/// A network in the list of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedNetwork {
    /// Docker's.
    pub id: Id,
    /// Its subnets.
    pub subnets: Vec<IpNet>,
}

/// Something that happened to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whom.
    pub container: Id,
    /// It was given another name.
    pub is_rename: bool,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq)]
pub enum FoundState {
    /// Not started yet.
    Created,
    /// It runs, perhaps paused.
    Running {
        /// Its first process.
        pid: u32,
        /// Since when.
        started: Timestamp,
    },
    /// It has ended.
    Exited {
        /// Its exit code.
        code: i32,
        /// From when.
        started: Timestamp,
        /// Till when.
        finished: Timestamp,
    },
}

/// An engine that may be there or not.
#[derive(Clone, Debug)]
pub struct Engine {
    socket: PathBuf,
}

impl Engine {
    /// The one behind this socket. It is asked when there is something to ask, and not before.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// A container by its name, its ID or the beginning of its ID.
    pub async fn find(&self, key: &str) -> Result<Found, Error> {
        let name = key.strip_prefix('/').unwrap_or(key);
        // It becomes a part of a path.
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
    pub async fn network(&self, id: &Id) -> Result<FoundNetwork, Error> {
        let docker = self.connect().await?;
        let network = docker.inspect_network(&id.to_string(), None).await?;
        let members = network.containers.into_iter().flatten();
        Ok(FoundNetwork {
            name: network.name.filter(|name| !name.is_empty()).unwrap_or_else(|| id.short()),
            endpoints: members
                .filter_map(|(container, endpoint)| {
                    // Without a container it is listed under its own ID.
                    let container = container.parse().ok().zip(endpoint.name);
                    let container = container.map(|(id, name)| DockerContainer { id, name });
                    Some((endpoint.endpoint_id?.parse().ok()?, container))
                })
                .collect(),
        })
    }

    /// All networks, of whatever driver.
    pub async fn networks(&self) -> Result<Vec<ListedNetwork>, Error> {
        let docker = self.connect().await?;
        docker.list_networks(None).await?.into_iter().map(listed).collect()
    }

    /// Has the engine connect a container to a network of its own.
    pub async fn connect_to(&self, network: &Id, container: &str, wanted: Wanted) -> Result<(), Error> {
        let some = |text: String| (!text.is_empty()).then_some(text);
        let request = NetworkConnectRequest {
            container: container.to_owned(),
            endpoint_config: Some(EndpointSettings {
                ipam_config: Some(EndpointIpamConfig {
                    ipv4_address: some(wanted.ipv4),
                    ipv6_address: some(wanted.ipv6),
                    ..EndpointIpamConfig::default()
                }),
                mac_address: some(wanted.mac),
                aliases: Some(wanted.aliases),
                links: Some(wanted.links),
                driver_opts: Some(wanted.options.into_iter().collect()),
                gw_priority: (wanted.gateway_priority != 0).then_some(wanted.gateway_priority),
                ..EndpointSettings::default()
            }),
        };
        let docker = self.connect().await?;
        docker.connect_network(&network.to_string(), request).await.map_err(refused)
    }

    /// Has the engine disconnect a container from a network of its own.
    pub async fn disconnect_from(&self, network: &Id, container: &str, force: bool) -> Result<(), Error> {
        let request = NetworkDisconnectRequest { container: container.to_owned(), force: Some(force) };
        let docker = self.connect().await?;
        docker.disconnect_network(&network.to_string(), request).await.map_err(refused)
    }

    /// What happens to containers, from a moment on; the end of the engine ends it.
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

    /// Engines refuse versions of the API that are too new or too old for them: both agree on one first.
    async fn connect(&self) -> Result<Docker, Error> {
        let failed = |source| Error::Socket { path: self.socket.clone(), source };
        // The client tells less of why it fails.
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

/// The container that an event is about; a network's names it beside.
fn concerned(event: EventMessage) -> Option<Event> {
    let is_rename = event.action.as_deref() == Some("rename");
    let actor = event.actor?;
    let id = match actor.attributes.unwrap_or_default().remove("container") {
        Some(container) => container,
        None => actor.id?,
    };
    Some(Event { container: id.parse().ok()?, is_rename })
}

/// A list without one of its entries would be one of other networks: an ID that cannot be read is an error.
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
        sandbox: container
            .network_settings
            .and_then(|settings| settings.sandbox_key)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
        has_own_network: mode != "host" && !mode.starts_with("container:"),
    })
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
    fn one_that_waits_for_its_next_start_has_ended() {
        let state = r#"{"Status":"restarting","Running":true,"Restarting":true,"Pid":0,"ExitCode":3,
                        "StartedAt":"2026-01-02T03:04:06Z","FinishedAt":"2026-01-02T03:04:07Z"}"#;
        assert!(matches!(container(state, "none").state, FoundState::Exited { code: 3, .. }));
        assert_eq!(container(r#"{"Status":"created"}"#, "none").state, FoundState::Created);
    }

    #[test]
    fn the_hosts_and_other_containers_networks_are_not_a_containers_own() {
        for (mode, own) in [("default", true), ("none", true), ("host", false), ("container:abc", false)] {
            assert_eq!(container("{}", mode).has_own_network, own, "{mode}");
        }
    }

    #[test]
    fn a_list_of_networks_says_which_subnets_are_whose() {
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
    fn what_has_no_id_is_no_container() {
        let error = response(r#"{"Id":"12","Name":"/x"}"#).expect_err("no container");
        assert_eq!(error.to_string(), "Docker's engine says of container 12: no ID");
    }

    #[tokio::test]
    async fn without_an_engine_the_socket_is_named() {
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
