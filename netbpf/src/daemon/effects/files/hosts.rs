//! The texts of a container's `/etc/hosts` and `/etc/hostname`, and the exchange of netbpf's lines in a file
//! that the user also edits. Pure functions of texts.

use std::net::IpAddr;

/// The line for localhost.
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n";

/// The lines for IPv6, if the container's `lo` has `::1`.
const LOCALHOST_IPV6: &str = "::1\tlocalhost ip6-localhost ip6-loopback\n\
                              fe00::\tip6-localnet\n\
                              ff00::\tip6-mcastprefix\n\
                              ff02::1\tip6-allnodes\n\
                              ff02::2\tip6-allrouters\n";

/// `/etc/hosts` for the start of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// The part that does not change until the next start.
    pub head: String,
    /// Lines after it that change with networks and links, each without its newline.
    pub lines: Vec<String>,
}

impl Hosts {
    /// Localhost, then `--add-host` and links, then the container's own name at each address, in the order of
    /// connecting.
    pub fn new(
        ipv6: bool,
        extra: &[(String, IpAddr)],
        hostname: &str,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Self {
        let own = match hostname.split_once('.') {
            Some((first, _)) => format!("{hostname} {first}"),
            None => hostname.to_owned(),
        };
        let extra = extra.iter().map(|(name, address)| line(*address, name));
        let addresses = addresses.into_iter().map(|address| line(address, &own));
        Self {
            head: format!("{LOCALHOST}{}", if ipv6 { LOCALHOST_IPV6 } else { "" }),
            lines: extra.chain(addresses).collect(),
        }
    }

    /// The whole text.
    pub fn text(&self) -> String {
        self.lines.iter().fold(self.head.clone(), |text, line| format!("{text}{line}\n"))
    }
}

/// Replaces the lines `before` in `text` by the lines `after`. As in Docker, only the differences are
/// applied: a line that the user removed or changed is left alone, and the user's own lines stay where they
/// are. Idempotent.
pub fn exchanged(text: &[u8], before: &[String], after: &[String]) -> Vec<u8> {
    let only_in = |some: &[String], others: &[String]| -> Vec<String> {
        some.iter().filter(|line| !others.contains(line)).cloned().collect()
    };
    let (gone, new) = (only_in(before, after), only_in(after, before));
    let is = |line: &[u8], ours: &String| line.strip_suffix(b"\n").unwrap_or(line) == ours.as_bytes();
    let mut changed: Vec<u8> = text
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| !gone.iter().any(|ours| is(line, ours)))
        .flatten()
        .copied()
        .collect();
    for ours in new {
        if changed.split_inclusive(|byte| *byte == b'\n').any(|line| is(line, &ours)) {
            continue;
        }
        if changed.last().is_some_and(|byte| *byte != b'\n') {
            changed.push(b'\n');
        }
        changed.extend_from_slice(format!("{ours}\n").as_bytes());
    }
    changed
}

/// `/etc/hostname`.
pub fn hostname(name: &str) -> String {
    format!("{name}\n")
}

fn line(address: IpAddr, names: &str) -> String {
    format!("{address}\t{names}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole text.
    fn hosts(
        ipv6: bool,
        extra: &[(String, IpAddr)],
        hostname: &str,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> String {
        Hosts::new(ipv6, extra, hostname, addresses).text()
    }

    fn exchanged(text: &str, before: &[&str], after: &[&str]) -> String {
        let [before, after] =
            [before, after].map(|lines| lines.iter().map(ToString::to_string).collect::<Vec<_>>());
        let once = super::exchanged(text.as_bytes(), &before, &after);
        assert_eq!(super::exchanged(&once, &before, &after), once, "twice");
        String::from_utf8(once).expect("text in, text out")
    }

    #[test]
    fn lines_are_exchanged_between_the_users() {
        let text = "127.0.0.1\tlocalhost\n10.0.0.2\tca\n# mine\n10.9.8.7 licence\n";
        let more = "127.0.0.1\tlocalhost\n10.0.0.2\tca\n# mine\n10.9.8.7 licence\n10.1.0.2\tca\n";
        assert_eq!(exchanged(text, &["10.0.0.2\tca"], &["10.0.0.2\tca", "10.1.0.2\tca"]), more);
        assert_eq!(exchanged(more, &["10.0.0.2\tca", "10.1.0.2\tca"], &["10.0.0.2\tca"]), text);
        assert_eq!(exchanged(text, &["10.0.0.2\tca"], &["10.0.0.2\tca"]), text);
    }

    #[test]
    fn lines_that_the_user_removed_or_changed_are_left_alone() {
        for text in ["", "10.0.0.2\tca alias\n", "#10.0.0.2\tca\n"] {
            assert_eq!(exchanged(text, &["10.0.0.2\tca"], &["10.0.0.2\tca"]), text);
            assert_eq!(exchanged(text, &["10.0.0.2\tca"], &[]), text);
        }
        assert_eq!(exchanged("10.1.0.2\tca\n", &[], &["10.1.0.2\tca"]), "10.1.0.2\tca\n", "it is there");
    }

    #[test]
    fn a_last_line_without_a_newline_gets_one() {
        assert_eq!(exchanged("a b", &[], &["c\td"]), "a b\nc\td\n");
        assert_eq!(exchanged("a b\nc\td", &["c\td"], &[]), "a b\n");
        assert_eq!(
            super::exchanged(b"\xff\n", &[], &["c\td".to_owned()]),
            b"\xff\nc\td\n",
            "what is no text"
        );
    }

    #[test]
    fn a_container_without_networks_knows_localhost() {
        assert_eq!(
            hosts(true, &[], "web", []),
            "127.0.0.1\tlocalhost\n\
             ::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::\tip6-localnet\n\
             ff00::\tip6-mcastprefix\n\
             ff02::1\tip6-allnodes\n\
             ff02::2\tip6-allrouters\n"
        );
        assert_eq!(hosts(false, &[], "web", []), "127.0.0.1\tlocalhost\n");
    }

    #[test]
    fn added_hosts_come_before_the_containers_own_addresses() {
        let extra = [
            ("db".to_owned(), [10, 0, 0, 9].into()),
            ("six".to_owned(), "fd00::9".parse().expect("an address")),
            ("host.docker.internal".to_owned(), [172, 17, 0, 1].into()),
        ];
        assert_eq!(
            hosts(
                false,
                &extra,
                "web",
                [[172, 17, 0, 2].into(), "fd00::2".parse().expect("an address"), [192, 168, 0, 4].into()]
            ),
            "127.0.0.1\tlocalhost\n\
             10.0.0.9\tdb\n\
             fd00::9\tsix\n\
             172.17.0.1\thost.docker.internal\n\
             172.17.0.2\tweb\n\
             fd00::2\tweb\n\
             192.168.0.4\tweb\n"
        );
    }

    #[test]
    fn a_host_name_with_a_domain_is_known_by_its_first_label_too() {
        assert_eq!(
            hosts(false, &[], "web.example.org", [[172, 17, 0, 2].into()]),
            "127.0.0.1\tlocalhost\n172.17.0.2\tweb.example.org web\n"
        );
        assert_eq!(hostname("web.example.org"), "web.example.org\n");
    }
}
