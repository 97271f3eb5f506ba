//! What the daemon holds of the host: links, maps, packet filter, published ports, name records, settings, directories.

use std::{path::Path, sync::Arc};

use super::{
    contest::Contests, flows::FastFlows, folders::Folders, grace::GracePeriods, lo::FastNames,
    pins::PinFolder, repairs::Repairs, settings::Settings, uplinks::Uplinks,
};
use crate::daemon::{
    Options,
    parts::{Datapath, Feed, Firewall, Links, Sysctls},
    ports::Ports,
    state::locks::{DataLock, Held, Rank},
};

#[cfg(test)]
use crate::daemon::parts::Machine;

/// The host: all that changes can be made to. The state says which; the methods only make them.
pub struct Host {
    /// The group of all links of this daemon, by which it recognizes them.
    pub(in crate::daemon) group: u32,
    pub(in crate::daemon) links: Links,
    datapath: DataLock<Datapath>,
    pub(in crate::daemon) firewall: Firewall,
    pub(in crate::daemon) ports: Ports,
    pub(in crate::daemon) feed: Feed,
    /// Changed settings of the host, to be restored.
    pub(in crate::daemon) settings: Settings,
    pub(super) grace: GracePeriods,
    pub(super) uplinks: Uplinks,
    /// Whether traffic of others passes, even if the host forwards only because of netbpf.
    pub(super) is_open_to_others: bool,
    /// Links that somebody else changes again and again.
    pub(in crate::daemon) contests: Contests,
    /// What the daemon repaired.
    pub(in crate::daemon) repairs: Repairs,
    /// The directory of pins.
    pub(in crate::daemon) pins: Arc<PinFolder>,
    /// The directories of containers.
    pub(in crate::daemon) folders: Folders,
    /// Whether queries are answered at `lo` of containers.
    pub(super) fast_names: FastNames,
    /// Whether established flows skip the host's stack.
    pub(super) fast_flows: FastFlows,
}

impl Host {
    /// Opens the sockets to the kernel, loads the programs or takes over those of an earlier daemon, and
    /// starts the responder `exe` if it does not run. Changes no network.
    ///
    /// # Errors
    /// If the host lacks something, with what that is.
    pub async fn open(options: &Options, exe: &Path, pins: Arc<PinFolder>) -> anyhow::Result<Self> {
        let links = Links::open()?;
        let settings = Settings::open(&options.state_dir, Sysctls::new())?;
        let firewall = Firewall::open(options.table(), options.group()).await?;
        // After what the host may lack, because the pins stay.
        let mut datapath = Datapath::open(&options.bpffs, options.program_logs)?;
        if let Some(logs) = datapath.take_logs() {
            logs.follow()?;
        }
        tracing::info!(attachment = ?datapath.attachment(), bpffs = %options.bpffs.display(), "datapath");
        Ok(Self {
            group: options.group(),
            links,
            settings,
            firewall,
            feed: Feed::start(exe, &options.run_dir).await?,
            ports: Ports::open(exe, &options.run_dir).await,
            datapath: DataLock::new(Rank::Datapath, datapath),
            grace: GracePeriods::open(&options.run_dir),
            uplinks: Uplinks::new(options.uplinks.clone()),
            is_open_to_others: options.ip_forward_no_drop,
            contests: Contests::default(),
            repairs: Repairs::default(),
            pins,
            folders: Folders::below(&options.state_dir, &options.run_dir),
            fast_names: FastNames::new(options.fast_names),
            fast_flows: FastFlows::new(options.fast_flows),
        })
    }

    /// The programs and maps; never locked across an await.
    pub fn datapath(&self) -> Held<'_, Datapath> {
        self.datapath.lock()
    }

    /// A host in memory.
    #[cfg(test)]
    pub fn on(machine: &Machine, options: &Options) -> Self {
        let machine = || machine.clone();
        Self {
            group: options.group(),
            links: Links { machine: machine() },
            settings: Settings::open(&options.state_dir, Sysctls { machine: machine() }).unwrap(),
            firewall: Firewall { machine: machine() },
            ports: Ports::on(&machine()),
            feed: Feed { machine: machine() },
            datapath: DataLock::new(Rank::Datapath, Datapath { machine: machine() }),
            grace: GracePeriods::none(),
            uplinks: Uplinks::new(options.uplinks.clone()),
            is_open_to_others: options.ip_forward_no_drop,
            contests: Contests::default(),
            repairs: Repairs::default(),
            pins: Arc::new(PinFolder::none()),
            folders: Folders::below(&options.state_dir, &options.run_dir),
            fast_names: FastNames::new(options.fast_names),
            fast_flows: FastFlows::new(options.fast_flows),
        }
    }
}
