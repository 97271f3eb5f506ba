//! XDP programs at the uplinks of `--xdp`. They are optional: without one, the packet filter drops the same
//! packets. So a problem of an uplink is reported, and nothing waits for it.

use std::{collections::BTreeMap, sync::Arc};

use super::host::Host;
use crate::{
    daemon::state::locks::{Rank, TaskLock},
    datapath::{self, UplinkDevice, XdpProgram},
    link::{Heard, LinkChanges, Links},
    model::{HostInterface, XdpMode},
};

/// The uplinks that should have a program.
pub struct Uplinks {
    wanted: BTreeMap<HostInterface, XdpMode>,
    standing: TaskLock<BTreeMap<String, Standing>>,
}

impl Uplinks {
    /// Nothing is attached yet.
    pub fn new(wanted: BTreeMap<HostInterface, XdpMode>) -> Self {
        Self { wanted, standing: TaskLock::new(Rank::Uplinks, BTreeMap::new()) }
    }
}

/// The state of an uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its ifindex, if the program is attached.
    pub ifindex: Option<u32>,
    /// The problem and its remedy, if the program is not attached.
    pub trouble: Option<String>,
}

/// An uplink, as users see it.
pub struct Uplink {
    /// The interface.
    pub interface: HostInterface,
    /// The requested mode.
    pub mode: XdpMode,
    /// The problem and its remedy, if the program is not attached.
    pub trouble: Option<String>,
}

impl Host {
    /// Attach the program to all uplinks of the options, and detach it from others of an earlier daemon.
    pub async fn bring_up_uplinks(&self) -> Result<(), datapath::Error> {
        let present = self.datapath().uplinks()?;
        for interface in
            present.iter().filter(|interface| !self.uplinks.wanted.contains_key(interface.as_str()))
        {
            self.datapath().detach_uplink(interface)?;
            tracing::info!(uplink = interface, "XDP is detached: the daemon was started without it");
        }
        for (interface, mode) in &self.uplinks.wanted {
            self.bring_up_uplink(interface, *mode).await;
        }
        self.forget_lost_uplinks().await
    }

    /// Follow uplinks that are deleted, created or get another MAC, as long as the daemon runs.
    pub async fn follow_uplinks(self: Arc<Self>, mut changes: LinkChanges) {
        while let Some(heard) = changes.next().await {
            let concerned: Vec<_> = {
                let uplinks = self.uplinks.standing.lock().await;
                let concerns = |interface: &str| match &heard {
                    Heard::Lost => true,
                    Heard::Of((ifindex, name)) => {
                        let standing = uplinks.get(interface);
                        interface == name
                            || standing.is_some_and(|standing| standing.ifindex == Some(*ifindex))
                    }
                };
                self.uplinks.wanted.iter().filter(|(interface, _)| concerns(interface)).collect()
            };
            for (interface, mode) in &concerned {
                self.bring_up_uplink(interface, **mode).await;
            }
            if concerned.is_empty() {
                continue;
            }
            if let Err(error) = self.forget_lost_uplinks().await {
                tracing::warn!(%error, "uplinks");
            }
            // There may be room now.
            let waiting: Vec<_> = {
                let uplinks = self.uplinks.standing.lock().await;
                let waits = |(interface, _): &(&HostInterface, &XdpMode)| {
                    let standing = uplinks.get(&***interface);
                    standing.is_some_and(|standing| standing.trouble.is_some())
                };
                let others = self.uplinks.wanted.iter().filter(|uplink| !concerned.contains(uplink));
                others.filter(waits).collect()
            };
            for (interface, mode) in waiting {
                self.bring_up_uplink(interface, *mode).await;
            }
        }
        tracing::error!("uplinks are not followed any more");
    }

    /// Attach the program to an uplink if it is not attached, and log the result if it is new.
    async fn bring_up_uplink(&self, interface: &str, mode: XdpMode) {
        let mut uplinks = self.uplinks.standing.lock().await;
        let standing = match self.attach_uplink(interface, mode).await {
            Ok(ifindex) => Standing { ifindex: Some(ifindex), trouble: None },
            Err(trouble) => Standing { ifindex: None, trouble: Some(trouble) },
        };
        let before = uplinks.insert(interface.to_owned(), standing.clone());
        if before.as_ref() == Some(&standing) {
            return;
        }
        match standing.trouble {
            None => tracing::info!(uplink = interface, %mode, "XDP is attached"),
            Some(trouble) => tracing::error!("{trouble}; meanwhile the packet filter drops the same packets"),
        }
    }

    async fn attach_uplink(&self, interface: &str, mode: XdpMode) -> Result<u32, String> {
        let found = self.links.uplink(interface).await.map_err(|error| error.to_string())?;
        let device = match found.map(|uplink| (uplink.mac, uplink)) {
            None => {
                // The pin with its name belongs to another interface, or to none any more.
                self.datapath().detach_uplink(interface).map_err(|error| error.to_string())?;
                return Err(format!(
                    "uplink {interface} is not there: it gets its XDP program when it comes; or leave out --xdp \
                     {interface}"
                ));
            }
            Some((None, _)) => {
                return Err(format!(
                    "uplink {interface} is not an Ethernet interface; leave out --xdp {interface}"
                ));
            }
            Some((Some(mac), uplink)) => UplinkDevice {
                ifindex: uplink.ifindex,
                mac,
                program: uplink.program.map(|(id, mode)| XdpProgram { id, mode }),
            },
        };
        self.datapath().attach_uplink(interface, &device, mode).map_err(|error| error.to_string())?;
        Ok(device.ifindex)
    }

    async fn forget_lost_uplinks(&self) -> Result<(), datapath::Error> {
        let uplinks = self.uplinks.standing.lock().await;
        let attached: Vec<u32> = uplinks.values().filter_map(|standing| standing.ifindex).collect();
        self.datapath().forget_uplinks_but(&attached)
    }

    /// The state of each uplink.
    pub async fn standing_of_uplinks(&self) -> Vec<Uplink> {
        let uplinks = self.uplinks.standing.lock().await;
        let standing = |(interface, mode): (&HostInterface, &XdpMode)| Uplink {
            interface: interface.clone(),
            mode: *mode,
            trouble: uplinks.get(&**interface).and_then(|uplink| uplink.trouble.clone()),
        };
        self.uplinks.wanted.iter().map(standing).collect()
    }

    /// Start to listen. Call it before the uplinks are read, so that no change is missed. None without
    /// uplinks.
    pub fn uplink_changes(&self) -> Result<Option<LinkChanges>, crate::link::Error> {
        if self.uplinks.wanted.is_empty() { Ok(None) } else { Links::watch_changed().map(Some) }
    }
}
