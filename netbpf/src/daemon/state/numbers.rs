//! Dense numbers for endpoints and networks. Leased in a circle, so that a released number is reused as late
//! as possible.

use std::collections::BTreeSet;

/// Numbers below a limit, each leased once at a time.
#[derive(Debug)]
pub struct Numbers {
    used: BTreeSet<u32>,
    next: u32,
    limit: u32,
}

impl Numbers {
    /// No number is in use.
    pub fn below(limit: u32) -> Self {
        Self { used: BTreeSet::new(), next: 0, limit }
    }

    /// Mark a number as used.
    pub fn take(&mut self, number: u32) {
        self.used.insert(number);
        self.next = (number + 1) % self.limit;
    }

    /// A free number; none if all are in use.
    pub fn lease(&mut self) -> Option<u32> {
        let number =
            (self.next..self.limit).chain(0..self.next).find(|number| !self.used.contains(number))?;
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
        let mut numbers = Numbers::below(3);
        assert_eq!([numbers.lease(), numbers.lease()], [Some(0), Some(1)]);
        numbers.release(0);
        assert_eq!([numbers.lease(), numbers.lease(), numbers.lease()], [Some(2), Some(0), None]);
        numbers.release(1);
        assert_eq!(numbers.lease(), Some(1));
    }
}
