//! A host and containers for one test: network namespaces that are deleted at its end. Does not know the tests.

use std::{
    fs::File,
    os::fd::AsRawFd,
    process::Command,
    thread::{self, JoinHandle},
};

use netbpf::link::Namespace;
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

/// Runs a test in its own network namespace, in a thread with its own tokio runtime. Threads of the runtime are in that
/// namespace, too.
pub fn on_a_host<T: Send + 'static>(test: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    let host = in_a_new_namespace(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test())
    });
    host.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A network namespace for a container, with nothing but `lo`.
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

/// The output of `ip -j …` in the calling thread's namespace.
pub fn ip(arguments: &str) -> Value {
    let output = Command::new("ip").arg("-j").args(arguments.split(' ')).output().expect("iproute2's ip");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    if output.stdout.is_empty() { Value::Null } else { serde_json::from_slice(&output.stdout).unwrap() }
}

/// The same in another namespace.
pub async fn ip_in(netns: &Namespace, arguments: &'static str) -> Value {
    netns.run(move || ip(arguments)).await.unwrap()
}

/// The output of `tc …` in the calling thread's namespace.
pub fn tc(arguments: &str) -> String {
    let output = Command::new("tc").args(arguments.split(' ')).output().expect("iproute2's tc");
    assert!(output.status.success(), "tc {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The same in another namespace.
pub async fn tc_in(netns: &Namespace, arguments: &'static str) -> String {
    netns.run(move || tc(arguments)).await.unwrap()
}

/// The names of all links except `lo`.
pub fn links() -> Vec<String> {
    let links = ip("link show");
    let names = links.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap().to_owned());
    names.filter(|name| name != "lo").collect()
}
