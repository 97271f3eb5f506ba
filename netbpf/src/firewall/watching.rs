//! Foreign chains that must see each packet of a flow between a container and another host: those with a rule that may drop,
//! change or log one, however long ago the flow was established. Changes nothing.
//!
//! A rule that accepts, and looks only at the names of interfaces, does not make its chain one of them; netbpf's own rules
//! are such. Neither does a rule about other interfaces, such as those of Docker's bridges.

use std::{fs, io};

use netlink_packet_netfilter::nftables::InetHookNumber as Hook;

use super::{
    Error, Firewall, in_background,
    ruleset::{self, Base, Rule, Side, Table, Test, Verdict},
};

/// The tables of iptables' old form, which are not listed with the others, and whose changes nobody announces.
const LEGACY: &str = "/proc/net/ip_tables_names";

/// The kernel's limit for nested jumps (`NFT_JUMP_STACK_SIZE`).
const DEPTH: usize = 16;

impl Firewall {
    /// The foreign chains that must see each forwarded packet. Each change of them is announced ([`FilterChanges`]).
    ///
    /// [`FilterChanges`]: super::FilterChanges
    ///
    /// # Errors
    /// [`Error::Others`] if the kernel does not list the rules.
    pub async fn watching_chains(&self) -> Result<Vec<String>, Error> {
        let owner = self.table.clone();
        in_background(move || {
            let tables = ruleset::read(&owner)?;
            let mut found: Vec<_> = tables.iter().flat_map(|table| of_table(table, &owner)).collect();
            found.extend(ruleset::of_devices()?);
            Ok(found)
        })
        .await
        .map_err(Error::Others)
    }
}

fn of_table(table: &Table, owner: &str) -> Vec<String> {
    if table.family == "ip6" {
        return Vec::new();
    }
    let concerned = table.chains.iter().filter(|(name, chain)| {
        chain.base.is_some_and(|base| is_on_the_way(base) && concerns(table, name, base, owner))
    });
    concerned.map(|(name, _)| format!("{} {} {name}", table.family, table.name)).collect()
}

fn is_on_the_way(base: Base) -> bool {
    !matches!(base.hook, Hook::LocalIn | Hook::LocalOut)
}

fn concerns(table: &Table, chain: &str, base: Base, owner: &str) -> bool {
    // netbpf's own rules at its end accept what containers send and get.
    let is_answered = table.chains[chain].rules.iter().any(|rule| is_of_netbpf(rule, owner));
    (base.drops && !is_answered) || must_see(table, chain, DEPTH)
}

/// Whether a rule may be one of those by which netbpf accepts. Anybody can write its comment.
fn is_of_netbpf(rule: &Rule, owner: &str) -> bool {
    rule.comment == owner && rule.verdict == Some(Verdict::Accept) && !looks_at_more(rule)
}

/// Whether a rule looks at more of a packet than its interfaces, or does more than to count it.
fn looks_at_more(rule: &Rule) -> bool {
    rule.has_other_parts || rule.tests.contains(&Test::Other)
}

/// Whether a rule that a packet of a flow may reach in a chain must see it.
fn must_see(table: &Table, chain: &str, depth: usize) -> bool {
    let rules = table.chains.get(chain).map_or(&[][..], |chain| &chain.rules);
    rules.iter().filter(|rule| may_match(rule)).any(|rule| match &rule.verdict {
        _ if looks_at_more(rule) => true,
        Some(Verdict::Accept | Verdict::Return) => false,
        Some(Verdict::Drop) | None => true,
        Some(Verdict::Jump(to) | Verdict::Goto(to)) => depth == 0 || must_see(table, to, depth - 1),
    })
}

/// Whether a rule may be about a packet that comes in by a network's device and goes out by an uplink, or the other way.
/// Names of other engines' bridges are known; any other interface may be an uplink.
fn may_match(rule: &Rule) -> bool {
    !rule.tests.iter().any(|test| match test {
        Test::Interface { side: Side::In | Side::Out, name, is_equal: true } => is_bridge_of_docker(name),
        Test::Interface { .. } | Test::Other => false,
    })
}

/// Whether an interface has the name of a bridge of Docker's: `docker0`, `docker_gwbridge`, or `br-` with twelve digits.
pub fn is_bridge_of_docker(name: &str) -> bool {
    let is_id = |rest: &str| rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    name == "docker0" || name == "docker_gwbridge" || name.strip_prefix("br-").is_some_and(is_id)
}

/// The tables of iptables-legacy in the network namespace of this process. Nobody announces them or their rules.
///
/// # Errors
/// [`Error::Others`] if the kernel does not list them.
pub fn legacy_tables() -> Result<Vec<String>, Error> {
    let names = match fs::read_to_string(LEGACY) {
        // The kernel never had one.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names.map_err(Error::Others)?,
    };
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::{super::ruleset::Chain, *};

    fn rule(tests: &[Test], verdict: Option<Verdict>) -> Rule {
        Rule { tests: tests.to_vec(), verdict, ..Rule::default() }
    }

    fn interface(side: Side, name: &str, is_equal: bool) -> Test {
        Test::Interface { side, name: name.to_owned(), is_equal }
    }

    fn concerned(hook: Hook, drops: bool, chains: Vec<(&str, Vec<Rule>)>) -> bool {
        let base = Base { hook, drops };
        let chains = chains.into_iter().enumerate().map(|(index, (name, rules))| {
            (name.to_owned(), Chain { base: (index == 0).then_some(base), rules })
        });
        let table = Table { family: "ip", name: "filter".into(), is_owned: false, chains: chains.collect() };
        !of_table(&table, "netbpf").is_empty()
    }

    fn of_forward(rules: Vec<Rule>) -> bool {
        concerned(Hook::Forward, false, vec![("FORWARD", rules)])
    }

    #[test]
    fn a_rule_that_may_drop_count_or_log_must_see_each_packet() {
        assert!(of_forward(vec![rule(&[Test::Other], Some(Verdict::Drop))]));
        assert!(of_forward(vec![rule(&[], None)]));
        assert!(of_forward(vec![rule(&[interface(Side::In, "eth0", true)], Some(Verdict::Drop))]));
        assert!(of_forward(vec![rule(&[interface(Side::In, "docker0", false)], Some(Verdict::Drop))]));
        assert!(of_forward(vec![rule(&[Test::Other], Some(Verdict::Accept))]));
        assert!(of_forward(vec![Rule { has_other_parts: true, ..rule(&[], Some(Verdict::Accept)) }]));
        assert!(!of_forward(vec![rule(&[interface(Side::Out, "eth0", true)], Some(Verdict::Accept))]));
        assert!(!of_forward(vec![rule(&[], Some(Verdict::Return))]));
        assert!(!concerned(Hook::LocalIn, true, vec![("INPUT", vec![rule(&[], Some(Verdict::Drop))])]));
    }

    #[test]
    fn a_policy_that_drops_must_see_each_packet_unless_netbpf_answers_it() {
        assert!(concerned(Hook::Forward, true, vec![("FORWARD", vec![])]));
        let own = Rule { comment: "netbpf".to_owned(), ..rule(&[], Some(Verdict::Accept)) };
        assert!(!concerned(Hook::Forward, true, vec![("FORWARD", vec![own])]));
    }

    #[test]
    fn netbpfs_comment_does_not_hide_a_rule() {
        let marked = |rule: Rule| Rule { comment: "netbpf".to_owned(), ..rule };
        assert!(of_forward(vec![marked(rule(&[], Some(Verdict::Drop)))]));
        assert!(of_forward(vec![marked(rule(&[], None))]));
        let odd = |verdict| marked(rule(&[interface(Side::In, "eth0", true)], Some(verdict)));
        for rules in [vec![odd(Verdict::Drop)], vec![odd(Verdict::Return)]] {
            assert!(concerned(Hook::Forward, true, vec![("FORWARD", rules)]), "the policy is not answered");
        }
    }

    #[test]
    fn rules_of_docker_for_its_bridges_need_not() {
        let docker = |user: Vec<Rule>| {
            let jump = |to: &str| Some(Verdict::Jump(to.to_owned()));
            let bridge = |name: &str| [interface(Side::Out, name, true)];
            let own = Rule { comment: "netbpf".to_owned(), ..rule(&[], Some(Verdict::Accept)) };
            let forward = vec![
                rule(&[], jump("DOCKER-USER")),
                rule(&[interface(Side::In, "docker0", true)], jump("STAGE-1")),
                rule(&bridge("br-0123456789ab"), Some(Verdict::Drop)),
                rule(&bridge("docker0"), Some(Verdict::Accept)),
                own,
            ];
            let stage = vec![rule(&[], Some(Verdict::Drop))];
            concerned(
                Hook::Forward,
                true,
                vec![("FORWARD", forward), ("DOCKER-USER", user), ("STAGE-1", stage)],
            )
        };
        assert!(!docker(vec![]));
        assert!(!docker(vec![rule(&[], Some(Verdict::Return))]));
        assert!(docker(vec![rule(&[Test::Other], Some(Verdict::Drop))]));
    }

    #[test]
    fn only_names_that_docker_gives_are_those_of_its_bridges() {
        for name in ["docker0", "br-0123456789ab"] {
            assert!(is_bridge_of_docker(name));
        }
        for name in ["docker*", "br-lan", "br-*", "br0", "eth0"] {
            assert!(!is_bridge_of_docker(name));
        }
    }
}
