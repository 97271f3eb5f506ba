//! `--link`. On the default network, a link is a line in `/etc/hosts` of the container with the link, while
//! the target runs there. In other networks, it is a name that the responder resolves for this container
//! only. In networks with `enable_icc=false`, a link also opens the target's exposed ports.

use std::{collections::BTreeSet, net::IpAddr};

use netbpf_common::allowed::{AllowedKey, FRAGMENT};

use crate::{
    daemon::{
        Error,
        names::{self, Names},
        state::world::World,
    },
    model::{Attachment, Container, Endpoint, Id, Link, Network, State},
};

impl Names {
    /// Update links to a container that started, ended, was renamed, or entered or left the default network.
    pub async fn refresh_links_to(&self, target: Id) {
        if let Err(error) = self.open_links() {
            tracing::error!(%error, "open links");
        }
        let linked: Vec<Id> = {
            let key = target.to_string();
            let world = self.state.world();
            let is_linked = |container: &&Container| {
                matches!(container.state, State::Running { .. })
                    && default_attachment(container, &world).is_some_and(|attachment| {
                        attachment.request.links.iter().any(|link| link.target == key)
                    })
            };
            world.linking().filter(is_linked).map(|container| container.id).collect()
        };
        for id in linked {
            // No deadlock: links have no cycle, because a target must exist before the container that links
            // to it.
            let _locked = self.state.lock_container(id).await;
            let Ok(container) = self.state.container(&id) else { continue };
            if !matches!(container.state, State::Running { .. }) {
                continue;
            }
            if let Err(error) = self.rewrite_files(&container).await {
                tracing::error!(container = container.name, %error, "rewrite links");
            }
        }
    }

    /// Write all links to the programs' map, for networks whose members must not talk to each other.
    pub fn open_links(&self) -> Result<(), Error> {
        // Locked first, so that the state that is written last was also read last.
        let mut datapath = self.host.datapath();
        let links = openings(&self.state.world());
        Ok(datapath.set_allowed(&links)?)
    }
}

/// Checks that a container's links on the default network are possible now, with Docker's messages.
pub fn check(container: &Container, world: &World) -> Result<(), Error> {
    for (link, target) in linked(container, world) {
        if !matches!(target.state, State::Running { .. }) {
            return Err(Error::LinkNotRunning {
                target: target.name.clone(),
                container: container.name.clone(),
                alias: link.alias.clone(),
            });
        }
        if default_attachment(target, world).is_none() {
            return Err(Error::LinkElsewhere(target.name.clone()));
        }
    }
    Ok(())
}

/// The lines in `/etc/hosts` for a container's links, as in Docker: names with an address.
pub fn hosts_of(container: &Container, world: &World) -> Vec<(String, IpAddr)> {
    linked(container, world)
        .flat_map(|(link, target)| {
            let attachment = default_attachment(target, world);
            let endpoint = attachment.and_then(|attachment| attachment.endpoint.as_ref());
            let mut names = link.alias.clone();
            if let Some(hostname) = target.owner().hostname() {
                names = format!("{names} {hostname}");
            }
            if link.alias != target.name {
                names = format!("{names} {}", target.name);
            }
            endpoint
                .into_iter()
                .flat_map(|endpoint| endpoint.addresses())
                .map(move |address| (names.clone(), address))
        })
        .collect()
}

/// Links on the default network, with the containers that are there still.
fn linked<'a>(container: &'a Container, world: &'a World) -> impl Iterator<Item = (&'a Link, &'a Container)> {
    default_attachment(container, world)
        .into_iter()
        .flat_map(|attachment| &attachment.request.links)
        .filter_map(|link| Some((link, world.container(&link.target.parse().ok()?)?)))
}

/// The exceptions for links in networks whose members must not talk to each other.
fn openings(world: &World) -> BTreeSet<AllowedKey> {
    let mut keys = BTreeSet::new();
    for container in world.linking() {
        for attachment in &container.attachments {
            let network = world.network(&attachment.network);
            let Some((network, bridge)) = network.and_then(|network| Some((network, network.bridge()?)))
            else {
                continue;
            };
            let (Some(endpoint), false) = (&attachment.endpoint, bridge.options.icc) else { continue };
            for link in &attachment.request.links {
                for (target, there) in targets(link, network, world) {
                    let Some(sandbox) = target.sandbox() else { continue };
                    for exposed in &sandbox.exposed {
                        let protocol = exposed.protocol.number();
                        let key = AllowedKey {
                            from: endpoint.number,
                            to: there.number,
                            protocol,
                            ..AllowedKey::default()
                        };
                        keys.insert(AllowedKey { port: exposed.number.to_be_bytes(), ..key });
                        keys.insert(AllowedKey { port: FRAGMENT, ..key });
                    }
                }
            }
        }
    }
    keys
}

/// The targets of a link in a network, with their endpoints there.
fn targets<'a>(
    link: &'a Link,
    network: &'a Network,
    world: &'a World,
) -> impl Iterator<Item = (&'a Container, &'a Endpoint)> {
    world.members(&network.id).filter_map(move |target| {
        let attachment = target.attachments.iter().find(|attachment| attachment.network == network.id)?;
        let is_meant = match network.has_names() {
            true => {
                let names = names::names_of(target, attachment);
                names.iter().any(|name| name.eq_ignore_ascii_case(&link.target))
            }
            false => target.id.to_string() == link.target,
        };
        Some((target, attachment.endpoint.as_ref().filter(|_| is_meant)?))
    })
}

fn default_attachment<'a>(container: &'a Container, world: &World) -> Option<&'a Attachment> {
    container.attachments.iter().find(|attachment| {
        world.network(&attachment.network).is_some_and(|network| network.name == Network::DEFAULT)
    })
}

/// The links of a new container. On the default network, each target must exist, and is stored by its ID.
pub fn resolve(links: Vec<Link>, network: &Network, world: &World) -> Result<Vec<Link>, Error> {
    if network.name != Network::DEFAULT {
        return Ok(links);
    }
    links
        .into_iter()
        .map(|Link { target, alias }| {
            let found = world.find_container(&target).map_err(|error| match error {
                Error::NoContainer(_) => Error::NoLinkTarget(target),
                error => error,
            })?;
            Ok(Link { target: found.id.to_string(), alias })
        })
        .collect()
}

/// Links with the names of their targets.
pub fn shown(links: &[Link], world: &World) -> Vec<Link> {
    links
        .iter()
        .map(|Link { target, alias }| {
            let found = target.parse().ok().and_then(|id| world.container(&id));
            let target = found.map_or(target, |container| &container.name);
            Link { target: target.clone(), alias: alias.clone() }
        })
        .collect()
}
