//! Restart policies of sandboxes, by Docker's rules: whether and after which delay a sandbox is started
//! again. Has no clock: callers pass how long a sandbox ran.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The first delay, as in moby's restartmanager.
const SHORTEST: Duration = Duration::from_millis(100);

/// The longest delay. Each delay is twice the one before.
const LONGEST: Duration = Duration::from_secs(60);

/// After a run of this length, the delay starts again with the first.
const RECOVERED: Duration = Duration::from_secs(10);

/// `--restart`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// `no`.
    #[default]
    No,
    /// After any exit. When the daemon starts, also sandboxes that a user stopped.
    Always,
    /// As `always`, but sandboxes that a user stopped stay stopped.
    UnlessStopped,
    /// After an exit code other than 0.
    OnFailure {
        /// Maximum number of restarts; 0 for no limit.
        at_most: u32,
    },
}

/// An invalid policy; Docker's messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRestartPolicy {
    /// An unknown policy.
    #[error(
        "invalid restart policy: unknown policy '{}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        .0.escape_debug()
    )]
    Unknown(String),
    /// A count with another policy than `on-failure`.
    #[error("invalid restart policy: maximum retry count can only be used with 'on-failure'")]
    Count,
    /// A negative count with another policy.
    #[error(
        "invalid restart policy: maximum retry count can only be used with 'on-failure' and cannot be negative"
    )]
    CountAndNegative,
    /// A negative count.
    #[error("invalid restart policy: maximum retry count cannot be negative")]
    Negative,
}

impl RestartPolicy {
    /// Parses Docker's name (empty for `no`) and count.
    ///
    /// # Errors
    /// [`BadRestartPolicy::Unknown`], or one of the others if the count is negative or belongs to another
    /// policy than `on-failure`.
    pub fn parse(name: &str, count: i64) -> Result<Self, BadRestartPolicy> {
        let policy = match name {
            "" | "no" => Self::No,
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            "on-failure" => {
                let at_most = u32::try_from(count.min(u32::MAX.into()));
                return Ok(Self::OnFailure { at_most: at_most.map_err(|_| BadRestartPolicy::Negative)? });
            }
            _ => return Err(BadRestartPolicy::Unknown(name.to_owned())),
        };
        match count {
            0 => Ok(policy),
            ..0 => Err(BadRestartPolicy::CountAndNegative),
            1.. => Err(BadRestartPolicy::Count),
        }
    }

    /// Docker's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
            Self::OnFailure { .. } => "on-failure",
        }
    }
}

/// A sandbox's restart policy and its state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// The user's policy.
    pub policy: RestartPolicy,
    /// Number of restarts since a user started it.
    pub count: u32,
    /// The last delay; zero before the first.
    delay: Duration,
    /// Whether a user stopped it.
    stopped: bool,
    /// Whether it exited and waits to be started again.
    pub waiting: bool,
    /// The error of the last failed restart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

impl Restart {
    /// The initial state.
    pub fn new(policy: RestartPolicy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Whether it equals the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Notes that it is about to be started, by a user or by the policy.
    pub fn start(&mut self, by_user: bool) {
        match by_user {
            true => *self = Self::new(self.policy),
            false => {
                self.waiting = false;
                self.error.clear();
            }
        }
    }

    /// Notes that a restart failed. Returns the same as [`end`](Self::end): the cause may be temporary.
    pub fn fail(&mut self, code: i32, error: String) -> Option<Duration> {
        self.error = error;
        self.end(code, Duration::ZERO)
    }

    /// Notes that a user stops it, or wants it to stay stopped.
    pub fn stop(&mut self) {
        (self.stopped, self.waiting) = (true, false);
    }

    /// Notes that it exited after a run of length `ran`. Returns the delay after which to start it again, if
    /// any.
    pub fn end(&mut self, code: i32, ran: Duration) -> Option<Duration> {
        if ran >= RECOVERED {
            self.delay = Duration::ZERO;
        }
        self.waiting = !self.stopped
            && match self.policy {
                RestartPolicy::No => false,
                RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
                RestartPolicy::OnFailure { at_most } => code != 0 && (at_most == 0 || self.count < at_most),
            };
        self.waiting.then(|| {
            self.delay = (self.delay * 2).clamp(SHORTEST, LONGEST);
            self.count += 1;
            self.delay
        })
    }

    /// Whether to start it when the daemon starts; for a sandbox that ran before and does not run now.
    pub fn is_due_at_start(&self) -> bool {
        self.waiting
            || match self.policy {
                RestartPolicy::Always => true,
                RestartPolicy::UnlessStopped => !self.stopped,
                RestartPolicy::No | RestartPolicy::OnFailure { .. } => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRIEFLY: Duration = Duration::from_millis(1);

    fn of(name: &str) -> Restart {
        Restart::new(RestartPolicy::parse(name, 0).expect("a policy"))
    }

    #[test]
    fn policies_have_dockers_names_and_refusals() {
        for name in ["no", "always", "unless-stopped", "on-failure"] {
            assert_eq!(of(name).policy.name(), name);
        }
        assert_eq!(RestartPolicy::parse("", 0), Ok(RestartPolicy::No));
        assert_eq!(RestartPolicy::parse("on-failure", 3), Ok(RestartPolicy::OnFailure { at_most: 3 }));
        for (name, count, refusal) in [
            ("sometimes", 0, BadRestartPolicy::Unknown("sometimes".into())),
            ("always", 2, BadRestartPolicy::Count),
            ("no", -1, BadRestartPolicy::CountAndNegative),
            ("on-failure", -1, BadRestartPolicy::Negative),
        ] {
            assert_eq!(RestartPolicy::parse(name, count), Err(refusal));
        }
    }

    #[test]
    fn delays_double_up_to_a_minute_and_start_again_after_a_run_of_ten_seconds() {
        let mut restart = of("always");
        let delays: Vec<u128> = (0..12).filter_map(|_| Some(restart.end(0, BRIEFLY)?.as_millis())).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        assert_eq!(restart.count, 12);
        assert_eq!(restart.end(0, RECOVERED), Some(SHORTEST));
        restart.start(true);
        assert_eq!((restart.count, restart.end(0, BRIEFLY)), (0, Some(SHORTEST)));
    }

    #[test]
    fn on_failure_counts_failures() {
        let mut restart = Restart::new(RestartPolicy::OnFailure { at_most: 2 });
        assert_eq!(restart.end(0, BRIEFLY), None);
        assert!(restart.end(1, BRIEFLY).is_some());
        assert!(restart.end(137, BRIEFLY).is_some());
        assert_eq!(restart.end(1, BRIEFLY), None);
        assert!(!restart.is_due_at_start());
    }

    #[test]
    fn a_stopped_sandbox_stays_stopped_except_with_always_when_the_daemon_starts() {
        for (name, again, due) in
            [("no", false, false), ("always", true, true), ("unless-stopped", true, false)]
        {
            let mut restart = of(name);
            assert_eq!(restart.end(0, BRIEFLY).is_some(), again, "{name}");
            restart.stop();
            assert_eq!(restart.end(137, BRIEFLY), None, "{name}");
            assert_eq!(restart.is_due_at_start(), due, "{name}");
        }
    }
}
