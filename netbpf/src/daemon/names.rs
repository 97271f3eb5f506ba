//! What the model says about names: the record that the responder gets of a container, and the files that a container
//! sees.

use std::collections::BTreeSet;

use super::world::World;
use crate::{
    dns::{NetworkRecord, Record, Servers},
    model::{Attachment, Container, Namespace, Subject},
};

/// What a container is found by in a network: its name, its aliases, its short ID, its host name.
pub fn names_of(container: &Container, attachment: &Attachment) -> Vec<String> {
    let (name, hostname) = match &container.subject {
        Subject::Sandbox(sandbox) => (container.name.clone(), Some(sandbox.hostname.clone())),
        Subject::Foreign(namespace) => (foreign_name(namespace), None),
    };
    let mut seen = BTreeSet::new();
    std::iter::once(name)
        .chain(attachment.request.aliases.iter().cloned())
        .chain([container.id.short()])
        .chain(hostname)
        .filter(|name| seen.insert(name.to_lowercase()))
        .collect()
}

/// `blue` for `netns:blue`, `pid-7` for `pid:7`.
fn foreign_name(namespace: &Namespace) -> String {
    match namespace {
        Namespace::Path(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        Namespace::Process { pid, .. } => format!("pid-{pid}"),
    }
}

/// The responder's record of a container; none where it is in no network that has names.
pub fn record_of(container: &Container, world: &World) -> Option<Record> {
    let networks: Vec<NetworkRecord> = container
        .attachments
        .iter()
        .filter_map(|attachment| {
            let network = world.network(&attachment.network).filter(|network| network.has_names())?;
            let endpoint = attachment.endpoint.as_ref()?;
            Some(NetworkRecord {
                id: network.id.to_string(),
                name: network.name.clone(),
                internal: network.internal,
                names: names_of(container, attachment),
                ipv4: vec![endpoint.ipv4],
                ipv6: Vec::new(),
            })
        })
        .collect();
    if networks.is_empty() {
        return None;
    }
    let servers = match &container.subject {
        Subject::Sandbox(sandbox) if !sandbox.dns.is_empty() => {
            Servers::Own(sandbox.dns.iter().map(|server| (*server, 53).into()).collect())
        }
        Subject::Sandbox(_) | Subject::Foreign(_) => Servers::Host,
    };
    Some(Record { container: container.id.to_string(), networks, servers })
}
