//! The container of an endpoint, as a number: endpoints of one container may send from each other's
//! addresses. The number has no other meaning.

use std::{
    hash::{DefaultHasher, Hash, Hasher as _},
    num::NonZeroU64,
};

use super::{Container, Subject};

/// The number of a container in the eBPF maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner(NonZeroU64);

impl Owner {
    /// The number for a container that is identified by `name`, which must be random, as IDs are, so that no
    /// two names have the same number.
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

impl Container {
    /// The owner of its endpoints. A container of Docker is identified by its network namespace, because it
    /// may have several records here: one for each endpoint that Docker created, and one if netbpf connected
    /// it too. An endpoint that is not in a container yet has no owner.
    pub fn owner(&self) -> Option<Owner> {
        match &self.subject {
            Subject::Docker(endpoint) => endpoint.sandbox.as_ref().map(Owner::of),
            Subject::Engine(engine) => {
                Some(engine.sandbox.as_ref().map_or_else(|| Owner::of(&self.id), Owner::of))
            }
            Subject::Sandbox(_) | Subject::Foreign(_) => Some(Owner::of(&self.id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Id;

    #[test]
    fn an_owner_is_restored_from_its_number() {
        let [one, other] = [Owner::of(&Id::random()), Owner::of(&Id::random())];
        assert_ne!(one, other);
        assert_eq!(Owner::of_number(one.number()), Some(one));
        assert_eq!(Owner::of_number(0), None);
    }
}
