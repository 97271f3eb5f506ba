//! What a user means by a word: a full ID, else a full name, else the beginning of one ID. Docker's order.

use std::fmt;

use super::Id;

/// Why a word means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nobody is called that.
    #[error("not found")]
    NotFound,
    /// More than one is.
    #[error("ambiguous ({matches} matches found {by})")]
    Ambiguous {
        /// How many.
        matches: usize,
        /// What they have in common.
        by: By,
    },
}

/// What several things that one word means have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Their name.
    Name,
    /// The beginning of their IDs.
    IdPrefix,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "on name",
            Self::IdPrefix => "based on ID prefix",
        })
    }
}

/// The one item that is meant; `called` tells what an item is called.
pub fn find<'a, T, N>(
    items: impl IntoIterator<Item = &'a T>,
    word: &str,
    called: impl Fn(&'a T) -> (&'a Id, &'a N),
) -> Result<&'a T, Error>
where
    N: AsRef<str> + ?Sized + 'a,
{
    let (mut named, mut begun) = (Vec::new(), Vec::new());
    for item in items {
        let (id, name) = called(item);
        let id = id.to_string();
        if id == word {
            return Ok(item);
        }
        if name.as_ref() == word {
            named.push(item);
        }
        if id.starts_with(word) && !word.is_empty() {
            begun.push(item);
        }
    }
    match (named.as_slice(), begun.as_slice()) {
        ([only], _) | ([], [only]) => Ok(only),
        ([], []) => Err(Error::NotFound),
        ([], begun) => Err(Error::Ambiguous { matches: begun.len(), by: By::IdPrefix }),
        (named, _) => Err(Error::Ambiguous { matches: named.len(), by: By::Name }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Item = (Id, &'static str);

    fn item(byte: &str, rest: &str, name: &'static str) -> Item {
        (format!("{byte}{}", rest.repeat(62)).parse().unwrap(), name)
    }

    fn find_name(items: &[Item], word: &str) -> Result<&'static str, String> {
        find(items, word, |(id, name)| (id, *name)).map(|item| item.1).map_err(|error| error.to_string())
    }

    #[test]
    fn a_full_id_beats_a_name_and_a_name_beats_an_id_prefix() {
        let full = item("aa", "1", "x").0.to_string();
        let tricky = Box::leak(full.clone().into_boxed_str());
        let items = [item("aa", "1", "x"), item("bb", "2", tricky), item("cc", "3", "aa")];
        assert_eq!(find_name(&items, &full), Ok("x"));
        assert_eq!(find_name(&items, "aa"), Ok("aa"));
        assert_eq!(find_name(&items, "aa1"), Ok("x"));
        assert_eq!(find_name(&items, "b"), Ok(&*tricky));
    }

    #[test]
    fn a_prefix_of_two_ids_is_ambiguous_and_nothing_is_nobody() {
        let items = [item("ab", "1", "x"), item("ac", "2", "y")];
        assert_eq!(find_name(&items, "a"), Err("ambiguous (2 matches found based on ID prefix)".into()));
        assert_eq!(find_name(&items, "z"), Err("not found".into()));
        assert_eq!(find_name(&items, ""), Err("not found".into()));
        let twins = [item("ab", "1", "x"), item("ac", "2", "x")];
        assert_eq!(find_name(&twins, "x"), Err("ambiguous (2 matches found on name)".into()));
    }
}
