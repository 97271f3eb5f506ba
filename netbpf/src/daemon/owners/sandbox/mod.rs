//! Containers that netbpf runs itself: made, started, stopped, started again, and what they print.

mod containers;
pub(in crate::daemon) mod ends;
mod lifecycle;
pub(in crate::daemon) mod logs;
mod rename;
mod restarts;
