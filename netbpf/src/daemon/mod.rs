//! The control plane. A request changes the state in memory, the kernel and the store, in these steps: lease
//! (fast, under a lock), do (steps with undo), commit, answer. A removal is committed first and carried out
//! afterwards. So a daemon that is killed at any point leaves either the old state, or one that the next
//! start completes to the stored one. Requests on one container wait for each other; requests on different
//! ones do not.

mod effects;
mod error;
mod fault;
mod membership;
mod names;
mod owners;
mod parts;
mod ports;
mod service;
mod state;
mod tell;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use error::Error;
pub use membership::networks::NetworkRequest;
pub use owners::docker::{DockerEndpointRequest, DockerNetwork, DockerPorts, Joined};
pub use owners::plugin::{AttachRequest, Attached, AttachedInterface, AttachmentKey};
pub use owners::sandbox::{
    request::{NetworkMode, SandboxRequest},
    wait::Until,
};
pub use service::{BPFFS, Inherited, Options, run};
pub use tell::{
    drops::{DropParty, Dropped, DroppedBy, DroppedKind, PartyKind},
    events::{Event, EventKind},
    explain::Question,
    info::{
        EndpointStats, FlowsStanding, Info, NamesStanding, Repair, Standing, StandingState, Stats, Uplink,
        kernel,
    },
    usage::{Machine, Usage, machine, own as own_usage},
    view::{AttachmentView, ContainerLine, ContainerView, MemberView, NetworkView, Views},
};

pub use crate::datapath::MapFill;
pub use crate::plan::explain::{Explanation, Hop, Mark, Party, Way};
pub use crate::sandbox::{
    exec::Command,
    logs::Record,
    session::{Input, Session, Source, Streams, Terminal},
};

use crate::{model::Id, sandbox::SealedProgram};
use effects::{host::Host, transaction::Transaction};
use names::Names;
use owners::Owners;
use state::State;
use tell::{
    events::{Events, Happened},
    explain, info,
};

/// A running daemon: a struct for each module that keeps something. Its own methods are the use cases, which join
/// them.
pub struct Daemon {
    options: Options,
    /// This program, to start supervisors from.
    program: Arc<SealedProgram>,
    state: Arc<State>,
    host: Arc<Host>,
    names: Names,
    owners: Owners,
    events: Events,
    /// For `explain`.
    judge: explain::KeptJudge,
}

impl Daemon {
    /// `netbpf info`.
    pub async fn info(&self) -> Info {
        info::info(&self.options, &self.state, &self.host).await
    }

    /// `netbpf explain`.
    ///
    /// # Errors
    /// [`Error::NoPartner`] or [`Error::Invalid`] if the question cannot be understood; [`Error::Question`] or
    /// [`Error::Datapath`] if the kernel does not answer it.
    pub async fn explain(&self, question: &Question) -> Result<Vec<Explanation>, Error> {
        explain::explain(&self.state, &self.host, &self.judge, self.options.table(), question).await
    }

    /// Networks and containers as users see them.
    pub fn views(&self) -> Views<'_> {
        Views(&self.state)
    }

    /// What has happened, and what happens.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Begin a change, which is undone unless it is ended.
    ///
    /// # Errors
    /// [`Error::Descriptors`] if too few file descriptors are free for it.
    fn begin(&self) -> Result<Transaction, Error> {
        Transaction::begin(&self.state, &self.host)
    }

    /// Report a change of a container's endpoints in networks.
    fn tell_of_members(&self, container: &Id, networks: &[Id], action: &'static str) {
        self.events.tell_of_members(container, networks, action, &self.state.world());
    }
}
