//! Tables and rules in words, for the tests of those that read rules.

use netlink_packet_netfilter::nftables::InetHookNumber;

use super::ruleset::{Base, Chain, Rule, Side, Table, Test, Verdict};

/// A table with these chains; the first one is at the hook `forward`. A rule is a list of conditions (`i:NAME`, `o:NAME`,
/// `!i:NAME`, or any other word) and what it does (`accept`, `drop`, `return`, `jump:CHAIN`, `goto:CHAIN`, `log`, `vmap`,
/// `queue`).
pub fn table(drops: bool, chains: &[(&str, &[&str])]) -> Table {
    let base = Base { hook: InetHookNumber::Forward, drops };
    let chains = chains.iter().enumerate().map(|(index, (name, rules))| {
        let rules = (1..).zip(*rules).map(|(handle, text)| rule(handle, text)).collect();
        ((*name).to_owned(), Chain { base: (index == 0).then_some(base), rules })
    });
    Table { family: "ip", name: "filter".into(), is_owned: false, chains: chains.collect() }
}

fn rule(handle: u64, text: &str) -> Rule {
    let mut rule = Rule { handle, ..Rule::default() };
    for word in text.split(' ') {
        match word.split_once(':') {
            Some(("jump", chain)) => rule.verdict = Some(Verdict::Jump(chain.to_owned())),
            Some(("goto", chain)) => rule.verdict = Some(Verdict::Goto(chain.to_owned())),
            Some((key, name)) => rule.tests.push(Test::Interface {
                side: if key.ends_with('i') { Side::In } else { Side::Out },
                name: name.to_owned(),
                is_equal: !key.starts_with('!'),
            }),
            None => match word {
                "accept" => rule.verdict = Some(Verdict::Accept),
                "drop" => rule.verdict = Some(Verdict::Drop),
                "return" => rule.verdict = Some(Verdict::Return),
                "log" => {}
                "vmap" | "queue" => rule.is_open = true,
                "ours" => rule.comment = "netbpf".to_owned(),
                _ => rule.tests.push(Test::Other),
            },
        }
    }
    rule
}
