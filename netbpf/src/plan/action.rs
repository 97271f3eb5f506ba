//! The changes in the kernel as data: links, map entries, attached programs, the packet filter, default routes,
//! published ports; and the undo of each. Must not know how a change is made: `daemon/effects/perform.rs` does.

use std::net::IpAddr;

use super::{
    device::Mend,
    route::DefaultRoute,
    rules::NetworkRules,
    unleased::Unleased,
    wiring::{EndpointWiring, NetworkWiring},
};
use crate::model::{Mapping, Namespace};

/// One change in the kernel. It is done completely or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create a network's veth pair with the gateway addresses, and set it up.
    AddHostDevice(NetworkWiring),
    /// Write the network to `NETWORKS`, its gateway to `FDB` and `NEIGHBOURS`.
    WriteNetwork(NetworkWiring),
    /// Attach `from_host` to the host device.
    AttachHostDevice {
        /// Index in `NETWORKS`.
        number: u32,
        /// The host device.
        interface: String,
    },
    /// Clear the entries of a deleted link.
    ClearNetwork {
        /// Index in `NETWORKS`.
        number: u32,
        /// The host device, if it is still there.
        interface: Option<String>,
    },
    /// Create an endpoint's veth pair: the container's side configured and up, the host side down.
    AddEndpointLink(EndpointWiring),
    /// Write the endpoint to `ENDPOINTS`, `FDB` and `NEIGHBOURS`.
    WriteEndpoint(EndpointWiring),
    /// Overwrite the entries of an endpoint, whose addresses stay.
    RewriteEndpoint {
        /// The present entries.
        before: EndpointWiring,
        /// The new ones.
        after: EndpointWiring,
    },
    /// Give both ends of an endpoint's veth pair the queueing disciplines of its limits, or take these away, and adapt the
    /// largest packet in one piece.
    ShapeEndpoint {
        /// What they are; none if that is unknown, or the link is new.
        before: Option<EndpointWiring>,
        /// What they must be.
        after: EndpointWiring,
    },
    /// Attach `from_container` to the host side.
    AttachEndpoint {
        /// Index in `ENDPOINTS`.
        number: u32,
        /// The host side.
        interface: String,
    },
    /// Clear the entries of a deleted link.
    ClearEndpoint {
        /// Index in `ENDPOINTS`.
        number: u32,
        /// The host side, if it is still there.
        interface: Option<String>,
    },
    /// Restore what somebody changed on a host device, or on the host side of an endpoint.
    MendDevice {
        /// Its ifindex.
        ifindex: u32,
        /// The name that it should have.
        interface: String,
        /// The changes.
        mend: Mend,
    },
    /// Set up an interface.
    SetUp {
        /// Its ifindex.
        ifindex: u32,
        /// Its name, for messages.
        interface: String,
    },
    /// Delete a link, and with it its peer. It may not exist any more.
    DeleteLink {
        /// Its ifindex.
        ifindex: u32,
        /// Its name, for messages.
        interface: String,
    },
    /// Add a network to the packet filter.
    AddRules {
        /// Its rules.
        network: NetworkRules,
        /// The rules of all other networks.
        others: Vec<NetworkRules>,
    },
    /// Remove a network from the packet filter; it may not be there any more.
    RemoveRules {
        /// Its rules.
        network: NetworkRules,
        /// The rules of all other networks.
        others: Vec<NetworkRules>,
    },
    /// Replace a container's default route of one family, or remove it.
    SetDefaultRoute {
        /// The container's namespace.
        namespace: Namespace,
        /// The new route.
        route: DefaultRoute,
        /// The old route.
        before: DefaultRoute,
    },
    /// Publish ports whose host ports are reserved.
    Publish(Vec<Mapping>),
    /// Withdraw published ports, and remove the conntrack entries of their connections.
    Withdraw {
        /// The ports.
        mappings: Vec<Mapping>,
        /// Addresses whose conntrack entries may stay: `ForgetFlows` removes them soon.
        leaving: Vec<IpAddr>,
    },
    /// Remove the conntrack entries of addresses that other containers may get.
    ForgetFlows(Vec<IpAddr>),
    /// Remove the conntrack entries of addresses that nobody has: a daemon was killed before `ForgetFlows`.
    ForgetUnleased(Unleased),
}

impl Action {
    /// Its name in logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AddHostDevice(_) => "AddHostDevice",
            Self::WriteNetwork(_) => "WriteNetwork",
            Self::AttachHostDevice { .. } => "AttachHostDevice",
            Self::ClearNetwork { .. } => "ClearNetwork",
            Self::AddEndpointLink(_) => "AddEndpointLink",
            Self::WriteEndpoint(_) => "WriteEndpoint",
            Self::RewriteEndpoint { .. } => "RewriteEndpoint",
            Self::ShapeEndpoint { .. } => "ShapeEndpoint",
            Self::AttachEndpoint { .. } => "AttachEndpoint",
            Self::ClearEndpoint { .. } => "ClearEndpoint",
            Self::MendDevice { .. } => "MendDevice",
            Self::SetUp { .. } => "SetUp",
            Self::DeleteLink { .. } => "DeleteLink",
            Self::AddRules { .. } => "AddRules",
            Self::RemoveRules { .. } => "RemoveRules",
            Self::SetDefaultRoute { .. } => "SetDefaultRoute",
            Self::Publish(_) => "Publish",
            Self::Withdraw { .. } => "Withdraw",
            Self::ForgetFlows(_) => "ForgetFlows",
            Self::ForgetUnleased(_) => "ForgetUnleased",
        }
    }

    /// Its undo; none if the undo of another action includes it.
    pub fn undo(&self) -> Option<Self> {
        match self {
            Self::AddHostDevice(network) => {
                Some(Self::DeleteLink { ifindex: network.ifindex(), interface: network.device.clone() })
            }
            Self::WriteNetwork(network) => {
                Some(Self::ClearNetwork { number: network.number, interface: Some(network.device.clone()) })
            }
            Self::AddEndpointLink(endpoint) => Some(Self::DeleteLink {
                ifindex: endpoint.ifindex(),
                interface: endpoint.host_interface.clone(),
            }),
            Self::WriteEndpoint(endpoint) => Some(Self::ClearEndpoint {
                number: endpoint.number,
                interface: Some(endpoint.host_interface.clone()),
            }),
            Self::RewriteEndpoint { before, after } => {
                Some(Self::RewriteEndpoint { before: after.clone(), after: before.clone() })
            }
            Self::ShapeEndpoint { before, after } => {
                Some(Self::ShapeEndpoint { before: Some(after.clone()), after: before.clone()? })
            }
            Self::AddRules { network, others } => {
                Some(Self::RemoveRules { network: network.clone(), others: others.clone() })
            }
            Self::SetDefaultRoute { namespace, route, before } => {
                Some(Self::SetDefaultRoute { namespace: namespace.clone(), route: *before, before: *route })
            }
            Self::Publish(mappings) => {
                Some(Self::Withdraw { mappings: mappings.clone(), leaving: Vec::new() })
            }
            Self::Withdraw { mappings, .. } => Some(Self::Publish(mappings.clone())),
            // Clearing an entry detaches its program; deleting a link removes all its state. Deletions have
            // no undo: a removal is committed before it is carried out.
            Self::AttachHostDevice { .. }
            | Self::AttachEndpoint { .. }
            | Self::ClearNetwork { .. }
            | Self::ClearEndpoint { .. }
            | Self::SetUp { .. }
            | Self::MendDevice { .. }
            | Self::RemoveRules { .. }
            | Self::ForgetFlows(_)
            | Self::ForgetUnleased(_)
            | Self::DeleteLink { .. } => None,
        }
    }
}
