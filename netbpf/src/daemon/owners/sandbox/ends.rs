//! Who ended, and how. Waiters may come late: a container that is removed as it ends leaves its exit code here.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::model::Id;

/// How many ends are remembered.
const REMEMBERED: usize = 1024;

/// The last ends.
pub struct Ends {
    recent: Mutex<VecDeque<(Id, i32)>>,
    news: watch::Sender<()>,
}

impl Ends {
    /// None yet.
    pub fn new() -> Self {
        Self { recent: Mutex::new(VecDeque::with_capacity(REMEMBERED)), news: watch::Sender::new(()) }
    }

    /// Notes how a container ended. To be done before it is removed: who waits finds it, or this.
    pub fn note(&self, container: Id, code: i32) {
        let mut recent = self.recent();
        if recent.len() == REMEMBERED {
            recent.pop_front();
        }
        recent.push_back((container, code));
    }

    /// A container ended and is cleared up: wakes those who wait.
    pub fn announce(&self) {
        self.news.send_replace(());
    }

    /// The exit code of a container that ended lately.
    pub fn code(&self, container: &Id) -> Option<i32> {
        self.recent().iter().rev().find(|(id, _)| id == container).map(|(_, code)| *code)
    }

    /// Changes with every end.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<(Id, i32)>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
