//! Fuzz target: names in nft's language. The names of netbpf's networks, and those that others gave to tables, chains and
//! interfaces, never change what a command says: each line stays one command with the same words.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_netfilter::nftables::InetHookNumber as Hook;

use super::{
    foreign::ForeignChains,
    ruleset::{self, Base, Chain, Rule, Side, Table, Test, Verdict},
    table::{self, Elements},
};
use crate::{
    model::{HostInterface, InterfaceName},
    plan::{Inbound, NetworkRules, Source, Way},
};

/// Checks names: lines of any text.
pub(crate) fn check_names(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    // Names may contain line breaks, so they are separated by another character.
    let names: Vec<&str> = text.split('|').take(6).collect();
    check_networks(&names);
    check_foreign_chains(&names);
    let comment = ruleset::comment(input);
    assert!(!comment.contains('\0'));
}

/// Names of devices and of the host's interfaces, as far as they are accepted.
fn check_networks(names: &[&str]) {
    let trusted: Vec<HostInterface> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let devices: BTreeSet<InterfaceName> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let networks: Vec<NetworkRules> = devices
        .iter()
        .map(|device| NetworkRules {
            device: device.clone(),
            gateways: vec!["10.1.0.1".parse().expect("an address")],
            internal: true,
            max_flows: Some(7),
            trusted: trusted.clone(),
            ipv4: Way { source: Source::Interface, inbound: Inbound::Open },
            ipv6: Way {
                source: Source::Chosen("fd00::1".parse().expect("an address")),
                inbound: Inbound::All,
            },
        })
        .collect();
    let elements = Elements::of(&networks, []);
    assert!(table::replacement("t", 7, &elements).ends_with(&elements.added_to("t")));
    for commands in [elements.added_to("t"), elements.deleted_from("t")] {
        let strings: BTreeSet<String> = commands.lines().flat_map(strings_of).collect();
        let known = |name: &String| {
            devices.contains(name.as_str()) || trusted.iter().any(|interface| **interface == **name)
        };
        let odd: Vec<_> = strings.iter().filter(|name| !known(name)).collect();
        assert!(odd.is_empty(), "{odd:?} in {commands}");
    }
    // A name adds words to the line of a set, and five lines if the network has a limit.
    let added = elements.added_to("t");
    let lines = added.lines().filter(|line| !line.contains(" flows-")).count();
    let sets: BTreeSet<&str> = added.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    assert!(lines <= sets.len(), "{added}");
}

/// Names of a table, of its chains and of an interface, as another program gave them to the kernel.
fn check_foreign_chains(names: &[&str]) {
    let name = |index: usize| names.get(index).copied().unwrap_or("x").to_owned();
    let drops = Some(Base { hook: Hook::Forward, drops: true });
    let rule = |handle, tests, verdict| Rule {
        handle,
        comment: String::new(),
        tests,
        verdict,
        has_other_parts: false,
        ..Rule::default()
    };
    let bridge = Test::Interface { side: Side::Out, name: name(3), is_equal: true };
    let base = Chain {
        base: drops,
        rules: vec![
            rule(3, vec![bridge], Some(Verdict::Jump("DOCKER".to_owned()))),
            rule(4, vec![], Some(Verdict::Jump(name(2)))),
        ],
    };
    let inner = Chain { base: None, rules: vec![rule(5, vec![], Some(Verdict::Drop))] };
    let chains = BTreeMap::from([(name(1), base), (name(2), inner)]);
    let table = Table { family: "inet", name: name(0), is_owned: false, chains };
    let foreign = ForeignChains::new("netbpf".to_owned());
    let devices = BTreeSet::from(["nb-*".to_owned(), "br0".to_owned()]);
    // nft has no way to write some names. Then there are no commands.
    for line in foreign.changes(&table, &devices).iter().flat_map(|commands| commands.lines()) {
        let words: Vec<&str> = line.split(' ').collect();
        let [verb @ ("add" | "insert" | "delete"), "rule", "inet", table_name, chain, rest @ ..] = &words[..]
        else {
            panic!("{line:?} is no command about a rule");
        };
        let _ = verb;
        assert_eq!(*table_name, table.name);
        assert!(table.chains.contains_key(*chain), "{chain:?}");
        assert!(rest.iter().all(|word| !word.contains([';', '{', '}', '#', '\\'])), "{line:?}");
        assert!(
            strings_of(line).iter().all(|name| *name == "netbpf"
                || *name == "nb-*"
                || *name == "br0"
                || names.contains(&name.as_str())),
            "{line:?}"
        );
    }
}

/// What is between quotes in a line. They are balanced.
fn strings_of(line: &str) -> Vec<String> {
    let parts: Vec<&str> = line.split('"').collect();
    assert!(parts.len() % 2 == 1 || line.trim_start().starts_with('#'), "a string without an end: {line:?}");
    parts.into_iter().skip(1).step_by(2).map(str::to_owned).collect()
}

/// Names of all kinds.
pub(crate) fn names() -> Vec<Vec<u8>> {
    [
        "filter|FORWARD|ufw-after|docker0|br0|eth0",
        "t|a b|c;d|e\"f|g\nh|#",
        "x; flush ruleset|{ }|nb-1|eth0.100|vm*|$x",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
