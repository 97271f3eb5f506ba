//! Turns on this machine: tests run concurrently, but a test that measures time runs alone.
//!
//! A test that waits for its turn occupies one of the test runner's threads. So `cargo xtask test` runs tests that run
//! alone after all others, one at a time, and they are in a module of their own: [`MODULE`].

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// The module of the tests that run alone.
const MODULE: &str = "alone::";

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
    #[track_caller]
    pub fn alone() -> Self {
        let current = thread::current();
        // The test runner names its threads after their tests; with one thread, it uses the main one.
        let test = current.name().filter(|name| *name != "main");
        assert!(test.is_none_or(|name| name.starts_with(MODULE)), "a test that runs alone is in `{MODULE}`");
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
