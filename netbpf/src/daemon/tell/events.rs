//! Events: keeps the last ones in memory, and sends all to followers. Nothing is stored: a daemon has only
//! the events of its own runtime. Knows Docker's names of events; must not know why they happen.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{Stream, stream};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{
    daemon::state::world::World,
    model::{Container, Id, Mac, Network},
};

/// Number of events that are kept, as in Docker.
const REMEMBERED: usize = 256;

/// Number of moves among them: containers decide how often addresses move.
const REMEMBERED_MOVES: usize = 64;

/// The action of an event about an address that moved.
const MOVE: &str = "move";

/// Number of events that wait for a slow follower; older ones are lost for it.
const BEHIND: usize = 4096;

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its time.
    pub time: Timestamp,
    /// The kind of its object.
    pub kind: EventKind,
    /// `create`, `connect`, `start`, `die`, …
    pub action: &'static str,
    /// The object; none for `prune`.
    pub id: Option<Id>,
    /// The object's name and other attributes.
    pub attributes: BTreeMap<String, String>,
}

/// The kind of an event's object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A sandbox.
    Container,
    /// A network.
    Network,
}

/// The last events.
pub struct Events(Mutex<Inner>);

struct Inner {
    past: VecDeque<Arc<Event>>,
    /// None while the daemon stops.
    news: Option<broadcast::Sender<Arc<Event>>>,
}

/// An event of a sandbox.
pub enum Happened<'a> {
    /// `create`.
    Created,
    /// `start`: its command runs.
    Started,
    /// `kill`: it was sent a signal.
    Killed(i32),
    /// `die`: it exited.
    Died {
        /// 128 + n after signal n.
        code: i32,
        /// Duration of the run.
        ran: SignedDuration,
    },
    /// `stop`.
    Stopped,
    /// `restart`.
    Restarted,
    /// `update`: options of one of its endpoints.
    Updated,
    /// `destroy`.
    Destroyed,
    /// `rename`.
    Renamed {
        /// Its old name.
        old: &'a str,
    },
}

impl Events {
    /// No events.
    pub fn new() -> Self {
        Self(Mutex::new(Inner {
            past: VecDeque::with_capacity(REMEMBERED),
            news: Some(broadcast::Sender::new(BEHIND)),
        }))
    }

    /// End all followers.
    pub fn end(&self) {
        self.inner().news = None;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(
        &self,
        kind: EventKind,
        action: &'static str,
        id: Option<Id>,
        attributes: BTreeMap<String, String>,
    ) {
        let mut inner = self.inner();
        let event = Arc::new(Event { time: Timestamp::now(), kind, action, id, attributes });
        if inner.past.len() == REMEMBERED {
            inner.past.pop_front();
        }
        inner.past.push_back(Arc::clone(&event));
        if let Some(news) = &inner.news {
            // An error means that there are no followers.
            let _ = news.send(event);
        }
    }

    /// `events`: past events from `since` on, or up to `until` if only that is given; then new ones, unless
    /// `until` is in the past.
    pub fn follow(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> impl Stream<Item = Arc<Event>> + use<> {
        let inner = self.inner();
        let wants_past = since.or(until).is_some();
        let past = inner.past.iter().filter(|event| {
            wants_past
                && since.is_none_or(|since| event.time >= since)
                && until.is_none_or(|until| event.time <= until)
        });
        let is_over = until.is_some_and(|until| until <= Timestamp::now());
        let news = inner.news.as_ref().filter(|_| !is_over).map(broadcast::Sender::subscribe);
        let follower = Follower { past: past.cloned().collect(), news, until };
        stream::unfold(follower, async |mut follower| Some((follower.next().await?, follower)))
    }

    /// Report an event of a sandbox. There are none for other containers: their engine reports its own.
    pub fn tell(&self, container: &Container, happened: Happened<'_>) {
        if container.sandbox().is_none() {
            return;
        }
        let mut attributes = container.labels.clone();
        attributes.insert("image".into(), container.owner().image().into_owned());
        attributes.insert("name".into(), container.name.clone());
        let action = match happened {
            Happened::Created => "create",
            Happened::Started => "start",
            Happened::Killed(signal) => {
                attributes.insert("signal".into(), signal.to_string());
                "kill"
            }
            Happened::Died { code, ran } => {
                attributes.insert("execDuration".into(), ran.as_secs().to_string());
                attributes.insert("exitCode".into(), code.to_string());
                "die"
            }
            Happened::Stopped => "stop",
            Happened::Restarted => "restart",
            Happened::Updated => "update",
            Happened::Destroyed => "destroy",
            Happened::Renamed { old } => {
                attributes.insert("oldName".into(), format!("/{old}"));
                "rename"
            }
        };
        self.add(EventKind::Container, action, Some(container.id), attributes);
    }

    /// Report an event of a network: `create`, `update` or `destroy`.
    pub fn tell_of_network(&self, network: &Network, action: &'static str) {
        self.add(EventKind::Network, action, Some(network.id), named(network));
    }

    /// Report that an address moved to a container: `move`. `from` is the container that had it before, if that is
    /// known.
    pub fn tell_of_move(&self, network: &Network, address: IpAddr, mac: Mac, to: &Id, from: Option<&Id>) {
        self.forget_moves();
        let mut attributes = named(network);
        let mut add = |key: &str, value: String| attributes.insert(key.to_owned(), value);
        add("address", address.to_string());
        add("mac", mac.to_string());
        add("container", to.to_string());
        if let Some(from) = from {
            add("from", from.to_string());
        }
        self.add(EventKind::Network, MOVE, Some(network.id), attributes);
    }

    /// Makes room for a move among the kept ones.
    fn forget_moves(&self) {
        let past = &mut self.inner().past;
        let is_move = |event: &Arc<Event>| event.action == MOVE;
        if past.iter().filter(|event| is_move(event)).count() >= REMEMBERED_MOVES
            && let Some(oldest) = past.iter().position(is_move)
        {
            past.remove(oldest);
        }
    }

    /// Report a change of a container's endpoints in networks: `connect`, `update` or `disconnect`.
    pub fn tell_of_members(&self, container: &Id, networks: &[Id], action: &'static str, world: &World) {
        for network in networks.iter().filter_map(|network| world.network(network)) {
            let mut attributes = named(network);
            attributes.insert("container".into(), container.to_string());
            self.add(EventKind::Network, action, Some(network.id), attributes);
        }
    }

    /// Report that networks were pruned. Docker adds the number of freed bytes: none.
    pub fn tell_of_prune(&self) {
        let attributes = [("reclaimed".to_owned(), "0".to_owned())].into();
        self.add(EventKind::Network, "prune", None, attributes);
    }
}

/// The state of a follower.
struct Follower {
    past: VecDeque<Arc<Event>>,
    /// None if only past events were requested.
    news: Option<broadcast::Receiver<Arc<Event>>>,
    until: Option<Timestamp>,
}

impl Follower {
    async fn next(&mut self) -> Option<Arc<Event>> {
        match self.past.pop_front() {
            Some(event) => Some(event),
            None => self.news().await,
        }
    }

    async fn news(&mut self) -> Option<Arc<Event>> {
        let news = self.news.as_mut()?;
        let mut next = async || {
            loop {
                match news.recv().await {
                    Ok(event) => return Some(event),
                    Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "a follower of events is slow"),
                    Err(RecvError::Closed) => return None,
                }
            }
        };
        let Some(until) = self.until else { return next().await };
        let left = until.duration_since(Timestamp::now()).try_into().unwrap_or_default();
        tokio::time::timeout(left, next()).await.ok().flatten()
    }
}

fn named(network: &Network) -> BTreeMap<String, String> {
    [("name", network.name.as_str()), ("type", network.driver_name())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}
