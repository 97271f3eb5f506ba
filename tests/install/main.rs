//! `cargo xtask install` and `uninstall`, as administrators and packagers use them: into a staging directory, or on a
//! lab's host.

mod bare;
mod booted;
mod host;
mod staged;
mod task;
