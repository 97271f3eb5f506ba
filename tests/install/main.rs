//! `cargo xtask install` and `uninstall` as an administrator or a packager types them: below a folder of the test's, or
//! on a lab's host.

mod bare;
mod host;
mod staged;
mod task;
