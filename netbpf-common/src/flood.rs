//! Limits the copies that are made of an endpoint's broadcasts and multicasts (`FLOODS`). A frame to all
//! costs one copy for each other member, so the limit counts copies, not frames.
//!
//! In a loop, a frame goes round as fast as the CPUs pass it on, which may be less than the limit. If it goes round both
//! ways, its MAC moves from endpoint to endpoint, so frames whose MAC has just moved have a limit of their own.

use crate::bucket::{self, SECOND};

/// The burst in nanoseconds: an endpoint may use its share of one second at once.
const BURST: u64 = SECOND;

/// Default limit of copies a second for an endpoint: more than half of what one CPU makes (measured, see
/// `tests/bench/tried.md`), and more than 100 Mbit/s of video to 50 members.
pub const DEFAULT_COPIES: u32 = 600_000;

/// Frames to all members that an endpoint may send each second from MACs that have just moved to it. A station that
/// moves, or an address that two share, announces itself with a few frames.
pub const MAX_MOVES: u32 = 1000;

/// Used share of an endpoint, as value of the array `FLOODS` (key: endpoint number). All zero means that
/// nothing is used.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flood {
    /// The time at which the copies so far would have been made at the allowed rate: nanoseconds of the
    /// monotonic clock.
    pub spent_until: u64,
}
const _: () = assert!(size_of::<Flood>() == 8);

impl Flood {
    /// Whether a frame may be sent to all members now.
    #[inline(always)]
    pub const fn may_begin(self, now: u64) -> bool {
        bucket::has_room(self.spent_until, BURST, now)
    }

    /// The used share after more copies; `rate` is in copies a second and not zero.
    #[inline(always)]
    pub const fn and(self, copies: u32, rate: u32, now: u64) -> Self {
        let since = if self.spent_until > now { self.spent_until } else { now };
        Self { spent_until: since.saturating_add(bucket::time_of(copies, rate as u64)) }
    }

    /// The used share after one more frame from a MAC that has just moved to the endpoint, beside its copies.
    #[inline(always)]
    pub const fn and_move(self, now: u64) -> Self {
        self.and(1, MAX_MOVES, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of frames that pass within some seconds, of those that are sent at a steady rate.
    fn passed(copies: u32, rate: u32, frames_a_second: u64, seconds: u64) -> u64 {
        let mut flood = Flood::default();
        let mut passed = 0;
        for number in 0..frames_a_second * seconds {
            // The clock starts well above zero.
            let now = 1000 * SECOND + number * SECOND / frames_a_second;
            if flood.may_begin(now) {
                flood = flood.and(copies, rate, now);
                passed += 1;
            }
        }
        passed
    }

    #[test]
    fn frames_at_the_allowed_rate_always_pass() {
        // 100 Mbit/s in datagrams of 1,316 bytes, to 50 others.
        assert_eq!(passed(50, DEFAULT_COPIES, 9_500, 60), 9_500 * 60);
        assert_eq!(passed(1, 1, 1, 1000), 1000);
    }

    #[test]
    fn faster_frames_are_limited_after_a_second() {
        assert_eq!(passed(10, 1000, 10_000, 1), 2 * 100);
        assert_eq!(passed(10, 1000, 10_000, 60), 61 * 100);
    }

    #[test]
    fn frames_of_macs_that_have_just_moved_are_limited() {
        let (mut flood, mut passed) = (Flood::default(), 0);
        // Four copies each, 20,000 frames a second: as two bridges in a loop on two CPUs.
        for number in 0..200_000 {
            let now = 1000 * SECOND + number * SECOND / 20_000;
            if flood.may_begin(now) {
                flood = flood.and_move(now).and(4, DEFAULT_COPIES, now);
                passed += 1;
            }
        }
        // The burst of a second, and ten seconds; the copies cost little.
        assert!((10_900..=11_000).contains(&passed), "{passed}");
    }

    #[test]
    fn a_frame_that_costs_more_than_a_second_delays_the_next_ones() {
        let flood = Flood::default().and(8191, 1, SECOND);
        assert_eq!(flood, Flood { spent_until: 8192 * SECOND });
        assert!(!flood.may_begin(8190 * SECOND) && flood.may_begin(8191 * SECOND));
    }
}
