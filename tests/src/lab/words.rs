//! Frequent steps of tests as one method each: containers, networks, addresses, counters.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Write, stdout},
    os::unix::net::UnixStream,
    panic::resume_unwind,
    thread,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};

use super::{Lab, Output};

/// How long [`eventually`] waits.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The pause between two looks of [`eventually`]: an eighth of the time since the first look, within these limits. Most
/// looks start processes, and those of a test that waits for long would slow down what all tests wait for.
const PAUSE: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(80)];

/// The program of [`datagram_server`].
const DATAGRAM_SERVER: &str = r"
import socket, sys
port, answer = sys.argv[1:]
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(('0.0.0.0', int(port)))
while True:
    _, client = server.recvfrom(65535)
    server.sendto(answer.encode(), client)
";

/// The command of a UDP server that answers each datagram with `answer`. socat's `RECVFROM` with `fork` is no substitute:
/// it waits for a signal of its child that may have come before (1.7.4), and then answers nobody any more.
#[must_use]
pub fn datagram_server(port: u16, answer: &str) -> [String; 5] {
    ["python3", "-c", DATAGRAM_SERVER, &port.to_string(), answer].map(str::to_owned)
}

impl Lab {
    /// Starts a container that only sleeps. `options` are those of `run`, separated by spaces.
    #[track_caller]
    pub fn run(&self, name: &str, options: &str) {
        let options = options.split_whitespace();
        let before = ["run", "-d", "--name", name].into_iter().chain(options);
        self.netbpf(before.chain(["--", "sleep", "infinity"])).ok();
    }

    /// Creates a network. `options` are those of `network create`, separated by spaces.
    #[track_caller]
    pub fn network(&self, name: &str, options: &str) {
        let options = options.split_whitespace();
        self.netbpf(["network", "create"].into_iter().chain(options).chain([name])).ok();
    }

    /// Runs a command in a container; words are separated by spaces.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    pub fn exec(&self, container: &str, command: &str) -> Output {
        self.netbpf(["exec", container].into_iter().chain(command.split_whitespace()))
    }

    /// Runs a shell script in a container.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    pub fn exec_script(&self, container: &str, script: &str) -> Output {
        self.netbpf(["exec", container, "sh", "-c", script])
    }

    /// Runs a shell script in a container's network namespace with all privileges of the host.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    pub fn in_network_of(&self, container: &str, script: &str) -> Output {
        let pid = self.pid(container).to_string();
        self.host(["nsenter", "-t", &pid, "-n", "sh", "-c", script])
    }

    /// Runs a closure in a container's network namespace. Sockets that it opens stay there.
    #[track_caller]
    pub fn inside<T: Send>(&self, container: &str, work: impl FnOnce() -> T + Send) -> T {
        self.in_namespace(&format!("/proc/{}/ns/net", self.pid(container)), work)
    }

    /// Runs a closure in the host's network namespace.
    #[track_caller]
    pub fn on_host<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.in_namespace("/proc/1/ns/net", work)
    }

    /// Runs a closure in a network namespace of the host.
    #[track_caller]
    pub fn in_namespace<T: Send>(&self, path: &str, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(self.path(path)).expect("a network namespace");
        let worker = || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("a thread enters a network namespace");
            work()
        };
        thread::scope(|scope| scope.spawn(worker).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// The PIDs on the host of processes whose command begins with these words, wherever its program is. A process
    /// that is about to execute another command, and until then looks like its parent, does not count.
    pub fn processes(&self, command: &str) -> Vec<u32> {
        let folders = std::fs::read_dir(self.path("/proc")).into_iter().flatten().flatten();
        let with_parents: Vec<(u32, u32)> = folders
            .filter_map(|folder| {
                let pid = folder.file_name().to_str()?.parse().ok()?;
                let arguments = std::fs::read_to_string(folder.path().join("cmdline")).ok()?;
                let line = arguments.trim_end_matches('\0').replace('\0', " ");
                let program = line.split(' ').next()?;
                let line = &line[program.rfind('/').map_or(0, |slash| slash + 1)..];
                let is_asked = line
                    .strip_prefix(command)
                    .is_some_and(|rest| matches!(rest.chars().next(), None | Some(' ')));
                let stat = std::fs::read_to_string(folder.path().join("stat")).ok()?;
                // PID, name in parentheses, state, PID of the parent.
                let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
                is_asked.then_some((pid, parent))
            })
            .collect();
        let is_copy = |parent: u32| with_parents.iter().any(|(pid, _)| *pid == parent);
        with_parents.iter().filter(|(_, parent)| !is_copy(*parent)).map(|(pid, _)| *pid).collect()
    }

    /// The PID of a running container's first process.
    #[track_caller]
    pub fn pid(&self, container: &str) -> u64 {
        let state = self.ask(&format!("/containers/{container}/json"));
        let pid = state["State"]["Pid"].as_u64().unwrap_or_default();
        assert_ne!(pid, 0, "{container} runs");
        pid
    }

    /// The file of a container's network namespace.
    #[track_caller]
    pub fn namespace(&self, container: &str) -> String {
        let inspected = self.inspect(container);
        inspected["NetworkSettings"]["SandboxKey"].as_str().expect("a file").to_owned()
    }

    /// A container or network, as `inspect` prints it.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> serde_json::Value {
        self.netbpf(["inspect", name]).ok().json()[0].take()
    }

    /// A container's IPv4 address in a network.
    #[track_caller]
    pub fn address(&self, container: &str, network: &str) -> String {
        let inspected = self.inspect(container);
        inspected["NetworkSettings"]["Networks"][network]["IPAddress"].as_str().unwrap_or_default().to_owned()
    }

    /// The name of a network's host device.
    #[track_caller]
    pub fn device(&self, network: &str) -> String {
        let id = self.inspect(network)["Id"].as_str().expect("an ID").to_owned();
        format!("nb-{}", &id[..12])
    }

    /// The names of the containers that run, in order.
    #[track_caller]
    pub fn containers(&self) -> Vec<String> {
        let listed = self.netbpf(["ps", "--format", "{{.Names}}"]).ok();
        let mut names: Vec<_> = listed.text().lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// The frame counters by reason. Uses the API directly, because tests ask after each frame.
    #[track_caller]
    pub fn reasons(&self) -> BTreeMap<String, u64> {
        let stats = self.ask("/stats");
        let reason = |reason: &serde_json::Value| {
            Some((reason["Reason"].as_str()?.to_owned(), reason["Packets"].as_u64()?))
        };
        let reasons = stats["Reasons"].as_array().unwrap_or_else(|| panic!("no reasons in {stats}"));
        reasons.iter().map(|counted| reason(counted).unwrap_or_else(|| panic!("{counted}"))).collect()
    }

    /// The daemon's answer to a GET request.
    #[track_caller]
    pub fn ask(&self, path: &str) -> serde_json::Value {
        let answer = UnixStream::connect(self.path("/run/netbpf/netbpf.sock")).and_then(|mut stream| {
            stream.write_all(
                format!("GET {path} HTTP/1.1\r\nHost: netbpf\r\nConnection: close\r\n\r\n").as_bytes(),
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        });
        let answer = answer.expect("the daemon answers");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_else(|error| panic!("GET {path}: {error}: {answer}"))
    }

    /// The drop counters since `before`; only those that have changed.
    #[track_caller]
    pub fn drops_since(&self, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
        let not_dropped =
            ["forwarded", "flooded", "delivered", "shortcut", "answered-arp", "answered-nd", "answered-name"];
        let mut now = self.reasons();
        now.retain(|reason, count| {
            *count -= before.get(reason).copied().unwrap_or_default();
            *count > 0 && !not_dropped.contains(&reason.as_str())
        });
        now
    }
}

/// The version of the kernel that runs, major and minor.
#[track_caller]
pub fn kernel_version() -> [u32; 2] {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split(['.', '-', '+']).map(|number| number.parse().expect("a version"));
    [numbers.next().expect("a major version"), numbers.next().expect("a minor version")]
}

/// Polls for something that has no event.
#[track_caller]
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    match poll(look) {
        Some(seen) => seen,
        None => panic!("not within {} s: {what}", TIMEOUT.as_secs()),
    }
}

/// Polls until a text is as expected. A failure tells the last one.
#[track_caller]
pub fn eventually_is(expected: &str, what: &str, mut read: impl FnMut() -> String) {
    let mut last = String::new();
    let is_as_expected = poll(|| {
        last = read();
        (last == expected).then_some(())
    });
    assert!(
        is_as_expected.is_some(),
        "not within {} s: {what} is {expected:?}; it is {last:?}",
        TIMEOUT.as_secs()
    );
}

fn poll<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    loop {
        let seen = look();
        let waited = begin.elapsed();
        if seen.is_some() || waited >= TIMEOUT {
            return seen;
        }
        thread::sleep((waited / 8).clamp(PAUSE[0], PAUSE[1]));
    }
}

/// Prints a figure for the report of `cargo xtask test`, which knows the words. Not with println, whose output the test
/// runner keeps.
pub fn tell(what: &str, figure: u64) {
    let _ = writeln!(stdout(), "{what}: {figure}");
}
