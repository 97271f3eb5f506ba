//! Follows an unmatched packet of an interface through the chains of a table, to find where it ends. Only rules that
//! apply to all packets of the interface count. Pure.
//!
//! A rule with any other condition (an address, a port, a conntrack state) is skipped: it matches only some packets,
//! and netbpf's rules must go behind it.

use super::ruleset::{Rule, Side, Table, Test, Verdict};

/// Docker's chain for rules of the administrator. Its rules are meant as they are, so netbpf adds none there.
const ADMINISTRATORS: &str = "DOCKER-USER";
/// The kernel's limit for nested jumps (`NFT_JUMP_STACK_SIZE`).
const DEPTH: usize = 16;

/// An interface, or all interfaces with a prefix (`nb-*`), and the direction of its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface<'a> {
    /// Whether the packets come in or go out by it.
    pub side: Side,
    /// The name of the interface, or the prefix with `*`.
    pub name: &'a str,
}

/// What happens to an unmatched packet.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// It is accepted.
    Passes,
    /// A policy drops it, or a rule without conditions. A rule at this place would accept it.
    Dropped(Place),
    /// A rule drops it on purpose: the rule names the interface or is one of the administrator's.
    Denied,
}

/// A place for a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The chain.
    pub chain: String,
    /// The handle of the rule behind it; `None` at the end of the chain.
    pub before: Option<u64>,
}

/// How the packet leaves a chain.
enum Way {
    Ended(End),
    /// It returns to the calling chain. A rule that accepts it would go to this place.
    Back(Place),
}

/// How many packets of the interface a condition matches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    All,
    Some,
    None,
}

/// What happens to packets of an interface that enter the table at the chain `base`. Ignores the rules with the comment
/// `owner`.
pub fn end(table: &Table, base: &str, interface: Interface<'_>, owner: &str) -> End {
    let walk = Walk { table, base, interface, owner };
    let drops = table.chains.get(base).and_then(|chain| chain.base).is_some_and(|base| base.drops);
    match walk.through(base, false, DEPTH) {
        Way::Ended(end) => end,
        Way::Back(place) if drops => End::Dropped(place),
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
    /// `is_named`: a rule that led here names the interface.
    fn through(&self, chain: &str, is_named: bool, depth: usize) -> Way {
        let back = |before| Way::Back(Place { chain: chain.to_owned(), before });
        let rules = self.table.chains.get(chain).map_or(&[][..], |chain| &chain.rules);
        let rules: Vec<&Rule> = rules.iter().filter(|rule| rule.comment != self.owner).collect();
        // A chain that some packets leave early is a filter of its own, and means what it drops.
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
                    // A rule that drops everything before all other rules is there on purpose, to stop all traffic.
                    let is_first = chain == self.base && index == 0 && rules.len() > 1;
                    let end = if is_named || is_first || chain == ADMINISTRATORS {
                        End::Denied
                    } else {
                        End::Dropped(Place { chain: chain.to_owned(), before: Some(rule.handle) })
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

/// How many of the interfaces that `ours` stands for match `theirs`.
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
    use super::{super::written::table, *};

    fn from(name: &str, drops: bool, chains: &[(&str, &[&str])]) -> End {
        end(&table(drops, chains), "F", Interface { side: Side::In, name }, "netbpf")
    }

    fn dropped(chain: &str, before: Option<u64>) -> End {
        End::Dropped(Place { chain: chain.to_owned(), before })
    }

    #[test]
    fn a_drop_policy_applies_behind_all_conditional_rules() {
        assert_eq!(from("netbpf0", true, &[("F", &[])]), dropped("F", None));
        assert_eq!(from("netbpf0", false, &[("F", &["saddr drop"])]), End::Passes);
        assert_eq!(
            from("netbpf0", true, &[("F", &["saddr drop", "port accept", "log"])]),
            dropped("F", None)
        );
        assert_eq!(from("netbpf0", true, &[("F", &["ours i:netbpf0 accept"])]), dropped("F", None));
    }

    #[test]
    fn a_last_rule_without_conditions_drops_the_rest() {
        assert_eq!(from("netbpf0", false, &[("F", &["drop"])]), dropped("F", Some(1)));
        let chain: &[&str] = &["state accept", "log", "drop", "o:wg0 accept"];
        assert_eq!(from("netbpf0", false, &[("F", chain)]), dropped("F", Some(3)));
    }

    #[test]
    fn a_rule_that_names_the_interface_is_on_purpose() {
        assert_eq!(from("netbpf0", true, &[("F", &["i:netbpf0 drop"])]), End::Denied);
        assert_eq!(from("netbpf0", true, &[("F", &["i:net* accept"])]), End::Passes);
        assert_eq!(from("netbpf0", false, &[("F", &["!i:lan0 drop"])]), End::Denied);
        assert_eq!(from("netbpf0", true, &[("F", &["i:lan0 drop", "o:netbpf0 drop"])]), dropped("F", None));
        assert_eq!(from("netbpf0", false, &[("F", &["i:netbpf0 goto:Z"]), ("Z", &["drop"])]), End::Denied);
        // A condition on some of our interfaces is skipped.
        assert_eq!(from("nb-*", true, &[("F", &["i:nb-0123 drop"])]), dropped("F", None));
        assert_eq!(from("nb-*", true, &[("F", &["i:nb-* drop"])]), End::Denied);
        assert_eq!(from("nb-*", true, &[("F", &["i:lo accept", "i:nb* accept"])]), End::Passes);
    }

    #[test]
    fn a_drop_before_all_other_rules_is_on_purpose() {
        assert_eq!(from("netbpf0", false, &[("F", &["drop", "saddr accept"])]), End::Denied);
        assert_eq!(
            from("netbpf0", false, &[("F", &["drop", "ours i:netbpf0 accept"])]),
            dropped("F", Some(1))
        );
    }

    #[test]
    fn the_end_of_a_ufw_chain_rejects_unmatched_packets() {
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
        assert_eq!(ufw(&[]), dropped("F", None));
        assert_eq!(ufw(&["drop"]), dropped("reject", Some(1)));
    }

    #[test]
    fn the_end_of_a_firewalld_zone_rejects_unmatched_packets() {
        let chains: &[(&str, &[&str])] = &[
            ("F", &["state accept", "i:lo accept", "jump:ZONES", "drop"]),
            ("ZONES", &["i:eth0 goto:internal", "i:trusted0 goto:trusted", "goto:public"]),
            ("internal", &["drop"]),
            ("trusted", &["accept"]),
            ("public", &["jump:deny", "drop"]),
            ("deny", &["saddr drop"]),
        ];
        assert_eq!(from("netbpf0", false, chains), dropped("public", Some(2)));
        assert_eq!(from("trusted0", false, chains), End::Passes);
    }

    #[test]
    fn rules_in_docker_user_are_on_purpose() {
        let docker = |user: &'static [&'static str]| {
            from(
                "netbpf0",
                true,
                &[("F", &["jump:DOCKER-USER", "o:docker0 jump:DOCKER"]), ("DOCKER-USER", user)],
            )
        };
        assert_eq!(docker(&["return"]), dropped("F", None));
        assert_eq!(docker(&["saddr drop", "return"]), dropped("F", None));
        assert_eq!(docker(&["saddr accept", "drop"]), End::Denied);
    }

    #[test]
    fn a_drop_behind_exceptions_is_on_purpose() {
        let not_local: &[(&str, &[&str])] = &[("F", &["jump:N", "log"]), ("N", &["local return", "drop"])];
        assert_eq!(from("netbpf0", false, not_local), End::Passes);
        assert_eq!(from("netbpf0", true, not_local), dropped("F", None));
    }

    #[test]
    fn a_goto_does_not_return_and_a_loop_ends() {
        let goes: &[(&str, &[&str])] = &[("F", &["goto:G", "accept"]), ("G", &["saddr drop"])];
        assert_eq!(from("netbpf0", true, goes), dropped("G", None));
        let loops: &[(&str, &[&str])] = &[("F", &["jump:F"])];
        assert_eq!(from("netbpf0", false, loops), End::Passes);
    }
}
