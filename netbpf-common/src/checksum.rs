//! The Internet checksum (RFC 1071), kept up with what it covers (RFC 1624, equation 3): what was right stays right, and
//! what was damaged on its way stays damaged. Must not know which protocol it is of.

/// The checksum field, network order, after a change of what it covers. The difference is a sum of 16-bit words as they
/// lie in memory, the old ones complemented: what `bpf_csum_diff` returns.
#[inline(always)]
pub const fn updated(field: [u8; 2], difference: u32) -> [u8; 2] {
    let sum = !u16::from_ne_bytes(field) as u64 + difference as u64;
    // Each folding leaves a carry of one bit less; after the third there is none.
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (!(sum as u16)).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(bytes: &[u8]) -> impl Iterator<Item = u16> {
        bytes.chunks(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]]))
    }

    /// As RFC 1071 makes one.
    fn checksum(bytes: &[u8]) -> [u8; 2] {
        let mut sum: u32 = words(bytes).map(u32::from).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_ne_bytes()
    }

    fn difference(before: &[u8], after: &[u8]) -> u32 {
        words(before).map(|word| u32::from(!word)).sum::<u32>() + words(after).map(u32::from).sum::<u32>()
    }

    #[test]
    fn a_changed_one_is_the_one_of_the_changed_bytes() {
        let samples = [[0; 8], [0xff; 8], [0, 1, 0, 0, 0, 0, 0, 0], [0xff, 0xfe, 0x80, 0, 0x7f, 0xff, 1, 0]];
        for rest in [[0x60, 0, 0, 1], [0xff, 0xff, 0xff, 0xfe]] {
            for before in samples {
                for after in samples {
                    let whole = |bytes: [u8; 8]| checksum(&[&rest[..], &bytes].concat());
                    let changed = updated(whole(before), difference(&before, &after));
                    assert_eq!(changed, whole(after), "{rest:?} {before:?} {after:?}");
                }
            }
        }
    }

    #[test]
    fn a_difference_of_any_size_is_folded() {
        for difference in [0, 1, 0xffff, 0x1_0000, 0xffff_0000, 0xffff_ffff] {
            let mut sum = u64::from(!u16::from_ne_bytes([0x12, 0x34])) + u64::from(difference);
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            assert_eq!(updated([0x12, 0x34], difference), (!(sum as u16)).to_ne_bytes(), "{difference:x}");
        }
    }

    #[test]
    fn a_wrong_one_stays_wrong() {
        let [high, low] = checksum(&[1, 2, 3, 4]);
        let changed = updated([high, low ^ 1], difference(&[3, 4], &[5, 6]));
        assert_ne!(changed, checksum(&[1, 2, 5, 6]));
    }
}
