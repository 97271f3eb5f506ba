//! Established flows that skip the host's stack: which packets (`FLOW_WAYS`), what becomes of them (`FLOWS`), whether any
//! may (`FLOW_STATE`), and flows that have sent enough to be worth it (`SENDERS`, `BUSY_FLOWS`). IPv4 only. Must not know
//! how the maps are accessed, or conntrack.

/// Maximum number of flows with entries.
pub const MAX_FLOWS: u32 = 16_384;

/// Size of `FLOW_WAYS`: both directions of each flow.
pub const MAX_WAYS: u32 = 2 * MAX_FLOWS;

/// Size of `SENDERS`: flows of which packets are counted at a time, roughly.
pub const SENDERS: u32 = 8192;

/// Size of the ring buffer `BUSY_FLOWS` in bytes: a power of two, and a multiple of the page size.
pub const BUSY_FLOWS_BYTES: u32 = 65_536;

/// How many packets a container sends in a flow before it is reported. Later ones report it again, once a second: the daemon
/// may not have been able to enter it.
pub const PACKETS_UNTIL_REPORT: u16 = 16;

/// Key of the hash `FLOW_WAYS` (value: index into `FLOWS`): the packets of one direction, as the interface receives them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// The interface that receives them: the host side of the container's veth pair, or the uplink.
    pub ifindex: u32,
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
    /// Source port.
    pub source_port: [u8; 2],
    /// Destination port.
    pub destination_port: [u8; 2],
    /// TCP or UDP, as in the IP header.
    pub protocol: u32,
}
const _: () = assert!(size_of::<FlowKey>() == 20);

impl FlowKey {
    /// Reads a key from an entry of `BUSY_FLOWS`; none if that has fewer than 20 bytes.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        Some(Self {
            ifindex: word(0)?,
            source: *bytes.get(4..)?.first_chunk()?,
            destination: *bytes.get(8..)?.first_chunk()?,
            source_port: *bytes.get(12..)?.first_chunk()?,
            destination_port: *bytes.get(14..)?.first_chunk()?,
            protocol: word(16)?,
        })
    }
}

/// One direction of a flow. A packet of a container gets another source, a packet to it another destination.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// The packets that it is for. A program compares it, because the value of a key that is being removed may be
    /// another's.
    pub key: FlowKey,
    /// The address that replaces the source or the destination.
    pub address: [u8; 4],
    /// The port that replaces that one's.
    pub port: [u8; 2],
    /// Always zero.
    pub reserved: [u8; 2],
}
const _: () = assert!(size_of::<Way>() == 28);

/// Value of the array `FLOWS`. It is not changed, except for the last three fields, until no key leads to it for a while:
/// then no program reads it any more.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// The epoch in which it was made, as a number. In another one it does not count.
    pub epoch: u32,
    /// Number of the container's endpoint.
    pub endpoint: u32,
    /// The ifindex of the uplink.
    pub uplink: u32,
    /// Packets of the container.
    pub out: Way,
    /// Packets to the container.
    pub back: Way,
    /// 1 if a segment with FIN, SYN or RST was seen: it goes on in the host's stack. Written by the programs.
    pub is_over: u32,
    /// When a packet was sent on: seconds of the monotonic clock. Written by the programs.
    pub seen: u32,
    /// When the kernel was asked to check the next hop's MAC: seconds of the monotonic clock. Written by the programs.
    pub checked: u32,
}
const _: () = assert!(size_of::<Flow>() == 80);

/// The only value of the array `FLOW_STATE`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowState {
    /// The number of the present epoch. Each change that could lead a flow elsewhere begins a new one, and entries that were
    /// made in another one do not count.
    pub epoch: u32,
    /// Until when entries count: seconds of the monotonic clock. The daemon extends this while it lives; 0 if no flow may
    /// skip the stack.
    pub until: u32,
}
const _: () = assert!(size_of::<FlowState>() == 8);

impl FlowState {
    /// Whether an entry counts.
    #[inline(always)]
    pub const fn admits(self, epoch: u32, now: u32) -> bool {
        self.epoch == epoch && now < self.until
    }
}

/// Value of the array `SENDERS`: how many packets a container has sent in a flow. A flow has two places ([`Sender::places`]).
/// If others have both, it takes one of them, so those that share a place come to have one each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// The flow's hash, as the kernel computes it.
    pub hash: u32,
    /// The number of packets, up to [`PACKETS_UNTIL_REPORT`].
    pub packets: u16,
    /// When it was reported: the last 16 bits of the monotonic clock's seconds.
    pub reported: u16,
}
const _: () = assert!(size_of::<Sender>() == 8);

impl Sender {
    /// The places for the flow with this hash.
    #[inline(always)]
    pub const fn places(hash: u32) -> [u32; 2] {
        [hash % SENDERS, hash / SENDERS % SENDERS]
    }

    /// The value after one more packet of the flow with this hash, in this second of the monotonic clock, and whether the
    /// flow is to be reported.
    #[inline(always)]
    pub const fn and_one(self, hash: u32, now: u32) -> (Self, bool) {
        if self.hash != hash {
            return (Self { hash, packets: 1, reported: 0 }, false);
        }
        if self.packets + 1 < PACKETS_UNTIL_REPORT {
            return (Self { packets: self.packets + 1, ..self }, false);
        }
        let is_due = self.packets < PACKETS_UNTIL_REPORT || self.reported != now as u16;
        (Self { hash, packets: PACKETS_UNTIL_REPORT, reported: now as u16 }, is_due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_its_bytes() {
        let bytes: Vec<u8> = (1..=20).collect();
        let key = FlowKey::read(&bytes).unwrap();
        assert_eq!(
            (key.ifindex, key.protocol),
            (u32::from_ne_bytes([1, 2, 3, 4]), u32::from_ne_bytes([17, 18, 19, 20]))
        );
        assert_eq!((key.source, key.destination), ([5, 6, 7, 8], [9, 10, 11, 12]));
        assert_eq!((key.source_port, key.destination_port), ([13, 14], [15, 16]));
        assert_eq!(FlowKey::read(&bytes[..19]), None);
    }

    #[test]
    fn an_entry_counts_in_its_epoch_while_the_daemon_lives() {
        let state = FlowState { epoch: 7, until: 100 };
        assert!(state.admits(7, 99));
        assert!(!state.admits(7, 100) && !state.admits(6, 99) && !state.admits(8, 99));
        assert!(!FlowState { until: 0, ..state }.admits(7, 0));
    }

    #[test]
    fn a_flow_is_reported_when_it_has_sent_enough_and_then_each_second() {
        let (mut sender, mut reports) = (Sender::default(), Vec::new());
        for packet in 1..=100 {
            // The second half is sent a second later.
            let (next, is_busy) = sender.and_one(9, 65_535 + packet / 50);
            sender = next;
            reports.extend(is_busy.then_some(packet));
        }
        assert_eq!(reports, [PACKETS_UNTIL_REPORT.into(), 50, 100]);
        assert_eq!(sender.and_one(8, 7), (Sender { hash: 8, packets: 1, reported: 0 }, false));
        assert_eq!(Sender::places(u32::MAX), [SENDERS - 1; 2]);
        assert_eq!(Sender::places(SENDERS + 3), [3, 1]);
    }
}
