//! FNV-1a hashes of values that outlive the daemon: in files of containers, and as numbers in the kernel. So their results
//! must never change. They detect accidents, not forgery.

/// The hash in 32 bits.
pub fn fnv1a_32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The hash in 64 bits.
pub fn fnv1a_64(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of the authors.
    #[test]
    fn hashes_are_those_of_the_definition() {
        assert_eq!([&b""[..], b"a", b"foobar"].map(fnv1a_32), [0x811c_9dc5, 0xe40c_292c, 0xbf9c_f968]);
        assert_eq!(
            [&b""[..], b"a", b"foobar"].map(fnv1a_64),
            [0xcbf2_9ce4_8422_2325, 0xaf63_dc4c_8601_ec8c, 0x8594_4171_f739_67e8]
        );
    }
}
