//! Name resolution: the responder's records, the containers' files, `--link`, the host's name servers. Brings the host to
//! what the state says; must not change the state.

mod guard;
pub(in crate::daemon) mod links;
pub(in crate::daemon) mod record;
mod resolvers;

use std::sync::Arc;

use crate::daemon::{effects::host::Host, state::State};

pub(in crate::daemon) use guard::LoGuard;
pub(in crate::daemon) use record::names_of;

/// The names of containers on the host.
pub struct Names {
    state: Arc<State>,
    host: Arc<Host>,
}

impl Names {
    /// The names of this state's containers.
    pub fn new(state: &Arc<State>, host: &Arc<Host>) -> Self {
        Self { state: Arc::clone(state), host: Arc::clone(host) }
    }
}
