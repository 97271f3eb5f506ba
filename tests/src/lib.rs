//! What the tests share. [`lab`] makes hosts out of namespaces and runs the real daemon and command line in them.

#![deny(unsafe_code)]

pub mod lab;
