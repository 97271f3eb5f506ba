//! The whole of netbpf on hosts made of namespaces: the real daemon, the real command line, real tools. One module by
//! subject.

mod bad_input;
mod foreign;
mod harness;
mod isolation;
mod names;
mod persistence;
mod spoofing;
mod story;
mod world;
