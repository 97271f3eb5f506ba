//! Restart policies of sandboxes, by Docker's rules: who is started again, after which delay, and when no more. Knows
//! no clock: it is told how long a sandbox ran.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The first delay (moby's restartmanager).
const SHORTEST: Duration = Duration::from_millis(100);

/// The last one: each is twice the one before.
const LONGEST: Duration = Duration::from_secs(60);

/// Who ran so long has recovered: the delay begins anew.
const RECOVERED: Duration = Duration::from_secs(10);

/// `--restart`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// `no`.
    #[default]
    No,
    /// Whatever it ended with; after a start of the daemon also one that a user has stopped.
    Always,
    /// As `always`, but what a user has stopped stays stopped.
    UnlessStopped,
    /// After an exit code other than 0.
    OnFailure {
        /// So many times in a row; 0 for no limit.
        at_most: u32,
    },
}

/// A policy that cannot be, in Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRestartPolicy {
    /// Not one of the four.
    #[error(
        "invalid restart policy: unknown policy '{0}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
    )]
    Unknown(String),
    /// A count where none is counted.
    #[error("invalid restart policy: maximum retry count can only be used with 'on-failure'")]
    Count,
    /// A count below zero where none is counted.
    #[error(
        "invalid restart policy: maximum retry count can only be used with 'on-failure' and cannot be negative"
    )]
    CountAndNegative,
    /// A count below zero.
    #[error("invalid restart policy: maximum retry count cannot be negative")]
    Negative,
}

impl RestartPolicy {
    /// From Docker's name, empty for `no`, and count.
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

    /// Docker's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
            Self::OnFailure { .. } => "on-failure",
        }
    }
}

/// A sandbox's policy, and where it is with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// What the user asked for.
    pub policy: RestartPolicy,
    /// How often it was started again since a user started it.
    pub count: u32,
    /// The last delay; zero before the first.
    delay: Duration,
    /// A user has stopped it.
    stopped: bool,
    /// It has ended and waits to be started again.
    pub waiting: bool,
    /// Why it could not be started again, the last time.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

impl Restart {
    /// Nothing has happened yet.
    pub fn new(policy: RestartPolicy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Whether it says no more than the default does.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// It is about to be started: by a user, or again.
    pub fn start(&mut self, by_user: bool) {
        match by_user {
            true => *self = Self::new(self.policy),
            false => {
                self.waiting = false;
                self.error.clear();
            }
        }
    }

    /// It could not be started again. Returns as [`end`](Self::end): what keeps it from starting may pass.
    pub fn fail(&mut self, code: i32, error: String) -> Option<Duration> {
        self.error = error;
        self.end(code, Duration::ZERO)
    }

    /// A user ends it, or wants it to stay as it is.
    pub fn stop(&mut self) {
        (self.stopped, self.waiting) = (true, false);
    }

    /// It has ended after so long. The delay after which it is to be started again, if it is.
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

    /// Whether it is to be started when the daemon starts, being one that ran before and does not now.
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
    fn delays_double_up_to_a_minute_and_begin_anew_after_ten_seconds_of_running() {
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
    fn what_a_user_has_stopped_stays_stopped_but_for_always_after_a_start_of_the_daemon() {
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
