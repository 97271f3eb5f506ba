//! Messages of queries, and checksums.

/// Type A.
pub const A: u16 = 1;
/// Type PTR.
pub const PTR: u16 = 12;
/// Type AAAA.
pub const AAAA: u16 = 28;

/// An OPT record for datagrams of 1232 bytes.
pub const OPT: [u8; 11] = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
/// The same with the option of a cookie.
pub const COOKIE: [u8; 23] = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];

/// The sum of 16-bit words (RFC 1071).
pub fn ones_complement(pieces: &[&[u8]]) -> u16 {
    let words = pieces.iter().flat_map(|piece| piece.chunks(2));
    let sum: u32 =
        words.map(|word| u32::from(u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    ((folded & 0xffff) + (folded >> 16)) as u16
}

/// A name as its labels with their lengths.
pub fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').flat_map(|label| {
        let length = u8::try_from(label.len()).expect("a label");
        [length].into_iter().chain(label.bytes())
    });
    labels.chain([0]).collect()
}

/// A query, which may have an additional record.
pub fn query(text: &str, kind: u16, additional: &[u8]) -> Vec<u8> {
    let count = u8::from(!additional.is_empty());
    let header = [0x12, 0x34, 1, 0x20, 0, 1, 0, 0, 0, 0, 0, count];
    [&header[..], &name(text), &kind.to_be_bytes(), &[0, 1], additional].concat()
}
