//! Counts repairs of links that somebody else keeps changing. After some repairs netbpf leaves such a link
//! alone for a while, and reports it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often one link is restored within [`WINDOW`] before it is left alone for [`PAUSE`].
const ATTEMPTS: u32 = 5;
const WINDOW: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(60);

/// The restored links, by ifindex.
#[derive(Default)]
pub struct Contests(Mutex<BTreeMap<u32, Contest>>);

struct Contest {
    interface: String,
    count: u32,
    since: Instant,
}

impl Contest {
    fn is_left_alone(&self) -> bool {
        self.count >= ATTEMPTS
    }

    fn end(&self) -> Instant {
        self.since + if self.is_left_alone() { PAUSE } else { WINDOW }
    }
}

impl Contests {
    /// Whether this link is left alone now.
    pub fn is_left_alone(&self, ifindex: u32, now: Instant) -> bool {
        self.at(now).get(&ifindex).is_some_and(Contest::is_left_alone)
    }

    /// Notes that a link was restored.
    pub fn note(&self, ifindex: u32, interface: &str, now: Instant) {
        let mut contests = self.at(now);
        let new = || Contest { interface: interface.to_owned(), count: 0, since: now };
        let contest = contests.entry(ifindex).or_insert_with(new);
        contest.count += 1;
        if contest.count == ATTEMPTS {
            contest.since = now;
            tracing::warn!("{}", told(interface));
        }
    }

    /// The links that are left alone, one line each.
    pub fn told(&self, now: Instant) -> Vec<String> {
        let contests = self.at(now);
        contests.values().filter(|it| it.is_left_alone()).map(|it| told(&it.interface)).collect()
    }

    fn at(&self, now: Instant) -> MutexGuard<'_, BTreeMap<u32, Contest>> {
        let mut contests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        contests.retain(|_, contest| now < contest.end());
        contests
    }
}

fn told(interface: &str) -> String {
    format!("somebody changes {interface} again and again: it is left alone for {} s", PAUSE.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_left_alone_after_five_changes_and_for_a_minute() {
        let (contests, now) = (Contests::default(), Instant::now());
        for count in 1..=ATTEMPTS {
            assert!(!contests.is_left_alone(7, now), "{count}");
            contests.note(7, "netbpf0", now);
        }
        assert!(contests.is_left_alone(7, now) && !contests.is_left_alone(8, now));
        let told = "somebody changes netbpf0 again and again: it is left alone for 60 s";
        assert_eq!(contests.told(now), [told]);
        assert!(!contests.is_left_alone(7, now + PAUSE));
        assert!(contests.told(now + PAUSE).is_empty());
    }

    #[test]
    fn changes_far_from_each_other_do_not_count_together() {
        let (contests, mut now) = (Contests::default(), Instant::now());
        for _ in 0..2 * ATTEMPTS {
            contests.note(7, "netbpf0", now);
            now += WINDOW / (ATTEMPTS - 1) + Duration::from_secs(1);
        }
        assert!(!contests.is_left_alone(7, now));
    }
}
