//! Notices: what the programs report to the daemon (`NOTICES`), a few a second for each endpoint (`NOTICED`). Must not
//! know who reads them.

use crate::endpoint::NeighbourKey;

/// Size of the ring buffer `NOTICES` in bytes: a power of two, and a multiple of the page size.
pub const NOTICES_BYTES: u32 = 65_536;

/// Maximum number of announcements that are reported of one endpoint in a second. More would keep the daemon busy.
pub const MAX_ANNOUNCEMENTS: u16 = 64;

/// An entry of the ring buffer `NOTICES` (Linux 5.8).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// [`Notice::FLOOD_LIMIT`] or [`Notice::ANNOUNCEMENT`].
    pub kind: u32,
    /// Number of the endpoint that it is about.
    pub endpoint: u32,
    /// The announced address, in the endpoint's network; else zero.
    pub address: NeighbourKey,
    /// The source MAC of the frame that announced it; else zero.
    pub mac: [u8; 6],
    /// Always zero.
    pub reserved: [u8; 2],
}
const _: () = assert!(size_of::<Notice>() == 36);

impl Notice {
    /// The endpoint has used up its share of copies: its frames to all members are dropped.
    pub const FLOOD_LIMIT: u32 = 1;
    /// An open endpoint announced an address without a lease: a gratuitous ARP (RFC 5227), or a neighbour
    /// advertisement that answers nobody (RFC 4861 section 7.2.6).
    pub const ANNOUNCEMENT: u32 = 2;

    /// Reads a notice from an entry's bytes; none if there are fewer than 36.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        Some(Self {
            kind: word(0)?,
            endpoint: word(4)?,
            address: NeighbourKey { network: word(8)?, address: *bytes.get(12..)?.first_chunk()? },
            mac: *bytes.get(28..)?.first_chunk()?,
            reserved: *bytes.get(34..)?.first_chunk()?,
        })
    }
}

/// Value of the array `NOTICED` (key: endpoint number): how much was reported of an endpoint in a second.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noticed {
    /// Seconds of the monotonic clock, modulo 2^32.
    pub second: u32,
    /// Number of announcements in it.
    pub announcements: u16,
    /// 1 if its limit of copies was reported.
    pub flood_limit: u16,
}
const _: () = assert!(size_of::<Noticed>() == 8);

impl Noticed {
    /// The value after one more notice of this kind in the second `now`; none if it has sent enough. A storm does not
    /// keep an announcement from being reported.
    #[inline(always)]
    pub const fn and_one(self, kind: u32, now: u32) -> Option<Self> {
        let Self { announcements, flood_limit, .. } =
            if self.second == now { self } else { Self { second: now, announcements: 0, flood_limit: 0 } };
        match kind {
            Notice::FLOOD_LIMIT if flood_limit == 0 => {
                Some(Self { second: now, announcements, flood_limit: 1 })
            }
            Notice::ANNOUNCEMENT if announcements < MAX_ANNOUNCEMENTS => {
                Some(Self { second: now, announcements: announcements + 1, flood_limit })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_read_from_its_bytes() {
        let mut bytes = Vec::new();
        for word in [Notice::ANNOUNCEMENT, 7, 3] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(1..=24);
        let notice = Notice::read(&bytes).unwrap();
        assert_eq!((notice.kind, notice.endpoint, notice.address.network), (Notice::ANNOUNCEMENT, 7, 3));
        assert_eq!(
            (notice.address.address[0], notice.mac, notice.reserved),
            (1, [17, 18, 19, 20, 21, 22], [23, 24])
        );
        assert_eq!(Notice::read(&bytes[..35]), None);
        assert_eq!(Notice::read(&[]), None);
    }

    #[test]
    fn an_endpoint_has_a_few_notices_each_second() {
        let mut noticed = Noticed::default();
        for _ in 0..MAX_ANNOUNCEMENTS {
            noticed = noticed.and_one(Notice::ANNOUNCEMENT, 100).unwrap();
        }
        assert_eq!(noticed.and_one(Notice::ANNOUNCEMENT, 100), None);
        noticed = noticed.and_one(Notice::FLOOD_LIMIT, 100).unwrap();
        assert_eq!(noticed.and_one(Notice::FLOOD_LIMIT, 100), None);
        let next = Noticed { second: 101, announcements: 1, flood_limit: 0 };
        assert_eq!(noticed.and_one(Notice::ANNOUNCEMENT, 101), Some(next));
    }
}
