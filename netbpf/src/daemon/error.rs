//! Errors of requests, with Docker's messages where Docker has them, and the class of each refusal. Must not
//! know the API's status codes.

use crate::{
    datapath, dns, engine, firewall, ipam, link,
    model::{self, Refusal},
    plan, private, relay, sandbox, store,
};

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    // Not found
    /// No network of this name or ID.
    #[error("network {0} not found")]
    NoNetwork(String),
    /// No container of this name or ID.
    #[error("No such container: {0}")]
    NoContainer(String),
    /// `explain` of a name that nobody has.
    #[error("nobody is called {name:?}{near}")]
    NoPartner {
        /// As typed.
        name: String,
        /// Names of containers that are near to it, if there are some.
        near: String,
    },
    /// `--link` to an unknown container.
    #[error("could not get container for {0}: No such container: {0}")]
    NoLinkTarget(String),
    /// Netbpf has no such container, and the engine cannot be asked.
    #[error("No such container: {0}; {1}")]
    NoEngine(String, engine::Error),
    /// An invalid or missing namespace: `netns:X`, `pid:N`.
    #[error("{0}")]
    NoNamespace(String),

    // Invalid
    /// Invalid input; Docker's message.
    #[error("{0}")]
    Invalid(String),
    /// `--ip` on the default network.
    #[error(
        "invalid endpoint settings:\nuser-specified IP address is supported on user-defined networks only"
    )]
    AddressOnDefaultNetwork,
    /// `--alias` on the default network.
    #[error("network-scoped aliases are only supported for user-defined networks")]
    AliasOnDefaultNetwork,

    // Forbidden
    /// Not allowed for `bridge`, `host` and `none`.
    #[error("operation is not permitted on predefined {0} network ")]
    PredefinedCreate(String),
    /// Not allowed for `bridge`, `host` and `none`.
    #[error("{0} is a pre-defined network and cannot be removed")]
    PredefinedRemove(String),
    /// The network has endpoints.
    #[error("error while removing network: network {network} has active endpoints ({endpoints})")]
    NetworkInUse {
        /// Its name.
        network: String,
        /// `name:"c" id:"…", …`
        endpoints: String,
    },
    /// The container is connected already.
    #[error("endpoint with name {container} already exists in network {network}")]
    AlreadyConnected {
        /// Container name.
        container: String,
        /// Network name.
        network: String,
    },
    /// The container is not connected.
    #[error("container {container} is not connected to network {network}")]
    NotConnected {
        /// Container ID.
        container: String,
        /// Network name.
        network: String,
    },
    /// `connect host c`.
    #[error("cannot connect container to host network - container must be created in host network mode")]
    ConnectToHost,
    /// `disconnect host c`.
    #[error("cannot disconnect container from host network - container was created in host network mode")]
    DisconnectFromHost,
    /// `--net container:X` or `host`.
    #[error(
        "container sharing network namespace with another container or host cannot be connected to any other network"
    )]
    SharedNamespace,
    /// `none` together with other networks.
    #[error(
        "container cannot be connected to multiple networks with one of the networks in private (none) mode"
    )]
    PrivateMode,
    /// A MAC that another member of the network has.
    #[error("MAC address {mac} is already in use on network {network}")]
    MacInUse {
        /// The MAC.
        mac: model::Mac,
        /// Network name.
        network: String,
    },
    /// An address of `netbpf.addresses` that belongs to another.
    #[error("netbpf.addresses: {address} is the address of {by} in network {network}")]
    FurtherInUse {
        /// The address.
        address: std::net::IpAddr,
        /// `the gateway`, or a container's name.
        by: String,
        /// Network name.
        network: String,
    },
    /// An address of `netbpf.addresses` that no host may have.
    #[error(
        "netbpf.addresses: {address} is an end of the subnet of network {network}, which no host may have"
    )]
    FurtherIsEnd {
        /// The address.
        address: std::net::IpAddr,
        /// Network name.
        network: String,
    },
    /// `start` with a link to a container that does not run.
    #[error("Cannot link to a non running container: /{target} AS /{container}/{alias}")]
    LinkNotRunning {
        /// The other container.
        target: String,
        /// The container with the link.
        container: String,
        /// The alias of the link.
        alias: String,
    },
    /// `start` on the default network with a link to a container in other networks only.
    #[error("Cannot link to /{0}, as it does not belong to the default network")]
    LinkElsewhere(String),
    /// `connect --link` to the default network.
    #[error("links are only supported for user-defined networks")]
    LinkOnDefaultNetwork,
    /// A change of a network or container that only another program's commands change.
    #[error("{what} {name} is {}'s: use {} {command}", manager.name, manager.program)]
    Managed {
        /// `network`, `container`.
        what: &'static str,
        /// Its name.
        name: String,
        /// The other program.
        manager: model::Manager,
        /// Its command for the change.
        command: &'static str,
    },
    /// No such endpoint of Docker.
    #[error("endpoint {0} not found")]
    NoEndpoint(model::Id),
    /// A runtime asked for an interface twice.
    #[error("interface {interface} of container {container} exists already")]
    InterfaceExists {
        /// Its name in the container.
        interface: String,
        /// The container's name.
        container: String,
    },
    /// A runtime asks for an interface that it did not request before.
    #[error("container {container} has no interface {interface}")]
    NoInterface {
        /// Its name in the container.
        interface: String,
        /// The container's ID.
        container: String,
    },
    /// A runtime names another namespace for a container whose first one still exists.
    #[error("container {0} is in another network namespace")]
    OtherNamespace(String),
    /// Somebody changed an interface that a runtime requested.
    #[error("interface {interface}: {what}")]
    Altered {
        /// Its name in the container.
        interface: String,
        /// What is wrong.
        what: String,
    },
    /// Not allowed; Docker's message.
    #[error("{0}")]
    Forbidden(String),

    // Conflict
    /// The name is taken.
    #[error("network with name {0} already exists")]
    NetworkExists(String),
    /// The name is taken.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    ContainerExists {
        /// The name.
        name: String,
        /// The container with this name.
        id: model::Id,
    },
    /// `rm` of a running container.
    #[error(
        "cannot remove container \"/{0}\": container is running: stop the container before removing or force remove"
    )]
    ContainerRunning(String),
    /// `rm` of a container that waits for its restart.
    #[error(
        "cannot remove container \"/{0}\": container is restarting: stop the container before removing or force remove"
    )]
    ContainerRestarting(String),
    /// `exec`, `kill` of a container that does not run.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// `start` of a container with `--net container:X`, if X does not run.
    #[error("cannot join network namespace of a non running container: container {0} is {1}")]
    JoinNotRunning(String, String),
    /// `start` or `stop` of a container that netbpf did not start.
    #[error("container {0} was not started by netbpf: it can only be connected, disconnected and inspected")]
    Foreign(String),
    /// Two prunes at once.
    #[error("a prune operation is already running")]
    PruneRunning,

    // Unchanged
    /// Nothing to do; Docker returns only the status code.
    #[error("not modified")]
    NotModified,

    // The command of `run` or `start`.
    /// The command could not be started.
    #[error("{message}")]
    CommandFailed {
        /// Docker's message.
        message: String,
        /// 126 or 127.
        exit_code: u8,
    },

    // Failures of netbpf or the host
    /// All numbers of networks or endpoints are used.
    #[error("no room for another {0}: netbpf is built for {1} of them")]
    NoNumber(&'static str, u32),
    /// No subnet or address; for the class see [`ipam::Error::refusal`].
    #[error(transparent)]
    Ipam(#[from] ipam::Error),
    /// A container has the host port already.
    #[error(transparent)]
    Port(#[from] ipam::PortError),
    /// A process has the host port, or the host does not have the address. Docker's message.
    #[error("failed to bind host port {address}/{protocol}: {reason}")]
    HostPort {
        /// The address and the port.
        address: std::net::SocketAddr,
        /// The protocol.
        protocol: model::Protocol,
        /// Go's message.
        reason: String,
    },
    /// The container has no address of the family.
    #[error(transparent)]
    NoAddress(#[from] plan::NoAddress),
    /// Docker's message around any of these.
    #[error("driver failed programming external connectivity on endpoint {container} ({endpoint}): {source}")]
    Publish {
        /// The container's name.
        container: String,
        /// The endpoint's ID.
        endpoint: model::Id,
        /// The cause.
        source: Box<Error>,
    },
    /// Docker's message around errors of a start.
    #[error("failed to set up container networking: {0}")]
    StartNetworking(Box<Error>),
    /// The change could not be stored and was undone.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// An operation on a link failed.
    #[error(transparent)]
    Link(#[from] link::Error),
    /// The kernel did not answer a question that changes nothing.
    #[error("ask the kernel about {what}: {source}")]
    Question {
        /// What it was asked about.
        what: &'static str,
        /// Its error.
        source: std::io::Error,
    },
    /// Others can change a directory.
    #[error(transparent)]
    Folder(#[from] private::Error),
    /// An operation on a program or a map failed.
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    /// The packet filter could not be changed.
    #[error(transparent)]
    Firewall(#[from] firewall::Error),
    /// The name responder could not be updated.
    #[error(transparent)]
    Dns(#[from] dns::Error),
    /// The relay could not be updated.
    #[error(transparent)]
    Relay(#[from] relay::Error),
    /// A request to the engine failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The supervisor could not be started or reached.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// The responder's address in the container is not free.
    #[error("listen on {address} in the container: {source}")]
    Resolver {
        /// The responder's address in containers.
        address: std::net::SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// The daemon has too few free file descriptors.
    #[error("the daemon has no file descriptors left: {0}; raise its limit (LimitNOFILE= in its unit)")]
    Descriptors(std::io::Error),
    /// An operation on a file failed.
    #[error("{operation} {path}: {source}")]
    File {
        /// `write`, `create`, …
        operation: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl Error {
    /// The class of the refusal, which the API converts to a status code. `None` if the request was
    /// valid, and netbpf or the host failed.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::NoNetwork(_)
            | Self::NoContainer(_)
            | Self::NoEngine(..)
            | Self::NoLinkTarget(_)
            | Self::NoPartner { .. }
            | Self::NoNamespace(_)
            | Self::NoInterface { .. }
            | Self::NoEndpoint(_) => Some(Refusal::NotFound),
            Self::Invalid(_)
            | Self::FurtherIsEnd { .. }
            | Self::AddressOnDefaultNetwork
            | Self::AliasOnDefaultNetwork
            | Self::LinkOnDefaultNetwork
            | Self::CommandFailed { .. } => Some(Refusal::Invalid),
            Self::PredefinedCreate(_)
            | Self::PredefinedRemove(_)
            | Self::NetworkInUse { .. }
            | Self::AlreadyConnected { .. }
            | Self::NotConnected { .. }
            | Self::ConnectToHost
            | Self::DisconnectFromHost
            | Self::SharedNamespace
            | Self::PrivateMode
            | Self::MacInUse { .. }
            | Self::FurtherInUse { .. }
            | Self::Managed { .. }
            | Self::Forbidden(_) => Some(Refusal::Forbidden),
            Self::NetworkExists(_)
            | Self::ContainerExists { .. }
            | Self::InterfaceExists { .. }
            | Self::OtherNamespace(_)
            | Self::Altered { .. }
            | Self::ContainerRunning(_)
            | Self::ContainerRestarting(_)
            | Self::NotRunning(_)
            | Self::JoinNotRunning(..)
            | Self::Foreign(_)
            | Self::PruneRunning => Some(Refusal::Conflict),
            Self::NotModified => Some(Refusal::Unchanged),
            Self::Ipam(error) => Some(error.refusal()),
            Self::NoNumber(..)
            | Self::Port(_)
            | Self::HostPort { .. }
            | Self::NoAddress(_)
            | Self::Publish { .. }
            | Self::StartNetworking(_)
            | Self::LinkNotRunning { .. }
            | Self::LinkElsewhere(_)
            | Self::Store(_)
            | Self::Link(_)
            | Self::Question { .. }
            | Self::Folder(_)
            | Self::Datapath(_)
            | Self::Firewall(_)
            | Self::Dns(_)
            | Self::Relay(_)
            | Self::Engine(_)
            | Self::Sandbox(_)
            | Self::Resolver { .. }
            | Self::Descriptors(_)
            | Self::File { .. } => None,
        }
    }

    /// The exit code of the command line, if it is not 1.
    pub fn exit_code(&self) -> Option<u8> {
        match self {
            Self::CommandFailed { exit_code, .. } => Some(*exit_code),
            _ => None,
        }
    }
}
