//! How many copies of its broadcasts and multicasts an endpoint may have made (`FLOODS`). A frame for all costs as many copies
//! as there are other members, so copies are counted, not frames.

/// One second, in nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// How far ahead an endpoint may have spent its share, in nanoseconds: what it may do in a second, it may do at once.
const BURST: u64 = SECOND;

/// How many copies a second an endpoint may have made, unless its network says otherwise: a good half of what one CPU
/// makes (measured, see `tests/bench/tried.md`), and more than 100 Mbit/s of video to 50 members.
pub const DEFAULT_COPIES: u32 = 600_000;

/// What an endpoint has spent of its share, as value of the array `FLOODS` (key: endpoint number). All zero is nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flood {
    /// When the copies made so far would have been made at the rate that is allowed: nanoseconds of the monotonic clock.
    pub spent_until: u64,
}
const _: () = assert!(size_of::<Flood>() == 8);

impl Flood {
    /// Whether a frame may go to all at this time.
    #[inline(always)]
    pub const fn may_begin(self, now: u64) -> bool {
        self.spent_until <= now.saturating_add(BURST)
    }

    /// After so many copies, of `rate` (not zero) in a second.
    #[inline(always)]
    pub const fn and(self, copies: u32, rate: u32, now: u64) -> Self {
        let since = if self.spent_until > now { self.spent_until } else { now };
        Self { spent_until: since.saturating_add(copies as u64 * SECOND / rate as u64) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many frames of so many copies pass within some seconds, of those that come at a steady pace.
    fn passed(copies: u32, rate: u32, frames_a_second: u64, seconds: u64) -> u64 {
        let mut flood = Flood::default();
        let mut passed = 0;
        for number in 0..frames_a_second * seconds {
            // The clock began long ago.
            let now = 1000 * SECOND + number * SECOND / frames_a_second;
            if flood.may_begin(now) {
                flood = flood.and(copies, rate, now);
                passed += 1;
            }
        }
        passed
    }

    #[test]
    fn what_comes_at_the_allowed_rate_always_passes() {
        // 100 Mbit/s in datagrams of 1,316 bytes, to 50 others.
        assert_eq!(passed(50, DEFAULT_COPIES, 9_500, 60), 9_500 * 60);
        assert_eq!(passed(1, 1, 1, 1000), 1000);
    }

    #[test]
    fn what_comes_faster_is_cut_to_it_after_a_second() {
        assert_eq!(passed(10, 1000, 10_000, 1), 2 * 100);
        assert_eq!(passed(10, 1000, 10_000, 60), 61 * 100);
    }

    #[test]
    fn a_frame_that_costs_more_than_a_second_passes_and_is_paid_for() {
        let flood = Flood::default().and(8191, 1, SECOND);
        assert_eq!(flood, Flood { spent_until: 8192 * SECOND });
        assert!(!flood.may_begin(8190 * SECOND) && flood.may_begin(8191 * SECOND));
    }
}
