//! What is said of a chain of somebody else's that cuts containers off, and what an administrator can do about it. Pure.

use std::collections::BTreeSet;

use netlink_packet_netfilter::nftables::InetHookNumber as Hook;

use super::{ruleset::Side, walk::Interface};

/// Of a chain that netbpf has an answer to.
pub const ANSWERED: &str =
    "drops what it has no rule for: netbpf's rules behind all others let containers pass";

/// A chain of somebody else's.
pub struct Chain<'a> {
    /// `ip`, `ip6` or `inet`.
    pub family: &'a str,
    /// Its table.
    pub table: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Where packets enter it.
    pub hook: Hook,
}

impl Chain<'_> {
    /// It drops what it has no rule for, and netbpf's rules could not be put there.
    pub fn refused(&self, reason: &str, fall: &BTreeSet<Interface<'_>>, is_owned: bool) -> String {
        let effect = if fall.iter().any(|interface| interface.side == Side::In) {
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
            "drops what it has no rule for and cannot be changed ({reason}): {effect}; {setting}{}",
            self.remedy(fall)
        )
    }

    /// Somebody's rule drops it on purpose.
    pub fn denies(&self, denied: &BTreeSet<Interface<'_>>) -> String {
        let words: Vec<_> = denied.iter().map(|at| format!("{} \"{}\"", at.side, at.name)).collect();
        format!("has a rule that drops {}, which netbpf leaves alone", words.join(", "))
    }

    /// It drops what it has no rule for, and that is the administrator's to say.
    pub fn closed(&self, fall: &BTreeSet<Interface<'_>>) -> String {
        let effect = match self.hook {
            Hook::LocalIn => "containers do not reach the host's own services",
            Hook::LocalOut => "the host does not reach containers",
            _ => "containers are cut off",
        };
        format!("drops what it has no rule for: {effect}; to change it: {}", self.remedy(fall))
    }

    fn is_firewalld(&self) -> bool {
        self.table == "firewalld"
    }

    /// Commands that let pass what falls.
    fn remedy(&self, fall: &BTreeSet<Interface<'_>>) -> String {
        let Self { family, table, name, .. } = self;
        let mut commands: Vec<String> = Vec::new();
        for Interface { side, name: interface } in fall {
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
                _ => format!("nft insert rule {family} {table} {name} {side} '\"{interface}\"' accept"),
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
    fn a_table_of_firewalld_s_can_be_given_up_or_asked() {
        let chain = chain("inet", "firewalld", "filter_FORWARD", Hook::Forward);
        assert_eq!(
            chain.refused("not ours", &[FROM, TO].into(), true),
            "drops what it has no rule for and cannot be changed (not ours): containers do not reach other hosts; \
             set NftablesTableOwner=no in /etc/firewalld/firewalld.conf and restart firewalld, or: \
             firewall-cmd --permanent --zone=trusted --add-interface=nb-+; firewall-cmd --reload"
        );
        let refused = chain.refused("not ours", &[TO].into(), true);
        assert!(refused.contains(": other hosts reach containers by published ports only; "), "{refused}");
    }

    #[test]
    fn iptables_and_nft_are_told_in_their_own_words() {
        assert_eq!(
            chain("ip6", "filter", "INPUT", Hook::LocalIn).closed(&[FROM].into()),
            "drops what it has no rule for: containers do not reach the host's own services; to change it: \
             ip6tables -I INPUT -i nb-+ -j ACCEPT"
        );
        assert_eq!(
            chain("inet", "own", "out", Hook::LocalOut).closed(&[TO].into()),
            "drops what it has no rule for: the host does not reach containers; to change it: \
             nft insert rule inet own out oifname '\"nb-*\"' accept"
        );
        assert_eq!(
            chain("ip", "filter", "FORWARD", Hook::Forward).denies(&[FROM, TO].into()),
            "has a rule that drops iifname \"nb-*\", oifname \"nb-*\", which netbpf leaves alone"
        );
    }
}
