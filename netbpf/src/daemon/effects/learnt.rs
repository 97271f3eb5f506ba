//! Removes learnt MACs that are too old, about once a minute. Must not know how old that is.

use std::{io, time::Duration};

use nix::time::{ClockId, clock_gettime};
use tokio::{
    task::block_in_place,
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::datapath::LearntMacs;

const INTERVAL: Duration = Duration::from_secs(60);

/// Removes them as long as the daemon runs.
pub(in crate::daemon) async fn remove_old(mut macs: LearntMacs) {
    let mut ticks = interval_at(Instant::now() + INTERVAL, INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match block_in_place(|| remove_old_now(&mut macs)) {
            Ok(0) => {}
            Ok(count) => tracing::debug!(count, "remove old MACs"),
            Err(error) => tracing::warn!(%error, "remove old MACs"),
        }
    }
}

/// Removes those that are too old by now, and returns their number.
fn remove_old_now(macs: &mut LearntMacs) -> io::Result<usize> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?.tv_sec() as u32;
    macs.remove_old(now).map_err(io::Error::other)
}
