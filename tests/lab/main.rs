//! The whole of netbpf on hosts made of namespaces: the real daemon, the real command line, real tools. One module by
//! subject.

mod bad_input;
mod cli;
mod disk;
mod foreign;
mod harness;
mod housekeeping;
mod icc;
mod ipv6;
mod isolation;
mod lifecycle;
mod links;
mod maps;
mod names;
mod options;
mod outside;
mod persistence;
mod ports;
mod reach;
mod redis;
mod scale;
mod spoofing;
mod story;
mod throughput;
mod web;
mod world;
