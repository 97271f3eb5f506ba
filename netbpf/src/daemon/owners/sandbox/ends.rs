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
    recent: Mutex<Recent>,
    news: watch::Sender<()>,
}

#[derive(Default)]
struct Recent {
    codes: VecDeque<(Id, i32)>,
    /// Number of older ones, which were forgotten.
    forgotten: usize,
}

/// A moment: the number of exit codes until then.
#[derive(Clone, Copy, Debug)]
pub struct Mark(usize);

impl Ends {
    /// No exit codes.
    pub fn new() -> Self {
        Self { recent: Mutex::default(), news: watch::Sender::new(()) }
    }

    /// Notes an exit code. Call it before the container is removed, so that waiting clients find one of both.
    pub fn note(&self, container: Id, code: i32) {
        let mut recent = self.recent();
        if recent.codes.len() == REMEMBERED {
            recent.codes.pop_front();
            recent.forgotten += 1;
        }
        recent.codes.push_back((container, code));
    }

    /// Wakes waiting clients, after a container ended and was cleaned up, or was removed.
    pub fn announce(&self) {
        self.news.send_replace(());
    }

    /// The exit code of a container that ended recently.
    pub fn code(&self, container: &Id) -> Option<i32> {
        self.recent().codes.iter().rev().find(|(id, _)| id == container).map(|(_, code)| *code)
    }

    /// This moment, for [`Ends::code_after`].
    pub fn mark(&self) -> Mark {
        let recent = self.recent();
        Mark(recent.forgotten + recent.codes.len())
    }

    /// The exit code of the first end of a container after a moment, unless it was forgotten.
    pub fn code_after(&self, container: &Id, Mark(mark): Mark) -> Option<i32> {
        let recent = self.recent();
        let later = recent.codes.iter().skip(mark.saturating_sub(recent.forgotten));
        later.into_iter().find(|(id, _)| id == container).map(|(_, code)| *code)
    }

    /// A channel that changes with every end.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_end_is_the_first_one_after_the_mark() {
        let (ends, web, other) = (Ends::new(), Id::random(), Id::random());
        ends.note(web, 1);
        let mark = ends.mark();
        assert_eq!((ends.code(&web), ends.code_after(&web, mark)), (Some(1), None));
        ends.note(other, 2);
        ends.note(web, 3);
        ends.note(web, 4);
        assert_eq!((ends.code(&web), ends.code_after(&web, mark)), (Some(4), Some(3)));
        (0..REMEMBERED - 2).for_each(|_| ends.note(other, 0));
        assert_eq!(ends.code_after(&web, mark), Some(3), "still among the last ones");
        (0..REMEMBERED).for_each(|_| ends.note(other, 0));
        assert_eq!((ends.code(&web), ends.code_after(&web, mark)), (None, None));
    }
}
