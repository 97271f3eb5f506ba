//! What the tests share. [`lab`] makes hosts out of namespaces and runs the real daemon and command line in them,
//! [`engine`] a real Docker beside it.

#![deny(unsafe_code)]

pub mod engine;
pub mod lab;
