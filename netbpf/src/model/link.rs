//! `--link CONTAINER[:ALIAS]`: a name for another container that only this container resolves. Must not know
//! containers.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::names::{BadName, check_alias};

/// A name for another container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The other container: its full ID on the default network, elsewhere a name as typed, which need not
    /// exist yet.
    pub target: String,
    /// The name for it.
    pub alias: String,
}

/// An invalid link; Docker's messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLink {
    /// Empty.
    #[error("empty string specified for links")]
    Empty,
    /// More than two parts, or an empty one.
    #[error("bad format for links: {}", .0.escape_debug())]
    Format(String),
    /// An invalid alias.
    #[error(transparent)]
    Alias(#[from] BadName),
}

/// As the user types it.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.target, self.alias)
    }
}

impl Link {
    /// Parses the user's text.
    ///
    /// # Errors
    /// [`BadLink::Empty`] for an empty text; [`BadLink::Format`] for more than two parts or an empty one;
    /// [`BadLink::Alias`] if the alias has blanks, control characters or `#`, or is too long.
    pub fn parse(text: &str) -> Result<Self, BadLink> {
        if text.is_empty() {
            return Err(BadLink::Empty);
        }
        let (target, alias) = text.split_once(':').unwrap_or((text, text));
        let target = target.strip_prefix('/').unwrap_or(target);
        // As `inspect` of Docker prints it: /target:/container/alias.
        let alias = alias.rsplit('/').next().unwrap_or_default();
        if target.is_empty() || alias.is_empty() || alias.contains(':') {
            return Err(BadLink::Format(text.to_owned()));
        }
        check_alias(alias)?;
        Ok(Self { target: target.to_owned(), alias: alias.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_parsed_as_in_docker() {
        for (text, target, alias) in [
            ("web", "web", "web"),
            ("web:shop", "web", "shop"),
            ("/web", "web", "web"),
            ("/web:/app/shop", "web", "shop"),
        ] {
            assert_eq!(Link::parse(text), Ok(Link { target: target.into(), alias: alias.into() }), "{text}");
        }
        assert_eq!(Link::parse(""), Err(BadLink::Empty));
        for text in [":", "web:", ":shop", "web:a:b"] {
            assert_eq!(Link::parse(text), Err(BadLink::Format(text.into())));
        }
        assert!(matches!(Link::parse("web:a b"), Err(BadLink::Alias(_))));
    }
}
