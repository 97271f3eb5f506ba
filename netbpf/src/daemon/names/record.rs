//! Derives from the model what is needed for names: a container's record for the responder, its files, and
//! where it asks.

use std::{collections::BTreeSet, net::IpAddr};

use nix::sys::socket::AddressFamily;
use tokio::task::block_in_place;

use crate::{
    daemon::{
        Error,
        effects::{asking::Asking, effect::Effect, files, lo::DNS_PORT},
        fault,
        names::{Names, links},
        state::{namespace_of, world::World},
    },
    dns::{NetworkRecord, Record, Servers},
    model::{Attachment, Container, Files, Mode, Namespace, Sandbox},
    plan::rank,
};

impl Names {
    /// What updates `/etc/hosts` and `/etc/resolv.conf` of a running container for its networks.
    ///
    /// # Errors
    /// [`Error::File`] if a file of the host cannot be read.
    pub fn file_changes(&self, container: &Container) -> Result<Option<Effect>, Error> {
        let dir = self.host.folders.of(&container.id);
        Ok(match container.owner().files() {
            Files::None => None,
            Files::Own(sandbox) => {
                self.texts_of(container, sandbox)?.map(|texts| Effect::UpdateFiles { dir, texts })
            }
            Files::ResolvConf(path) => Some(match (path, self.record_of(container)) {
                (Some(path), Some(_)) => Effect::BorrowResolvConf { dir, path: path.to_owned() },
                _ => Effect::ReturnResolvConf { dir },
            }),
        })
    }

    /// Updates the files of a running container, without undo.
    ///
    /// # Errors
    /// [`Error::File`]: the files are as before.
    pub async fn rewrite_files(&self, container: &Container) -> Result<(), Error> {
        match self.file_changes(container)? {
            Some(effect) => self.host.apply(effect).await,
            None => Ok(()),
        }
    }

    /// Create the files of a sandbox before its start. There is no undo: the files are used only by a running
    /// sandbox, and each start creates them again.
    ///
    /// # Errors
    /// [`Error::File`] if one cannot be written. Some may be written.
    pub fn make_files(&self, container: &Container, sandbox: &Sandbox) -> Result<(), Error> {
        let Some(texts) = self.texts_of(container, sandbox)? else { return Ok(()) };
        let dir = self.host.folders.of(&container.id);
        fault::before("make files")?;
        block_in_place(|| files::make(&dir, &texts, &sandbox.hostname))?;
        fault::after("make files");
        Ok(())
    }

    /// The texts of a sandbox's files; none if it uses those of another one.
    fn texts_of(&self, container: &Container, sandbox: &Sandbox) -> Result<Option<files::Texts>, Error> {
        match sandbox.mode {
            Mode::Container(_) => Ok(None),
            Mode::Networks | Mode::None | Mode::Host => {
                let world = self.state.world();
                let linked = links::hosts_of(container, &world);
                files::texts_of(container, sandbox, &world, linked).map(Some)
            }
        }
    }

    /// What publishes the names of a running container, if it has any. `before` is the container with its present
    /// names; `namespace` is that of its interfaces, if netbpf has placed them.
    pub fn publication(
        &self,
        before: &Container,
        after: &Container,
        namespace: Option<&Namespace>,
    ) -> Option<Effect> {
        let [before, record] = [before, after].map(|container| self.record_of(container));
        let namespace = namespace.filter(|_| before.is_none());
        let asking = namespace.and_then(|namespace| asking_of(after, namespace, false));
        Some(Effect::PublishNames { record: record?, before, asking })
    }

    /// What publishes the names of `after` in place of those of `before`, or withdraws them if it has none. None for the
    /// first names of a container that asks the responder: it needs sockets.
    pub fn change(&self, before: &Container, after: &Container) -> Option<Effect> {
        let [old, new] = [before, after].map(|container| self.record_of(container));
        match (old, new) {
            (None, _) if after.owner().asks_our_responder() => None,
            (None, None) => None,
            (Some(old), Some(new)) if old == new => None,
            (before, Some(record)) => Some(Effect::PublishNames { record, before, asking: None }),
            (Some(old), None) => Some(Effect::WithdrawNames(old)),
        }
    }

    /// The same, at once and without undo.
    ///
    /// # Errors
    /// [`Error::Dns`] or [`Error::Datapath`] if the responder or the programs cannot be told: they have the names of
    /// `before`.
    pub async fn republish(&self, before: &Container, after: &Container) -> Result<(), Error> {
        match self.change(before, after) {
            Some(effect) => self.host.apply(effect).await,
            None => Ok(()),
        }
    }

    /// Send all records to the responder and to the programs, which remove all others.
    ///
    /// # Errors
    /// [`Error::Dns`] if the responder cannot be told; [`Error::Datapath`] of the programs' maps; [`Error::File`] if the
    /// directories of containers cannot be listed. That sockets cannot be opened is logged: only that container has no
    /// names.
    pub async fn publish_all(&self) -> Result<(), Error> {
        self.host.reserve_at_lo()?;
        let mut records = Vec::new();
        for container in self.state.containers() {
            let namespace = namespace_of(&container).ok();
            let can_ask = namespace.is_some() || !container.owner().asks_our_responder();
            match self.record_of(&container).filter(|_| can_ask) {
                Some(record) => records.push((record, container, namespace)),
                // A daemon was killed before it had removed the filter.
                None => {
                    if let Err(error) = self.host.leave_lo(container.id).await {
                        tracing::error!(container = %container.id.short(), %error, "remove the filter at lo");
                    }
                }
            }
        }
        self.host.prepare_names(records.iter().map(|(record, ..)| record))?;
        for (record, container, namespace) in records {
            let asking = namespace.and_then(|namespace| asking_of(&container, &namespace, true));
            self.publish_again(record, asking.as_ref()).await?;
        }
        self.host.settle_lo()?;
        self.host.datapath().settle_names()?;
        Ok(self.host.feed.settle().await?)
    }

    /// Sends the record of a container. If its queries cannot be led to the responder, it cannot ask, but others can resolve
    /// it.
    async fn publish_again(&self, record: Record, asking: Option<&Asking>) -> Result<(), Error> {
        let container = record.container;
        match self.host.publish_names(record.clone(), asking).await {
            Err(error @ (Error::Link(_) | Error::Resolver { .. } | Error::File { .. })) => {
                tracing::error!(container = %container.short(), %error, "lead its queries to the responder");
            }
            published => return published,
        }
        // It would map queries to sockets that nobody has.
        if let Err(error) = self.host.leave_lo(container).await {
            tracing::error!(container = %container.short(), %error, "remove the filter at lo");
        }
        self.host.publish_names(record, None).await
    }

    /// The responder's record of a container.
    pub fn record_of(&self, container: &Container) -> Option<Record> {
        record_of(container, &self.state.world())
    }
}

/// Where a container asks from a namespace, if it asks netbpf's responder.
pub(super) fn asking_of(container: &Container, namespace: &Namespace, asks_already: bool) -> Option<Asking> {
    let owner = container.owner();
    let servers = owner.name_servers().map(|servers| match servers.iter().all(IpAddr::is_ipv4) {
        true => AddressFamily::Inet,
        // IPv6 sockets reach servers of both families.
        false => AddressFamily::Inet6,
    });
    let asking = Asking { namespace: namespace.clone(), address: owner.resolver(), servers, asks_already };
    owner.asks_our_responder().then_some(asking)
}

/// The names of a container in a network: its name, its aliases, its short ID, its host name. None if its name is not
/// known yet.
pub fn names_of(container: &Container, attachment: &Attachment) -> Vec<String> {
    let owner = container.owner();
    let name = owner.name_in_networks(&container.name).into_owned();
    if name.is_empty() {
        return Vec::new();
    }
    let mut seen = BTreeSet::new();
    std::iter::once(name)
        .chain(attachment.request.aliases.iter().cloned())
        .chain(owner.aliases().iter().cloned())
        .chain([container.shown().0.short()])
        .chain(owner.hostname().map(str::to_owned))
        .filter(|name| !name.is_empty() && seen.insert(name.to_lowercase()))
        .collect()
}

/// The responder's record of a container; none if none of its networks has names. The record also contains
/// the default network, without names, because the container can reach the host's servers through it.
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
            number: bridge.number,
            name: network.name.clone(),
            internal: network.internal,
            icc: bridge.options.icc,
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
    // One that does not ask is known for its names only.
    has_names &=
        container.owner().asks_our_responder() || networks.iter().any(|(_, record)| !record.names.is_empty());
    networks.sort_by(|(one, _), (other, _)| one.cmp(other));
    let servers = match container.owner().name_servers() {
        Some(servers) => Servers::Inside(servers.iter().map(|server| (*server, DNS_PORT).into()).collect()),
        None => Servers::Host,
    };
    let networks = networks.into_iter().map(|(_, network)| network).collect();
    has_names.then_some(Record { container: container.id, networks, servers })
}
