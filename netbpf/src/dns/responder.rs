//! The name responder's process: maps sockets to the containers that ask through them. Must not know where records come
//! from.

use std::{
    collections::{HashMap, HashSet},
    iter,
    os::fd::AsFd,
    path::Path,
    rc::Rc,
};

use anyhow::Context;

use super::{
    asker::{Asker, Shared},
    control::{Greeting, KIND, Pair, Request},
};
use crate::{
    confined::{self, Message, Received, Response, Service, Then},
    model::Id,
};

/// Answers queries until it is told to stop, or until it has neither a daemon nor a container. Runs as `user` if
/// started by root. `dir` is a directory that only root can write to.
///
/// # Errors
/// If a step of the start is refused (limits, privileges, the control socket on standard input), no daemon connects in
/// time, or a request cannot be read or carried out. The daemon then starts a new responder with all records.
pub fn run(user: u32, dir: &Path) -> anyhow::Result<()> {
    confined::run(&KIND, user, dir, |descriptors| Responder {
        shared: Rc::new(Shared::new(descriptors / 2)),
        askers: HashMap::new(),
        lent: HashMap::new(),
        named: None,
    })
}

struct Responder {
    shared: Rc<Shared>,
    askers: HashMap<Id, Asker>,
    /// Lent sockets, while a greeting refers to them. A socket keeps its network namespace alive, so they are dropped
    /// after it.
    lent: HashMap<Id, Vec<Rc<Pair>>>,
    /// The containers named so far, between [`Request::Begin`] and [`Request::End`].
    named: Option<HashSet<Id>>,
}

impl Service for Responder {
    type Request = Request;
    type Held = Greeting;

    fn greeting(&mut self) -> Vec<Message<'_>> {
        self.lent = self.shared.lent();
        let held = self.askers.iter().flat_map(|(&container, asker)| {
            let serve = Message::new(&Response::Held(Greeting::Held(container)))
                .with([asker.udp.as_fd(), asker.tcp.as_fd()]);
            let lent = self.lent.get(&container).into_iter().flatten().map(move |pair| {
                let [udp, tcp] = &**pair;
                Message::new(&Response::Held(Greeting::Lent(container))).with([udp.as_fd(), tcp.as_fd()])
            });
            iter::once(serve).chain(lent)
        });
        held.collect()
    }

    fn greeted(&mut self) {
        self.lent.clear();
        self.named = None;
    }

    async fn perform(&mut self, request: Request, beside: &mut Received<Request>) -> anyhow::Result<Then> {
        match request {
            Request::Begin => self.named = Some(HashSet::new()),
            Request::Upsert(record) => {
                self.shared.insert(&record);
                if let Some(named) = &mut self.named {
                    named.insert(record.container);
                }
            }
            Request::Serve(container) => {
                let [udp, tcp] = beside.sockets()?;
                self.close(container).await;
                let asker = Asker::new(container, udp.into(), tcp.into(), &self.shared)
                    .with_context(|| format!("take the sockets of container {}", container.short()))?;
                self.askers.insert(container, asker);
                self.shared.take_back(container);
            }
            Request::Lend(container) => self.shared.lend(container, beside.sockets()?),
            Request::Remove(container) => self.forget(container).await,
            Request::HostServers(servers) => self.shared.set_host_servers(servers),
            Request::End => {
                let Some(named) = self.named.take() else { return Ok(Then::Continue) };
                for container in self.shared.containers() {
                    if !named.contains(&container) {
                        self.forget(container).await;
                    }
                }
            }
            Request::Stop => return Ok(Then::End),
        }
        Ok(Then::Continue)
    }

    fn served(&self) -> usize {
        self.askers.len()
    }
}

impl Responder {
    async fn forget(&mut self, container: Id) {
        self.close(container).await;
        self.shared.remove(container);
    }

    async fn close(&mut self, container: Id) {
        if let Some(asker) = self.askers.remove(&container) {
            asker.close().await;
        }
    }
}
