//! Endpoints that Docker requests: one container in one network. Docker tells the endpoint's ID and nothing
//! of the container, whose name comes later from Docker's API. Must not know the protocol.

use std::{collections::BTreeSet, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{ContainerPort, Id, Publish};

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
}
