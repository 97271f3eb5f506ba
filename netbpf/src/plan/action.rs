//! The actions, and what takes each back.

use super::{
    device::Mend,
    route::DefaultRoute,
    rules::NetworkRules,
    wiring::{EndpointWiring, NetworkWiring},
};
use crate::model::{Mapping, Namespace};

/// One change in the kernel. It is done whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a network's veth pair, with the gateway addresses, up.
    AddHostDevice(NetworkWiring),
    /// Enter the network in `NETWORKS`, its gateway in `FDB` and `NEIGHBOURS`.
    WriteNetwork(NetworkWiring),
    /// Attach `from_host` to the host device.
    AttachHostDevice {
        /// Index in `NETWORKS`.
        number: u32,
        /// The host device.
        interface: String,
    },
    /// Clear the entries, of a link that is gone.
    ClearNetwork {
        /// Index in `NETWORKS`.
        number: u32,
        /// The host device, if it is still there.
        interface: Option<String>,
    },
    /// Make an endpoint's veth pair: the container's side complete and up, the host's side down.
    AddEndpointLink(EndpointWiring),
    /// Enter the endpoint in `ENDPOINTS`, `FDB` and `NEIGHBOURS`.
    WriteEndpoint(EndpointWiring),
    /// Attach `from_container` to the host side.
    AttachEndpoint {
        /// Index in `ENDPOINTS`.
        number: u32,
        /// The host side.
        interface: String,
    },
    /// Clear the entries, of a link that is gone.
    ClearEndpoint {
        /// Index in `ENDPOINTS`.
        number: u32,
        /// The host side, if it is still there.
        interface: Option<String>,
    },
    /// Put back what somebody changed of a host device, or of the host side of an endpoint.
    MendDevice {
        /// Which.
        ifindex: u32,
        /// What it is to be called.
        interface: String,
        /// What.
        mend: Mend,
    },
    /// Bring an interface up.
    SetUp {
        /// Which.
        ifindex: u32,
        /// Its name, for messages.
        interface: String,
    },
    /// Delete a link, and with it its peer. It may be gone already.
    DeleteLink {
        /// Which.
        ifindex: u32,
        /// Its name, for messages.
        interface: String,
    },
    /// Enter a network in the packet filter.
    AddRules(NetworkRules),
    /// Remove a network from the packet filter; it may be gone already.
    RemoveRules(NetworkRules),
    /// Replace a container's default route of one family, or remove it.
    SetDefaultRoute {
        /// The container's.
        namespace: Namespace,
        /// What it is to be.
        route: DefaultRoute,
        /// What it was.
        before: DefaultRoute,
    },
    /// Publish ports whose host ports are held.
    Publish(Vec<Mapping>),
    /// Publish them no more, and forget the connections that came through them.
    Withdraw(Vec<Mapping>),
}

impl Action {
    /// What it is called in logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AddHostDevice(_) => "AddHostDevice",
            Self::WriteNetwork(_) => "WriteNetwork",
            Self::AttachHostDevice { .. } => "AttachHostDevice",
            Self::ClearNetwork { .. } => "ClearNetwork",
            Self::AddEndpointLink(_) => "AddEndpointLink",
            Self::WriteEndpoint(_) => "WriteEndpoint",
            Self::AttachEndpoint { .. } => "AttachEndpoint",
            Self::ClearEndpoint { .. } => "ClearEndpoint",
            Self::MendDevice { .. } => "MendDevice",
            Self::SetUp { .. } => "SetUp",
            Self::DeleteLink { .. } => "DeleteLink",
            Self::AddRules(_) => "AddRules",
            Self::RemoveRules(_) => "RemoveRules",
            Self::SetDefaultRoute { .. } => "SetDefaultRoute",
            Self::Publish(_) => "Publish",
            Self::Withdraw(_) => "Withdraw",
        }
    }

    /// What takes it back; nothing where another action's undo does.
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
            Self::AddRules(rules) => Some(Self::RemoveRules(rules.clone())),
            Self::SetDefaultRoute { namespace, route, before } => {
                Some(Self::SetDefaultRoute { namespace: namespace.clone(), route: *before, before: *route })
            }
            Self::Publish(mappings) => Some(Self::Withdraw(mappings.clone())),
            Self::Withdraw(mappings) => Some(Self::Publish(mappings.clone())),
            // Clearing an entry detaches its program; deleting a link takes its state along. What was deleted on
            // purpose is not made again: a removal is committed before it is carried out.
            Self::AttachHostDevice { .. }
            | Self::AttachEndpoint { .. }
            | Self::ClearNetwork { .. }
            | Self::ClearEndpoint { .. }
            | Self::SetUp { .. }
            | Self::MendDevice { .. }
            | Self::RemoveRules(_)
            | Self::DeleteLink { .. } => None,
        }
    }
}
