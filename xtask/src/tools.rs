//! The external programs that netbpf's tasks and tests call, the requirements for them, and their Debian
//! packages. The only list of them.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

/// A use of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// The daemon itself.
    Daemon,
    /// The commands in README.
    Readme,
    /// The demo.
    Demo,
    /// The lab tests, on this machine.
    Lab,
    /// The benchmark.
    Bench,
    /// Fuzzing.
    Fuzz,
    /// Debian packages.
    Package,
    /// The lab tests on other kernels; the tools are copied there.
    Kernels,
    /// Fetching and booting those kernels.
    Qemu,
}

/// A program and its package.
#[derive(Debug)]
pub struct Tool {
    /// Its name.
    pub program: &'static str,
    /// Debian's package.
    pub package: &'static str,
    /// The tasks that need it.
    pub wanted: &'static [For],
    /// Its purpose.
    pub why: &'static str,
    /// The requirement for the program.
    pub must: Must,
}

/// Requirements for a program besides its name.
#[derive(Clone, Copy, Debug)]
pub enum Must {
    /// Any program of this name.
    Exist,
    /// In the distribution's own directories: it is called by its path there, or copied with its libraries.
    BeOfSystem,
    /// Of the distribution and statically linked: it runs in directories without libraries.
    BeStatic,
    /// Of the distribution, with this text in its version output. Other programs have the same name.
    Say(&'static str),
    /// Of this version or newer.
    BeSince(&'static [u64]),
}

/// Why a tool is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// No program has its name.
    Absent,
    /// The program with its name, and the requirement that it does not meet.
    Unfit(PathBuf, String),
}

const ALWAYS: &[For] = &[For::Daemon, For::Readme, For::Demo, For::Lab, For::Bench, For::Kernels];
const EVERYWHERE: &[For] = &[For::Readme, For::Demo, For::Lab, For::Bench, For::Kernels];
const TESTS: &[For] = &[For::Lab, For::Kernels];
const LOAD: &[For] = &[For::Lab, For::Bench];

/// All of them.
pub const TOOLS: &[Tool] = &[
    tool("ip", "iproute2", EVERYWHERE, "namespaces and links, as a user sees them").must(Must::BeOfSystem),
    tool("tc", "iproute2", TESTS, "what is attached to a link").must(Must::BeOfSystem),
    tool("ss", "iproute2", &[For::Lab, For::Bench, For::Kernels], "who listens").must(Must::BeOfSystem),
    tool("ping", "iputils-ping", EVERYWHERE, "who reaches whom").must(Must::Say("iputils")),
    tool("arping", "iputils-arping", TESTS, "ARP requests and replies").must(Must::Say("iputils")),
    tool("dig", "bind9-dnsutils", TESTS, "questions to the name responder").must(Must::BeOfSystem),
    tool("nsenter", "util-linux", &[For::Lab, For::Bench, For::Kernels], "commands in a namespace")
        .must(Must::BeOfSystem),
    tool("unshare", "util-linux", TESTS, "namespaces of a test's own").must(Must::BeOfSystem),
    tool("setpriv", "util-linux", TESTS, "users and rights of processes").must(Must::BeOfSystem),
    tool("flock", "util-linux", TESTS, "locks of other processes").must(Must::BeOfSystem),
    tool(
        "bpftool",
        "bpftool",
        &[For::Readme, For::Lab, For::Bench, For::Kernels],
        "maps and programs, as a user sees them",
    )
    .must(Must::BeOfSystem),
    tool("socat", "socat", TESTS, "any Ethernet protocol, TCP and UDP").must(Must::BeOfSystem),
    tool("iperf3", "iperf3", LOAD, "TCP in bulk"),
    tool("tcpdump", "tcpdump", &[For::Lab], "what really passes"),
    tool("nft", "nftables", ALWAYS, "the way to other hosts, and published ports")
        .must(Must::BeSince(&[0, 9, 4])),
    tool("python3", "python3", &[For::Readme, For::Lab], "small servers, and frames made by hand"),
    tool("ethtool", "ethtool", &[For::Lab], "offloads of an interface"),
    tool("dockerd", "docker.io", LOAD, "a real engine, whose network driver netbpf is"),
    tool("docker", "docker.io", LOAD, "its command line").must(Must::BeOfSystem),
    tool("containerd", "containerd", &[For::Lab], "a real runtime, whose CNI plugin netbpf is"),
    tool("ctr", "containerd", &[For::Lab], "its command line"),
    tool("curl", "curl", &[For::Lab], "requests of Kubernetes to that runtime"),
    tool("lxc-start", "lxc", &[For::Lab], "containers that are connected by a hook"),
    tool("docker-compose", "docker-compose", &[For::Lab], "its containers, several at once; docker-py"),
    tool("iptables", "iptables", LOAD, "its rules"),
    tool("ufw", "ufw", &[For::Lab], "another firewall on the same host"),
    tool("dbus-daemon", "dbus-daemon", &[For::Lab], "the bus of a third one, firewalld"),
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
    tool("keepalived", "keepalived", TESTS, "an address that moves between containers")
        .must(Must::BeOfSystem),
    tool("dnsmasq", "dnsmasq-base", TESTS, "a DHCP server in a container").must(Must::BeOfSystem),
    tool("radvd", "radvd", TESTS, "an IPv6 router in a container").must(Must::BeOfSystem),
    tool("openvpn", "openvpn", TESTS, "a VPN client as the way out of other containers")
        .must(Must::BeOfSystem),
    tool("haproxy", "haproxy", TESTS, "a transparent proxy in a container").must(Must::BeOfSystem),
    tool("xdp-filter", "xdp-tools", TESTS, "an XDP program in a container").must(Must::BeOfSystem),
    tool("kill", "procps", LOAD, "signals"),
    tool("systemd-analyze", "systemd", &[For::Lab], "the units, as systemd reads them"),
    tool("groff", "groff-base", &[For::Lab], "the manual pages, as they are shown"),
    tool("dh_builddeb", "debhelper", &[For::Lab, For::Package], "Debian packages, as Debian makes them"),
    tool("dpkg-shlibdeps", "dpkg-dev", &[For::Lab, For::Package], "the libraries that they need"),
    tool("lintian", "lintian", &[For::Lab], "what is wrong with them"),
    tool("mmdebstrap", "mmdebstrap", LOAD, "a bare Debian, to install on; one with podman"),
    tool("zsh", "zsh", &[For::Lab], "completions"),
    tool("fish", "fish", &[For::Lab], "completions"),
    tool(
        "busybox",
        "busybox-static",
        &[For::Demo, For::Lab, For::Bench, For::Qemu],
        "a small web server; the system around a booted kernel",
    )
    .must(Must::BeStatic),
    tool("qemu-system-x86_64", "qemu-system-x86", &[For::Qemu], "other kernels"),
    tool("modprobe", "kmod", &[For::Qemu], "their modules, in order"),
    tool(
        "strip",
        "binutils",
        &[For::Readme, For::Lab, For::Package, For::Qemu],
        "what is installed or booted with, made small",
    ),
    tool("xz", "xz-utils", &[For::Qemu], "their modules, unpacked"),
    tool("c++", "g++", &[For::Fuzz], "builds libFuzzer"),
];

const fn tool(
    program: &'static str,
    package: &'static str,
    wanted: &'static [For],
    why: &'static str,
) -> Tool {
    Tool { program, package, wanted, why, must: Must::Exist }
}

impl Tool {
    const fn must(self, must: Must) -> Self {
        Self { must, ..self }
    }

    /// Its purpose, and what is wrong with the program of that name.
    pub fn use_of(&self, lack: &Lack) -> String {
        let Self { program, why, .. } = self;
        match lack {
            Lack::Absent => format!("{program} ({why})"),
            Lack::Unfit(file, what) => format!("{program} ({why}; {} is {what})", file.display()),
        }
    }

    /// Finds the program and checks the requirement.
    pub fn find(&self) -> Result<PathBuf, Lack> {
        let found = find(self.program).ok_or(Lack::Absent)?;
        let file = match self.must {
            Must::Exist | Must::BeSince(_) => found,
            Must::BeOfSystem | Must::BeStatic | Must::Say(_) => find_of_system(self.program)
                .ok_or_else(|| Lack::Unfit(found, "not the distribution's".to_owned()))?,
        };
        match self.must.complaint(&file) {
            Ok(None) => Ok(file),
            Ok(Some(complaint)) => Err(Lack::Unfit(file, complaint)),
            Err(error) => Err(Lack::Unfit(file, format!("{error:#}"))),
        }
    }
}

impl Must {
    /// The unmet requirement of `program`, if any.
    fn complaint(self, program: &Path) -> Result<Option<String>> {
        Ok(match self {
            Self::Exist | Self::BeOfSystem => None,
            Self::BeStatic => (!libraries(program)?.is_empty()).then(|| "not statically linked".to_owned()),
            Self::Say(word) => (!says(program, "-V")?.contains(word)).then(|| format!("not that of {word}")),
            Self::BeSince(oldest) => {
                let said = says(program, "--version")?;
                let version = version(&said);
                (version.as_slice() < oldest).then(|| {
                    let numbers =
                        |version: &[u64]| version.iter().map(u64::to_string).collect::<Vec<_>>().join(".");
                    format!("older than {}", numbers(oldest))
                })
            }
        })
    }
}

/// The shared libraries of a program, including the loader; empty for a static one.
pub fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).stderr(Stdio::null()).output().context("start ldd")?;
    Ok(parse_ldd(&String::from_utf8_lossy(&output.stdout)))
}

/// Parses `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn parse_ldd(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect()
}

/// A program's version output. Some programs fail although they print it.
fn says(program: &Path, option: &str) -> Result<String> {
    let output = Command::new(program)
        .arg(option)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", program.display()))?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// The first version in a text, as numbers: `nftables v1.0.6 (Lester Gooch #5)` has 1, 0 and 6.
fn version(text: &str) -> Vec<u64> {
    let words = text.split_whitespace().map(|word| word.trim_start_matches('v'));
    let mut versions =
        words.filter(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()));
    let version = versions.next().unwrap_or_default();
    version.split('.').map_while(|number| number.parse().ok()).collect()
}

/// The file of `program`: on `PATH`, or in Debian's directories for root.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| is_program(file))
}

/// The file of `program` in the distribution's own directories; it can be copied with its libraries.
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
    fn the_first_command_installs_all_tools_of_readme() {
        let readme = include_str!("../../README.md");
        let typed = readme.lines().filter_map(|line| line.strip_prefix("$ ").or(line.strip_prefix("# ")));
        // Headings begin with `#`, as commands of root do.
        let typed = typed.filter(|line| !line.starts_with(char::is_uppercase));
        let mut programs: Vec<&str> = typed
            .map(|line| {
                let inside = line.strip_prefix("netbpf exec ").and_then(|rest| rest.split_once(' '));
                let inside = inside.or_else(|| line.strip_prefix("netbpf run ")?.split_once(" -- "));
                inside.map_or(line, |(_, command)| command).split(' ').next().unwrap_or_default()
            })
            .filter(|program| !["netbpf", "cargo", "docker", "podman", "sleep"].contains(program))
            .collect();
        programs.sort_unstable();
        programs.dedup();
        assert!(programs.contains(&"ping") && programs.contains(&"python3"), "{programs:?}");
        for program in programs {
            let tool = TOOLS.iter().find(|tool| tool.program == program);
            assert!(
                tool.is_some_and(|tool| tool.wanted.contains(&For::Readme)),
                "nothing installs {program}"
            );
        }
    }

    #[test]
    fn copied_tools_are_the_distributions() {
        for tool in TOOLS.iter().filter(|tool| tool.wanted.contains(&For::Kernels) && tool.program != "nft") {
            assert!(!matches!(tool.must, Must::Exist), "{} is copied with its libraries", tool.program);
        }
    }

    #[test]
    fn a_program_must_be_what_is_needed() {
        let (shell, folder) =
            (find_of_system("sh").expect("a shell"), tempfile::tempdir().expect("a folder"));
        assert_eq!(Must::BeStatic.complaint(&shell).expect("ldd"), Some("not statically linked".to_owned()));
        let busybox = TOOLS.iter().find(|tool| tool.program == "busybox").expect("it is listed");
        assert!(matches!(busybox.must, Must::BeStatic), "containers without libraries run it");
        let old = folder.path().join("nft");
        std::fs::write(&old, "#!/bin/sh\necho 'nftables v0.9.3 (Topsy)'\n").expect("a program");
        std::process::Command::new("chmod").arg("+x").arg(&old).status().expect("chmod");
        let since = |oldest| Must::BeSince(oldest).complaint(&old).expect("a version");
        assert_eq!(since(&[0, 9, 4]), Some("older than 0.9.4".to_owned()));
        assert_eq!(since(&[0, 9, 3]), None);
        assert_eq!(
            Must::Say("iputils").complaint(&old).expect("a version"),
            Some("not that of iputils".to_owned())
        );
        assert_eq!(Must::Say("nftables").complaint(&old).expect("a version"), None);
    }

    #[test]
    fn ldd_names_libraries_and_the_loader() {
        let text = "\tlinux-vdso.so.1 (0x00007ffe)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let libraries = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(parse_ldd(text), libraries);
        assert!(parse_ldd("\tnot a dynamic executable\n").is_empty());
    }

    #[test]
    fn programs_are_found_on_the_path_and_no_others() {
        assert!(find("sh").is_some());
        assert!(find_of_system("sh").is_some());
        assert_eq!(find("no-such-program-of-netbpf"), None);
    }
}
