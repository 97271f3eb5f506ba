//! `--link`. On the default network a link is a line in `/etc/hosts` of the container that asked for it, for as long as
//! the other one runs there. In other networks it is a name that the responder knows for this container only.

use std::{net::IpAddr, sync::Arc};

use super::{Daemon, Error, steps::Steps, world::World};
use crate::model::{Attachment, Container, Id, Link, Network, State, Subject};

impl Daemon {
    /// A container started, ended, came to the default network, left it or got another name: those who run and are
    /// linked to it hear of that.
    pub(super) async fn refresh_links_to(self: &Arc<Self>, target: Id) {
        let linked: Vec<Id> = {
            let key = target.to_string();
            let world = self.world();
            let is_linked = |container: &&Container| {
                matches!(container.state, State::Running { .. })
                    && default_attachment(container, &world).is_some_and(|attachment| {
                        attachment.request.links.iter().any(|link| link.target == key)
                    })
            };
            world.containers().filter(is_linked).map(|container| container.id).collect()
        };
        for id in linked {
            // Links form no circle: a container can only be linked to one that was there before it.
            let _busy = self.busy(id).await;
            let Ok(container) = self.container(&id) else { continue };
            if !matches!(container.state, State::Running { .. }) {
                continue;
            }
            let mut steps = Steps::new(Arc::clone(self));
            if let Err(error) = self.write_files(&mut steps, &container) {
                tracing::error!(container = container.name, %error, "rewrite links");
            }
            steps.keep();
        }
    }

    /// Whether a container's links on the default network can be made now, in Docker's words.
    pub(super) fn check_links(&self, container: &Container) -> Result<(), Error> {
        let world = self.world();
        for (link, target) in linked(container, &world) {
            if !matches!(target.state, State::Running { .. }) {
                return Err(Error::LinkNotRunning {
                    target: target.name.clone(),
                    container: container.name.clone(),
                    alias: link.alias.clone(),
                });
            }
            if default_attachment(target, &world).is_none() {
                return Err(Error::LinkElsewhere(target.name.clone()));
            }
        }
        Ok(())
    }
}

/// What `/etc/hosts` says of a container's links: names by address, as Docker writes them.
pub fn hosts_of(container: &Container, world: &World) -> Vec<(String, IpAddr)> {
    linked(container, world)
        .filter_map(|(link, target)| {
            let endpoint = default_attachment(target, world)?.endpoint.as_ref()?;
            let mut names = link.alias.clone();
            if let Subject::Sandbox(sandbox) = &target.subject {
                names = format!("{names} {}", sandbox.hostname);
            }
            if link.alias != target.name {
                names = format!("{names} {}", target.name);
            }
            Some((names, endpoint.ipv4.into()))
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

fn default_attachment<'a>(container: &'a Container, world: &World) -> Option<&'a Attachment> {
    container.attachments.iter().find(|attachment| {
        world.network(&attachment.network).is_some_and(|network| network.name == Network::DEFAULT)
    })
}

/// `--link` of `run`: on the default network to a container that exists.
pub fn parse(links: &[String], network: &Network, world: &World) -> Result<Vec<Link>, Error> {
    let links = links.iter().map(|text| Link::parse(text).map_err(|error| Error::Invalid(error.to_string())));
    if network.name != Network::DEFAULT {
        return links.collect();
    }
    links
        .map(|link| {
            let Link { target, alias } = link?;
            let found = world.find_container(&target).map_err(|error| match error {
                Error::NoContainer(_) => Error::NoLinkTarget(target),
                error => error,
            })?;
            Ok(Link { target: found.id.to_string(), alias })
        })
        .collect()
}

/// As Docker shows them: `target:alias`.
pub fn shown(links: &[Link], world: &World) -> Vec<String> {
    links
        .iter()
        .map(|Link { target, alias }| {
            let name = target.parse().ok().and_then(|id| world.container(&id));
            format!("{}:{alias}", name.map_or(target, |container| &container.name))
        })
        .collect()
}
