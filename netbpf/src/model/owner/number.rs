//! The container of an endpoint, as a number: endpoints of one container may send from each other's addresses. The
//! number has no other meaning.

use std::{
    hash::{DefaultHasher, Hash, Hasher as _},
    num::NonZeroU64,
};

/// The number of a container in the eBPF maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnerNumber(NonZeroU64);

impl OwnerNumber {
    /// The number for a container that is identified by `name`, which must be random, as IDs are, so that no two names
    /// have the same number.
    pub fn of(name: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MAX))
    }

    /// The owner with this number; none for 0.
    pub fn of_number(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// The number. Another version of netbpf may use other numbers; it then rewrites the endpoints.
    pub fn number(self) -> u64 {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Id;

    #[test]
    fn an_owner_is_known_by_its_number() {
        let [one, other] = [OwnerNumber::of(&Id::random()), OwnerNumber::of(&Id::random())];
        assert_ne!(one, other);
        assert_eq!(OwnerNumber::of_number(one.number()), Some(one));
        assert_eq!(OwnerNumber::of_number(0), None);
    }
}
