//! A host and its containers for one test: network namespaces that go when the test ends. Knows no test.

use std::{
    fs::File,
    os::fd::AsRawFd,
    process::Command,
    thread::{self, JoinHandle},
};

use netbpf::link::Namespace;
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

/// Runs a test in a namespace of its own, on a thread of its own with its own runtime; the threads that the runtime
/// starts are in that namespace too.
pub fn on_a_host<T: Send + 'static>(test: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let host = in_a_new_namespace(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test())
    });
    host.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A container's network namespace, with nothing but `lo`.
pub fn container() -> Namespace {
    let open = || File::open("/proc/thread-self/ns/net").unwrap();
    let file = in_a_new_namespace(open).join().unwrap();
    Namespace::open_path(format!("/proc/self/fd/{}", file.as_raw_fd()).as_ref()).unwrap()
}

fn in_a_new_namespace<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .expect("these tests make network namespaces: run them as root, with `cargo xtask test`");
        work()
    })
}

/// What `ip -j …` prints, in the namespace of the calling thread.
pub fn ip(arguments: &str) -> Value {
    let output = Command::new("ip").arg("-j").args(arguments.split(' ')).output().expect("iproute2's ip");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    if output.stdout.is_empty() { Value::Null } else { serde_json::from_slice(&output.stdout).unwrap() }
}

/// The same in another namespace.
pub async fn ip_in(netns: &Namespace, arguments: &'static str) -> Value {
    netns.run(move || ip(arguments)).await.unwrap()
}

/// Names of all links but `lo`.
pub fn links() -> Vec<String> {
    let links = ip("link show");
    let names = links.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap().to_owned());
    names.filter(|name| name != "lo").collect()
}
