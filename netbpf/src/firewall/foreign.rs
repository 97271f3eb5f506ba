//! Chains of others that would drop what we forward: a policy of `drop` (ufw, dockerd), or a last rule that rejects the
//! rest (firewalld, many an iptables script). Accepting in our own chain does not help there, because each chain at the
//! hook has to accept. So each of them gets two rules at its head for our devices, marked as ours by their comment;
//! nothing that is not ours is changed. iptables shows them as its own.
//!
//! An nftables chain whose policy is `accept` is left alone: there an administrator's rules on containers hold.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{Error, nft};

/// A chain at the forward hook.
#[derive(Debug, Deserialize)]
struct Chain {
    family: String,
    table: String,
    name: String,
    #[serde(default)]
    hook: String,
    #[serde(default)]
    policy: String,
}

/// A rule, as far as it can be told from others.
#[derive(Debug, Deserialize)]
struct Rule {
    handle: u64,
    #[serde(default)]
    comment: String,
    expr: serde_json::Value,
}

/// Lets everything pass from and to these devices, and takes away what let others pass. `owner` is the comment of ours.
pub async fn admit(owner: &str, devices: &BTreeSet<&str>) -> Result<(), Error> {
    nft::run("let traffic pass others' chains", &changes(owner, devices).await?).await
}

/// Whether [`admit`] would change nothing.
pub async fn is_admitted(owner: &str, devices: &BTreeSet<&str>) -> Result<bool, Error> {
    Ok(changes(owner, devices).await?.is_empty())
}

/// The commands that are missing to what is wanted.
async fn changes(owner: &str, devices: &BTreeSet<&str>) -> Result<String, Error> {
    let wanted = wanted(devices);
    let mut commands = String::new();
    for chain in chains(owner).await? {
        let rules = chain.rules_of(owner).await?;
        let place = format!("{} {} {}", chain.family, chain.table, chain.name);
        for (interface, handle) in &rules {
            if !chain.drops() || !wanted.contains(interface) {
                commands.push_str(&format!("delete rule {place} handle {handle}\n"));
            }
        }
        if chain.drops() {
            for interface in wanted.iter().filter(|name| !rules.iter().any(|(ours, _)| ours == *name)) {
                commands.push_str(&format!(
                    "insert rule {place} {interface} counter accept comment \"{owner}\"\n"
                ));
            }
        }
    }
    Ok(commands)
}

/// What our rules match: one pair for all devices with names of our making, one for each other.
fn wanted(devices: &BTreeSet<&str>) -> BTreeSet<String> {
    let patterns = devices.iter().map(|device| if device.starts_with("nb-") { "nb-*" } else { device });
    patterns.flat_map(|name| ["iifname", "oifname"].map(|key| format!("{key} \"{name}\""))).collect()
}

async fn chains(owner: &str) -> Result<Vec<Chain>, Error> {
    #[derive(Deserialize)]
    struct Object {
        chain: Chain,
    }
    let chains = nft::list::<Object>("read the chains", &["chains"]).await?.unwrap_or_default();
    Ok(chains
        .into_iter()
        .map(|object| object.chain)
        .filter(|chain| chain.hook == "forward" && chain.table != owner)
        .filter(|chain| matches!(chain.family.as_str(), "ip" | "ip6" | "inet"))
        .collect())
}

impl Chain {
    /// Whether it may drop what it has no word on. iptables' chain often ends in a rule that rejects, and its policy is
    /// set by whoever comes; firewalld's ends in one always.
    fn drops(&self) -> bool {
        self.policy == "drop"
            || matches!(
                (self.table.as_str(), self.name.as_str()),
                ("filter", "FORWARD") | ("firewalld", "filter_FORWARD")
            )
    }

    /// Our rules in it, as what they match, with their handles.
    async fn rules_of(&self, owner: &str) -> Result<Vec<(String, u64)>, Error> {
        #[derive(Deserialize)]
        struct Object {
            rule: Rule,
        }
        let what = ["chain", &self.family, &self.table, &self.name];
        let rules = nft::list::<Object>("read a chain", &what).await?.unwrap_or_default();
        Ok(rules
            .into_iter()
            .map(|object| object.rule)
            .filter(|rule| rule.comment == owner)
            .map(|rule| (rule.interface(), rule.handle))
            .collect())
    }
}

impl Rule {
    /// `iifname "nb-*"`; empty for a rule that is not as we make them.
    fn interface(&self) -> String {
        let first = &self.expr[0]["match"];
        match (first["left"]["meta"]["key"].as_str(), first["right"].as_str()) {
            (Some(key), Some(name)) => format!("{key} \"{name}\""),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pair_of_rules_is_for_all_devices_with_names_of_our_making() {
        let devices = ["nb-000000000001", "nb-000000000002", "netbpf0"].into();
        let names: Vec<_> = wanted(&devices).into_iter().collect();
        assert_eq!(
            names,
            [r#"iifname "nb-*""#, r#"iifname "netbpf0""#, r#"oifname "nb-*""#, r#"oifname "netbpf0""#]
        );
    }
}
