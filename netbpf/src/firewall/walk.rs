//! Where a packet ends that no rule of a chain asks for: the way of the packets of one interface through rules that hold
//! for all of them. Pure.
//!
//! A rule with any other condition (an address, a port, a state of conntrack's) is passed by: it is somebody's word on
//! some packets, and comes before whatever this finds.

use super::ruleset::{Rule, Side, Table, Test, Verdict};

/// Where Docker's administrators have the last word on containers: never the end of a chain, whatever is in it.
const ADMINISTRATORS: &str = "DOCKER-USER";
/// The kernel lets chains jump so deep (`NFT_JUMP_STACK_SIZE`).
const DEPTH: usize = 16;

/// An interface, or all whose names begin alike (`nb-*`), and how packets meet it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface<'a> {
    /// They come in by it, or leave by it.
    pub side: Side,
    /// Its name.
    pub name: &'a str,
}

/// What becomes of a packet that no rule asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It passes.
    Passes,
    /// A policy drops it, or a rule that drops or rejects whatever comes to it.
    Falls(Place),
    /// A rule drops it on purpose: it names the interface, or is the administrator's.
    Denied,
}

/// A place in a chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The chain.
    pub chain: String,
    /// Before the rule of this number; behind all if there is none.
    pub before: Option<u64>,
}

/// How a chain is left.
enum Way {
    Ended(End),
    /// Back to where it was jumped to from; what lets packets through had to be here.
    Back(Place),
}

/// Whether a rule's conditions hold for the packets of an interface.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    All,
    Some,
    None,
}

/// Where packets of an interface end that enter a table by this chain. Rules with the comment `owner` are not there.
pub fn end(table: &Table, base: &str, interface: Interface<'_>, owner: &str) -> End {
    let walk = Walk { table, base, interface, owner };
    let drops = table.chains.get(base).and_then(|chain| chain.base).is_some_and(|base| base.drops);
    match walk.through(base, false, DEPTH) {
        Way::Ended(end) => end,
        Way::Back(place) if drops => End::Falls(place),
        Way::Back(_) => End::Passes,
    }
}

struct Walk<'a> {
    table: &'a Table,
    base: &'a str,
    interface: Interface<'a>,
    owner: &'a str,
}

impl Walk<'_> {
    /// `is_named`: what led here names the interface.
    fn through(&self, chain: &str, is_named: bool, depth: usize) -> Way {
        let back = |before| Way::Back(Place { chain: chain.to_owned(), before });
        let rules = self.table.chains.get(chain).map_or(&[][..], |chain| &chain.rules);
        let rules: Vec<&Rule> = rules.iter().filter(|rule| rule.comment != self.owner).collect();
        // Some packets leave the chain here: it is a filter of its own, and what it drops it means.
        let mut has_exceptions = false;
        for (index, rule) in rules.iter().enumerate() {
            match self.fit(rule) {
                Fit::All => {}
                Fit::Some => {
                    has_exceptions |= chain != self.base && rule.verdict == Some(Verdict::Return);
                    continue;
                }
                Fit::None => continue,
            }
            let is_named = is_named || !rule.tests.is_empty();
            match &rule.verdict {
                None => {}
                Some(Verdict::Accept) => return Way::Ended(End::Passes),
                Some(Verdict::Return) => return back(Some(rule.handle)),
                Some(Verdict::Drop) if has_exceptions => return back(Some(rule.handle)),
                Some(Verdict::Drop) => {
                    // Put before all others, it is to stop everything.
                    let is_first = chain == self.base && index == 0 && rules.len() > 1;
                    let end = if is_named || is_first || chain == ADMINISTRATORS {
                        End::Denied
                    } else {
                        End::Falls(Place { chain: chain.to_owned(), before: Some(rule.handle) })
                    };
                    return Way::Ended(end);
                }
                Some(Verdict::Jump(_) | Verdict::Goto(_)) if depth == 0 => return back(Some(rule.handle)),
                Some(Verdict::Jump(to)) => {
                    if let Way::Ended(end) = self.through(to, is_named, depth - 1) {
                        return Way::Ended(end);
                    }
                }
                Some(Verdict::Goto(to)) => return self.through(to, is_named, depth - 1),
            }
        }
        back(None)
    }

    fn fit(&self, rule: &Rule) -> Fit {
        rule.tests.iter().fold(Fit::All, |fit, test| match (fit, self.holds(test)) {
            (Fit::None, _) | (_, Fit::None) => Fit::None,
            (Fit::All, Fit::All) => Fit::All,
            _ => Fit::Some,
        })
    }

    fn holds(&self, test: &Test) -> Fit {
        let Test::Interface { side, name, is_equal } = test else { return Fit::Some };
        if *side != self.interface.side {
            return Fit::Some;
        }
        match (names(name, self.interface.name), is_equal) {
            (Fit::Some, _) => Fit::Some,
            (Fit::All, true) | (Fit::None, false) => Fit::All,
            (Fit::All, false) | (Fit::None, true) => Fit::None,
        }
    }
}

/// How many of the interfaces that `ours` stands for have a name that `theirs` stands for.
fn names(theirs: &str, ours: &str) -> Fit {
    match (theirs.strip_suffix('*'), ours.strip_suffix('*')) {
        (None, None) if theirs == ours => Fit::All,
        (Some(theirs), _) if ours.starts_with(theirs) => Fit::All,
        (_, Some(ours)) if theirs.starts_with(ours) => Fit::Some,
        _ => Fit::None,
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_netfilter::nftables::InetHookNumber;

    use super::{
        super::ruleset::{Base, Chain},
        *,
    };

    /// A table of chains, the first of which packets enter. A rule is its conditions (`i:NAME`, `o:NAME`, `!i:NAME`, or any
    /// other word) and what it does (`accept`, `drop`, `return`, `jump:CHAIN`, `goto:CHAIN`, `log`).
    fn table(drops: bool, chains: &[(&str, &[&str])]) -> Table {
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
                    "ours" => rule.comment = "netbpf".to_owned(),
                    _ => rule.tests.push(Test::Other),
                },
            }
        }
        rule
    }

    fn from(name: &str, drops: bool, chains: &[(&str, &[&str])]) -> End {
        end(&table(drops, chains), "F", Interface { side: Side::In, name }, "netbpf")
    }

    fn falls(chain: &str, before: Option<u64>) -> End {
        End::Falls(Place { chain: chain.to_owned(), before })
    }

    #[test]
    fn a_policy_is_behind_all_rules_that_have_conditions() {
        assert_eq!(from("netbpf0", true, &[("F", &[])]), falls("F", None));
        assert_eq!(from("netbpf0", false, &[("F", &["saddr drop"])]), End::Passes);
        assert_eq!(from("netbpf0", true, &[("F", &["saddr drop", "port accept", "log"])]), falls("F", None));
        assert_eq!(from("netbpf0", true, &[("F", &["ours i:netbpf0 accept"])]), falls("F", None));
    }

    #[test]
    fn the_last_rule_may_drop_all() {
        assert_eq!(from("netbpf0", false, &[("F", &["drop"])]), falls("F", Some(1)));
        let chain: &[&str] = &["state accept", "log", "drop", "o:wg0 accept"];
        assert_eq!(from("netbpf0", false, &[("F", chain)]), falls("F", Some(3)));
    }

    #[test]
    fn a_rule_that_names_the_interface_is_somebody_s_word() {
        assert_eq!(from("netbpf0", true, &[("F", &["i:netbpf0 drop"])]), End::Denied);
        assert_eq!(from("netbpf0", true, &[("F", &["i:net* accept"])]), End::Passes);
        assert_eq!(from("netbpf0", false, &[("F", &["!i:lan0 drop"])]), End::Denied);
        assert_eq!(from("netbpf0", true, &[("F", &["i:lan0 drop", "o:netbpf0 drop"])]), falls("F", None));
        assert_eq!(from("netbpf0", false, &[("F", &["i:netbpf0 goto:Z"]), ("Z", &["drop"])]), End::Denied);
        // Of some of those that are meant.
        assert_eq!(from("nb-*", true, &[("F", &["i:nb-0123 drop"])]), falls("F", None));
        assert_eq!(from("nb-*", true, &[("F", &["i:nb-* drop"])]), End::Denied);
        assert_eq!(from("nb-*", true, &[("F", &["i:lo accept", "i:nb* accept"])]), End::Passes);
    }

    #[test]
    fn what_is_put_before_all_others_is_meant() {
        assert_eq!(from("netbpf0", false, &[("F", &["drop", "saddr accept"])]), End::Denied);
        assert_eq!(from("netbpf0", false, &[("F", &["drop", "ours i:netbpf0 accept"])]), falls("F", Some(1)));
    }

    #[test]
    fn a_chain_of_ufw_s_rejects_at_its_end() {
        let ufw = |last: &'static [&'static str]| {
            from(
                "netbpf0",
                true,
                &[
                    ("F", &["jump:before", "jump:reject", "jump:track"]),
                    ("before", &["state accept", "jump:user"]),
                    ("user", &["saddr drop"]),
                    ("reject", last),
                    ("track", &["tcp accept"]),
                ],
            )
        };
        assert_eq!(ufw(&[]), falls("F", None));
        assert_eq!(ufw(&["drop"]), falls("reject", Some(1)));
    }

    #[test]
    fn a_zone_of_firewalld_s_rejects_at_its_end() {
        let chains: &[(&str, &[&str])] = &[
            ("F", &["state accept", "i:lo accept", "jump:ZONES", "drop"]),
            ("ZONES", &["i:eth0 goto:internal", "i:trusted0 goto:trusted", "goto:public"]),
            ("internal", &["drop"]),
            ("trusted", &["accept"]),
            ("public", &["jump:deny", "drop"]),
            ("deny", &["saddr drop"]),
        ];
        assert_eq!(from("netbpf0", false, chains), falls("public", Some(2)));
        assert_eq!(from("trusted0", false, chains), End::Passes);
    }

    #[test]
    fn docker_s_administrators_have_the_last_word() {
        let docker = |user: &'static [&'static str]| {
            from(
                "netbpf0",
                true,
                &[("F", &["jump:DOCKER-USER", "o:docker0 jump:DOCKER"]), ("DOCKER-USER", user)],
            )
        };
        assert_eq!(docker(&["return"]), falls("F", None));
        assert_eq!(docker(&["saddr drop", "return"]), falls("F", None));
        assert_eq!(docker(&["saddr accept", "drop"]), End::Denied);
    }

    #[test]
    fn a_chain_with_exceptions_means_what_it_drops() {
        let not_local: &[(&str, &[&str])] = &[("F", &["jump:N", "log"]), ("N", &["local return", "drop"])];
        assert_eq!(from("netbpf0", false, not_local), End::Passes);
        assert_eq!(from("netbpf0", true, not_local), falls("F", None));
    }

    #[test]
    fn a_chain_that_is_never_come_back_from_ends_the_way() {
        let goes: &[(&str, &[&str])] = &[("F", &["goto:G", "accept"]), ("G", &["saddr drop"])];
        assert_eq!(from("netbpf0", true, goes), falls("G", None));
        let loops: &[(&str, &[&str])] = &[("F", &["jump:F"])];
        assert_eq!(from("netbpf0", false, loops), End::Passes);
    }
}
