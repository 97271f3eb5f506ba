//! Limits what an endpoint sends (`LIMITS`). The queueing discipline at the container's side shapes to the endpoint's
//! rate. A container that may configure its interface can remove that; so this limit stands behind it, and is a little
//! wider, so that it drops nothing else.

use crate::bucket::{self, SECOND};

/// How late the frames of a container may be when the host's CPU is busy: they then arrive at once.
const DELAY: u64 = SECOND / 40;

/// The limit of an endpoint and its used share, as value of the array `LIMITS` (key: endpoint number). All zero is no
/// limit.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EgressLimit {
    /// Bytes a second.
    pub rate: u64,
    /// How far ahead of its rate the endpoint may be, in nanoseconds.
    pub burst: u64,
    /// The time at which the bytes so far would have been sent at the allowed rate: nanoseconds of the monotonic clock.
    /// The programs write it.
    pub spent_until: u64,
}
const _: () = assert!(size_of::<EgressLimit>() == 24);

impl EgressLimit {
    /// The limit behind a queueing discipline with this rate in bytes a second, not zero, and this burst in bytes: 1.25
    /// times the rate.
    pub const fn behind(rate: u64, burst: u32) -> Self {
        let rate = rate + rate / 4;
        Self { rate, burst: bucket::time_of(burst, rate) + DELAY, spent_until: 0 }
    }

    /// The same with nothing used.
    pub const fn unused(self) -> Self {
        Self { spent_until: 0, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that pass within some seconds, of frames of 1,500 bytes that come at once every `pause` nanoseconds.
    fn passed(mut limit: EgressLimit, frames: u64, pause: u64, seconds: u64) -> u64 {
        let mut passed = 0;
        for round in 0..seconds * SECOND / pause {
            let now = 1000 * SECOND + round * pause;
            for _ in 0..frames {
                if bucket::has_room(limit.spent_until, limit.burst, now) {
                    limit.spent_until = limit.spent_until.max(now) + bucket::time_of(1500, limit.rate);
                    passed += 1500;
                }
            }
        }
        passed
    }

    #[test]
    fn what_was_shaped_passes_even_if_it_comes_late() {
        // 12 Mbit/s are 1,000 frames a second.
        let limit = EgressLimit::behind(1_500_000, 16 << 10);
        assert_eq!(passed(limit, 1, SECOND / 1000, 10), 15_000_000);
        assert_eq!(passed(limit, 25, SECOND / 40, 10), 15_000_000);
    }

    #[test]
    fn what_was_not_shaped_is_limited_to_a_little_more() {
        let limit = EgressLimit::behind(1_500_000, 16 << 10);
        let passed = passed(limit, 10, SECOND / 1000, 10);
        assert!((18_750_000..19_000_000).contains(&passed), "{passed}");
    }

    #[test]
    fn all_rates_and_sizes_are_possible() {
        let slowest = EgressLimit::behind(125, u32::MAX);
        assert!(
            slowest.burst > SECOND && bucket::time_of(u32::MAX, slowest.rate) > slowest.burst - DELAY - 1
        );
        let fastest = EgressLimit::behind(1_000_000_000_000 / 8, 1);
        assert_eq!(fastest.burst, DELAY);
    }
}
