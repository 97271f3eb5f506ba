//! What keeps all flows in the host's stack, or all of one transport: others that must see each packet, ways of packets that
//! a program does not know, what the kernel lacks.

use anyhow::Context as _;

use super::FlowGuard;
use crate::{
    datapath::has_netfilter_program,
    firewall::{Timeouts, Transport, legacy_tables},
};

impl FlowGuard {
    /// What hinders, and of which each change is announced: rules of the packet filter and of routing. Reads the queueing
    /// disciplines, too, for the same reason.
    pub(super) async fn find_announced(&mut self) -> anyhow::Result<Vec<String>> {
        self.disciplines = self.host.links.disciplines().await?;
        let chains = self.host.firewall.watching_chains().await?;
        let mut found: Vec<String> = chains.into_iter().map(seen_by).collect();
        if self.host.links.has_routing_rules().await? {
            found.push("routing rules (ip rule)".to_owned());
        }
        Ok(found)
    }

    /// What hinders, and comes and goes without an announcement. Reads the timeouts of conntrack, too, for the same reason.
    /// Blocks, but not for long.
    pub(super) fn find_unannounced(&mut self) -> anyhow::Result<Vec<String>> {
        if !self.host.datapath().can_shortcut() {
            return Ok(vec!["the kernel has no tcx (Linux 6.6)".to_owned()]);
        }
        self.timeouts = Timeouts::read()?;
        let legacy = legacy_tables()?.into_iter();
        let mut found: Vec<String> =
            legacy.map(|table| seen_by(format!("the table {table} of iptables-legacy"))).collect();
        if has_netfilter_program()? {
            found.push(seen_by("a BPF program for netfilter".to_owned()));
        }
        if self.ipsec.exist().context("count the policies of IPsec")? {
            found.push("policies of IPsec".to_owned());
        }
        Ok(found)
    }

    /// What is told of transports whose conntrack entries end too soon.
    pub(super) fn short_timeouts(&self) -> impl Iterator<Item = String> {
        let all = [("TCP", Transport::Tcp), ("UDP", Transport::Udp)].into_iter();
        let short = all.filter(|(_, transport)| self.timeouts.of(*transport).is_none());
        short.map(|(name, _)| format!("conntrack's timeout for {name} is too short"))
    }
}

fn seen_by(chain: String) -> String {
    format!("rules that must see each packet: {chain}")
}
