//! Every way in which a request can fail, in Docker's words where Docker has them, and the class of each refusal. Must not
//! know the API's status codes.

use crate::{
    api::filters,
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
    /// `--link` to nobody.
    #[error("could not get container for {0}: No such container: {0}")]
    NoLinkTarget(String),
    /// No container of netbpf's, and no engine to ask for others.
    #[error("No such container: {0}; {1}")]
    NoEngine(String, engine::Error),
    /// A namespace that cannot be had: `netns:X`, `pid:N`.
    #[error("{0}")]
    NoNamespace(String),

    // Invalid
    /// Bad input, in Docker's words.
    #[error("{0}")]
    Invalid(String),
    /// A name, host name, alias, domain or resolver option.
    #[error(transparent)]
    Name(#[from] model::BadName),
    /// An option of a network.
    #[error(transparent)]
    Option(#[from] model::BadOption),
    /// `--mac-address`.
    #[error(transparent)]
    Mac(#[from] model::NotAMac),
    /// `--link`.
    #[error(transparent)]
    AliasLink(#[from] model::BadLink),
    /// `-p` or `--expose`.
    #[error(transparent)]
    PortRequest(#[from] model::BadPublish),
    /// `--restart`.
    #[error(transparent)]
    RestartPolicy(#[from] model::BadRestartPolicy),
    /// `--filter`.
    #[error(transparent)]
    Filter(#[from] filters::Error),
    /// `--ip` on the default network.
    #[error(
        "invalid endpoint settings:\nuser-specified IP address is supported on user-defined networks only"
    )]
    AddressOnDefaultNetwork,
    /// `--alias` on the default network.
    #[error("network-scoped aliases are only supported for user-defined networks")]
    AliasOnDefaultNetwork,

    // Forbidden
    /// Not on `bridge`, `host` and `none`.
    #[error("operation is not permitted on predefined {0} network ")]
    PredefinedCreate(String),
    /// Not on `bridge`, `host` and `none`.
    #[error("{0} is a pre-defined network and cannot be removed")]
    PredefinedRemove(String),
    /// Somebody uses the network.
    #[error("error while removing network: network {network} has active endpoints ({endpoints})")]
    NetworkInUse {
        /// Its name.
        network: String,
        /// `name:"c" id:"…", …`
        endpoints: String,
    },
    /// Connected twice.
    #[error("endpoint with name {container} already exists in network {network}")]
    AlreadyConnected {
        /// Container name.
        container: String,
        /// Network name.
        network: String,
    },
    /// Not connected.
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
    /// `none` beside other networks.
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
    /// `start` with a link to a container that does not run.
    #[error("Cannot link to a non running container: /{target} AS /{container}/{alias}")]
    LinkNotRunning {
        /// The other container.
        target: String,
        /// Who is linked to it.
        container: String,
        /// What it is called there.
        alias: String,
    },
    /// `start` on the default network with a link to a container that is not there.
    #[error("Cannot link to /{0}, as it does not belong to the default network")]
    LinkElsewhere(String),
    /// `connect --link` to the default network.
    #[error("links are only supported for user-defined networks")]
    LinkOnDefaultNetwork,
    /// A change to what Docker has made, or runs.
    #[error("{what} {name} is Docker's: use {use_}")]
    OfDocker {
        /// `network`, `container`.
        what: &'static str,
        /// Its name.
        name: String,
        /// The command that does it.
        use_: &'static str,
    },
    /// An endpoint of Docker's that is not there.
    #[error("endpoint {0} not found")]
    NoEndpoint(model::Id),
    /// Asked for in Docker's words.
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
        /// Who has it.
        id: model::Id,
    },
    /// `rm` of a running container.
    #[error(
        "cannot remove container \"/{0}\": container is running: stop the container before removing or force remove"
    )]
    ContainerRunning(String),
    /// `rm` of a container that waits for its next start.
    #[error(
        "cannot remove container \"/{0}\": container is restarting: stop the container before removing or force remove"
    )]
    ContainerRestarting(String),
    /// `exec`, `kill` of a container that does not run.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// `start` of a container whose namespace owner does not run.
    #[error("cannot join network namespace of a non running container: container {0} is {1}")]
    JoinNotRunning(String, String),
    /// `start` or `stop` of what netbpf did not start.
    #[error("container {0} was not started by netbpf: it can only be connected, disconnected and inspected")]
    Foreign(String),
    /// Two prunes at once.
    #[error("a prune operation is already running")]
    PruneRunning,

    // Unchanged
    /// Nothing to do: Docker says so by the status code alone.
    #[error("not modified")]
    NotModified,

    // The command of `run` or `start`.
    /// It could not be started.
    #[error("{message}")]
    CommandFailed {
        /// Docker's words.
        message: String,
        /// 126 or 127.
        exit_code: u8,
    },

    // Failures of netbpf or the host
    /// No number left for a network or an endpoint.
    #[error("no free {0} number: netbpf is built for {1} of them")]
    NoNumber(&'static str, u32),
    /// No subnet or address: [`ipam::Error::refusal`] tells the class.
    #[error(transparent)]
    Ipam(#[from] ipam::Error),
    /// A container has the port of the host.
    #[error(transparent)]
    Port(#[from] ipam::PortError),
    /// A process has the port of the host, or the host has not the address. Docker's words.
    #[error("failed to bind host port {address}/{protocol}: {reason}")]
    HostPort {
        /// Where it should be.
        address: std::net::SocketAddr,
        /// Of what.
        protocol: model::Protocol,
        /// As Go says it.
        reason: String,
    },
    /// An address of a family that the container has none of.
    #[error(transparent)]
    NoAddress(#[from] plan::NoAddress),
    /// Docker's words around any of these.
    #[error("driver failed programming external connectivity on endpoint {container} ({endpoint}): {source}")]
    Publish {
        /// The container's name.
        container: String,
        /// The endpoint's ID.
        endpoint: model::Id,
        /// Why.
        source: Box<Error>,
    },
    /// Docker's words around what fails at a start.
    #[error("failed to set up container networking: {0}")]
    StartNetworking(Box<Error>),
    /// Storing failed; nothing has changed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The kernel refused a link.
    #[error(transparent)]
    Link(#[from] link::Error),
    /// A folder is not root's alone.
    #[error(transparent)]
    Folder(#[from] private::Error),
    /// The kernel refused a program or a map entry.
    #[error(transparent)]
    Datapath(#[from] datapath::Error),
    /// The packet filter could not be changed.
    #[error(transparent)]
    Firewall(#[from] firewall::Error),
    /// The name responder could not be told.
    #[error(transparent)]
    Dns(#[from] dns::Error),
    /// A published port is not relayed.
    #[error(transparent)]
    Relay(#[from] relay::Error),
    /// The engine does not say what it should.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The supervisor could not be started or reached.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// The container's own port 53 cannot be had.
    #[error("listen on {address} in the container: {source}")]
    Resolver {
        /// Where containers ask for names.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A file of a container.
    #[error("{operation} {path}: {source}")]
    File {
        /// `write`, `create`, …
        operation: &'static str,
        /// Which.
        path: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl Error {
    /// The class of the refusal, which the API tells by Docker's status codes. `None`: the request was right, and netbpf or
    /// the host failed.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::NoNetwork(_)
            | Self::NoContainer(_)
            | Self::NoEngine(..)
            | Self::NoLinkTarget(_)
            | Self::NoNamespace(_)
            | Self::NoEndpoint(_) => Some(Refusal::NotFound),
            Self::Invalid(_)
            | Self::Name(_)
            | Self::Option(_)
            | Self::Mac(_)
            | Self::AliasLink(_)
            | Self::PortRequest(_)
            | Self::RestartPolicy(_)
            | Self::Filter(_)
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
            | Self::OfDocker { .. }
            | Self::Forbidden(_) => Some(Refusal::Forbidden),
            Self::NetworkExists(_)
            | Self::ContainerExists { .. }
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
            | Self::Folder(_)
            | Self::Datapath(_)
            | Self::Firewall(_)
            | Self::Dns(_)
            | Self::Relay(_)
            | Self::Engine(_)
            | Self::Sandbox(_)
            | Self::Resolver { .. }
            | Self::File { .. } => None,
        }
    }

    /// What the command line exits with, where it is not 1.
    pub fn exit_code(&self) -> Option<u8> {
        match self {
            Self::CommandFailed { exit_code, .. } => Some(*exit_code),
            _ => None,
        }
    }
}
