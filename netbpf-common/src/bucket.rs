//! A token bucket as one number: the time at which what was used so far would have been used at the allowed rate.
//! `FLOODS` and `LIMITS` have one for each endpoint. Times are in nanoseconds of the monotonic clock.

/// One second.
pub const SECOND: u64 = 1_000_000_000;

/// Whether more may be used now. `burst` is how far ahead of the allowed rate the use may be.
#[inline(always)]
pub const fn has_room(spent_until: u64, burst: u64, now: u64) -> bool {
    spent_until <= now.saturating_add(burst)
}

/// The time that an amount takes at a rate, which is per second and not zero.
#[inline(always)]
pub const fn time_of(amount: u32, rate: u64) -> u64 {
    amount as u64 * SECOND / rate
}
