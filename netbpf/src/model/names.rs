//! Checks names, and generates random ones.
//!
//! Docker has no limit on the length of names. Here it is [`LONGEST`], so that a name fits into a file name,
//! a line of `/etc/hosts` and a DNS name. A name longer than 63 bytes is no DNS label, so it cannot be
//! resolved.

/// Longest name in bytes.
const LONGEST: usize = 255;

/// Longest host name in bytes: the kernel's limit.
const LONGEST_HOSTNAME: usize = 64;

/// An invalid name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Docker's message.
    #[error("Invalid container name ({}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", .0.escape_debug())]
    Container(String),
    /// Docker's message.
    #[error("invalid name: name is empty")]
    NoNetwork,
    /// Too many bytes.
    #[error("invalid {kind} {}…: it has {length} bytes, at most {longest} are allowed", .start.escape_debug())]
    TooLong {
        /// The kind of name.
        kind: &'static str,
        /// Its first characters.
        start: String,
        /// Its length in bytes.
        length: usize,
        /// The longest length in bytes.
        longest: usize,
    },
    /// Characters that would break a line or a field of a file.
    #[error("invalid {kind} \"{}\": {expected}", .name.escape_debug())]
    Characters {
        /// The kind of name.
        kind: &'static str,
        /// The name.
        name: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// Docker's message.
    #[error("{} is not a valid domain", .0.escape_debug())]
    Domain(String),
}

/// `--name`, without the slash that Docker's API puts before it.
///
/// # Errors
/// [`BadName::TooLong`], or [`BadName::Container`] for a name of one character or with others than Docker
/// allows.
pub fn check_container_name(name: &str) -> Result<(), BadName> {
    check_length("container name", name, LONGEST)?;
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.len() > 0 && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if first && rest { Ok(()) } else { Err(BadName::Container(name.to_owned())) }
}

/// The name of a network: as in Docker, any text of one line.
///
/// # Errors
/// [`BadName::TooLong`]; [`BadName::NoNetwork`] for blanks only; [`BadName::Characters`] for control
/// characters.
pub fn check_network_name(name: &str) -> Result<(), BadName> {
    let kind = "network name";
    check_length(kind, name, LONGEST)?;
    if name.trim().is_empty() {
        return Err(BadName::NoNetwork);
    }
    if name.contains(char::is_control) {
        let expected = "it must not contain control characters";
        return Err(BadName::Characters { kind, name: name.to_owned(), expected });
    }
    Ok(())
}

/// `--alias`, and the name in `--add-host`.
///
/// # Errors
/// [`BadName::TooLong`], or [`BadName::Characters`] if it is empty or would not be one word in `/etc/hosts`.
pub fn check_alias(alias: &str) -> Result<(), BadName> {
    check_length("alias", alias, LONGEST)?;
    check_field("alias", alias)
}

/// `--hostname`.
///
/// # Errors
/// [`BadName::TooLong`], or [`BadName::Characters`] if it is empty or would not be one word in `/etc/hosts`.
pub fn check_hostname(hostname: &str) -> Result<(), BadName> {
    check_length("hostname", hostname, LONGEST_HOSTNAME)?;
    check_field("hostname", hostname)
}

/// `--dns-search`; `.` for none.
///
/// # Errors
/// [`BadName::Domain`] if a label is empty, longer than 63 bytes, or has other characters than a-z, A-Z, 0-9,
/// `-` (not at an end) and `_`, or if all labels together are too long.
pub fn check_search_domain(domain: &str) -> Result<(), BadName> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let labels = domain.strip_suffix('.').unwrap_or(domain);
    match domain == "." || (labels.len() <= LONGEST && labels.split('.').all(is_label)) {
        true => Ok(()),
        false => Err(BadName::Domain(domain.to_owned())),
    }
}

/// `--dns-option`.
///
/// # Errors
/// [`BadName::TooLong`], or [`BadName::Characters`] if it is empty or would not be one word in
/// `/etc/resolv.conf`.
pub fn check_dns_option(option: &str) -> Result<(), BadName> {
    check_length("DNS option", option, LONGEST)?;
    check_field("DNS option", option)
}

fn check_length(kind: &'static str, name: &str, longest: usize) -> Result<(), BadName> {
    if name.len() <= longest {
        return Ok(());
    }
    Err(BadName::TooLong { kind, start: name.chars().take(32).collect(), length: name.len(), longest })
}

/// Checks a field of `/etc/hosts` or `/etc/resolv.conf`.
fn check_field(kind: &'static str, name: &str) -> Result<(), BadName> {
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
        let expected = "it must be one word without #";
        return Err(BadName::Characters { kind, name: name.to_owned(), expected });
    }
    Ok(())
}

/// A text that others chose, for a message of one line: what a terminal obeys is escaped, quotes are not.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    text.chars().for_each(|character| push_escaped(&mut line, character));
    line
}

/// Adds a character to a text, escaped if a terminal obeys it: control characters (ECMA-48) can move the cursor and
/// more; directional marks (Unicode's UAX 9) reorder the text.
pub fn push_escaped(text: &mut String, character: char) {
    match character {
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            text.extend(character.escape_unicode());
        }
        _ if character.is_control() => text.extend(character.escape_debug()),
        _ => text.push(character),
    }
}

/// A random name in Docker's style; from the second attempt on with a number.
pub fn random_name(attempt: u32) -> String {
    let pick = |words: &[&'static str]| words[rand::random_range(0..words.len())];
    let name = format!("{}_{}", pick(&ADJECTIVES), pick(&SURNAMES));
    if attempt == 0 { name } else { format!("{name}{attempt}") }
}

const ADJECTIVES: [&str; 40] = [
    "airy", "amber", "ample", "brisk", "calm", "candid", "clever", "crisp", "deft", "dusky", "eager", "fair",
    "fleet", "fond", "gentle", "glad", "hardy", "honest", "jolly", "keen", "kind", "lively", "lucid",
    "mellow", "merry", "mild", "neat", "nimble", "noble", "patient", "plucky", "proud", "quick", "quiet",
    "sage", "steady", "sunny", "tidy", "vivid", "witty",
];

/// Pioneers of computer networks.
const SURNAMES: [&str; 40] = [
    "abramson",
    "baran",
    "barlow",
    "bellovin",
    "boggs",
    "cailliau",
    "cerf",
    "cheriton",
    "clark",
    "cohen",
    "crocker",
    "davies",
    "deering",
    "dijkstra",
    "elz",
    "estrin",
    "feinler",
    "floyd",
    "jacobson",
    "kahn",
    "karn",
    "kirstein",
    "kleinrock",
    "lamarr",
    "licklider",
    "metcalfe",
    "mills",
    "mockapetris",
    "partridge",
    "perlman",
    "postel",
    "pouzin",
    "rekhter",
    "reynolds",
    "roberts",
    "shannon",
    "stevens",
    "taylor",
    "tomlinson",
    "zimmermann",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn refusal(result: Result<(), BadName>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn container_names_follow_dockers_rule() {
        for name in ["tomcat01", "a.b", "A-1", "0_", "web.", &"x".repeat(255)] {
            assert_eq!(check_container_name(name), Ok(()));
        }
        for name in ["", "a", "-ab", "_ab", "a b", "a/b", "/ab", "ä1", "a:b"] {
            assert_eq!(
                refusal(check_container_name(name)),
                format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
            );
        }
    }

    #[test]
    fn an_error_is_always_one_line() {
        let long = "n".repeat(300);
        assert_eq!(
            refusal(check_container_name(&long)),
            format!("invalid container name {}…: it has 300 bytes, at most 255 are allowed", "n".repeat(32))
        );
        assert_eq!(one_line("a\n\u{9b}\u{202e}\"b\u{2066}"), r#"a\n\u{9b}\u{202e}"b\u{2066}"#);
        for name in ["a\nb", "a\0b", "a\u{1b}[31mb", &"\n".repeat(300)] {
            for check in
                [check_container_name, check_network_name, check_alias, check_hostname, check_search_domain]
            {
                let message = refusal(check(name));
                assert!(!message.contains(char::is_control), "{message:?}");
            }
        }
    }

    #[test]
    fn a_network_name_is_any_text_of_one_line() {
        for name in ["mynet", "test@#$", "a b", "ä", &"x".repeat(255)] {
            assert_eq!(check_network_name(name), Ok(()));
        }
        for name in ["", " "] {
            assert_eq!(refusal(check_network_name(name)), "invalid name: name is empty");
        }
        assert_eq!(
            refusal(check_network_name("a\tb")),
            r#"invalid network name "a\tb": it must not contain control characters"#
        );
    }

    #[test]
    fn aliases_and_host_names_fit_into_a_hosts_file() {
        assert_eq!(check_alias("db.local"), Ok(()));
        assert_eq!(check_hostname("web.example.org"), Ok(()));
        for name in ["", "a b", "a#b", "a\u{a0}b"] {
            assert!(
                check_alias(name).is_err()
                    && check_hostname(name).is_err()
                    && check_dns_option(name).is_err()
            );
        }
        assert_eq!(
            refusal(check_hostname(&"h".repeat(65))),
            format!("invalid hostname {}…: it has 65 bytes, at most 64 are allowed", "h".repeat(32))
        );
    }

    #[test]
    fn search_domains_are_domains() {
        for domain in [".", "example.org", "example.org.", "_tcp.local", "a"] {
            assert_eq!(check_search_domain(domain), Ok(()));
        }
        for domain in ["", "..", "a..b", "-a.org", "a b", ".org"] {
            assert_eq!(refusal(check_search_domain(domain)), format!("{domain} is not a valid domain"));
        }
    }

    #[test]
    fn random_names_are_valid_and_many() {
        let names: BTreeSet<_> = (0..200).map(|_| random_name(0)).collect();
        assert!(names.len() > 100);
        assert!(names.iter().all(|name| check_container_name(name).is_ok()));
        assert!(random_name(7).ends_with('7'));
        let words: BTreeSet<_> = ADJECTIVES.into_iter().chain(SURNAMES).collect();
        assert_eq!(words.len(), 80);
    }
}
