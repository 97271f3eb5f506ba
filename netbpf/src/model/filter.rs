//! Which networks and containers a user means: conditions on the model, by Docker's rules. Of several values of a
//! condition one must match; of labels all must. A condition without values matches all. Must not know how they are
//! written.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use regex::Regex;

use super::{Container, ContainerPort, Id, Mapping, Mode, Network, State};

/// Texts, of which one must be equal or match as a regular expression.
#[derive(Clone, Debug, Default)]
pub struct Patterns(Vec<(String, Option<Regex>)>);

impl Patterns {
    /// These texts. One that is no regular expression must be equal.
    pub fn of(texts: &[String]) -> Self {
        Self(texts.iter().map(|text| (text.clone(), Regex::new(text).ok())).collect())
    }

    fn matches(&self, text: &str) -> bool {
        self.0.is_empty()
            || self.0.iter().any(|(equal, pattern)| {
                equal == text || pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
            })
    }
}

fn exact(values: &[String], text: &str) -> bool {
    values.is_empty() || values.iter().any(|value| value == text)
}

/// Whether there is a label `k` or `k=v`.
fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}

fn has_labels(labels: &BTreeMap<String, String>, wanted: &[String]) -> bool {
    wanted.iter().all(|wanted| has_label(labels, wanted))
}

/// Networks to list.
#[derive(Clone, Debug, Default)]
pub struct NetworkFilter {
    /// IDs.
    pub ids: Patterns,
    /// Names.
    pub names: Patterns,
    /// Names of drivers.
    pub drivers: Vec<String>,
    /// `local` is the only one that a network has.
    pub scopes: Vec<String>,
    /// `builtin`, `custom`.
    pub types: Vec<String>,
    /// `k` or `k=v`.
    pub labels: Vec<String>,
    /// Whether it is unused, and not predefined.
    pub dangling: Option<bool>,
}

impl NetworkFilter {
    /// Whether a network is meant. `in_use`: whether it has endpoints.
    pub fn matches(&self, network: &Network, in_use: bool) -> bool {
        let builtin = network.is_predefined();
        self.ids.matches(&network.id.to_string())
            && self.names.matches(&network.name)
            && exact(&self.drivers, network.driver.name())
            && exact(&self.scopes, "local")
            && exact(&self.types, if builtin { "builtin" } else { "custom" })
            && has_labels(&network.labels, &self.labels)
            && self.dangling.is_none_or(|dangling| dangling != (builtin || in_use))
    }
}

/// Unused networks, or containers that do not run, to remove.
#[derive(Clone, Debug, Default)]
pub struct PruneFilter {
    /// `k` or `k=v`.
    pub labels: Vec<String>,
    /// The same, of which it must have none.
    pub unwanted: Vec<String>,
    /// Created before this.
    pub until: Option<Timestamp>,
}

impl PruneFilter {
    /// Whether an unused network is meant.
    pub fn matches(&self, network: &Network) -> bool {
        self.means(&network.labels, network.created)
    }

    /// Whether a container that does not run is meant.
    pub fn matches_container(&self, container: &Container) -> bool {
        self.means(&container.labels, container.created)
    }

    fn means(&self, labels: &BTreeMap<String, String>, created: Timestamp) -> bool {
        has_labels(labels, &self.labels)
            && !self.unwanted.iter().any(|unwanted| has_label(labels, unwanted))
            && self.until.is_none_or(|until| created < until)
    }
}

/// Containers to list.
#[derive(Clone, Debug, Default)]
pub struct ContainerFilter {
    /// IDs.
    pub ids: Patterns,
    /// Names, with or without a slash before them.
    pub names: Patterns,
    /// States, as [`Container::status`] names them.
    pub states: Vec<String>,
    /// Images.
    pub images: Vec<String>,
    /// Exit codes.
    pub exit_codes: Vec<i32>,
    /// `k` or `k=v`.
    pub labels: Vec<String>,
    /// Published ports of the host.
    pub published: BTreeSet<ContainerPort>,
    /// Exposed ports. One of these or of the published ones must match.
    pub exposed: BTreeSet<ContainerPort>,
    /// Names or IDs of networks.
    pub networks: Vec<String>,
}

impl ContainerFilter {
    /// Whether it is about the state, and so about stopped containers too.
    pub fn asks_for_state(&self) -> bool {
        !self.states.is_empty() || !self.exit_codes.is_empty()
    }

    /// Whether a container is meant.
    pub fn matches<'a>(&self, container: &Container, network: impl Fn(&Id) -> Option<&'a Network>) -> bool {
        let exit_code = match container.state {
            State::Created { .. } | State::Running { .. } => None,
            State::Exited { code, .. } => Some(code),
        };
        self.ids.matches(&container.id.to_string())
            && (self.names.matches(&container.name) || self.names.matches(&format!("/{}", container.name)))
            && exact(&self.states, container.status())
            && exact(&self.images, &container.owner().image())
            && (self.exit_codes.is_empty() || exit_code.is_some_and(|code| self.exit_codes.contains(&code)))
            && has_labels(&container.labels, &self.labels)
            && self.has_port(container)
            && self.is_in_network(container, network)
    }

    fn has_port(&self, container: &Container) -> bool {
        let exposed = !container.owner().exposed(&container.state).is_disjoint(&self.exposed);
        let is_published = |mapping: &Mapping| {
            let on_host = ContainerPort { number: mapping.host_port, protocol: mapping.protocol };
            self.published.contains(&on_host)
        };
        let asks = !(self.published.is_empty() && self.exposed.is_empty());
        !asks || exposed || container.mappings.iter().any(is_published)
    }

    fn is_in_network<'a>(&self, container: &Container, network: impl Fn(&Id) -> Option<&'a Network>) -> bool {
        let wanted = &self.networks;
        let mode = match container.owner().mode() {
            Some(Mode::Host) => Some("host"),
            Some(Mode::None) => Some("none"),
            Some(Mode::Networks | Mode::Container(_)) | None => None,
        };
        wanted.is_empty()
            || mode.is_some_and(|mode| exact(wanted, mode))
            || container.attachments.iter().any(|attachment| {
                exact(wanted, &attachment.network.to_string())
                    || network(&attachment.network).is_some_and(|network| exact(wanted, &network.name))
            })
    }
}
