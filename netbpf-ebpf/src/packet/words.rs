//! Reads headers by words. Elsewhere the compiler reads them byte by byte, because a packet may be at any address. The
//! machines with a JIT for eBPF that netbpf runs on, x86-64 and arm64, read words at any address, and the verifier permits it
//! there.

use netbpf_common::wire::{EtherType, Ethernet};

/// The Ethernet header at an address.
///
/// # Safety
/// Its 14 bytes are in the packet, as the verifier knows by a comparison before.
#[inline(always)]
pub unsafe fn ethernet(start: usize) -> Ethernet {
    // SAFETY: bytes 0 to 7, and 6 to 13.
    let (first, second) = unsafe { (word(start), word(start + 6)) };
    let [d0, d1, d2, d3, d4, d5, ..] = first.to_ne_bytes();
    let [s0, s1, s2, s3, s4, s5, t0, t1] = second.to_ne_bytes();
    Ethernet {
        destination: [d0, d1, d2, d3, d4, d5],
        source: [s0, s1, s2, s3, s4, s5],
        ethertype: EtherType([t0, t1]),
    }
}

/// Eight bytes of the packet as a number of the machine's byte order.
///
/// # Safety
/// They are in the packet, as above.
#[cfg(target_arch = "bpf")]
#[inline(always)]
unsafe fn word(at: usize) -> u64 {
    let word;
    // SAFETY: as the caller says; it only reads.
    unsafe {
        core::arch::asm!(
            "{0} = *(u64 *)({1} + 0)",
            out(reg) word,
            in(reg) at,
            options(pure, readonly, nostack)
        );
    }
    word
}

/// The same for the host, for which the programs are only compiled.
///
/// # Safety
/// As above.
#[cfg(not(target_arch = "bpf"))]
unsafe fn word(at: usize) -> u64 {
    // SAFETY: as the caller says.
    unsafe { (at as *const u64).read_unaligned() }
}
