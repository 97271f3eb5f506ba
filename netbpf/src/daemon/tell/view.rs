//! What lists and `inspect` show, as copies of the model. Must not know how it is written.

use std::path::{Path, PathBuf};

use crate::{
    daemon::{
        Error,
        effects::folders,
        names::{self, links},
        state::{State, world::World},
    },
    model::{AccessOptions, Attachment, Container, Endpoint, Files, Id, Limits, Link, Network},
};

/// A network and its running containers.
pub struct NetworkView {
    /// The network.
    pub network: Network,
    /// Its members with an endpoint.
    pub members: Vec<MemberView>,
}

/// A running container in a network.
pub struct MemberView {
    /// The ID that users know.
    pub id: Id,
    /// The name that users know.
    pub name: String,
    /// Its endpoint in the network.
    pub endpoint: Endpoint,
}

/// A container, and what is known of it elsewhere.
pub struct ContainerView {
    /// The container.
    pub container: Container,
    /// The PID of its first process, for a sandbox that runs.
    pub pid: Option<u32>,
    /// Its files on the host, if they are netbpf's.
    pub files: Option<FilesView>,
    /// One for each of its attachments.
    pub attachments: Vec<AttachmentView>,
}

/// A container in a list.
pub struct ContainerLine {
    /// The container.
    pub container: Container,
    /// Whether an endpoint of it is open.
    pub is_open: bool,
    /// One for each of its attachments.
    pub attachments: Vec<AttachmentView>,
}

/// The files of a sandbox on the host.
pub struct FilesView {
    /// `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// `/etc/hostname`.
    pub hostname: PathBuf,
    /// `/etc/hosts`.
    pub hosts: PathBuf,
    /// Its output.
    pub log: PathBuf,
}

/// A membership in a network.
pub struct AttachmentView {
    /// The network, unless it was removed.
    pub network: Option<Network>,
    /// `--link`, with the targets' names.
    pub links: Vec<Link>,
    /// The container's names for others in the network.
    pub names: Vec<String>,
}

/// Networks and containers as users see them, as copies of this moment.
pub struct Views<'a>(pub(in crate::daemon) &'a State);

impl Views<'_> {
    /// `network ls`, by name. `matches` learns of each network whether it has members.
    pub fn networks(&self, matches: impl Fn(&Network, bool) -> bool) -> Vec<NetworkView> {
        let world = self.0.world();
        let mut networks: Vec<_> = world
            .networks()
            .filter(|network| matches(network, world.has_members(&network.id)))
            .map(|of| network(of, &world))
            .collect();
        networks.sort_by(|one, other| one.network.name.cmp(&other.network.name));
        networks
    }

    /// `network inspect`.
    ///
    /// # Errors
    /// [`Error::NoNetwork`], or [`Error::Invalid`] if several match.
    pub fn network(&self, key: &str) -> Result<NetworkView, Error> {
        let world = self.0.world();
        Ok(network(world.find_network(key)?, &world))
    }

    /// `ps`, newest first. `matches` learns of each container its networks.
    pub fn containers(&self, matches: impl Fn(&Container, &[&Network]) -> bool) -> Vec<ContainerLine> {
        let world = self.0.world();
        let mut containers: Vec<_> = world
            .containers()
            .filter(|container| {
                let attachments = container.attachments.iter();
                let networks: Vec<_> =
                    attachments.filter_map(|attachment| world.network(&attachment.network)).collect();
                matches(container, &networks)
            })
            .map(|container| ContainerLine {
                container: container.clone(),
                is_open: is_open(container, &world),
                attachments: attachments(container, &world),
            })
            .collect();
        containers.sort_by_key(|line| std::cmp::Reverse(line.container.created));
        containers
    }
}

/// A copy of a network and its members.
pub fn network(network: &Network, world: &World) -> NetworkView {
    let member = |container: &Container| {
        let attachment = container.attachments.iter().find(|attachment| attachment.network == network.id)?;
        let (id, name) = container.shown();
        Some(MemberView { id, name: name.to_owned(), endpoint: attachment.endpoint.clone()? })
    };
    NetworkView { network: network.clone(), members: world.members(&network.id).filter_map(member).collect() }
}

/// How much an endpoint may receive and send.
pub fn limits(attachment: &Attachment, world: &World) -> Limits {
    let bridge = world.network(&attachment.network).and_then(Network::bridge);
    bridge.map(|bridge| attachment.access(bridge).limits).unwrap_or_default()
}

/// What an endpoint may use besides its leases, in words; none if there is nothing, or no endpoint.
pub fn openness(attachment: &Attachment, world: &World) -> Option<String> {
    attachment.endpoint.as_ref()?;
    attachment.access(world.network(&attachment.network)?.bridge()?).openness()
}

/// Whether an endpoint of a container is open.
pub fn is_open(container: &Container, world: &World) -> bool {
    container.attachments.iter().any(|attachment| openness(attachment, world).is_some())
}

/// All that is open, in words: networks first, then endpoints with options of their own.
pub fn all_open(world: &World) -> Vec<String> {
    let of_network = |network: &Network| {
        let access = &network.bridge()?.options.access;
        access.within(&AccessOptions::default()).openness()
    };
    let mut networks: Vec<_> = world
        .networks()
        .filter_map(|network| Some(format!("all in {} ({})", network.name, of_network(network)?)))
        .collect();
    let mut endpoints: Vec<_> = world
        .containers()
        .flat_map(|container| container.attachments.iter().map(move |attachment| (container, attachment)))
        .filter_map(|(container, attachment)| {
            let open = openness(attachment, world)?;
            let network = world.network(&attachment.network)?;
            let is_own = of_network(network).as_ref() != Some(&open);
            is_own.then(|| format!("{} in {} ({open})", container.shown().1, network.name))
        })
        .collect();
    networks.sort();
    endpoints.sort();
    networks.append(&mut endpoints);
    networks
}

/// A copy of a container whose files are in `dir`.
pub fn container(container: Container, world: &World, dir: &Path, pid: Option<u32>) -> ContainerView {
    let attachments = attachments(&container, world);
    let files = match container.owner().files() {
        Files::Own(_) => Some(FilesView {
            resolv_conf: dir.join("resolv.conf"),
            hostname: dir.join("hostname"),
            hosts: dir.join("hosts"),
            log: dir.join(folders::LOG),
        }),
        Files::None | Files::ResolvConf(_) => None,
    };
    ContainerView { container, pid, files, attachments }
}

fn attachments(container: &Container, world: &World) -> Vec<AttachmentView> {
    let view = |attachment: &Attachment| AttachmentView {
        network: world.network(&attachment.network).cloned(),
        links: links::shown(&attachment.request.links, world),
        names: names::names_of(container, attachment),
    };
    container.attachments.iter().map(view).collect()
}
