//! Finds items by a word of the user: a full ID, else a full name, else the beginning of one ID (Docker's
//! order). A [`Directory`] does so without looking at all items.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::RangeInclusive,
};

use super::Id;

/// Why a word identifies no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No item matches.
    #[error("not found")]
    NotFound,
    /// More than one item matches.
    #[error("ambiguous ({matches} matches found {by})")]
    Ambiguous {
        /// The number of items.
        matches: usize,
        /// The match that they have in common.
        by: By,
    },
}

/// How several items match one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By name.
    Name,
    /// By the beginning of their IDs.
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

/// An item with an ID and a name.
pub trait Named {
    /// Its ID, which never changes.
    fn id(&self) -> Id;

    /// Its name, which need not be unique.
    fn name(&self) -> &str;
}

/// Items by ID and by name.
#[derive(Debug)]
pub struct Directory<T> {
    items: BTreeMap<Id, T>,
    /// The IDs of each name.
    names: BTreeMap<String, BTreeSet<Id>>,
}

impl<T> Default for Directory<T> {
    fn default() -> Self {
        Self { items: BTreeMap::new(), names: BTreeMap::new() }
    }
}

impl<T: Named> Directory<T> {
    /// Adds an item, or replaces the one with its ID.
    pub fn insert(&mut self, item: T) {
        self.remove(&item.id());
        self.names.entry(item.name().to_owned()).or_default().insert(item.id());
        self.items.insert(item.id(), item);
    }

    /// Removes an item.
    pub fn remove(&mut self, id: &Id) -> Option<T> {
        let item = self.items.remove(id)?;
        if let Some(ids) = self.names.get_mut(item.name()) {
            ids.remove(id);
            if ids.is_empty() {
                self.names.remove(item.name());
            }
        }
        Some(item)
    }

    /// The item with an ID.
    pub fn get(&self, id: &Id) -> Option<&T> {
        self.items.get(id)
    }

    /// All items, by ID.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.items.values()
    }

    /// The items with a name.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &T> {
        self.names.get(name).into_iter().flatten().filter_map(|id| self.items.get(id))
    }

    /// The only item that matches a word.
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::Ambiguous`]. An ambiguous name is an error even if it is also the
    /// beginning of one ID only.
    pub fn find(&self, word: &str) -> Result<&T, Error> {
        if let Some(item) = word.parse().ok().and_then(|id| self.items.get(&id)) {
            return Ok(item);
        }
        let named = self.named(word).map(|item| (item, By::Name));
        let mut meant = named.collect::<Vec<_>>();
        if meant.is_empty() {
            let begun = ids_from(word).map(|ids| self.items.range(ids));
            meant.extend(begun.into_iter().flatten().map(|(_, item)| (item, By::IdPrefix)));
        }
        match meant.as_slice() {
            [] => Err(Error::NotFound),
            [(only, _)] => Ok(only),
            [(_, by), ..] => Err(Error::Ambiguous { matches: meant.len(), by: *by }),
        }
    }
}

/// The range of IDs that begin with a word; none if no ID can.
fn ids_from(word: &str) -> Option<RangeInclusive<Id>> {
    const DIGITS: usize = 64;
    let is_hex = word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if word.is_empty() || word.len() > DIGITS || !is_hex {
        return None;
    }
    let filled = |digit: &str| format!("{word}{}", digit.repeat(DIGITS - word.len())).parse().ok();
    Some(filled("0")?..=filled("f")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Item(Id, &'static str);

    impl Named for Item {
        fn id(&self) -> Id {
            self.0
        }

        fn name(&self) -> &str {
            self.1
        }
    }

    fn item(byte: &str, rest: &str, name: &'static str) -> Item {
        Item(format!("{byte}{}", rest.repeat(62)).parse().unwrap(), name)
    }

    fn directory(items: impl IntoIterator<Item = Item>) -> Directory<Item> {
        let mut directory = Directory::default();
        items.into_iter().for_each(|item| directory.insert(item));
        directory
    }

    fn find_name(items: &Directory<Item>, word: &str) -> Result<&'static str, String> {
        items.find(word).map(|item| item.1).map_err(|error| error.to_string())
    }

    #[test]
    fn a_full_id_beats_a_name_and_a_name_beats_an_id_prefix() {
        let full = item("aa", "1", "x").0.to_string();
        let tricky = Box::leak(full.clone().into_boxed_str());
        let items = directory([item("aa", "1", "x"), item("bb", "2", tricky), item("cc", "3", "aa")]);
        assert_eq!(find_name(&items, &full), Ok("x"));
        assert_eq!(find_name(&items, "aa"), Ok("aa"));
        assert_eq!(find_name(&items, "aa1"), Ok("x"));
        assert_eq!(find_name(&items, "b"), Ok(&*tricky));
    }

    #[test]
    fn a_prefix_of_two_ids_is_ambiguous_and_nothing_is_nobody() {
        let items = directory([item("ab", "1", "x"), item("ac", "2", "y"), item("ad", "3", "AB")]);
        assert_eq!(find_name(&items, "a"), Err("ambiguous (3 matches found based on ID prefix)".into()));
        for nobody in ["z", "", "ab1g", "é"] {
            assert_eq!(find_name(&items, nobody), Err("not found".into()));
        }
        assert_eq!(find_name(&items, "AB"), Ok("AB"));
        let twins = directory([item("ab", "1", "x"), item("ac", "2", "x")]);
        assert_eq!(find_name(&twins, "x"), Err("ambiguous (2 matches found on name)".into()));
    }

    #[test]
    fn an_item_is_found_by_its_last_name_until_it_is_removed() {
        let mut items = directory([item("ab", "1", "before")]);
        items.insert(item("ab", "1", "after"));
        assert_eq!(find_name(&items, "before"), Err("not found".into()));
        assert_eq!(find_name(&items, "after"), Ok("after"));
        assert!(items.remove(&item("ab", "1", "").0).is_some());
        assert_eq!(find_name(&items, "after"), Err("not found".into()));
        assert_eq!(find_name(&items, "ab"), Err("not found".into()));
    }
}
