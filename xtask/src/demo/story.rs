//! The story as a table: the commands of a new user, and the expected results. Runs nothing.

/// A step of the story.
#[derive(Debug)]
pub enum Step {
    /// A text between commands.
    Say(&'static str),
    /// A command and its expected results.
    Type(&'static str, &'static [Expect]),
    /// Starts the daemon.
    Start,
    /// Kills the daemon with SIGKILL.
    Kill,
    /// Stops the daemon.
    Stop,
}

/// An expected result of a command.
#[derive(Debug)]
pub enum Expect {
    /// It succeeds and prints this text.
    Prints(&'static str),
    /// It succeeds and does not print this text.
    Lacks(&'static str),
    /// It succeeds and prints an ID of 64 digits only.
    Id,
    /// It succeeds.
    Succeeds,
    /// It fails with this exit code and prints this text.
    Fails(i32, &'static str),
    /// It fails with any exit code.
    FailsAnyhow,
}

use Expect::{Fails, FailsAnyhow, Id, Lacks, Prints, Succeeds};
use Step::{Kill, Say, Start, Stop, Type};

/// What docker0 users do with networks, from the first container until nothing is left.
pub const STORY: &[Step] = &[
    Say("The daemon runs in a terminal of its own."),
    Start,
    Type("netbpf network ls", &[Prints("bridge"), Prints("host"), Prints("none")]),
    //
    Say("A container on the default network has an address and a MAC derived from it. The host reaches it."),
    Type("netbpf run -d --name tomcat01 -- busybox httpd -f -p 8080 -h /etc", &[Id]),
    Type(
        "netbpf exec tomcat01 ip address show eth0",
        &[Prints("inet 172.17.0.2/16"), Prints("02:42:ac:11:00:02")],
    ),
    Type("ping -c1 172.17.0.2", &[Prints("64 bytes from 172.17.0.2")]),
    Type("netbpf run -d --name tomcat02 -- busybox httpd -f -p 8080 -h /etc", &[Id]),
    Type("netbpf exec tomcat02 ping -c1 172.17.0.2", &[Prints("64 bytes from 172.17.0.2")]),
    Say("As with docker0, there are no names on the default network."),
    Type("netbpf exec tomcat02 ping -c1 tomcat01", &[FailsAnyhow]),
    Say("Only --link provides a name there, in one direction."),
    Type("netbpf run -d --name tomcat03 --link tomcat02 -- busybox httpd -f -p 8080 -h /etc", &[Id]),
    Type("netbpf exec tomcat03 ping -c1 tomcat02", &[Prints("64 bytes from tomcat02 (172.17.0.3)")]),
    Type("netbpf exec tomcat02 ping -c1 tomcat03", &[FailsAnyhow]),
    Say("A published port is reserved at all addresses of the host."),
    Type("netbpf run -d --name tomcat04 -p 8080:8080 -- busybox httpd -f -p 8080 -h /etc", &[Id]),
    Type("netbpf port tomcat04", &[Prints("8080/tcp -> 0.0.0.0:8080")]),
    Type("busybox wget -qO- http://127.0.0.1:8080/hostname", &[Succeeds]),
    Type("netbpf exec tomcat01 busybox wget -qO- http://172.17.0.1:8080/hosts", &[Prints("172.17.0.5")]),
    Type(
        "netbpf run -d --rm -p 8080:80 -- sleep infinity",
        &[Fails(125, "Bind for 0.0.0.0:8080 failed: port is already allocated")],
    ),
    //
    Say("A user-defined network has names."),
    Type("netbpf network create --driver bridge --subnet 192.168.0.0/16 --gateway 192.168.0.1 mynet", &[Id]),
    Type("netbpf run -d --name tomcat-mynet-01 --net mynet -- busybox httpd -f -p 8080 -h /etc", &[Id]),
    Type("netbpf run -d --name tomcat-mynet-02 --net mynet -- busybox httpd -f -p 8080 -h /etc", &[Id]),
    Type(
        "netbpf exec tomcat-mynet-01 ping -c1 tomcat-mynet-02",
        &[Prints("64 bytes from tomcat-mynet-02.mynet (192.168.0.3)")],
    ),
    Type(
        "netbpf exec tomcat-mynet-01 busybox wget -qO- http://tomcat-mynet-02:8080/hosts",
        &[Prints("192.168.0.3")],
    ),
    Type(
        "netbpf ps",
        &[Prints("tomcat01"), Prints("tomcat02"), Prints("tomcat-mynet-01"), Prints("tomcat-mynet-02")],
    ),
    //
    Say("A container in another network cannot be reached, neither by address nor by name."),
    Type("netbpf exec tomcat02 ping -c1 -W1 192.168.0.2", &[Fails(1, "100% packet loss")]),
    Type("netbpf exec tomcat02 ping -c1 -W1 tomcat-mynet-01", &[FailsAnyhow]),
    //
    Say("Connected to a second network, a container has two addresses and resolves the names of both."),
    Type("netbpf connect mynet tomcat01", &[Succeeds]),
    Type("netbpf exec tomcat01 ip -4 -brief address", &[Prints("172.17.0.2/16"), Prints("192.168.0.4/16")]),
    Type(
        "netbpf exec tomcat01 ping -c1 tomcat-mynet-01",
        &[Prints("64 bytes from tomcat-mynet-01.mynet (192.168.0.2)")],
    ),
    Type("netbpf exec tomcat02 ping -c1 -W1 192.168.0.2", &[Fails(1, "100% packet loss")]),
    Type(
        "netbpf network inspect mynet",
        &[
            Prints("\"Name\": \"mynet\""),
            Prints("\"Subnet\": \"192.168.0.0/16\""),
            Prints("\"IPv4Address\": \"192.168.0.4/16\""),
        ],
    ),
    //
    Say("Errors have Docker's messages and change nothing."),
    Type(
        "netbpf run -d --name tomcat01 -- sleep infinity",
        &[Fails(125, "Conflict. The container name \"/tomcat01\" is already in use by container")],
    ),
    Type(
        "netbpf network create --subnet 192.168.5.0/24 other",
        &[Fails(1, "Pool overlaps with other one on this address space")],
    ),
    Type("netbpf network rm mynet", &[Fails(1, "has active endpoints")]),
    Type("netbpf network rm bridge", &[Fails(1, "bridge is a pre-defined network and cannot be removed")]),
    Type("netbpf exec tomcat01 no-such-command", &[Fails(127, "no-such-command")]),
    //
    Say("Every frame is counted by the reason for which it ended."),
    Type("netbpf stats --no-stream", &[Prints("isolated")]),
    //
    Say("If the daemon is killed, packets and names continue, and the next daemon takes over the state."),
    Kill,
    Type("ping -c1 172.17.0.2", &[Prints("64 bytes from 172.17.0.2")]),
    Start,
    Type("netbpf network ls", &[Prints("mynet")]),
    Type(
        "netbpf exec tomcat-mynet-02 ping -c1 tomcat01",
        &[Prints("64 bytes from tomcat01.mynet (192.168.0.4)")],
    ),
    Type("netbpf disconnect mynet tomcat01", &[Succeeds]),
    Type("netbpf exec tomcat01 ip -4 -brief address", &[Prints("172.17.0.2/16"), Lacks("192.168.0.4/16")]),
    //
    Say("In the end, nothing is left."),
    Type(
        "netbpf rm -f tomcat01 tomcat02 tomcat03 tomcat04 tomcat-mynet-01 tomcat-mynet-02",
        &[Prints("tomcat-mynet-02")],
    ),
    Type("netbpf network rm mynet", &[Prints("mynet")]),
    Type("netbpf ps -a", &[Lacks("tomcat")]),
    Type("netbpf network ls", &[Lacks("mynet")]),
    Type("ip -brief link", &[Lacks("veth"), Lacks("nb-")]),
    Stop,
    Type("ip -brief link", &[Lacks("netbpf"), Lacks("nb")]),
];

impl Expect {
    /// The unexpected result, if any, of a command that ended with `code` and printed `output`.
    pub fn complaint(&self, code: i32, output: &str) -> Option<String> {
        let code_wanted = match self {
            Self::Fails(code, _) => Some(*code),
            Self::FailsAnyhow => None,
            Self::Prints(_) | Self::Lacks(_) | Self::Id | Self::Succeeds => Some(0),
        };
        match code_wanted {
            Some(wanted) if code != wanted => return Some(format!("exit code {code}, expected {wanted}")),
            None if code == 0 => return Some("it succeeded, expected a failure".to_owned()),
            _ => {}
        }
        match self {
            Self::Prints(text) | Self::Fails(_, text) => {
                (!output.contains(text)).then(|| format!("it did not print `{text}`"))
            }
            Self::Lacks(text) => output.contains(text).then(|| format!("it printed `{text}`")),
            Self::Id => {
                let id = output.trim();
                let is_id = id.len() == 64 && id.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
                (!is_id).then(|| "it did not print an ID of 64 digits".to_owned())
            }
            Self::Succeeds | Self::FailsAnyhow => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_exit_code_are_both_checked() {
        assert_eq!(Prints("64 bytes").complaint(0, "64 bytes from 172.17.0.2"), None);
        assert_eq!(Prints("64 bytes").complaint(1, "64 bytes").as_deref(), Some("exit code 1, expected 0"));
        assert_eq!(Lacks("veth").complaint(0, "lo veth1").as_deref(), Some("it printed `veth`"));
        assert_eq!(Fails(1, "loss").complaint(1, "100% packet loss"), None);
        assert_eq!(FailsAnyhow.complaint(0, "").as_deref(), Some("it succeeded, expected a failure"));
        assert_eq!(Id.complaint(0, &format!("{}\n", "a1".repeat(32))), None);
        assert!(Id.complaint(0, "a1").is_some());
    }

    #[test]
    fn the_daemon_runs_when_it_is_needed() {
        let mut running = false;
        for step in STORY {
            match step {
                Start => assert!(!std::mem::replace(&mut running, true), "started twice"),
                Kill | Stop => assert!(std::mem::replace(&mut running, false), "stopped twice"),
                Type(command, _) => {
                    assert!(running || !command.starts_with("netbpf "), "{command}: no daemon")
                }
                Say(_) => {}
            }
        }
        assert!(!running, "still running");
    }
}
