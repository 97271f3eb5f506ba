//! What is left to the host's packet filter: the way of containers to other hosts, published ports, and who may come in.
//! One nftables table of ours (`table.nft`), in which a network or a published port is an element and never a rule; rules
//! in those chains of others that would drop our traffic for want of a word on it; the kernel's memory of flows.
//! Knows networks and ports as values, and neither the world nor the programs.
//!
//! Whatever is changed is nft's own language, sent to `nft`: it can be read. What others have is asked of the kernel.

mod advice;
mod flows;
mod foreign;
mod kernel;
mod nft;
mod ruleset;
mod table;
mod walk;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{
        PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Mutex;

pub use foreign::{Standing, State};
pub use nft::Counted;
pub use watch::Changes;

use self::{foreign::Others, table::Elements};
use crate::{
    model::{Mapping, Protocol},
    plan::NetworkRules,
};

/// Why the packet filter could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `nft` is not on this host.
    #[error("nft is missing: install nftables 0.9.4 or newer")]
    NoNft,
    /// `nft` could not be run.
    #[error("run nft: {0}")]
    Run(#[source] std::io::Error),
    /// `nft`, or the kernel, refused.
    #[error("{operation}: nft: {said}")]
    Refused {
        /// What was to be done.
        operation: &'static str,
        /// In nft's words.
        said: String,
    },
    /// What `nft` printed is not what it prints.
    #[error("{operation}: read what nft says: {source}")]
    Unreadable {
        /// What was to be done.
        operation: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The kernel's table of flows could not be read or changed.
    #[error("{operation} flows: {source}")]
    Flows {
        /// What was to be done.
        operation: &'static str,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// The kernel does not say what rules others have.
    #[error("read the packet filter's rules: {0}")]
    Others(#[source] std::io::Error),
    /// The kernel does not say when rules change.
    #[error("watch the packet filter: {0}")]
    Watch(#[source] std::io::Error),
}

/// The packet filter of the namespace that the process is in.
#[derive(Debug)]
pub struct Firewall {
    table: String,
    /// The link group of our host devices.
    group: u32,
    /// What is published. One change at a time: nft reads before it writes.
    published: Mutex<BTreeSet<Mapping>>,
    /// Chains that are not ours.
    others: Mutex<Others>,
    /// Families that pass between our networks and others only: `ipv4`, `ipv6`.
    closed: std::sync::Mutex<BTreeSet<&'static str>>,
    /// How many rules the kernel counts in the whole table.
    rules: AtomicUsize,
}

impl Firewall {
    /// With a table of this name, for host devices of this link group. Fails if there is no `nft`.
    pub async fn open(table: String, group: u32) -> Result<Self, Error> {
        nft::check().await?;
        let others = Mutex::new(Others::new(table.clone()));
        Ok(Self {
            table,
            group,
            published: Mutex::default(),
            others,
            closed: Default::default(),
            rules: AtomicUsize::default(),
        })
    }

    /// Puts the whole table in place, in one transaction: no packet meets half of it, and flows go on.
    pub async fn replace(
        &self,
        networks: &[NetworkRules],
        mappings: impl IntoIterator<Item = Mapping>,
    ) -> Result<(), Error> {
        let mut published = self.published.lock().await;
        *published = mappings.into_iter().collect();
        self.load(networks, &published).await
    }

    /// Puts the whole table in place again, with the ports that are published.
    pub async fn restore(&self, networks: &[NetworkRules]) -> Result<(), Error> {
        let published = self.published.lock().await;
        self.load(networks, &published).await
    }

    async fn load(&self, networks: &[NetworkRules], published: &BTreeSet<Mapping>) -> Result<(), Error> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let elements = Elements::of(networks, published).with_closed(closed);
        nft::run("load the table", &table::replacement(&self.table, self.group, &elements)).await?;
        self.rules.store(nft::rule_count(&self.table).await?.unwrap_or_default(), Ordering::Relaxed);
        self.admit(networks).await;
        Ok(())
    }

    /// Whether the table is there.
    pub async fn is_whole(&self) -> Result<bool, Error> {
        let _alone = self.published.lock().await;
        Ok(nft::rule_count(&self.table).await? == Some(self.rules.load(Ordering::Relaxed)))
    }

    /// Has others' chains let pass what networks send and receive, where that can be done.
    pub async fn admit(&self, networks: &[NetworkRules]) {
        self.others.lock().await.admit(&devices(networks)).await;
    }

    /// How containers fare in chains of others that drop what they have no rule for: those by family, table and name.
    pub async fn standing_in_others(&self) -> BTreeMap<String, Standing> {
        self.others.lock().await.standing().clone()
    }

    /// Enters a network. `all` are the networks with it.
    pub async fn add_network(&self, network: &NetworkRules, all: &[NetworkRules]) -> Result<(), Error> {
        let _alone = self.published.lock().await;
        let elements = Elements::of([network], []);
        nft::run("add network", &elements.added_to(&self.table)).await?;
        if let Err(error) = self.count_rules(network).await {
            // Whole or not at all.
            nft::run("remove network", &elements.deleted_from(&self.table)).await?;
            return Err(error);
        }
        self.admit(all).await;
        Ok(())
    }

    /// Removes a network. `all` are the networks without it.
    pub async fn remove_network(&self, network: &NetworkRules, all: &[NetworkRules]) -> Result<(), Error> {
        let _alone = self.published.lock().await;
        nft::run("remove network", &Elements::of([network], []).deleted_from(&self.table)).await?;
        self.count_rules(network).await?;
        self.admit(all).await;
        Ok(())
    }

    /// Drops what passes the host from and to none of our networks, for a family; also in tables that are loaded later.
    pub async fn close(&self, is_ipv4: bool) -> Result<(), Error> {
        let _alone = self.published.lock().await;
        let family = if is_ipv4 { "ipv4" } else { "ipv6" };
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).insert(family);
        // Before the first load there is no table.
        match nft::rule_count(&self.table).await? {
            None => Ok(()),
            Some(_) => {
                let element = Elements::default().with_closed([family]);
                nft::run("close the host to others", &element.added_to(&self.table)).await
            }
        }
    }

    /// Tables of other netbpf daemons in this namespace.
    pub async fn of_other_daemons(&self) -> Result<Vec<String>, Error> {
        let tables = nft::tables().await?;
        let is_ours = |name: &String| *name == "netbpf" || name.starts_with("netbpf-");
        Ok(tables.into_iter().filter(|name| is_ours(name) && *name != self.table).collect())
    }

    /// A network with a limit of flows has a rule of its own; others are elements and no rule.
    async fn count_rules(&self, changed: &NetworkRules) -> Result<(), Error> {
        if changed.max_flows.is_some() {
            self.rules.store(nft::rule_count(&self.table).await?.unwrap_or_default(), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Publishes ports. What came to them before comes to the container from now on.
    pub async fn publish(&self, mappings: &[Mapping]) -> Result<(), Error> {
        let mut published = self.published.lock().await;
        let elements = Elements::of([], mappings);
        nft::run("publish ports", &elements.added_to(&self.table)).await?;
        if let Err(error) = forget_strays(mappings).await {
            // Whole or not at all.
            nft::run("withdraw ports", &elements.deleted_from(&self.table)).await?;
            return Err(error);
        }
        published.extend(mappings);
        Ok(())
    }

    /// Withdraws published ports; flows that came through them are forgotten.
    pub async fn withdraw(&self, mappings: &[Mapping]) -> Result<(), Error> {
        let mut published = self.published.lock().await;
        // Of an earlier daemon's nothing is in the table that this one loads.
        let gone: Vec<_> = mappings.iter().filter(|mapping| published.remove(mapping)).collect();
        nft::run("withdraw ports", &Elements::of([], gone).deleted_from(&self.table)).await?;
        // A container that keeps its address keeps its other flows where clients came by the relay.
        let translated = mappings.iter().filter(|mapping| mapping.is_translated());
        self.forget(translated.map(|mapping| mapping.container)).await
    }

    /// Forgets all flows from and to containers that are gone, so that their successors get none of them.
    pub async fn forget(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Result<(), Error> {
        for address in addresses.into_iter().collect::<BTreeSet<_>>() {
            flows::forget(address).await?;
        }
        Ok(())
    }

    /// What the table has dropped, by reason. A table that is put in place again counts from zero.
    pub async fn dropped(&self) -> Result<Vec<Counted>, Error> {
        nft::counters(&self.table).await
    }

    /// Takes away everything that is ours.
    pub async fn clear(&self) -> Result<(), Error> {
        let _alone = self.published.lock().await;
        self.admit(&[]).await;
        nft::run("remove the table", &table::removal(&self.table)).await
    }
}

fn devices(networks: &[NetworkRules]) -> BTreeSet<&str> {
    networks.iter().map(|network| &*network.device).collect()
}

/// Forgets datagrams' flows that came to these ports before they were published.
async fn forget_strays(mappings: &[Mapping]) -> Result<(), Error> {
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
