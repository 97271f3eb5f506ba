//! Names of network interfaces. A name ends up in rules of nft, in paths (pins, sysctls) and in the kernel, which expands
//! `%d`: what none of them can misread is settled here, once. A value that exists is harmless everywhere.

use std::{borrow::Borrow, fmt, ops::Deref, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest name of an interface, in bytes: `IFNAMSIZ` less the final zero.
pub const LONGEST_INTERFACE: usize = 15;

/// What is no name of an interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadInterface {
    /// Of one that netbpf makes.
    #[error(
        "expected the name of an interface: at most {0} characters of a-z, A-Z, 0-9, '_' and '-', the first of them no '-'"
    )]
    Own(usize),
    /// Of one that the host has.
    #[error(
        "expected the name of an interface: at most {LONGEST_INTERFACE} ASCII characters without blanks, quotes, '/', ':', '\\', '*' and '%'"
    )]
    Host,
}

/// Name of an interface that netbpf makes: `[A-Za-z0-9_-]`, no `-` in front, at most 15 bytes. Records of earlier versions
/// may have dots in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

/// Name of an interface that the host has. Whoever made it chose it: a dot (`eth0.100`) and other signs are fine, as long
/// as they mean nothing to nft between quotes, to the kernel or in a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostInterface(String);

impl InterfaceName {
    /// What netbpf calls its own: a word, and digits of an ID.
    ///
    /// # Panics
    ///
    /// Where the two are no name; callers choose them so that they are.
    pub fn made_of(word: &str, digits: &str) -> Self {
        format!("{word}{digits}").parse().expect("a word and some digits are the name of an interface")
    }

    /// What a user may choose, of at most `longest` bytes.
    pub fn choose(text: &str, longest: usize) -> Result<Self, BadInterface> {
        let name = text.parse().ok().filter(|_| text.len() <= longest && !text.contains('.'));
        name.ok_or(BadInterface::Own(longest))
    }
}

impl FromStr for InterfaceName {
    type Err = BadInterface;

    fn from_str(text: &str) -> Result<Self, BadInterface> {
        let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let is_name = !text.is_empty()
            && text.len() <= LONGEST_INTERFACE
            && !text.starts_with(['-', '.'])
            && text.chars().all(is_fine);
        is_name.then(|| Self(text.to_owned())).ok_or(BadInterface::Own(LONGEST_INTERFACE))
    }
}

impl FromStr for HostInterface {
    type Err = BadInterface;

    fn from_str(text: &str) -> Result<Self, BadInterface> {
        let is_fine =
            |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '/' | ':' | '\\' | '*' | '%');
        let is_name = !text.is_empty()
            && text.len() <= LONGEST_INTERFACE
            && !matches!(text, "." | "..")
            && text.chars().all(is_fine);
        is_name.then(|| Self(text.to_owned())).ok_or(BadInterface::Host)
    }
}

/// What both have in common.
macro_rules! is_text {
    ($name:ty) => {
        impl TryFrom<String> for $name {
            type Error = BadInterface;

            fn try_from(text: String) -> Result<Self, BadInterface> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        // Both are ordered and hashed as the text is.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, text: &str) -> bool {
                self.0 == text
            }
        }
    };
}

is_text!(InterfaceName);
is_text!(HostInterface);

#[cfg(test)]
mod tests {
    use super::*;

    /// What nft, a path or the kernel would misread.
    const ODD: [&str; 18] = [
        "",
        ".",
        "..",
        "a/b",
        "a b",
        "a\tb",
        "a\nb",
        "a\0b",
        "a:b",
        "a\"b",
        "a'b",
        "int\\",
        "*",
        "e*",
        "nb%d",
        "\u{1b}[31m",
        "ä",
        "0123456789abcdef",
    ];

    #[test]
    fn names_of_ours_are_words() {
        for name in ["netbpf0", "nb-0123456789ab", "br_1", "0", "A-", "0123456789abcde"] {
            assert_eq!(InterfaceName::choose(name, 15).map(String::from), Ok(name.to_owned()));
        }
        for name in ODD.into_iter().chain(["-a", ".a", "a@b", "a+b"]) {
            assert_eq!(name.parse::<InterfaceName>(), Err(BadInterface::Own(15)), "{name:?}");
            assert_eq!(InterfaceName::choose(name, 15), Err(BadInterface::Own(15)), "{name:?}");
        }
        assert_eq!(InterfaceName::choose("0123456789ab", 11), Err(BadInterface::Own(11)));
        assert_eq!(*InterfaceName::made_of("veth", "0123abc"), *"veth0123abc");
    }

    #[test]
    fn names_of_the_hosts_may_have_dots() {
        for name in ["eth0", "eth0.100", "tun+0", "wg@x", "-a", "a.b.c"] {
            assert_eq!(name.parse::<HostInterface>().map(String::from), Ok(name.to_owned()));
        }
        for name in ODD {
            assert_eq!(name.parse::<HostInterface>(), Err(BadInterface::Host), "{name:?}");
        }
    }

    #[test]
    fn a_record_is_judged_too_but_may_have_dots() {
        let read = serde_json::from_str::<InterfaceName>;
        assert_eq!(read(r#""br.lan""#).expect("a name").to_string(), "br.lan");
        assert_eq!(InterfaceName::choose("br.lan", 15), Err(BadInterface::Own(15)));
        assert!(read(r#""int\\""#).expect_err("no name").to_string().starts_with("expected the name of"));
        serde_json::from_str::<HostInterface>(r#""e*""#).expect_err("no name");
    }
}
