//! netbpf's use of the host's packet filter: traffic between containers and other hosts, and published ports. It
//! consists of one nftables table (`table.nft`), in which a network or a published port is a set element, never a rule;
//! of rules in foreign chains that would drop netbpf's traffic; and of conntrack entries to delete. Knows networks and
//! ports as values, neither the daemon's state nor the eBPF programs.
//!
//! Changes are commands in nft's language, sent to `nft`, so they can be read; except for published ports, which change
//! often, and are sent to the kernel. The rules of others are read over netlink.

mod advice;
mod bystanders;
mod elements;
mod flows;
mod foreign;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod kernel;
mod nft;
mod ruleset;
mod table;
mod tracked;
mod walk;
mod watch;
mod watching;
#[cfg(test)]
mod written;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use netlink_packet_netfilter::NetfilterProtoFamily;
use tokio::sync::Mutex;

pub use bystanders::{Bystanders, Hook, Opinion, Passage, Verdicts};
pub use foreign::{Standing, State};
pub use nft::Counted;
pub use tracked::{Direction, Timeouts, Tracked, TrackedFlows, Transport};
pub use watch::FilterChanges;
pub use watching::{is_bridge_of_docker, legacy_tables};

use self::{
    elements::{Change, Element},
    foreign::ForeignChains,
    kernel::Kernel,
    table::Elements,
};
use crate::{
    model::{Mapping, Protocol},
    plan::{NetworkRules, Unleased},
};

/// Why the packet filter could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `nft` is not on this host.
    #[error("nft is missing: install nftables 0.9.4 or newer")]
    NoNft,
    /// `nft` could not be run.
    #[error("run nft: {0}")]
    Run(#[source] io::Error),
    /// `nft` or the kernel refused the commands.
    #[error("{operation}: nft: {said}")]
    Refused {
        /// The operation that failed.
        operation: &'static str,
        /// The first line of nft's error output.
        said: String,
    },
    /// `nft` printed JSON that cannot be parsed.
    #[error("{operation}: parse nft's output: {source}")]
    Unreadable {
        /// The operation that failed.
        operation: &'static str,
        /// Where the JSON is wrong.
        source: serde_json::Error,
    },
    /// The kernel refused a change of the published ports.
    #[error("{operation} in the table {table}: {source}")]
    Ports {
        /// The operation that failed.
        operation: &'static str,
        /// netbpf's table.
        table: String,
        /// The kernel's error: `ENOENT` if somebody removed the table.
        source: io::Error,
    },
    /// Conntrack entries could not be read or deleted.
    #[error("{operation} flows: {source}")]
    Flows {
        /// The operation that failed.
        operation: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// The rules of the packet filter could not be read.
    #[error("read the packet filter's rules: {0}")]
    Others(#[source] io::Error),
    /// The notifications of rule changes could not be received.
    #[error("watch the packet filter: {0}")]
    Watch(#[source] io::Error),
}

/// The packet filter of the process's network namespace.
#[derive(Debug)]
pub struct Firewall {
    table: String,
    /// The link group of netbpf's host devices.
    group: u32,
    /// The published ports. The lock also keeps changes of the table apart, because some read it before they write.
    published: Mutex<BTreeSet<Mapping>>,
    /// Foreign chains.
    others: Mutex<ForeignChains>,
    /// The address families (`ipv4`, `ipv6`) that the host forwards only from and to netbpf's networks.
    closed: std::sync::Mutex<BTreeSet<&'static str>>,
    /// The number of rules in the table, as the kernel counted them after the last change.
    rules: AtomicUsize,
    /// For changes of elements. It stays open, because the kernel lets whoever closes such a socket wait for a grace period
    /// of RCU after a removal.
    kernel: Arc<std::sync::Mutex<Option<Kernel>>>,
    /// The number of that socket; 0 if there is none.
    port: Arc<AtomicU32>,
}

impl Firewall {
    /// For a table of this name and host devices of this link group.
    ///
    /// # Errors
    /// [`Error::NoNft`] if there is no `nft` on this host.
    pub async fn open(table: String, group: u32) -> Result<Self, Error> {
        nft::check().await?;
        let others = Mutex::new(ForeignChains::new(table.clone()));
        Ok(Self {
            table,
            group,
            published: Mutex::default(),
            others,
            closed: Default::default(),
            rules: AtomicUsize::default(),
            kernel: Arc::default(),
            port: Arc::default(),
        })
    }

    /// Replaces the whole table in one transaction: no packet meets half of it, and established flows go on.
    ///
    /// # Errors
    /// [`Error::Run`] or [`Error::Refused`] if `nft` does not load it: the old table stays. [`Error::Others`] if its
    /// rules cannot be counted: it is loaded.
    pub async fn replace(
        &self,
        networks: &[NetworkRules],
        mappings: impl IntoIterator<Item = Mapping>,
    ) -> Result<(), Error> {
        let mut published = self.published.lock().await;
        let mappings = mappings.into_iter().collect();
        self.load(networks, &mappings).await?;
        *published = mappings;
        self.loaded(networks).await
    }

    /// Loads the whole table again, with the ports that are published now.
    ///
    /// # Errors
    /// [`Error::Run`] or [`Error::Refused`] if `nft` does not load it: the table stays as it is. [`Error::Others`] if
    /// its rules cannot be counted: it is loaded.
    pub async fn restore(&self, networks: &[NetworkRules]) -> Result<(), Error> {
        let published = self.published.lock().await;
        self.load(networks, &published).await?;
        self.loaded(networks).await
    }

    async fn load(&self, networks: &[NetworkRules], published: &BTreeSet<Mapping>) -> Result<(), Error> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let elements = Elements::of(networks, published).with_closed(closed);
        nft::run("load the table", &table::replacement(&self.table, self.group, &elements)).await
    }

    async fn loaded(&self, networks: &[NetworkRules]) -> Result<(), Error> {
        self.rules.store(self.rule_count().await?, Ordering::Relaxed);
        self.admit(networks).await;
        Ok(())
    }

    /// Whether the table exists with all its rules.
    ///
    /// # Errors
    /// [`Error::Others`] if the kernel does not list the rules.
    pub async fn is_whole(&self) -> Result<bool, Error> {
        let _alone = self.published.lock().await;
        let rules = self.rule_count().await?;
        Ok(rules > 0 && rules == self.rules.load(Ordering::Relaxed))
    }

    /// Adds rules for these networks' host devices to foreign chains that would drop their traffic, where that is
    /// possible.
    pub async fn admit(&self, networks: &[NetworkRules]) {
        self.others.lock().await.admit(&devices(networks)).await;
    }

    /// What foreign chains mean for containers, by `FAMILY TABLE CHAIN`. Lists only chains that drop packets of containers,
    /// or would without netbpf's rules.
    pub async fn standing_in_others(&self) -> BTreeMap<String, Standing> {
        self.others.lock().await.standing().clone()
    }

    /// Adds a network to the table. `all` are all networks including it.
    ///
    /// # Errors
    /// [`Error::Run`] or [`Error::Refused`] if `nft` does not add it; [`Error::Others`] if the rules cannot be counted.
    /// The table is as before then, unless `nft` also refuses the undo, which is logged.
    pub async fn add_network(&self, network: &NetworkRules, all: &[NetworkRules]) -> Result<(), Error> {
        let _alone = self.published.lock().await;
        let elements = Elements::of([network], []);
        nft::run("add network", &elements.added_to(&self.table)).await?;
        if let Err(error) = self.count_rules(network).await {
            undo("remove network", &elements.deleted_from(&self.table)).await;
            return Err(error);
        }
        self.admit(all).await;
        Ok(())
    }

    /// Removes a network from the table. `all` are the networks without it.
    ///
    /// # Errors
    /// [`Error::Run`] or [`Error::Refused`] if `nft` does not remove it; [`Error::Others`] if the rules cannot be
    /// counted. The table is as before then, unless `nft` also refuses the undo, which is logged.
    pub async fn remove_network(&self, network: &NetworkRules, all: &[NetworkRules]) -> Result<(), Error> {
        let _alone = self.published.lock().await;
        let elements = Elements::of([network], []);
        nft::run("remove network", &elements.deleted_from(&self.table)).await?;
        if let Err(error) = self.count_rules(network).await {
            undo("add network", &elements.added_to(&self.table)).await;
            return Err(error);
        }
        self.admit(all).await;
        Ok(())
    }

    /// Drops forwarded traffic of a family that is neither from nor to a netbpf network. Tables that are loaded later
    /// have the same rule. Returns false if they were dropped already.
    ///
    /// # Errors
    /// [`Error::Others`] if the rules cannot be counted, [`Error::Run`] or [`Error::Refused`] if `nft` does not add the
    /// rule. Nothing was changed then.
    pub async fn close_to_others(&self, is_ipv4: bool) -> Result<bool, Error> {
        let _alone = self.published.lock().await;
        let family = family(is_ipv4);
        if self.closed.lock().unwrap_or_else(PoisonError::into_inner).contains(family) {
            return Ok(false);
        }
        // Before the first load there is no table; `load` adds the element.
        if self.rule_count().await? != 0 {
            let element = Elements::default().with_closed([family]);
            nft::run("forward for netbpf only", &element.added_to(&self.table)).await?;
        }
        Ok(self.closed.lock().unwrap_or_else(PoisonError::into_inner).insert(family))
    }

    /// Undoes [`Firewall::close_to_others`].
    ///
    /// # Errors
    /// [`Error::Others`] if the rules cannot be counted, [`Error::Run`] or [`Error::Refused`] if `nft` does not remove
    /// the rule. Nothing was changed then.
    pub async fn open_to_others(&self, is_ipv4: bool) -> Result<(), Error> {
        let _alone = self.published.lock().await;
        let family = family(is_ipv4);
        if self.rule_count().await? != 0 {
            let element = Elements::default().with_closed([family]);
            nft::run("forward for others too", &element.deleted_from(&self.table)).await?;
        }
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).remove(family);
        Ok(())
    }

    /// The tables of other netbpf daemons in this namespace.
    ///
    /// # Errors
    /// [`Error::Run`], [`Error::Refused`] or [`Error::Unreadable`] if `nft` does not list the tables.
    pub async fn of_other_daemons(&self) -> Result<Vec<String>, Error> {
        let tables = nft::tables().await?;
        let is_ours = |name: &String| *name == "netbpf" || name.starts_with("netbpf-");
        Ok(tables.into_iter().filter(|name| is_ours(name) && *name != self.table).collect())
    }

    /// The number of rules in the table; 0 if there is no table.
    async fn rule_count(&self) -> Result<usize, Error> {
        let table = self.table.clone();
        in_background(move || ruleset::count(&table)).await.map_err(Error::Others)
    }

    /// Counts the rules again if the network has a flow limit, which is a rule of its own. Other networks are only set
    /// elements.
    async fn count_rules(&self, changed: &NetworkRules) -> Result<(), Error> {
        if changed.max_flows.is_some() {
            self.rules.store(self.rule_count().await?, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Changes of the packet filter since now, but not those of published ports by this value.
    ///
    /// # Errors
    /// As of [`FilterChanges::watch`].
    pub fn changes_by_others(&self) -> Result<FilterChanges, Error> {
        FilterChanges::watch_all_but(Arc::clone(&self.port))
    }

    /// Publishes ports. UDP flows that reached the host at these ports before go to the container from now on.
    ///
    /// # Errors
    /// [`Error::Ports`] if the kernel does not add them; [`Error::Flows`] if old UDP flows cannot be deleted. None is
    /// published then, unless the kernel also refuses the undo, which is logged.
    pub async fn publish(&self, mappings: &[Mapping]) -> Result<(), Error> {
        let mut published = self.published.lock().await;
        let elements = elements_of(mappings);
        self.change_ports("publish ports", &[Change::Add], &elements).await?;
        if let Err(error) = forget_earlier_datagrams(mappings).await {
            let elements = elements_of_only(mappings, &published);
            warn(self.change_ports("withdraw ports", &[Change::Delete], &elements).await);
            return Err(error);
        }
        published.extend(mappings);
        Ok(())
    }

    /// Withdraws published ports and deletes the flows through them. Those of addresses in `leaving` may stay, because the
    /// caller deletes all their flows.
    ///
    /// # Errors
    /// [`Error::Ports`] if the kernel does not remove them; [`Error::Flows`] if flows cannot be deleted. All stay published
    /// then, unless the kernel also refuses the undo, which is logged.
    pub async fn withdraw(&self, mappings: &[Mapping], leaving: &[IpAddr]) -> Result<(), Error> {
        let mut published = self.published.lock().await;
        // The table has no elements of an earlier daemon, because this daemon has loaded it anew.
        let gone: Vec<Mapping> =
            mappings.iter().filter(|mapping| published.contains(mapping)).copied().collect();
        let elements = elements_of_only(&gone, &published);
        // Somebody may have removed an element.
        self.change_ports("withdraw ports", &[Change::Add, Change::Delete], &elements).await?;
        // A relayed port has no translated flows, and a container that keeps its address keeps its other flows.
        let translated = mappings.iter().filter(|mapping| mapping.is_translated());
        let flows = translated.map(|mapping| mapping.container).filter(|address| !leaving.contains(address));
        if let Err(error) = self.forget(flows).await {
            warn(self.change_ports("publish ports", &[Change::Add], &elements).await);
            return Err(error);
        }
        published.retain(|mapping| !mappings.contains(mapping));
        Ok(())
    }

    /// Changes elements of the table, in one transaction.
    async fn change_ports(
        &self,
        operation: &'static str,
        changes: &[Change],
        elements: &[Element],
    ) -> Result<(), Error> {
        if elements.is_empty() {
            return Ok(());
        }
        let messages = changes.iter().flat_map(|change| elements::messages(&self.table, *change, elements));
        let (messages, kernel, port) = (messages.collect(), Arc::clone(&self.kernel), Arc::clone(&self.port));
        let changed = in_background(move || {
            let mut kernel = kernel.lock().unwrap_or_else(PoisonError::into_inner);
            let open = match kernel.take() {
                Some(open) => open,
                None => Kernel::open()?,
            };
            port.store(open.port(), Ordering::Relaxed);
            // After an error it may have further answers.
            open.transact(NetfilterProtoFamily::Inet, messages)
                .inspect_err(|_| port.store(0, Ordering::Relaxed))?;
            *kernel = Some(open);
            Ok(())
        });
        changed.await.map_err(|source| Error::Ports { operation, table: self.table.clone(), source })
    }

    /// Deletes all flows from and to these addresses of removed containers, so that the next owner gets none of their
    /// packets.
    ///
    /// # Errors
    /// [`Error::Flows`] if the kernel does not list or delete them. Some may be deleted then.
    pub async fn forget(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Result<(), Error> {
        for address in addresses.into_iter().collect::<BTreeSet<_>>() {
            flows::forget(address).await?;
        }
        Ok(())
    }

    /// Deletes the flows from and to addresses that nobody has. Reads the kernel's flows once for each family, and not at
    /// all if there are none.
    ///
    /// # Errors
    /// [`Error::Flows`] if the kernel does not list or delete them. Some may be deleted then.
    pub async fn forget_unleased(&self, unleased: &Unleased) -> Result<(), Error> {
        for is_ipv4 in [true, false] {
            if unleased.has_family(is_ipv4) {
                flows::forget_unleased(is_ipv4, unleased.clone()).await?;
            }
        }
        Ok(())
    }

    /// Packets that the table dropped, by reason. The counters start at zero whenever the table is loaded.
    ///
    /// # Errors
    /// [`Error::Run`], [`Error::Refused`] or [`Error::Unreadable`] if `nft` does not list the counters.
    pub async fn dropped(&self) -> Result<Vec<Counted>, Error> {
        nft::counters(&self.table).await
    }

    /// Removes the table and netbpf's rules in foreign chains.
    ///
    /// # Errors
    /// [`Error::Run`] or [`Error::Refused`] if `nft` does not remove the table. The rules in foreign chains are gone
    /// then.
    pub async fn clear(&self) -> Result<(), Error> {
        let _alone = self.published.lock().await;
        self.admit(&[]).await;
        nft::run("remove the table", &table::removal(&self.table)).await
    }
}

/// Undoes a change that failed halfway.
async fn undo(operation: &'static str, commands: &str) {
    warn(nft::run(operation, commands).await);
}

/// Logs a failed undo. The caller returns the error of the change.
fn warn(undone: Result<(), Error>) {
    if let Err(error) = undone {
        tracing::warn!("undo: {error}");
    }
}

/// The elements of these ports that no other published port of the same containers has.
fn elements_of_only(mappings: &[Mapping], published: &BTreeSet<Mapping>) -> Vec<Element> {
    let containers: BTreeSet<IpAddr> = mappings.iter().map(|mapping| mapping.container).collect();
    let others = published.iter().filter(|mapping| !mappings.contains(mapping));
    let shared = elements_of(others.filter(|mapping| containers.contains(&mapping.container)));
    let mut elements = elements_of(mappings);
    elements.retain(|element| shared.binary_search(element).is_err());
    elements
}

/// The elements of published ports, each once and in the order of their sets.
fn elements_of<'a>(mappings: impl IntoIterator<Item = &'a Mapping>) -> Vec<Element> {
    let elements: BTreeSet<Element> = mappings.into_iter().flat_map(Element::of).collect();
    elements.into_iter().collect()
}

/// Speaks with the kernel on a thread that may block.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// The family's element in the set `closed`.
fn family(is_ipv4: bool) -> &'static str {
    if is_ipv4 { "ipv4" } else { "ipv6" }
}

fn devices(networks: &[NetworkRules]) -> BTreeSet<&str> {
    networks.iter().map(|network| &*network.device).collect()
}

/// Deletes UDP flows to these ports from before they were published.
async fn forget_earlier_datagrams(mappings: &[Mapping]) -> Result<(), Error> {
    for is_ipv4 in [true, false] {
        let datagrams = mappings
            .iter()
            .filter(|mapping| mapping.protocol == Protocol::Udp && mapping.host_port != 0)
            .filter(|mapping| mapping.is_translated())
            .filter(|mapping| mapping.container.is_ipv4() == is_ipv4);
        let ports: BTreeSet<u16> = datagrams.map(|mapping| mapping.host_port).collect();
        if !ports.is_empty() {
            flows::forget_datagrams(is_ipv4, ports).await?;
        }
    }
    Ok(())
}
