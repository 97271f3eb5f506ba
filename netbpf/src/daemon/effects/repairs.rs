//! The last 64 different repairs of what others changed on the host. Each is logged, counted by its text, and shown by
//! `doctor`. Must not know what was repaired, or how.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

/// How many different repairs are kept: the last ones. More than there are pins in a directory, which may go all at once.
const KEPT: usize = 64;

/// A repair, as often as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// What somebody changed, and what netbpf did.
    pub text: String,
    /// How often.
    pub count: u64,
    /// When for the last time.
    pub last: Timestamp,
}

/// The last repairs, the latest last.
#[derive(Default)]
pub struct Repairs(Mutex<Vec<Repair>>);

impl Repairs {
    /// Logs a repair and keeps it.
    pub fn note(&self, text: String) {
        tracing::warn!("{text}");
        self.note_at(text, Timestamp::now());
    }

    fn note_at(&self, text: String, last: Timestamp) {
        let mut repairs = self.lock();
        let known = repairs.iter().position(|repair| repair.text == text);
        let count = known.map_or(0, |index| repairs.remove(index).count) + 1;
        if repairs.len() == KEPT {
            repairs.remove(0);
        }
        repairs.push(Repair { text, count, last });
    }

    /// All that are kept.
    pub fn all(&self) -> Vec<Repair> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Repair>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_is_counted_and_the_latest_is_the_last() {
        let repairs = Repairs::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        for (second, text) in [(1, "a"), (2, "b"), (3, "a")] {
            repairs.note_at(text.to_owned(), at(second));
        }
        let repair = |text: &str, count, second| Repair { text: text.to_owned(), count, last: at(second) };
        assert_eq!(repairs.all(), [repair("b", 1, 2), repair("a", 2, 3)]);
    }

    #[test]
    fn the_last_ones_are_kept() {
        let repairs = Repairs::default();
        for number in 0..KEPT + 30 {
            repairs.note_at(number.to_string(), Timestamp::UNIX_EPOCH);
        }
        let texts: Vec<_> = repairs.all().into_iter().map(|repair| repair.text).collect();
        let numbers: Vec<_> = (30..KEPT + 30).map(|number| number.to_string()).collect();
        assert_eq!(texts, numbers);
    }
}
