//! The heap of a process with many threads. Must not know what is in it. With musl it does nothing: there all threads
//! share one heap in any case.

#![expect(unsafe_code, reason = "each block says what makes it sound")]

#[cfg(target_env = "gnu")]
use nix::libc;

/// Let all threads share one heap. glibc gives threads that allocate at the same time heaps of their own, up to eight
/// for each CPU, and keeps in each the most that was ever needed there. The daemon's threads come and go: with two CPUs
/// they kept 27 MiB where 9 were in use. It allocates little beside the system calls that it makes, so threads hardly
/// wait for each other.
///
/// Call it before the second thread starts: heaps that exist stay.
pub fn share() {
    // SAFETY: mallopt takes two numbers, and no second thread allocates meanwhile. If it refuses, heaps stay as many.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

/// Give the kernel back the pages that many requests at once needed and that are unused now. It takes about a
/// millisecond.
pub fn give_back() {
    // SAFETY: malloc_trim takes a number and locks the heap itself.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}
