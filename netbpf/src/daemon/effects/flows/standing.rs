//! Whether established flows skip the host's stack, for those who ask.

use std::sync::{Mutex, PoisonError};

use crate::daemon::effects::host::Host;

/// Whether established flows skip the host's stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowsStanding {
    /// Yes, so many at present.
    Fast(usize),
    /// No, as the user wants.
    Off,
    /// Not all, or none: so many at present, because the host has this.
    Hindered(usize, Vec<String>),
}

impl FlowsStanding {
    /// So many do, and this hinders all or some.
    pub(super) fn of(count: usize, hindrances: Vec<String>) -> Self {
        match hindrances.is_empty() {
            true => Self::Fast(count),
            false => Self::Hindered(count, hindrances),
        }
    }

    /// What is to be logged, if it was something else before: how many flows there are is not.
    fn news(&self, before: &Self) -> Option<String> {
        let hindrances = |standing: &Self| match standing {
            Self::Hindered(_, hindrances) => hindrances.clone(),
            Self::Fast(_) | Self::Off => Vec::new(),
        };
        let (now, before) = (hindrances(self), hindrances(before));
        if now == before {
            return None;
        }
        Some(match self {
            Self::Hindered(0, _) => {
                format!("established flows do not skip the host's stack: {}", now.join("; "))
            }
            Self::Hindered(..) => {
                format!("some established flows do not skip the host's stack: {}", now.join("; "))
            }
            Self::Fast(_) | Self::Off => "established flows skip the host's stack".to_owned(),
        })
    }
}

/// What the user wants, and what there is.
pub struct FastFlows {
    is_wanted: bool,
    standing: Mutex<FlowsStanding>,
}

impl FastFlows {
    /// As the daemon's options say.
    pub fn new(is_wanted: bool) -> Self {
        let standing = if is_wanted { FlowsStanding::Fast(0) } else { FlowsStanding::Off };
        Self { is_wanted, standing: Mutex::new(standing) }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    pub(super) fn set(&self, now: FlowsStanding) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(news) = now.news(&standing) {
            tracing::info!("{news}");
        }
        *standing = now;
    }
}

impl Host {
    /// Whether established flows skip the host's stack.
    pub fn standing_of_flows(&self) -> FlowsStanding {
        self.fast_flows.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_logged_what_hinders_and_whether_that_is_all_flows() {
        let standing = |count, hindrances: &[&str]| {
            FlowsStanding::of(count, hindrances.iter().map(|&text| text.to_owned()).collect())
        };
        let (fast, one, other) = (standing(3, &[]), standing(0, &["a", "b"]), standing(2, &["b"]));
        assert_eq!(fast.news(&standing(0, &[])), None);
        let all = "established flows do not skip the host's stack: a; b";
        assert_eq!(one.news(&fast).as_deref(), Some(all));
        assert_eq!(one.news(&standing(9, &["a", "b"])), None, "the same");
        let some = "some established flows do not skip the host's stack: b";
        assert_eq!(other.news(&one).as_deref(), Some(some));
        assert_eq!(fast.news(&other).as_deref(), Some("established flows skip the host's stack"));
    }
}
