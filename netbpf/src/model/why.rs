//! Says why frames were dropped, and what would help: the only place of these sentences. Whoever has a drop to tell fills
//! in the names. Knows texts only, not where the names come from.

use std::{borrow::Cow, net::IpAddr};

use netbpf_common::reason::Reason;

/// Frames that ended for one reason, by the names that users know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dropped<'a> {
    /// The container that sent them; none if that is the host, another host, or not known.
    pub sender: Option<&'a str>,
    /// The sender's own addresses in the network, `172.18.0.3`.
    pub addresses: &'a [IpAddr],
    /// The sender's network.
    pub sender_network: Option<&'a str>,
    /// The network that they were in, or would have entered.
    pub network: Option<&'a str>,
    /// The container that they were for.
    pub receiver: Option<&'a str>,
    /// Their source address.
    pub source: Option<IpAddr>,
    /// Their destination address.
    pub destination: Option<IpAddr>,
}

/// One sentence without a full stop: why, and after a colon what would help. For a reason for which frames are not
/// dropped: what became of them.
pub fn why(reason: Reason, dropped: &Dropped<'_>) -> String {
    let sender = dropped.sender.unwrap_or("the sender");
    let receiver = dropped.receiver.unwrap_or("the receiver");
    let network = dropped.network.unwrap_or("the network");
    match reason {
        Reason::Forwarded => format!("it went to {receiver}"),
        Reason::Flooded => format!("it went to all members of {network}"),
        Reason::Delivered => "it went to the host, whose routes and packet filter decide about it".to_owned(),
        Reason::Shortcut => "it is of an established flow and went past the host's stack".to_owned(),
        Reason::AnsweredArp | Reason::AnsweredNd | Reason::AnsweredName => {
            "the program answered it, so nobody else sees it".to_owned()
        }
        Reason::Malformed => {
            format!("shorter than its headers say, or of a kind that hides its content: look at what {sender} sends")
        }
        Reason::UnknownEndpoint => {
            "its interface is no endpoint of any network: a restart of the daemon repairs it; see netbpf doctor".to_owned()
        }
        Reason::UnknownDestination => format!(
            "no member of {network} has the MAC: an old neighbour entry, which ends by itself within a minute, or a MAC \
             that needs netbpf.guard=off of the endpoint that has it"
        ),
        Reason::UnknownAddress => format!(
            "nobody in {network} has {}: start its container, or allow the address at one by netbpf.addresses",
            address(dropped.destination, "the address")
        ),
        Reason::SpoofedMac => format!("not {sender}'s MAC: {}", allow(dropped, "guard=off")),
        Reason::SpoofedIpv4 | Reason::SpoofedIpv6 => {
            format!("not {sender}'s address{}: {}", own(dropped), allow(dropped, &further(dropped)))
        }
        Reason::SpoofedArp => {
            let what = format!("not {sender}'s MAC or address{} in ARP", own(dropped));
            format!("{what}: {}", allow(dropped, &further(dropped)))
        }
        Reason::SpoofedNd => {
            let what = "not its MAC or address in neighbour discovery, or what only routers may send";
            format!("{what}: {}", allow(dropped, "guard=off"))
        }
        Reason::Loopback => {
            "127.0.0.0/8 stays within a host: use another address of the service".to_owned()
        }
        Reason::Hairpin => {
            format!("to where it came from: look for a route or a neighbour entry in {sender} that leads back to itself")
        }
        Reason::NoIcc => format!(
            "members of {network} may not talk to each other (enable_icc=false): use --link, or a published port of \
             {receiver}"
        ),
        Reason::Isolated => isolated(dropped, network),
        Reason::Reserved => {
            "no bridge forwards the groups 01:80:c2:00:00:0x (spanning tree, LLDP): that is as it should be".to_owned()
        }
        Reason::FloodLimit => format!(
            "more broadcasts and multicasts than {network} allows: look for a loop, or raise \
             netbpf.max_flood_copies of the network"
        ),
        Reason::EgressLimit => format!(
            "faster than {sender}'s limit, and its interface does not slow it down any more: raise \
             netbpf.egress_rate, or restart the container"
        ),
        Reason::Failed => {
            format!("the kernel did not pass it on: look whether the interface of {receiver} is up, and at netbpf doctor")
        }
        Reason::Unpublished => format!(
            "other hosts and networks may not reach {receiver} directly: publish the port (-p) and use an address of \
             this host, or connect the sender to {network}"
        ),
        Reason::Internal => {
            format!("{network} is internal, so no traffic enters or leaves it: use a network without --internal")
        }
        Reason::Untranslated => {
            "conntrack takes it for invalid or does not track it, so it would leave with the container's own address: \
             look for rules with notrack, and at conntrack -S"
                .to_owned()
        }
        Reason::Transit => {
            "the host forwards only for netbpf's networks: set net.ipv4.ip_forward (or IPv6's) before the daemon \
             starts, or start it with --ip-forward-no-drop"
                .to_owned()
        }
        Reason::Flows => {
            "the container has as many flows as its network allows: raise netbpf.max_flows of the network".to_owned()
        }
    }
}

fn isolated(dropped: &Dropped<'_>, network: &str) -> String {
    match (dropped.sender_network, dropped.sender) {
        (Some(other), Some(sender)) => format!(
            "{other} and {network} are apart: netbpf connect {} {}, or use a published port",
            word(network),
            word(sender)
        ),
        _ => format!(
            "other networks and {network} are apart: connect the sender to it, or use a published port"
        ),
    }
}

/// ` (172.18.0.3)`: the sender's own addresses.
fn own(dropped: &Dropped<'_>) -> String {
    let addresses: Vec<_> = dropped.addresses.iter().map(IpAddr::to_string).collect();
    if addresses.is_empty() { String::new() } else { format!(" ({})", addresses.join(", ")) }
}

/// The option for the source address: that of the sender, if it used only another MAC, or one that cannot be listed, needs
/// no guard at all. An endpoint's list takes the place of the one that it had, or of its network's.
fn further(dropped: &Dropped<'_>) -> String {
    let source =
        dropped.source.filter(|source| can_be_listed(*source) && !dropped.addresses.contains(source));
    source.map_or("guard=off".to_owned(), |source| format!("addresses=…,{source}"))
}

/// Whether `netbpf.addresses` may have the address: [`AccessOptions`](super::AccessOptions) refuses all others.
fn can_be_listed(address: IpAddr) -> bool {
    let is_special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    !is_special
        && match address {
            IpAddr::V4(address) => !address.is_link_local() && !address.is_broadcast(),
            IpAddr::V6(address) => !address.is_unicast_link_local() && address.to_ipv4_mapped().is_none(),
        }
}

/// The command that allows the sender more.
fn allow(dropped: &Dropped<'_>, option: &str) -> String {
    match (dropped.sender_network.or(dropped.network), dropped.sender) {
        (Some(network), Some(sender)) => {
            let (network, sender) = (word(network), word(sender));
            format!("netbpf update --network {network} --driver-opt netbpf.{option} {sender} allows it")
        }
        _ => format!("netbpf.{option} of its endpoint allows it"),
    }
}

fn address(address: Option<IpAddr>, otherwise: &str) -> String {
    address.map_or(otherwise.to_owned(), |address| address.to_string())
}

/// A name as a word of a shell's command: a network may have any name of one line.
pub fn word(name: &str) -> Cow<'_, str> {
    shlex::try_quote(name).unwrap_or(Cow::Borrowed("NAME"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::new(172, 18, 0, 3))];

    fn dropped<'a>() -> Dropped<'a> {
        Dropped {
            sender: Some("db"),
            addresses: &ADDRESSES,
            sender_network: Some("shop"),
            network: Some("lab"),
            receiver: Some("web"),
            source: "10.0.0.9".parse().ok(),
            destination: "172.19.0.2".parse().ok(),
        }
    }

    #[test]
    fn each_drop_has_a_sentence_with_what_would_help() {
        for reason in Reason::ALL {
            for dropped in [dropped(), Dropped::default()] {
                let sentence = why(*reason, &dropped);
                assert!((10..200).contains(&sentence.len()), "{sentence}");
                assert!(!sentence.ends_with('.') && !sentence.contains("  "), "{sentence}");
                assert_eq!(sentence.contains(": "), reason.is_drop(), "{sentence}");
            }
        }
    }

    #[test]
    fn names_and_addresses_are_filled_in() {
        let told = |reason| why(reason, &dropped());
        assert_eq!(
            told(Reason::Isolated),
            "shop and lab are apart: netbpf connect lab db, or use a published port"
        );
        assert_eq!(
            told(Reason::SpoofedIpv4),
            "not db's address (172.18.0.3): \
             netbpf update --network shop --driver-opt netbpf.addresses=…,10.0.0.9 db allows it"
        );
        let guard = "netbpf update --network shop --driver-opt netbpf.guard=off db allows it";
        let own = Dropped { source: Some(ADDRESSES[0]), ..dropped() };
        assert_eq!(
            why(Reason::SpoofedArp, &own),
            format!("not db's MAC or address (172.18.0.3) in ARP: {guard}")
        );
        for source in
            ["0.0.0.0", "::", "fe80::1", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::ffff:10.0.0.9"]
        {
            let other = Dropped { source: source.parse().ok(), ..dropped() };
            assert!(why(Reason::SpoofedIpv6, &other).ends_with(guard), "{source}");
        }
        assert!(told(Reason::UnknownAddress).starts_with("nobody in lab has 172.19.0.2: "));
    }

    #[test]
    fn a_command_has_hostile_names_as_one_word() {
        let hostile = Dropped { network: Some("a; rm -rf '/'"), ..dropped() };
        assert!(why(Reason::Isolated, &hostile).contains(r#"netbpf connect "a; rm -rf '/'" db"#));
    }
}
