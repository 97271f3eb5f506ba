//! Exit codes of ended containers. A client may wait too late: the exit code of a container that was removed
//! at its end is kept here.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::model::Id;

/// Number of exit codes that are kept.
const REMEMBERED: usize = 1024;

/// The last exit codes.
pub struct Ends {
    recent: Mutex<VecDeque<(Id, i32)>>,
    news: watch::Sender<()>,
}

impl Ends {
    /// No exit codes.
    pub fn new() -> Self {
        Self { recent: Mutex::new(VecDeque::with_capacity(REMEMBERED)), news: watch::Sender::new(()) }
    }

    /// Notes an exit code. Call it before the container is removed, so that waiting clients find one of both.
    pub fn note(&self, container: Id, code: i32) {
        let mut recent = self.recent();
        if recent.len() == REMEMBERED {
            recent.pop_front();
        }
        recent.push_back((container, code));
    }

    /// Wakes waiting clients, after a container ended and was cleaned up.
    pub fn announce(&self) {
        self.news.send_replace(());
    }

    /// The exit code of a container that ended recently.
    pub fn code(&self, container: &Id) -> Option<i32> {
        self.recent().iter().rev().find(|(id, _)| id == container).map(|(_, code)| *code)
    }

    /// A channel that changes with every end.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<(Id, i32)>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
