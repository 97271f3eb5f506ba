//! Updates the Internet checksum (RFC 1071) after a change of the data (RFC 1624, equation 3). A wrong
//! checksum stays wrong. Must not know the protocol.

/// The new checksum field, in network order. `difference` is a sum of 16-bit words in memory order, the old
/// ones complemented: the result of `bpf_csum_diff`.
#[inline(always)]
pub const fn updated(field: [u8; 2], difference: u32) -> [u8; 2] {
    let sum = !u16::from_ne_bytes(field) as u64 + difference as u64;
    // Adds the carries. After the third time there is none.
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (!(sum as u16)).to_ne_bytes()
}

/// The sum of bytes as 16-bit words in memory order; a zero follows an odd last byte.
#[inline(always)]
pub const fn sum<const N: usize>(bytes: &[u8; N]) -> u32 {
    let (mut sum, mut at) = (0, 0);
    while at < N {
        let next = if at + 1 < N { bytes[at + 1] } else { 0 };
        sum += u16::from_ne_bytes([bytes[at], next]) as u32;
        at += 2;
    }
    sum
}

/// The sum of the same bytes at an offset in the data.
#[inline(always)]
pub const fn sum_at(offset: usize, sum: u32) -> u32 {
    let sum = folded(sum);
    if offset.is_multiple_of(2) { sum as u32 } else { sum.swap_bytes() as u32 }
}

/// The difference that the bytes of a sum make when they are removed.
#[inline(always)]
pub const fn removed(sum: u32) -> u32 {
    !folded(sum) as u32
}

const fn folded(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(bytes: &[u8]) -> impl Iterator<Item = u16> {
        bytes.chunks(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]]))
    }

    /// Computes a checksum as in RFC 1071.
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
    fn an_updated_checksum_is_that_of_the_changed_bytes() {
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
    fn bytes_that_are_replaced_make_the_difference_of_their_sums() {
        let (before, after) = ([1, 2, 0xff, 4, 5], [9, 0xfe, 7]);
        for start in [&[][..], &[3], &[3, 0x81], &[3, 0x81, 0xff]] {
            let difference = removed(sum_at(start.len(), sum(&before))) + sum_at(start.len(), sum(&after));
            let whole = |bytes: &[u8]| {
                let bytes = [start, bytes].concat();
                let even = bytes.len().next_multiple_of(2);
                checksum(&[bytes.as_slice(), &[0][..even - bytes.len()]].concat())
            };
            assert_eq!(updated(whole(&before), difference), whole(&after), "{start:?}");
        }
    }

    #[test]
    fn a_wrong_checksum_stays_wrong() {
        let [high, low] = checksum(&[1, 2, 3, 4]);
        let changed = updated([high, low ^ 1], difference(&[3, 4], &[5, 6]));
        assert_ne!(changed, checksum(&[1, 2, 5, 6]));
    }
}
