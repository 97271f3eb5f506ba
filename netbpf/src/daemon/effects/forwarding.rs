//! Forwarding of the host: turned on for a family with its first network, closed to others if netbpf turned
//! it on, turned on again if somebody turns it off, restored at the end.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{effect::Effect, host::Host};
use crate::{
    daemon::{Error, state::State},
    link::{Family, ForwardingChanges, Heard, NotForwarding},
};

/// Minimum interval of turning forwarding on again, in case another program keeps turning it off.
const INTERVAL: Duration = Duration::from_millis(500);

/// The setting of the whole host.
fn setting(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "net/ipv4/ip_forward",
        Family::Ipv6 => "net/ipv6/conf/all/forwarding",
    }
}

/// The setting of one interface.
fn setting_of(family: Family, interface: &str) -> String {
    match family {
        Family::Ipv4 => format!("net/ipv4/conf/{interface}/forwarding"),
        Family::Ipv6 => format!("net/ipv6/conf/{interface}/forwarding"),
    }
}

/// The families that the host must forward: IPv6 if a network has it.
pub(in crate::daemon) fn forwarded(has_ipv6: bool) -> impl Iterator<Item = Family> {
    [Some(Family::Ipv4), has_ipv6.then_some(Family::Ipv6)].into_iter().flatten()
}

impl Host {
    /// The families that the host must forward, and those that it forwards because an earlier daemon turned
    /// it on.
    pub fn forwarded_by_us(&self, has_ipv6: bool) -> impl Iterator<Item = Family> {
        [Family::Ipv4, Family::Ipv6].into_iter().filter(move |family| {
            forwarded(has_ipv6).any(|forwarded| forwarded == *family)
                || self.settings.is_ours(setting(*family))
        })
    }

    /// What closes forwarding to others, if the host forwards only because of netbpf. It comes before the
    /// effects of [`Host::forwarding`], so that the host is never open.
    pub fn closing(&self, family: Family) -> Result<Option<Effect>, Error> {
        let is_ours = self.settings.is_ours(setting(family)) || self.settings.read(setting(family))? == "0";
        Ok((is_ours && !self.is_open_to_others).then_some(Effect::CloseToOthers(family)))
    }

    /// What turns on forwarding for a family.
    pub async fn forwarding(&self, family: Family) -> Result<Vec<Effect>, Error> {
        let mut effects = Vec::new();
        if family == Family::Ipv6 && self.settings.read(setting(family))? == "0" {
            // A forwarding host ignores router advertisements, which may have given it its own addresses.
            for interface in self.links.listening_to_routers().await? {
                let accept = format!("net/ipv6/conf/{interface}/accept_ra");
                if self.settings.read(&accept).is_ok_and(|value| value == "1") {
                    effects.push(Effect::ChangeSetting { setting: accept, value: "2" });
                }
            }
        }
        effects.push(Effect::ChangeSetting { setting: setting(family).to_owned(), value: "1" });
        Ok(effects)
    }

    /// Turn forwarding on again when somebody turns it off, as long as the daemon runs.
    pub async fn keep_forwarding(self: Arc<Self>, state: Arc<State>, mut changes: ForwardingChanges) {
        let mut earliest = Instant::now();
        loop {
            match changes.next().await {
                Err(error) => {
                    return tracing::error!(%error, "changes of forwarding are no longer detected: restart netbpf");
                }
                Ok(Heard::Of(NotForwarding::Interface(ifindex))) if !is_host_device(&state, ifindex) => {
                    continue;
                }
                Ok(_) => {}
            }
            sleep_until(earliest).await;
            earliest = Instant::now() + INTERVAL;
            if let Err(error) = self.forward_again(&state) {
                tracing::error!(%error, "turn forwarding on again");
            }
        }
    }

    fn forward_again(&self, state: &State) -> Result<(), Error> {
        let devices: Vec<(String, bool)> = {
            let world = state.world();
            let bridges = world.networks().filter_map(|network| network.bridge());
            bridges.map(|bridge| (bridge.device.to_string(), bridge.ipv6.is_some())).collect()
        };
        let has_ipv6 = devices.iter().any(|(_, has_ipv6)| *has_ipv6);
        for family in forwarded(has_ipv6) {
            let of_devices = devices.iter().filter(|(_, has_ipv6)| family == Family::Ipv4 || *has_ipv6);
            let settings = of_devices.map(|(device, _)| setting_of(family, device));
            for setting in [setting(family).to_owned()].into_iter().chain(settings) {
                // While a network is created or removed, its device may not exist.
                if self.settings.read(&setting).is_ok_and(|value| value != "1") {
                    self.settings.write(&setting, "1")?;
                    self.repairs.note(format!(
                        "somebody set {} to 0, which cuts containers off: set to 1 again; stop netbpf to keep it off",
                        setting.replace('/', ".")
                    ));
                }
            }
        }
        Ok(())
    }

    /// Restore the settings, unless others on the host may need forwarding now.
    pub async fn stop_forwarding(&self) -> Result<(), Error> {
        let mut others = self.links.bridges().await?;
        others.extend(self.firewall.of_other_daemons().await?);
        if others.is_empty() {
            return self.settings.put_back();
        }
        tracing::info!(others = others.join(", "), "forwarding stays on: others on this host may need it");
        Ok(())
    }
}

fn is_host_device(state: &State, ifindex: u32) -> bool {
    let world = state.world();
    let mut bridges = world.networks().filter_map(|network| network.bridge());
    bridges.any(|bridge| netbpf_common::network::ifindex_of(bridge.number) == ifindex)
}
