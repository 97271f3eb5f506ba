//! Names of network interfaces. They are used in rules of nft, in paths (pins, sysctls), and in the kernel,
//! which expands `%d`. So these types accept only characters that are safe everywhere.

use std::{borrow::Borrow, fmt, ops::Deref, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest name of an interface, in bytes: `IFNAMSIZ` without the final zero.
pub const LONGEST_INTERFACE: usize = 15;

/// An invalid interface name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadInterface {
    /// Invalid for an interface that netbpf creates.
    #[error(
        "expected the name of an interface: at most {0} characters of a-z, A-Z, 0-9, '_' and '-', the first of them no '-'"
    )]
    Own(usize),
    /// Invalid for an interface of the host.
    #[error(
        "expected the name of an interface: at most {LONGEST_INTERFACE} ASCII characters without blanks, quotes, '/', ':', '\\', '*' and '%'"
    )]
    Host,
}

/// Name of an interface that netbpf creates: `[A-Za-z0-9_-]`, no `-` at the start, at most 15 bytes. Records
/// of earlier versions may have dots in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

/// Name of an interface of the host. It may contain a dot (`eth0.100`) and other characters, if they have no
/// meaning to nft in quotes, to the kernel or in a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostInterface(String);

impl InterfaceName {
    /// The name of an interface of netbpf: a word, and digits of an ID.
    ///
    /// # Panics
    ///
    /// If the result is no valid name; callers choose both so that it is.
    pub fn made_of(word: &str, digits: &str) -> Self {
        format!("{word}{digits}").parse().expect("a word and some digits are the name of an interface")
    }

    /// A name that a user chose, of at most `longest` bytes.
    ///
    /// # Errors
    /// [`BadInterface::Own`] if the text is empty, too long or begins with `-`, or has other characters than
    /// a-z, A-Z, 0-9, `_` and `-`.
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

/// Common traits of both types.
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

        // Order and hash are those of the text.
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

    /// Names that nft, a path or the kernel would misread.
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
    fn names_of_netbpf_have_letters_and_digits() {
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
    fn names_of_the_host_may_have_dots() {
        for name in ["eth0", "eth0.100", "tun+0", "wg@x", "-a", "a.b.c"] {
            assert_eq!(name.parse::<HostInterface>().map(String::from), Ok(name.to_owned()));
        }
        for name in ODD {
            assert_eq!(name.parse::<HostInterface>(), Err(BadInterface::Host), "{name:?}");
        }
    }

    #[test]
    fn a_record_is_checked_too_but_may_have_dots() {
        let read = serde_json::from_str::<InterfaceName>;
        assert_eq!(read(r#""br.lan""#).expect("a name").to_string(), "br.lan");
        assert_eq!(InterfaceName::choose("br.lan", 15), Err(BadInterface::Own(15)));
        assert!(read(r#""int\\""#).expect_err("no name").to_string().starts_with("expected the name of"));
        serde_json::from_str::<HostInterface>(r#""e*""#).expect_err("no name");
    }
}
