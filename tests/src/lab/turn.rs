//! Turns on this machine: tests run concurrently, but a test that measures time runs alone.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

static TURNS: Mutex<Turns> = Mutex::new(Turns { shared: 0, alone: false });
static CHANGED: Condvar = Condvar::new();

struct Turns {
    shared: usize,
    alone: bool,
}

/// A turn; ends on drop.
#[derive(Debug)]
pub enum Turn {
    /// Concurrently with others.
    Shared,
    /// Without others.
    Alone,
}

impl Turn {
    /// Waits while a test runs alone. A test that waits to run alone does not block this, because a test may take
    /// several turns.
    pub fn shared() -> Self {
        let mut turns = wait_while(|turns| turns.alone);
        turns.shared += 1;
        Self::Shared
    }

    /// Waits until no other test has a turn.
    pub fn alone() -> Self {
        let mut turns = wait_while(|turns| turns.alone || turns.shared > 0);
        turns.alone = true;
        Self::Alone
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        match self {
            Self::Shared => turns.shared -= 1,
            Self::Alone => turns.alone = false,
        }
        CHANGED.notify_all();
    }
}

fn wait_while(condition: impl Fn(&Turns) -> bool) -> MutexGuard<'static, Turns> {
    let turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
    CHANGED.wait_while(turns, |turns| condition(turns)).unwrap_or_else(PoisonError::into_inner)
}
