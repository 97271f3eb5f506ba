//! What the model says about names: the record that the responder gets of a container, and the files that a container
//! sees.

use std::collections::BTreeSet;

use super::world::World;
use crate::{
    dns::{NetworkRecord, Record, Servers},
    model::{Attachment, Container, Namespace, Subject},
    plan::rank,
};

/// What a container is found by in a network: its name, its aliases, its short ID, its host name.
pub fn names_of(container: &Container, attachment: &Attachment) -> Vec<String> {
    let (name, hostname) = match &container.subject {
        Subject::Sandbox(sandbox) => (container.name.clone(), Some(sandbox.hostname.clone())),
        Subject::Foreign(namespace) => (foreign_name(namespace), None),
        Subject::Engine(engine) => (container.name.clone(), Some(engine.hostname.clone())),
    };
    let mut seen = BTreeSet::new();
    std::iter::once(name)
        .chain(attachment.request.aliases.iter().cloned())
        .chain([container.id.short()])
        .chain(hostname)
        .filter(|name| !name.is_empty() && seen.insert(name.to_lowercase()))
        .collect()
}

/// `blue` for `netns:blue`, `pid-7` for `pid:7`.
fn foreign_name(namespace: &Namespace) -> String {
    match namespace {
        Namespace::Path(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        Namespace::Process { pid, .. } => format!("pid-{pid}"),
    }
}

/// The responder's record of a container; none where it is in no network that has names. The default network is in the
/// record all the same, without names: through it the container reaches the host's servers.
pub fn record_of(container: &Container, world: &World) -> Option<Record> {
    let mut networks = Vec::new();
    let mut has_names = false;
    for attachment in &container.attachments {
        let Some(network) = world.network(&attachment.network) else { continue };
        let (Some(endpoint), Some(bridge)) = (attachment.endpoint.as_ref(), network.bridge()) else {
            continue;
        };
        has_names |= network.has_names();
        let record = NetworkRecord {
            id: network.id,
            name: network.name.clone(),
            internal: network.internal,
            subnets: bridge.nets().collect(),
            names: if network.has_names() { names_of(container, attachment) } else { Vec::new() },
            ipv4: endpoint.ipv4.into_iter().collect(),
            ipv6: endpoint.ipv6.into_iter().collect(),
            links: match network.has_names() {
                true => attachment
                    .request
                    .links
                    .iter()
                    .map(|link| (link.alias.clone(), link.target.clone()))
                    .collect(),
                false => Vec::new(),
            },
        };
        networks.push((rank(&attachment.request, network), record));
    }
    networks.sort_by(|(one, _), (other, _)| one.cmp(other));
    let servers = match &container.subject {
        Subject::Sandbox(sandbox) if !sandbox.dns.is_empty() => {
            Servers::Own(sandbox.dns.iter().map(|server| (*server, 53).into()).collect())
        }
        Subject::Sandbox(_) | Subject::Foreign(_) => Servers::Host,
        Subject::Engine(engine) => {
            Servers::Inside(engine.servers.iter().map(|server| (*server, 53).into()).collect())
        }
    };
    let networks = networks.into_iter().map(|(_, network)| network).collect();
    has_names.then_some(Record { container: container.id, networks, servers })
}
