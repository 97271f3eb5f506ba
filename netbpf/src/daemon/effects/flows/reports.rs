//! Passes on what the programs report about busy flows, as much as can be looked at, with a share for each container. Must not
//! know what becomes of it.

use std::{
    collections::HashMap,
    io,
    time::{Duration, Instant},
};

use netbpf_common::flow::FlowKey;
use tokio::sync::mpsc::Sender;

use crate::datapath::BusyFlows;

/// How many flows are passed on in a second at most, and how many wait.
pub(super) const MAX_A_SECOND: usize = 1000;

/// Passes on the keys of busy flows, in a thread of its own. While too many wait, the next ones are left out: they are
/// reported again.
pub(super) fn pass_on(mut busy: BusyFlows, to: &Sender<FlowKey>) -> io::Result<()> {
    let mut shares = Shares::new(Instant::now());
    while !to.is_closed() {
        busy.wait(Duration::from_secs(60))?;
        for key in busy.by_ref().take(MAX_A_SECOND) {
            if shares.admits(key.ifindex, Instant::now()) {
                let _full = to.try_send(key);
            }
        }
    }
    Ok(())
}

/// What was passed on in this second, by the interface of the container.
struct Shares {
    since: Instant,
    of: HashMap<u32, usize>,
    all: usize,
}

impl Shares {
    fn new(since: Instant) -> Self {
        Self { since, of: HashMap::new(), all: 0 }
    }

    /// Whether one more is passed on, which counts. A container gets less than what is left for the others: half of all if it
    /// is alone.
    fn admits(&mut self, ifindex: u32, now: Instant) -> bool {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            *self = Self::new(now);
        }
        let of_it = self.of.entry(ifindex).or_default();
        let is_admitted = *of_it < MAX_A_SECOND - self.all;
        if is_admitted {
            *of_it += 1;
            self.all += 1;
        }
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_leaves_some_for_others() {
        let begin = Instant::now();
        let mut shares = Shares::new(begin);
        let mut admitted = |ifindex, now| (0..MAX_A_SECOND).filter(|_| shares.admits(ifindex, now)).count();
        assert_eq!(admitted(1, begin), MAX_A_SECOND / 2);
        assert_eq!(admitted(2, begin), MAX_A_SECOND / 4);
        assert_eq!(admitted(1, begin), 0);
        assert_eq!(admitted(1, begin + Duration::from_secs(1)), MAX_A_SECOND / 2);
    }
}
