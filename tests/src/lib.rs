//! The code that tests share. [`lab`] creates hosts from namespaces and runs the real daemon and command line in them;
//! [`engine`] runs a real Docker engine beside them.

pub mod engine;
pub mod lab;
