//! Whose a port is, as a number: ports of one owner may send from each other's addresses. It tells containers apart and
//! means nothing else.

use std::{
    hash::{DefaultHasher, Hash, Hasher as _},
    num::NonZeroU64,
};

use super::{Container, Subject};

/// A container, as the programs know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner(NonZeroU64);

impl Owner {
    /// Who is told from others by `name`: random, as IDs are, so that no two names have the same number.
    pub fn of(name: &impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MAX))
    }

    /// Who has this number; nobody has 0.
    pub fn of_number(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// The number. Another version of netbpf may give another one, and writes ports anew then.
    pub fn number(self) -> u64 {
        self.0.get()
    }
}

impl Container {
    /// Whose its ports are. Docker has an endpoint for each network of a container, which have the namespace in common,
    /// as a container of Docker's has it with those that netbpf connects it to. Before it is in a container, an endpoint
    /// is nobody's.
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
    fn an_owner_is_known_by_its_number() {
        let [one, other] = [Owner::of(&Id::random()), Owner::of(&Id::random())];
        assert_ne!(one, other);
        assert_eq!(Owner::of_number(one.number()), Some(one));
        assert_eq!(Owner::of_number(0), None);
    }
}
