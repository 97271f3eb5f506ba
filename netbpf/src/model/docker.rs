//! What Docker has netbpf do for a container of its own: one endpoint in one network. Docker tells the endpoint's ID and
//! nothing of the container; what that is called is learnt from Docker's API, later. Knows no protocol.

use std::{collections::BTreeSet, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{ContainerPort, Id, Publish};

/// An endpoint of Docker's. Docker leases its addresses, and moves, names and addresses its interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerEndpoint {
    /// The file that holds the container's network namespace, from `Join` to `Leave`. Engines up to 25 make it after
    /// `Join`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<PathBuf>,
    /// What the image and `--expose` name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed: BTreeSet<ContainerPort>,
    /// What is published here, for as long as it is the container's way out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
    /// Whose it is, once Docker's API has told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<DockerContainer>,
}

/// A container of Docker's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerContainer {
    /// Docker's ID of it.
    pub id: Id,
    /// Its name, without a slash.
    pub name: String,
}
