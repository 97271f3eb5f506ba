//! Endpoints of Docker, for which netbpf is a network driver: one container in one network. Docker sends the
//! endpoint's ID and nothing of the container, whose ID and name come later from Docker's API. Must not know
//! the protocol.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{DOCKER, Manager, Owner, OwnerNumber};
use crate::model::{ContainerPort, Endpoint, Id, InterfaceName, Publish, State};

/// An endpoint of Docker. Docker leases its addresses, and moves and configures its interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerEndpoint {
    /// The file that holds the container's network namespace, from `Join` to `Leave`. Engines up to 25 create
    /// it after `Join`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<PathBuf>,
    /// Exposed ports, of the image and of `--expose`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed: BTreeSet<ContainerPort>,
    /// Ports published at this endpoint, while it has the container's default route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
    /// Whether these ports must not be relayed from the host's IPv6 addresses to an IPv4 address of the endpoint,
    /// because another endpoint of the container has its IPv6 default route.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_relay: bool,
    /// The container, once Docker's API has told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<DockerContainer>,
}

/// A container of Docker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerContainer {
    /// Docker's ID.
    pub id: Id,
    /// Its name, without a slash.
    pub name: String,
    /// Its aliases in the endpoint's network, if Docker was asked for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aliases: Option<Vec<String>>,
}

impl Owner for DockerEndpoint {
    fn shown(&self) -> Option<(Id, &str)> {
        self.container.as_ref().map(|container| (container.id, container.name.as_str()))
    }

    fn image(&self) -> Cow<'_, str> {
        "docker".into()
    }

    fn sandbox_key(&self) -> Option<&Path> {
        self.sandbox.as_deref()
    }

    /// The number of the namespace, which all endpoints of a container share.
    fn number(&self, _: &Id) -> Option<OwnerNumber> {
        self.sandbox.as_ref().map(OwnerNumber::of)
    }

    fn manager(&self) -> Option<Manager> {
        Some(DOCKER)
    }

    fn may_join(&self, _is_none: bool) -> Result<(), super::CannotJoin> {
        Ok(())
    }

    fn places_interface(&self) -> bool {
        true
    }

    /// Its ID is Docker's. Its interface has a name of its own among the host's interfaces.
    fn determine(&self, id: &Id, leased: Endpoint) -> Endpoint {
        Endpoint { id: *id, interface: InterfaceName::made_of("nbd", &id.short()), ..leased }
    }

    /// As Docker's resolver knows it; none until Docker has told its name.
    fn name_in_networks<'a>(&'a self, _: &'a str) -> Cow<'a, str> {
        self.container.as_ref().map_or("", |container| &container.name).into()
    }

    fn aliases(&self) -> &[String] {
        self.container.as_ref().and_then(|container| container.aliases.as_deref()).unwrap_or_default()
    }

    /// Docker resolves names for its containers, and asks other name servers for those that it does not know.
    fn asks_our_responder(&self) -> bool {
        false
    }

    fn asks_elsewhere(&self) -> bool {
        true
    }

    /// Docker has replaced `-P` by single ports.
    fn publishes(&self) -> Vec<Publish> {
        self.publish.clone()
    }

    fn may_be_relayed(&self) -> bool {
        !self.without_relay
    }

    fn exposed(&self, _: &State) -> BTreeSet<ContainerPort> {
        self.exposed.clone()
    }
}
