//! Repeats failed steps of a committed change, which cannot be undone any more. A step that still fails is
//! logged, and done by the next start of the daemon.

use std::time::Duration;

use crate::daemon::Error;

/// Pauses before further attempts. They are short, because a command waits for them.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(1), Duration::from_millis(20), Duration::from_millis(200)];

/// Does a committed step, with a few more attempts if it fails.
pub async fn retry<Step: Future<Output = Result<(), Error>>>(what: &str, mut step: impl FnMut() -> Step) {
    for pause in PAUSES {
        let Err(error) = step().await else { return };
        tracing::warn!(%error, "{what}: trying again");
        tokio::time::sleep(pause).await;
    }
    if let Err(error) = step().await {
        tracing::error!(%error, "{what}: left for the next start");
    }
}

/// The same without pauses.
pub fn retry_at_once(what: &str, mut step: impl FnMut() -> Result<(), Error>) {
    for _ in PAUSES {
        let Err(error) = step() else { return };
        tracing::warn!(%error, "{what}: trying again");
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
    async fn a_step_has_four_attempts_at_most() {
        for (failures, attempts) in [(0, 1), (1, 2), (3, 4), (9, 4)] {
            let (done, step) = failing(failures);
            retry("try", || std::future::ready(step(&done))).await;
            assert_eq!(done.get(), attempts);
            let (done, step) = failing(failures);
            retry_at_once("try", || step(&done));
            assert_eq!(done.get(), attempts);
        }
    }
}
