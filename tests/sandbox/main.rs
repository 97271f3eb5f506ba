//! Sandboxes with real processes and namespaces. The tests need root, busybox-static, iproute2, util-linux, and the
//! binary named by `NETBPF_BIN` (default: `target/debug/netbpf`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod exec;
mod files;
mod lifecycle;
mod logs;
mod network;
mod rootfs;
mod world;
