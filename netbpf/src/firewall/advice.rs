//! Messages about a foreign chain (one of another program or of the administrator) that drops container traffic, with
//! the commands that would let the traffic pass. Pure.

use std::collections::BTreeSet;

use netlink_packet_netfilter::nftables::InetHookNumber as Hook;

use super::{ruleset::Side, walk::Interface};

/// The message about a chain whose drop netbpf's own rules prevent.
pub const ANSWERED: &str = "drops unmatched packets: netbpf's rules at its end accept those of containers";

/// A foreign base chain.
pub struct Chain<'a> {
    /// `ip`, `ip6` or `inet`.
    pub family: &'a str,
    /// The name of its table.
    pub table: &'a str,
    /// The name of the chain.
    pub name: &'a str,
    /// The hook that it is attached to.
    pub hook: Hook,
}

impl Chain<'_> {
    /// The message if the chain drops unmatched packets and netbpf's rules could not be added to it.
    pub fn refused(&self, reason: &str, unmatched: &BTreeSet<Interface<'_>>, is_owned: bool) -> String {
        let effect = if unmatched.iter().any(|interface| interface.side == Side::In) {
            "containers do not reach other hosts"
        } else {
            "other hosts reach containers by published ports only"
        };
        let setting = if is_owned && self.is_firewalld() {
            "set NftablesTableOwner=no in /etc/firewalld/firewalld.conf and restart firewalld, or: "
        } else {
            ""
        };
        format!(
            "drops unmatched packets and cannot be changed ({reason}): {effect}; {setting}{}",
            self.remedy(unmatched)
        )
    }

    /// The message if a rule of the chain names our interfaces and drops their packets on purpose.
    pub fn denies(&self, denied: &BTreeSet<Interface<'_>>) -> String {
        let words: Vec<_> = denied.iter().map(|at| format!("{} \"{}\"", at.side, at.name)).collect();
        format!("has a rule that drops {}, which netbpf leaves alone", words.join(", "))
    }

    /// The message if the chain drops unmatched packets at a hook where netbpf adds no rules.
    pub fn closed(&self, unmatched: &BTreeSet<Interface<'_>>) -> String {
        let effect = match self.hook {
            Hook::LocalIn => "containers do not reach the host's own services",
            Hook::LocalOut => "the host does not reach containers",
            _ => "containers are cut off",
        };
        format!("drops unmatched packets: {effect}; to change it: {}", self.remedy(unmatched))
    }

    fn is_firewalld(&self) -> bool {
        self.table == "firewalld"
    }

    /// The commands that accept the packets of these interfaces.
    fn remedy(&self, unmatched: &BTreeSet<Interface<'_>>) -> String {
        let Self { family, table, name, .. } = self;
        let escaped = [table, name].map(|name| name.escape_debug());
        let [written_table, name] = &escaped;
        let mut commands: Vec<String> = Vec::new();
        for Interface { side, name: interface } in unmatched {
            let iptables = |program: &str| {
                let option = if *side == Side::In { "-i" } else { "-o" };
                format!("{program} -I {name} {option} {} -j ACCEPT", interface.replace('*', "+"))
            };
            let command = match (*family, *table) {
                (_, "firewalld") => {
                    let interface = interface.replace('*', "+");
                    format!("firewall-cmd --permanent --zone=trusted --add-interface={interface}")
                }
                ("ip", "filter") => iptables("iptables"),
                ("ip6", "filter") => iptables("ip6tables"),
                _ => {
                    format!("nft insert rule {family} {written_table} {name} {side} '\"{interface}\"' accept")
                }
            };
            if !commands.contains(&command) {
                commands.push(command);
            }
        }
        if self.is_firewalld() {
            commands.push("firewall-cmd --reload".to_owned());
        }
        commands.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(family: &'static str, table: &'static str, name: &'static str, hook: Hook) -> Chain<'static> {
        Chain { family, table, name, hook }
    }

    const FROM: Interface<'_> = Interface { side: Side::In, name: "nb-*" };
    const TO: Interface<'_> = Interface { side: Side::Out, name: "nb-*" };

    #[test]
    fn firewalld_can_give_up_its_table_or_trust_our_interfaces() {
        let chain = chain("inet", "firewalld", "filter_FORWARD", Hook::Forward);
        assert_eq!(
            chain.refused("not ours", &[FROM, TO].into(), true),
            "drops unmatched packets and cannot be changed (not ours): containers do not reach other hosts; \
             set NftablesTableOwner=no in /etc/firewalld/firewalld.conf and restart firewalld, or: \
             firewall-cmd --permanent --zone=trusted --add-interface=nb-+; firewall-cmd --reload"
        );
        let refused = chain.refused("not ours", &[TO].into(), true);
        assert!(refused.contains(": other hosts reach containers by published ports only; "), "{refused}");
    }

    #[test]
    fn the_remedy_is_a_command_of_the_tool_that_made_the_chain() {
        assert_eq!(
            chain("ip6", "filter", "INPUT", Hook::LocalIn).closed(&[FROM].into()),
            "drops unmatched packets: containers do not reach the host's own services; to change it: \
             ip6tables -I INPUT -i nb-+ -j ACCEPT"
        );
        assert_eq!(
            chain("inet", "own", "out", Hook::LocalOut).closed(&[TO].into()),
            "drops unmatched packets: the host does not reach containers; to change it: \
             nft insert rule inet own out oifname '\"nb-*\"' accept"
        );
        assert_eq!(
            chain("ip", "filter", "FORWARD", Hook::Forward).denies(&[FROM, TO].into()),
            "has a rule that drops iifname \"nb-*\", oifname \"nb-*\", which netbpf leaves alone"
        );
    }
}
