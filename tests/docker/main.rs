//! netbpf as a network driver of a real Docker engine, each on a host made of namespaces. One module by subject.

mod coexist;
mod compose;
mod connect;
mod crowd;
mod ipam;
mod moby;
mod recovery;
mod refusals;
mod same;
mod story;

use netbpf_tests::engine;
