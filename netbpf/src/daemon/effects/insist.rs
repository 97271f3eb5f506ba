//! What is committed is done, also where a step fails at first: such a change cannot be taken back any more. A step that
//! fails to the end is told of in the log, and the next start of the daemon does it.

use std::time::Duration;

use crate::daemon::Error;

/// Before each further attempt. A command waits for them, so they are short.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(1), Duration::from_millis(20), Duration::from_millis(200)];

/// Does a step that is committed, a few times if it fails.
pub async fn insist<Step: Future<Output = Result<(), Error>>>(what: &str, mut step: impl FnMut() -> Step) {
    for pause in PAUSES {
        let Err(error) = step().await else { return };
        tracing::warn!(%error, "{what}: once more");
        tokio::time::sleep(pause).await;
    }
    if let Err(error) = step().await {
        tracing::error!(%error, "{what}: left for the next start");
    }
}

/// The same where nobody can wait.
pub fn insist_at_once(what: &str, mut step: impl FnMut() -> Result<(), Error>) {
    for _ in PAUSES {
        let Err(error) = step() else { return };
        tracing::warn!(%error, "{what}: once more");
    }
    if let Err(error) = step() {
        tracing::error!(%error, "{what}: left for the next start");
    }
}
