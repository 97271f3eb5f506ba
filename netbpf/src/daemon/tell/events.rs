//! Events: keeps the last ones in memory, and sends all to followers. Nothing is stored: a daemon has only
//! the events of its own runtime. Knows Docker's names of events; must not know why they happen.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{Stream, stream};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{
    api::{
        events::{Actor, Event, Selection},
        filters::Filters,
    },
    daemon::{Daemon, Error},
    model::{Container, Id, Network},
};

/// Number of events that are kept, as in Docker.
const REMEMBERED: usize = 256;

/// Number of events that wait for a slow follower; older ones are lost for it.
const BEHIND: usize = 4096;

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

    fn tell(&self, kind: &str, action: &str, actor: Actor) {
        let mut inner = self.inner();
        let now = Timestamp::now();
        let is_container = kind == "container";
        let event = Arc::new(Event {
            status: if is_container { action.to_owned() } else { String::new() },
            id: if is_container { actor.id.clone() } else { String::new() },
            from: actor.attributes.get("image").cloned().unwrap_or_default(),
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor,
            scope: "local".into(),
            time: now.as_second(),
            time_nano: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
        });
        if inner.past.len() == REMEMBERED {
            inner.past.pop_front();
        }
        inner.past.push_back(Arc::clone(&event));
        if let Some(news) = &inner.news {
            // An error means that there are no followers.
            let _ = news.send(event);
        }
    }
}

/// The state of a follower.
struct Follower {
    past: VecDeque<Arc<Event>>,
    /// None if only past events were requested.
    news: Option<broadcast::Receiver<Arc<Event>>>,
    selection: Selection,
    until: Option<Timestamp>,
}

impl Follower {
    async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            let event = match self.past.pop_front() {
                Some(event) => event,
                None => self.news().await?,
            };
            if self.selection.matches(&event) {
                return Some(event);
            }
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

impl Daemon {
    /// `events` as lines of JSON: past events from `since` on, or up to `until` if only that is given; then
    /// new ones, unless `until` is in the past.
    ///
    /// # Errors
    /// [`Error::Filter`] for an unknown filter.
    pub fn follow_events(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        filters: &Filters,
    ) -> Result<impl Stream<Item = Result<String, Infallible>> + use<>, Error> {
        let selection = Selection::parse(filters)?;
        let inner = self.events.inner();
        let nanoseconds = |time: Timestamp| i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX);
        let wants_past = since.or(until).is_some();
        let past = inner.past.iter().filter(|event| {
            wants_past
                && since.is_none_or(|since| event.time_nano >= nanoseconds(since))
                && until.is_none_or(|until| event.time_nano <= nanoseconds(until))
        });
        let is_over = until.is_some_and(|until| until <= Timestamp::now());
        let news = inner.news.as_ref().filter(|_| !is_over).map(broadcast::Sender::subscribe);
        let follower = Follower { past: past.cloned().collect(), news, selection, until };
        Ok(stream::unfold(follower, async |mut follower| {
            let event = follower.next().await?;
            let mut text = serde_json::to_string(&*event).expect("an event of texts and numbers is JSON");
            text.push('\n');
            Some((Ok(text), follower))
        }))
    }

    /// Report an event of a sandbox. There are none for other containers: their engine reports its own.
    pub(in crate::daemon) fn tell(&self, container: &Container, happened: Happened<'_>) {
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
            Happened::Destroyed => "destroy",
            Happened::Renamed { old } => {
                attributes.insert("oldName".into(), format!("/{old}"));
                "rename"
            }
        };
        self.events.tell("container", action, Actor { id: container.id.to_string(), attributes });
    }

    /// Report an event of a network: `create` or `destroy`.
    pub(in crate::daemon) fn tell_of_network(&self, network: &Network, action: &str) {
        self.events.tell("network", action, Actor { id: network.id.to_string(), attributes: named(network) });
    }

    /// Report that a container was connected to networks or disconnected: `connect` or `disconnect`.
    pub(in crate::daemon) fn tell_of_members(&self, container: &Id, networks: &[Id], action: &str) {
        let networks: Vec<Network> = {
            let world = self.world();
            networks.iter().filter_map(|network| world.network(network).cloned()).collect()
        };
        for network in networks {
            let mut attributes = named(&network);
            attributes.insert("container".into(), container.to_string());
            self.events.tell("network", action, Actor { id: network.id.to_string(), attributes });
        }
    }

    /// Report that networks were pruned. Docker adds the number of freed bytes: none.
    pub(in crate::daemon) fn tell_of_prune(&self) {
        let attributes = [("reclaimed".to_owned(), "0".to_owned())].into();
        self.events.tell("network", "prune", Actor { id: String::new(), attributes });
    }
}

fn named(network: &Network) -> BTreeMap<String, String> {
    [("name", network.name.as_str()), ("type", network.driver_name())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}
