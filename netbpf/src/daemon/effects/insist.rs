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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn failing(times: u32) -> (Cell<u32>, impl Fn(&Cell<u32>) -> Result<(), Error>) {
        let step = move |done: &Cell<u32>| {
            done.set(done.get() + 1);
            if done.get() > times { Ok(()) } else { Err(Error::Invalid("it fails".into())) }
        };
        (Cell::new(0), step)
    }

    #[tokio::test]
    async fn a_step_is_done_until_it_succeeds_and_four_times_at_most() {
        for (failures, attempts) in [(0, 1), (1, 2), (3, 4), (9, 4)] {
            let (done, step) = failing(failures);
            insist("try", || std::future::ready(step(&done))).await;
            assert_eq!(done.get(), attempts);
            let (done, step) = failing(failures);
            insist_at_once("try", || step(&done));
            assert_eq!(done.get(), attempts);
        }
    }
}
