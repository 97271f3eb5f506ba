//! The programs of other people that netbpf's tasks and tests call, and the Debian packages they come from. The only
//! list of them.

use std::{
    env,
    path::{Path, PathBuf},
};

/// What needs a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// The daemon itself.
    Daemon,
    /// The demo.
    Demo,
    /// The lab tests, on this machine.
    Lab,
    /// The benchmark.
    Bench,
    /// The lab tests on other kernels: copied there.
    Kernels,
    /// Fetching and booting those kernels.
    Qemu,
}

/// One program, and where it comes from.
#[derive(Debug)]
pub struct Tool {
    /// Its name.
    pub program: &'static str,
    /// Debian's package.
    pub package: &'static str,
    /// Who needs it.
    pub wanted: &'static [For],
    /// What for.
    pub why: &'static str,
}

const ALWAYS: &[For] = &[For::Daemon, For::Demo, For::Lab, For::Bench, For::Kernels];
const EVERYWHERE: &[For] = &[For::Demo, For::Lab, For::Bench, For::Kernels];
const TESTS: &[For] = &[For::Lab, For::Kernels];
const LOAD: &[For] = &[For::Lab, For::Bench];

/// All of them.
pub const TOOLS: &[Tool] = &[
    tool("ip", "iproute2", EVERYWHERE, "namespaces and links, as a user sees them"),
    tool("tc", "iproute2", TESTS, "what is attached to a link"),
    tool("ss", "iproute2", &[For::Lab, For::Bench, For::Kernels], "who listens"),
    tool("ping", "iputils-ping", EVERYWHERE, "who reaches whom"),
    tool("arping", "iputils-arping", TESTS, "ARP requests and replies"),
    tool("dig", "bind9-dnsutils", TESTS, "questions to the name responder"),
    tool("nsenter", "util-linux", &[For::Lab, For::Bench, For::Kernels], "commands in a namespace"),
    tool("unshare", "util-linux", TESTS, "namespaces of a test's own"),
    tool("setpriv", "util-linux", TESTS, "users and rights of processes"),
    tool(
        "bpftool",
        "bpftool",
        &[For::Lab, For::Bench, For::Kernels],
        "maps and programs, as a user sees them",
    ),
    tool("socat", "socat", TESTS, "any Ethernet protocol, TCP and UDP"),
    tool("iperf3", "iperf3", LOAD, "TCP in bulk"),
    tool("tcpdump", "tcpdump", &[For::Lab], "what really passes"),
    tool("nft", "nftables", ALWAYS, "the way to other hosts, and published ports"),
    tool("python3", "python3", &[For::Lab], "frames made by hand"),
    tool("ethtool", "ethtool", &[For::Lab], "offloads of an interface"),
    tool("dockerd", "docker.io", LOAD, "a real engine, whose network driver netbpf is"),
    tool("docker", "docker.io", LOAD, "its command line"),
    tool("docker-compose", "docker-compose", &[For::Lab], "its containers, several at once"),
    tool("iptables", "iptables", LOAD, "its rules"),
    tool("redis-server", "redis-server", &[For::Lab], "a cluster with fixed addresses"),
    tool("redis-cli", "redis-tools", &[For::Lab], "its clients"),
    tool("nginx", "nginx-light", LOAD, "a web server behind a published port"),
    tool("wrk", "wrk", LOAD, "its clients"),
    tool("dnsperf", "dnsperf", &[For::Bench], "questions to name servers, many and timed"),
    tool(
        "taskset",
        "util-linux",
        &[For::Bench],
        "ends of a connection on a CPU of their own, or on the same",
    ),
    tool("rsvg-convert", "librsvg2-bin", &[For::Bench], "the plot as PNG"),
    tool("kill", "procps", LOAD, "signals"),
    tool("systemd-analyze", "systemd", &[For::Lab], "the units, as systemd reads them"),
    tool("groff", "groff-base", &[For::Lab], "the manual pages, as they are shown"),
    tool("zsh", "zsh", &[For::Lab], "completions"),
    tool("fish", "fish", &[For::Lab], "completions"),
    tool(
        "busybox",
        "busybox-static",
        &[For::Demo, For::Lab, For::Bench, For::Qemu],
        "a small web server; the system around a booted kernel",
    ),
    tool("qemu-system-x86_64", "qemu-system-x86", &[For::Qemu], "other kernels"),
    tool("modprobe", "kmod", &[For::Qemu], "their modules, in order"),
    tool("strip", "binutils", &[For::Qemu], "netbpf and its tests, small enough to boot with"),
    tool("xz", "xz-utils", &[For::Qemu], "their modules, unpacked"),
];

const fn tool(
    program: &'static str,
    package: &'static str,
    wanted: &'static [For],
    why: &'static str,
) -> Tool {
    Tool { program, package, wanted, why }
}

/// The file of `program`: on `PATH`, or where Debian keeps what only root uses.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| is_program(file))
}

/// The file of `program` in the distribution's own folders: what can be copied with its libraries.
pub fn find_of_system(program: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_listed_once() {
        for (index, tool) in TOOLS.iter().enumerate() {
            assert!(
                TOOLS[..index].iter().all(|other| other.program != tool.program),
                "{} is listed twice",
                tool.program
            );
        }
    }

    #[test]
    fn programs_are_found_on_the_path_and_no_others() {
        assert!(find("sh").is_some());
        assert!(find_of_system("sh").is_some());
        assert_eq!(find("no-such-program-of-netbpf"), None);
    }
}
