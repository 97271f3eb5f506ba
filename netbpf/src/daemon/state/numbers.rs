//! Dense numbers for endpoints and networks. Leased in a circle, so that a released number is reused as late
//! as possible. The circle is as small as the maps of a usual host, until it has no free number.

use std::collections::BTreeSet;

/// Numbers below a limit, each leased once at a time.
#[derive(Debug)]
pub struct Numbers {
    used: BTreeSet<u32>,
    next: u32,
    circle: u32,
    limit: u32,
}

impl Numbers {
    /// No number is in use. Those from `usual` on are leased when all others are in use.
    pub fn below(usual: u32, limit: u32) -> Self {
        Self { used: BTreeSet::new(), next: 0, circle: usual.min(limit), limit }
    }

    /// Mark a number as used.
    pub fn take(&mut self, number: u32) {
        self.used.insert(number);
        if number >= self.circle {
            self.circle = self.limit;
        }
        self.next = (number + 1) % self.circle;
    }

    /// A free number; none if all are in use.
    pub fn lease(&mut self) -> Option<u32> {
        let is_free = |number: &u32| !self.used.contains(number);
        let in_circle = (self.next..self.circle).chain(0..self.next).find(is_free);
        let number = in_circle.or_else(|| (self.circle..self.limit).find(is_free))?;
        self.take(number);
        Some(number)
    }

    /// How many there are.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Release a number.
    pub fn release(&mut self, number: u32) {
        self.used.remove(&number);
    }

    /// How many are in use.
    pub fn in_use(&self) -> usize {
        self.used.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_number_is_reused_last() {
        let mut numbers = Numbers::below(3, 3);
        assert_eq!([numbers.lease(), numbers.lease()], [Some(0), Some(1)]);
        numbers.release(0);
        assert_eq!([numbers.lease(), numbers.lease(), numbers.lease()], [Some(2), Some(0), None]);
        numbers.release(1);
        assert_eq!(numbers.lease(), Some(1));
    }

    #[test]
    fn the_usual_numbers_are_leased_first() {
        let mut numbers = Numbers::below(2, 4);
        assert_eq!([numbers.lease(), numbers.lease()], [Some(0), Some(1)]);
        numbers.release(0);
        assert_eq!([(); 4].map(|()| numbers.lease()), [Some(0), Some(2), Some(3), None]);
        // One of an earlier daemon.
        let mut numbers = Numbers::below(2, 4);
        numbers.take(2);
        assert_eq!([(); 4].map(|()| numbers.lease()), [Some(3), Some(0), Some(1), None]);
    }
}
