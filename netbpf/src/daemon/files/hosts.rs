//! What `/etc/hosts` and `/etc/hostname` of a container say. Text in, text out.

use std::{fmt::Write as _, net::IpAddr};

/// A line of its own for each.
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n";

/// Where the container's `lo` has `::1`.
const LOCALHOST_IPV6: &str = "::1\tlocalhost ip6-localhost ip6-loopback\n\
                              fe00::\tip6-localnet\n\
                              ff00::\tip6-mcastprefix\n\
                              ff02::1\tip6-allnodes\n\
                              ff02::2\tip6-allrouters\n";

/// `/etc/hosts`: localhost, `--add-host` and links, and the container's own name at each address in the order of connecting.
pub fn hosts(
    ipv6: bool,
    extra: &[(String, IpAddr)],
    hostname: &str,
    addresses: impl IntoIterator<Item = IpAddr>,
) -> String {
    let mut text = LOCALHOST.to_owned();
    if ipv6 {
        text.push_str(LOCALHOST_IPV6);
    }
    for (name, address) in extra {
        line(&mut text, *address, name);
    }
    let own = match hostname.split_once('.') {
        Some((first, _)) => format!("{hostname} {first}"),
        None => hostname.to_owned(),
    };
    for address in addresses {
        line(&mut text, address, &own);
    }
    text
}

/// `/etc/hostname`.
pub fn hostname(name: &str) -> String {
    format!("{name}\n")
}

fn line(text: &mut String, address: IpAddr, names: &str) {
    writeln!(text, "{address}\t{names}").expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use super::*;

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
