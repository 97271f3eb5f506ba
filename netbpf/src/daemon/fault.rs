//! The [fault points](crate::fault) before and after the daemon's steps.

pub use crate::fault::after;
use crate::{daemon::Error, fault};

/// A point before a step: the daemon can be killed here, and the step can fail.
///
/// # Errors
/// The error that the test ordered.
pub fn before(step: &str) -> Result<(), Error> {
    let failed = |source| Error::File { operation: "take the step", path: step.into(), source };
    fault::before(step).map_err(failed)
}
