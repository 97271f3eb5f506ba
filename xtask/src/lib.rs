//! What the tasks share with netbpf's build script: where the eBPF toolchain is. Must not build the programs itself,
//! or building a task would build them.

pub mod toolchain;
