//! Reads what the programs counted. Changes nothing.

use netbpf_common::{
    endpoint::MAX_ENDPOINTS,
    reason::Reason,
    stats::{Counter, EndpointStats},
};

use super::{Datapath, Error, in_range};

impl Datapath {
    /// The number of frames by reason.
    ///
    /// # Errors
    /// [`Error::Failed`] if the map `REASONS` cannot be read.
    pub fn reasons(&self) -> Result<Vec<(Reason, Counter)>, Error> {
        self.tables.reasons()
    }

    /// An endpoint's counters.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; [`Error::Failed`] if the map `ENDPOINT_STATS` cannot be read.
    pub fn endpoint_stats(&self, number: u32) -> Result<EndpointStats, Error> {
        in_range("endpoint", number, MAX_ENDPOINTS)?;
        self.tables.endpoint_stats(number)
    }
}
