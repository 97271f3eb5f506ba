//! The queueing disciplines at an endpoint's two ends, and the limit of the programs behind them. Pure.
//!
//! Each end has the token bucket filter (tbf) of what it sends: the host side towards the container, the container's side
//! from it. So a container that sends too much waits, and loses nothing.

use netbpf_common::limit::EgressLimit;

use super::wiring::EndpointWiring;
use crate::model::Limit;

/// The longest time in milliseconds that a frame waits, if it finds no burst left (the `latency` of `tc`).
const LATENCY: u64 = 25;

/// The default burst: what passes in 2 ms, and at least 16 KiB. Larger frames are cut before they pass.
const BURST_TIME: u64 = 2;
const LEAST_BURST: u64 = 16 << 10;

/// The headers before a packet of the MTU: Ethernet with a VLAN tag, in bytes.
pub const HEADERS: u32 = 18;

/// A token bucket filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shaper {
    /// Bytes a second, not zero.
    pub rate: u64,
    /// How many bytes pass at once.
    pub burst: u32,
    /// How many bytes wait.
    pub queue: u32,
}

impl Shaper {
    /// The filter for a limit at an interface with this MTU in bytes. It lets through a frame of the MTU in any case.
    pub fn of(limit: &Limit, mtu: u32) -> Self {
        let rate = limit.rate.bits() / 8;
        let usual = (rate * BURST_TIME / 1000).max(LEAST_BURST).max(u64::from(mtu + HEADERS));
        let burst = limit.burst.map_or(usual as u32, |burst| burst.bytes());
        let queue = (rate * LATENCY / 1000).saturating_add(u64::from(burst));
        Self { rate, burst, queue: u32::try_from(queue).unwrap_or(u32::MAX) }
    }
}

/// The filters of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shapers {
    /// At the host side: of what the container receives.
    pub outer: Option<Shaper>,
    /// At the container's side: of what it sends.
    pub inner: Option<Shaper>,
}

impl EndpointWiring {
    /// Its filters.
    pub fn shapers(&self) -> Shapers {
        let of = |limit: &Limit| Shaper::of(limit, self.mtu);
        let limits = &self.access.limits;
        Shapers { outer: limits.ingress.as_ref().map(of), inner: limits.egress.as_ref().map(of) }
    }

    /// The limit of the programs for what it sends.
    pub fn egress_limit(&self) -> EgressLimit {
        let behind = |shaper: Shaper| EgressLimit::behind(shaper.rate, shaper.burst);
        self.shapers().inner.map(behind).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Access, AccessOptions};

    fn shaper(rate: &str, burst: Option<&str>, mtu: u32) -> Shaper {
        let mut options = AccessOptions::default();
        options.set("netbpf.ingress_rate", rate).expect("a rate");
        burst.map(|burst| options.set("netbpf.ingress_burst", burst).expect("a burst"));
        let Access { limits, .. } = options.within(&AccessOptions::default());
        Shaper::of(&limits.ingress.expect("a limit"), mtu)
    }

    #[test]
    fn the_usual_burst_is_that_of_two_milliseconds_or_a_large_frame() {
        assert_eq!(shaper("10mbit", None, 1500), Shaper { rate: 1_250_000, burst: 16_384, queue: 47_634 });
        assert_eq!(
            shaper("1gbit", None, 1500),
            Shaper { rate: 125_000_000, burst: 250_000, queue: 3_375_000 }
        );
        assert_eq!(shaper("1kbit", None, 65535).burst, 65553);
    }

    #[test]
    fn a_burst_that_was_asked_for_is_taken() {
        assert_eq!(shaper("10mbit", Some("64k"), 1500).burst, 65536);
        let largest = shaper("1tbit", Some("4294967295"), 1500);
        assert_eq!((largest.burst, largest.queue), (u32::MAX, u32::MAX));
    }
}
