//! The uplinks of established flows: attaches the program for packets of other hosts where nobody else's is, and detaches
//! it where somebody else's comes, or no flow is left.

use std::collections::{BTreeMap, BTreeSet};

use netbpf_common::{endpoint, flow::Flow, network};
use nix::net::if_::if_nametoindex;

use super::FlowGuard;
use crate::{firewall::is_bridge_of_docker, link::WayOut};

/// An interface to other hosts.
#[derive(Clone, Debug)]
pub(super) struct Uplink {
    name: String,
    /// Whether programs or filters of others are there, and so not netbpf's program.
    is_taken: bool,
}

impl FlowGuard {
    /// Leaves uplinks that have programs of others by now, or are gone. Their flows end. Forgets those that are free again.
    pub(super) fn look_at_uplinks(&mut self) -> anyhow::Result<()> {
        for (ifindex, Uplink { name, is_taken }) in self.uplinks.clone() {
            let is_there = if_nametoindex(name.as_str()) == Ok(ifindex);
            let is_free = is_there && self.is_free(ifindex, &name);
            if is_free && !is_taken {
                continue;
            }
            if !is_taken {
                self.host.datapath().detach_flow_back(ifindex);
                self.host.datapath().end_flows()?;
            }
            self.uplinks.remove(&ifindex);
            if is_there && !is_free {
                self.uplinks.insert(ifindex, Uplink { name, is_taken: true });
            }
        }
        Ok(())
    }

    /// Detaches from uplinks that no flow has: their packets would pay for nothing.
    pub(super) fn leave_unused_uplinks(&mut self, flows: &BTreeMap<u32, Flow>) {
        let used: BTreeSet<u32> = flows.values().map(|flow| flow.uplink).collect();
        self.uplinks.retain(|ifindex, uplink| {
            let stays = uplink.is_taken || used.contains(ifindex);
            if !stays {
                self.host.datapath().detach_flow_back(*ifindex);
            }
            stays
        });
    }

    /// What is told of the uplinks that others have.
    pub(super) fn taken_uplinks(&self) -> impl Iterator<Item = String> {
        let taken = self.uplinks.values().filter(|uplink| uplink.is_taken);
        taken.map(|Uplink { name, .. }| format!("other tc programs or an ingress discipline at {name}"))
    }

    /// Whether the program is at an uplink, which it is attached to if possible.
    pub(super) fn has_program(&mut self, uplink: &WayOut) -> bool {
        if let Some(known) = self.uplinks.get(&uplink.ifindex) {
            return !known.is_taken;
        }
        // What passes between networks, of this daemon or of Docker, is for others to see.
        let is_netbpfs = endpoint::number_of(uplink.ifindex).or(network::number_of(uplink.ifindex)).is_some();
        if is_netbpfs || is_bridge_of_docker(&uplink.name) {
            return false;
        }
        let is_attached = self.is_free(uplink.ifindex, &uplink.name) && self.attach(uplink);
        let name = uplink.name.clone();
        self.uplinks.insert(uplink.ifindex, Uplink { name, is_taken: !is_attached });
        is_attached
    }

    fn attach(&self, uplink: &WayOut) -> bool {
        let attached = self.host.datapath().attach_flow_back(&uplink.name, uplink.ifindex);
        attached.inspect_err(|error| tracing::warn!("{error}")).is_ok()
    }

    /// Whether no programs or filters of others are at an uplink. One that cannot be looked at, because it goes, is not free.
    fn is_free(&self, ifindex: u32, name: &str) -> bool {
        let is_ingress =
            |(at, kind): &(u32, String)| *at == ifindex && matches!(kind.as_str(), "ingress" | "clsact");
        let is_alone = self.host.datapath().is_alone_at_uplink(name);
        let is_alone = is_alone.inspect_err(|error| tracing::warn!("{error}")).unwrap_or(false);
        is_alone && !self.disciplines.iter().any(is_ingress)
    }
}
