//! Counters. All are per CPU: no two CPUs write to the same cache line.

/// Frames and their bytes (Ethernet header included, checksum not).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Frames; a GSO frame counts once.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}
const _: () = assert!(size_of::<Counter>() == 16);

impl Counter {
    /// Counts one frame.
    #[inline(always)]
    pub fn add(&mut self, bytes: u64) {
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(bytes);
    }
}

impl core::iter::Sum for Counter {
    fn sum<I: Iterator<Item = Self>>(counters: I) -> Self {
        counters.fold(Self::default(), |sum, counter| Self {
            packets: sum.packets.wrapping_add(counter.packets),
            bytes: sum.bytes.wrapping_add(counter.bytes),
        })
    }
}

/// One CPU's counters of one endpoint, as value of the per-CPU array `ENDPOINT_STATS` (key: endpoint number).
/// Frames that a container sent are counted by the kernel, as received by the endpoint's host side.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointStats {
    /// Frames of other members that were delivered to the endpoint.
    pub from_members: Counter,
    /// Frames of the host, and of other hosts, that were delivered to the endpoint.
    pub from_host: Counter,
    /// Frames from the endpoint that went to the host alone, or past its stack to other hosts.
    pub to_host: Counter,
    /// Frames from the endpoint that the programs dropped, for any reason.
    pub dropped: Counter,
}
const _: () = assert!(size_of::<EndpointStats>() == 64);

impl EndpointStats {
    /// All frames that were delivered to the endpoint.
    pub fn received(&self) -> Counter {
        [self.from_members, self.from_host].into_iter().sum()
    }
}
