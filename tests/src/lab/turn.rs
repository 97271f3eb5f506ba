//! Whose turn it is on this machine: tests run beside each other, but one that measures time runs alone.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

static TURNS: Mutex<Turns> = Mutex::new(Turns { shared: 0, alone: false });
static CHANGED: Condvar = Condvar::new();

struct Turns {
    shared: usize,
    alone: bool,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub enum Turn {
    /// Beside others.
    Shared,
    /// Without others.
    Alone,
}

impl Turn {
    /// Waits while somebody is alone. A test may take several: who waits to be alone does not hold it up.
    pub fn shared() -> Self {
        let mut turns = wait_while(|turns| turns.alone);
        turns.shared += 1;
        Self::Shared
    }

    /// Waits until nobody else has a turn.
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
