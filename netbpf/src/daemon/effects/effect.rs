//! Every change that a request makes outside of memory and the store, as data. Performing one returns the
//! effect that undoes it.

use std::path::PathBuf;

use super::{
    asking::Asking,
    files::{Before, Texts},
};
use crate::{dns::Record, link::Family, plan::Action};

/// One change, done completely or not at all.
pub enum Effect {
    /// A change of links, maps, programs, the packet filter or routes.
    Kernel(Box<Action>),
    /// Update the files of a running sandbox.
    UpdateFiles {
        /// The container's directory.
        dir: PathBuf,
        /// What they must contain.
        texts: Texts,
    },
    /// Restore what an update replaced. What the user wrote since stays.
    RestoreFiles {
        /// The container's directory.
        dir: PathBuf,
        /// What was replaced.
        before: Before,
    },
    /// Write netbpf's responder to the `resolv.conf` of an engine's container.
    BorrowResolvConf {
        /// The container's directory, where the previous content is kept.
        dir: PathBuf,
        /// The engine's file.
        path: PathBuf,
    },
    /// Restore the engine's content, if netbpf replaced it.
    ReturnResolvConf {
        /// The container's directory.
        dir: PathBuf,
    },
    /// Send a container's record to the responder.
    PublishNames {
        /// The record.
        record: Record,
        /// The record that it replaces.
        before: Option<Record>,
        /// Where the container asks, if its queries are not led to the responder yet.
        asking: Option<Asking>,
    },
    /// Remove a container's record from the responder.
    WithdrawNames(Record),
    /// Write a setting of the host, and keep its previous value.
    ChangeSetting {
        /// Below `/proc/sys`.
        setting: String,
        /// The new value.
        value: &'static str,
    },
    /// Restore the previous value of a setting, unless somebody changed it since.
    RestoreSetting(String),
    /// Drop forwarded traffic of a family that is neither from nor to a network.
    CloseToOthers(Family),
    /// Accept it again.
    OpenToOthers(Family),
}

impl Effect {
    /// Its name in logs, and at the fault points before and after it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kernel(action) => action.name(),
            Self::UpdateFiles { .. } => "UpdateFiles",
            Self::RestoreFiles { .. } => "RestoreFiles",
            Self::BorrowResolvConf { .. } => "BorrowResolvConf",
            Self::ReturnResolvConf { .. } => "ReturnResolvConf",
            Self::PublishNames { .. } => "PublishNames",
            Self::WithdrawNames(_) => "WithdrawNames",
            Self::ChangeSetting { .. } => "ChangeSetting",
            Self::RestoreSetting(_) => "RestoreSetting",
            Self::CloseToOthers(_) => "CloseToOthers",
            Self::OpenToOthers(_) => "OpenToOthers",
        }
    }
}

impl From<Action> for Effect {
    fn from(action: Action) -> Self {
        Self::Kernel(Box::new(action))
    }
}
