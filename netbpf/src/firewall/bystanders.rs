//! What chains of other programs do with one packet, as far as its interfaces tell. A rule that looks at anything else may
//! match or not: such rules are named, and not simulated. Changes nothing. The rules are those of the network namespace
//! of the calling thread.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs, io,
};

use netlink_packet_netfilter::nftables::InetHookNumber;

use super::ruleset::{self, Rule, Side, Table, Test, Verdict};

/// The tables of iptables-legacy in the namespace of the calling thread.
const LEGACY: [&str; 2] = ["/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"];

/// The kernel's limit for nested jumps (`NFT_JUMP_STACK_SIZE`).
const DEPTH: usize = 16;

/// Where a packet meets the packet filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// After it was received.
    Prerouting,
    /// It is for this namespace.
    Input,
    /// It is forwarded.
    Forward,
    /// This namespace sends it.
    Output,
    /// Before it is sent.
    Postrouting,
}

/// The interfaces of a packet, by name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Passage<'a> {
    /// The one that received it; none for one of this namespace itself.
    pub received_by: Option<&'a str>,
    /// The one that sends it; none if it is for this namespace.
    pub sent_by: Option<&'a str>,
    /// Whether it is one of IPv4.
    pub is_ipv4: bool,
}

/// What a chain does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdicts {
    /// It drops it, whatever else the packet has.
    Drops,
    /// That depends on what is in the packet, or on its flow.
    Perhaps,
}

/// A chain of another program that may drop a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// Its family, table and name.
    pub chain: String,
    /// How many rules it has, without those of chains that it jumps to.
    pub rules: usize,
    /// Whether its policy is `drop`.
    pub policy_drops: bool,
    /// What it does.
    pub verdict: Verdicts,
}

/// The chains of others in a network namespace.
#[derive(Debug)]
pub struct Bystanders {
    tables: Vec<Table>,
    /// The tables of iptables-legacy that may drop packets.
    legacy: BTreeSet<String>,
}

impl Bystanders {
    /// Reads them, without those of netbpf's table `own`. Blocks.
    ///
    /// # Errors
    /// If the kernel does not list them.
    pub fn read(own: &str) -> io::Result<Self> {
        Ok(Self { tables: ruleset::read(own)?, legacy: legacy() })
    }

    /// The chains at a hook that drop a packet, or may.
    pub fn opinions(&self, hook: Hook, passage: Passage<'_>) -> Vec<Opinion> {
        let number = match hook {
            Hook::Prerouting => InetHookNumber::PreRouting,
            Hook::Input => InetHookNumber::LocalIn,
            Hook::Forward => InetHookNumber::Forward,
            Hook::Output => InetHookNumber::LocalOut,
            Hook::Postrouting => InetHookNumber::PostRouting,
        };
        let mut found = Vec::new();
        let other = if passage.is_ipv4 { "ip6" } else { "ip" };
        for table in self.tables.iter().filter(|table| table.family != other) {
            for (name, chain) in &table.chains {
                let Some(base) = chain.base.filter(|base| base.hook == number) else { continue };
                let ends = Walk { table, passage, known: RefCell::default() }.base(name, base.drops);
                let verdict = match (ends.accepts, ends.drops) {
                    (_, false) => continue,
                    (false, true) => Verdicts::Drops,
                    (true, true) => Verdicts::Perhaps,
                };
                let text = format!("{} {} {name}", table.family, table.name).escape_debug().to_string();
                let (rules, policy_drops) = (chain.rules.len(), base.drops);
                found.push(Opinion { chain: text, rules, policy_drops, verdict });
            }
        }
        // They are not read. Each table has chains at most hooks, so this is said once for each packet.
        if matches!(hook, Hook::Input | Hook::Forward | Hook::Output) {
            found.extend(self.legacy.iter().map(|table| Opinion {
                chain: format!("iptables-legacy {table}"),
                rules: 0,
                policy_drops: false,
                verdict: Verdicts::Perhaps,
            }));
        }
        found
    }
}

fn legacy() -> BTreeSet<String> {
    let names = LEGACY.iter().filter_map(|path| fs::read_to_string(path).ok());
    let names: Vec<_> =
        names.flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect();
    names.into_iter().filter(|name| name != "nat").collect()
}

/// How a packet may leave a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ends {
    accepts: bool,
    drops: bool,
    goes_on: bool,
}

/// Whether a rule matches the packet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Yes,
    Perhaps,
    No,
}

struct Walk<'a> {
    table: &'a Table,
    passage: Passage<'a>,
    /// The chains that were walked: each may be reached in very many ways.
    known: RefCell<BTreeMap<String, Ends>>,
}

impl Walk<'_> {
    fn base(&self, chain: &str, policy_drops: bool) -> Ends {
        let mut ends = self.through(chain, DEPTH);
        if ends.goes_on {
            ends.accepts |= !policy_drops;
            ends.drops |= policy_drops;
        }
        ends
    }

    fn through(&self, chain: &str, depth: usize) -> Ends {
        if let Some(ends) = self.known.borrow().get(chain) {
            return *ends;
        }
        let ends = self.walk(chain, depth);
        self.known.borrow_mut().insert(chain.to_owned(), ends);
        ends
    }

    fn walk(&self, chain: &str, depth: usize) -> Ends {
        let mut ends = Ends::default();
        let rules = self.table.chains.get(chain).map_or(&[][..], |chain| &chain.rules);
        for rule in rules {
            let fit = self.fit(rule);
            if fit == Fit::No {
                continue;
            }
            if rule.is_open {
                (ends.accepts, ends.drops) = (true, true);
                continue;
            }
            let is_last = match &rule.verdict {
                None => false,
                Some(Verdict::Accept) => {
                    ends.accepts = true;
                    true
                }
                Some(Verdict::Drop) => {
                    ends.drops = true;
                    true
                }
                Some(Verdict::Return) => {
                    ends.goes_on = true;
                    true
                }
                // The kernel refuses deeper chains.
                Some(Verdict::Jump(_) | Verdict::Goto(_)) if depth == 0 => false,
                Some(Verdict::Jump(to)) => {
                    let there = self.through(to, depth - 1);
                    ends.accepts |= there.accepts;
                    ends.drops |= there.drops;
                    !there.goes_on
                }
                Some(Verdict::Goto(to)) => {
                    let there = self.through(to, depth - 1);
                    ends.accepts |= there.accepts;
                    ends.drops |= there.drops;
                    ends.goes_on |= there.goes_on;
                    true
                }
            };
            if is_last && fit == Fit::Yes {
                return ends;
            }
        }
        Ends { goes_on: true, ..ends }
    }

    fn fit(&self, rule: &Rule) -> Fit {
        rule.tests.iter().fold(Fit::Yes, |fit, test| match (fit, self.holds(test)) {
            (Fit::No, _) | (_, Fit::No) => Fit::No,
            (Fit::Yes, Fit::Yes) => Fit::Yes,
            _ => Fit::Perhaps,
        })
    }

    fn holds(&self, test: &Test) -> Fit {
        let Test::Interface { side, name, is_equal } = test else { return Fit::Perhaps };
        let own = match side {
            Side::In => self.passage.received_by,
            Side::Out => self.passage.sent_by,
        };
        let own = own.unwrap_or_default();
        let is_same = match name.strip_suffix('*') {
            Some(prefix) => own.starts_with(prefix) && !own.is_empty(),
            None => own == name,
        };
        if is_same == *is_equal { Fit::Yes } else { Fit::No }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::written::table, *};

    fn bystanders(drops: bool, chains: &[(&str, &[&str])]) -> Bystanders {
        Bystanders { tables: vec![table(drops, chains)], legacy: BTreeSet::new() }
    }

    /// What the chains do with a packet from `netbpf0` to `eth0`.
    fn verdict(drops: bool, chains: &[(&str, &[&str])]) -> Option<Verdicts> {
        let passage = Passage { received_by: Some("netbpf0"), sent_by: Some("eth0"), is_ipv4: true };
        let opinions = bystanders(drops, chains).opinions(Hook::Forward, passage);
        opinions.first().map(|opinion| opinion.verdict)
    }

    #[test]
    fn interfaces_alone_decide() {
        assert_eq!(verdict(false, &[("F", &[])]), None);
        assert_eq!(verdict(true, &[("F", &[])]), Some(Verdicts::Drops));
        assert_eq!(verdict(true, &[("F", &["i:netbpf0 accept"])]), None);
        assert_eq!(verdict(true, &[("F", &["i:net* accept"])]), None);
        assert_eq!(verdict(true, &[("F", &["i:docker0 accept"])]), Some(Verdicts::Drops));
        assert_eq!(verdict(false, &[("F", &["!o:wg0 drop"])]), Some(Verdicts::Drops));
        assert_eq!(verdict(false, &[("F", &["i:docker0 saddr drop"])]), None);
        assert_eq!(
            verdict(true, &[("F", &["jump:U", "i:netbpf0 accept"]), ("U", &["return"])]),
            None,
            "Docker's chain of the administrator"
        );
    }

    #[test]
    fn what_looks_at_more_may_match_or_not() {
        assert_eq!(verdict(false, &[("F", &["saddr drop"])]), Some(Verdicts::Perhaps));
        assert_eq!(verdict(true, &[("F", &["state accept"])]), Some(Verdicts::Perhaps));
        assert_eq!(verdict(false, &[("F", &["saddr accept", "log"])]), None);
        assert_eq!(verdict(false, &[("F", &["saddr accept", "drop"])]), Some(Verdicts::Perhaps));
        assert_eq!(verdict(false, &[("F", &["saddr jump:D"]), ("D", &["drop"])]), Some(Verdicts::Perhaps));
        assert_eq!(
            verdict(true, &[("F", &["goto:G", "accept"]), ("G", &["saddr drop"])]),
            Some(Verdicts::Drops)
        );
        assert_eq!(verdict(false, &[("F", &["jump:F"])]), None, "a loop ends");
        for drops in [false, true] {
            assert_eq!(verdict(drops, &[("F", &["state vmap"])]), Some(Verdicts::Perhaps));
            assert_eq!(verdict(drops, &[("F", &["queue"])]), Some(Verdicts::Perhaps));
        }
    }

    /// 16 chains, each of which jumps to the next one twenty times.
    #[test]
    fn chains_that_are_reached_in_very_many_ways_are_walked_once() {
        let names: Vec<String> = (0..=DEPTH).map(|number| format!("C{number}")).collect();
        let jumps: Vec<Vec<String>> =
            names[1..].iter().map(|next| vec![format!("saddr jump:{next}"); 20]).collect();
        let jumps: Vec<Vec<&str>> =
            jumps.iter().map(|rules| rules.iter().map(String::as_str).collect()).collect();
        let chains: Vec<(&str, &[&str])> =
            names.iter().map(String::as_str).zip(jumps.iter().map(Vec::as_slice)).collect();
        assert_eq!(verdict(false, &chains), None);
    }

    #[test]
    fn other_hooks_and_families_do_not_count() {
        let all = bystanders(true, &[("F", &[])]);
        let passage = Passage { received_by: None, sent_by: Some("eth0"), is_ipv4: true };
        assert!(all.opinions(Hook::Output, passage).is_empty());
        assert!(all.opinions(Hook::Forward, Passage { is_ipv4: false, ..passage }).is_empty());
        let [opinion] = &all.opinions(Hook::Forward, passage)[..] else { panic!("one chain") };
        assert_eq!((opinion.chain.as_str(), opinion.rules, opinion.policy_drops), ("ip filter F", 0, true));
    }
}
