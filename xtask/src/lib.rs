//! Shared by the tasks and netbpf's build script: finding the eBPF toolchain. Must not build the programs, or
//! each build of a task would build them.

pub mod toolchain;
