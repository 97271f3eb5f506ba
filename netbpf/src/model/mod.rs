//! The data model: networks, containers, their endpoints. Values are valid by construction. No I/O, no async, no
//! clock; must not know the API's messages or how the kernel is changed. The store writes networks and containers as
//! JSON by serde: their attributes here are the format on the disk, whose exact text `store/tests.rs` pins.

mod access;
mod block;
mod container;
mod endpoint_options;
mod filter;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod hash;
mod id;
mod interface;
mod limits;
mod link;
pub mod lookup;
mod mac;
mod names;
mod network;
mod options;
mod owner;
mod publish;
mod refusal;
mod restart;
mod uplink;
mod why;

pub use access::{Access, AccessChange, AccessOptions};
pub use block::Block;
pub use container::{Attachment, Container, Endpoint, EndpointRequest, State};
pub use endpoint_options::{BadEndpointOption, EndpointOptions, Sysctl};
pub use filter::{ContainerFilter, NetworkFilter, Patterns, PruneFilter};
pub use hash::{fnv1a_32, fnv1a_64};
pub use id::Id;
pub use interface::{BadInterface, HostInterface, InterfaceName};
pub use limits::{Limit, LimitOptions, Limits};
pub use link::{BadLink, Link};
pub use mac::{Mac, NotAMac};
pub use names::{
    BadName, check_alias, check_container_name, check_dns_option, check_hostname, check_network_name,
    check_search_domain, one_line, push_escaped, random_name,
};
pub use network::{Bridge, Driver, NeedlessGateways, Network, Origin, Subnet};
pub use options::{BIG_TCP, BadOption, GSO_LEGACY_MAX_SIZE, GatewayMode, Options};
pub use owner::{
    CannotJoin, DOCKER, DockerContainer, DockerEndpoint, EngineContainer, Files, LastAddress, Manager, Mode,
    Namespace, Owner, OwnerNumber, PluginContainer, PluginRequest, RESOLVER, RESOLVER_BESIDE_ENGINE, Runtime,
    Sandbox, Subject,
};
pub use publish::{
    BadPublish, ContainerPort, Mapping, PortRange, Protocol, Publish, parse_expose, parse_host_ports,
    parse_publish,
};
pub use refusal::Refusal;
pub use restart::{BadRestartPolicy, Restart, RestartPolicy};
pub use uplink::XdpMode;
pub use why::{Dropped, why, word};
