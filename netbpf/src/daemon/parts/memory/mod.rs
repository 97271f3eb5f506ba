//! A host in memory: what the daemon asks of links, maps, packet filter, name records and relay changes plain
//! data. It follows the kernel where the daemon relies on it:
//!
//! | rule | proved of the real host by |
//! |---|---|
//! | an ifindex, and a name in a namespace, is taken once | `tests/link` |
//! | a deleted link has no routes, programs or peer | `tests/link`, `tests/lab/hands.rs` |
//! | the links, routes and filters of a namespace end with it | `tests/lab/foreign.rs` |
//! | a record that no responder took is kept for the next one | `tests/responder` |
//! | the flows of an address are forgotten, and no others | `tests/lab/flows.rs` |
//!
//! Any call can be told to fail.

mod datapath;
mod firewall;
mod links;
mod processes;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use netbpf_common::allowed::AllowedKey;
use nix::errno::Errno;

pub use datapath::Datapath;
pub use firewall::Firewall;
pub use links::{Links, Namespace, Sysctls};
pub use processes::{Feed, Relay, held_namespace, resolver_sockets};

use crate::{
    datapath::NamesInNetwork,
    dns::Record,
    model::{self, Id, Mapping},
    plan::{Device, EndpointEntry, NetworkEntry, NetworkRules, Shapers},
    relay::Place,
};

/// A host. Clones are the same one.
#[derive(Clone, Default)]
pub struct Machine(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    state: State,
    /// The number of calls until one fails; none if all succeed.
    calls_until_failure: Option<u32>,
    /// The call that failed.
    failed: Option<&'static str>,
    /// What is refused each time, and why.
    refused: BTreeMap<&'static str, Errno>,
}

/// All that the daemon can change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub links: BTreeMap<u32, Link>,
    /// Default routes, by namespace; those of IPv6 have `true`.
    pub routes: BTreeMap<(PathBuf, bool), IpAddr>,
    pub networks: BTreeMap<u32, NetworkEntry>,
    pub endpoints: BTreeMap<u32, EndpointEntry>,
    /// Interfaces with a program.
    pub attached: BTreeSet<String>,
    pub allowed: BTreeSet<AllowedKey>,
    /// The rules of networks, by device.
    pub rules: BTreeMap<String, NetworkRules>,
    pub published: BTreeSet<Mapping>,
    pub relayed: BTreeSet<Place>,
    /// Addresses with flows in connection tracking.
    pub flows: BTreeSet<IpAddr>,
    /// The families that are closed to others; IPv4 is `true`.
    pub closed: BTreeSet<bool>,
    pub records: BTreeMap<Id, Record>,
    /// The names that the programs answer.
    pub names: BTreeMap<Id, Vec<NamesInNetwork>>,
    /// The class of the filter of each container that asks.
    pub resolvers: BTreeMap<Id, u16>,
    /// The class of the filter at `lo` of each namespace.
    pub at_lo: BTreeMap<PathBuf, u16>,
    /// The namespaces with a discipline for filters at `lo`.
    pub disciplines: BTreeSet<PathBuf>,
    /// Settings that differ from a booted kernel's.
    pub settings: BTreeMap<String, String>,
}

/// A veth pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// The host side.
    pub device: Device,
    /// The other end: its name, and the namespace where it is; none for the host's.
    pub peer: (String, Option<PathBuf>),
    /// The addresses of the other end.
    pub addresses: Vec<ipnet::IpNet>,
    /// The queueing disciplines of both ends.
    pub shapers: Shapers,
}

impl Machine {
    /// Reads the state.
    pub fn state(&self) -> State {
        self.lock().state.clone()
    }

    /// Changes the state as somebody else would.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock().state);
    }

    /// Lets the call with this number from now on fail, counted from one.
    pub fn fail_at(&self, call: u32) {
        let mut inner = self.lock();
        (inner.calls_until_failure, inner.failed) = (Some(call), None);
    }

    /// Lets all further calls succeed. Returns the call that failed.
    pub fn fail_no_more(&self) -> Option<&'static str> {
        let mut inner = self.lock();
        inner.calls_until_failure = None;
        inner.failed.take()
    }

    /// Lets each call or question of this name fail from now on.
    pub fn refuse(&self, name: &'static str, errno: Errno) {
        self.lock().refused.insert(name, errno);
    }

    /// Refuses nothing from now on.
    pub fn refuse_nothing(&self) {
        self.lock().refused.clear();
    }

    /// A question, which changes nothing. It is not counted.
    fn ask(&self, name: &'static str) -> io::Result<()> {
        self.lock().refused.get(name).map_or(Ok(()), |errno| Err((*errno).into()))
    }

    /// A call that changes the state completely or fails.
    fn call<T>(&self, name: &'static str, work: impl FnOnce(&mut State) -> T) -> io::Result<T> {
        self.ask(name)?;
        let mut inner = self.lock();
        match &mut inner.calls_until_failure {
            Some(1) => {
                (inner.calls_until_failure, inner.failed) = (None, Some(name));
                return Err(io::Error::other(format!("{name} fails, as the test wants")));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(work(&mut inner.state))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A namespace ends, and all that is in it.
    pub fn end_namespace(&mut self, path: &std::path::Path) {
        let ended: Vec<u32> = self
            .links
            .iter()
            .filter(|(_, link)| link.peer.1.as_deref() == Some(path))
            .map(|(ifindex, _)| *ifindex)
            .collect();
        for ifindex in ended {
            self.delete_link(ifindex);
        }
        self.routes.retain(|(namespace, _), _| namespace != path);
        self.at_lo.remove(path);
        self.disciplines.remove(path);
    }

    /// Deletes a link, its program, and the routes through it. False if there is none.
    pub fn delete_link(&mut self, ifindex: u32) -> bool {
        let Some(link) = self.links.remove(&ifindex) else { return false };
        self.attached.remove(&link.device.name);
        if let Some(namespace) = &link.peer.1 {
            self.routes.retain(|(of, _), gateway| {
                of != namespace || !link.addresses.iter().any(|net| net.contains(&*gateway))
            });
        }
        true
    }
}

/// Where a namespace is.
fn place(namespace: &model::Namespace) -> PathBuf {
    match namespace {
        model::Namespace::Path(path) => path.clone(),
        model::Namespace::Process { pid, .. } => format!("/proc/{pid}/ns/net").into(),
    }
}
