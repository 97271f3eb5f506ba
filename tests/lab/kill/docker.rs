//! Faults in each request of Docker to its network driver, with dockerd's messages. Docker repeats an
//! interrupted request, and then gets a success.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use netbpf_tests::lab::{Lab, tell};

use super::{Case, Outcomes, Tried, ask as ask_again, clear_up, faulty_lab, give, outcome};
use crate::shape::Shape;

macro_rules! network {
    () => {
        r#""NetworkID":"d0c4e7d0c4e7d0c4e7d0c4e7d0c4e7d0c4e7d0c4e7d0c4e7d0c4e7d0c4e7d0c4""#
    };
}
macro_rules! endpoint {
    () => {
        concat!(
            network!(),
            r#","EndpointID":"e9d901e9d901e9d901e9d901e9d901e9d901e9d901e9d901e9d901e9d901e9d9""#
        )
    };
}

const CREATE_NETWORK: &str = concat!(
    "/NetworkDriver.CreateNetwork {",
    network!(),
    r#","Options":{"com.docker.network.enable_ipv6":false,"com.docker.network.generic":{}},"IPv4Data":[{"AddressSpace":"LocalDefault","Gateway":"10.8.0.1/24","Pool":"10.8.0.0/24"}],"IPv6Data":[]}"#
);
const DELETE_NETWORK: &str = concat!("/NetworkDriver.DeleteNetwork {", network!(), "}");
const CREATE_ENDPOINT: &str = concat!(
    "/NetworkDriver.CreateEndpoint {",
    endpoint!(),
    r#","Interface":{"Address":"10.8.0.2/24","AddressIPv6":"","MacAddress":"02:42:0a:08:00:02"},"Options":{"com.docker.network.endpoint.exposedports":[{"Proto":6,"Port":80}],"com.docker.network.portmap":[{"Proto":6,"IP":"","Port":80,"HostIP":"","HostPort":8081,"HostPortEnd":8081}]}}"#
);
const DELETE_ENDPOINT: &str = concat!("/NetworkDriver.DeleteEndpoint {", endpoint!(), "}");
const JOIN: &str = concat!(
    "/NetworkDriver.Join {",
    endpoint!(),
    r#","SandboxKey":"/var/run/docker/netns/0123456789ab","Options":{}}"#
);
const LEAVE: &str = concat!("/NetworkDriver.Leave {", endpoint!(), "}");
const PROGRAM: &str = concat!(
    "/NetworkDriver.ProgramExternalConnectivity {",
    endpoint!(),
    r#","Options":{"com.docker.network.endpoint.exposedports":[{"Proto":6,"Port":80}],"com.docker.network.portmap":[{"Proto":6,"IP":"","Port":80,"HostIP":"","HostPort":8081,"HostPortEnd":8081}]}}"#
);
const REVOKE: &str = concat!("/NetworkDriver.RevokeExternalConnectivity {", endpoint!(), "}");

impl Case {
    /// Kills the daemon at each point in turn. Docker repeats its request to the next daemon.
    #[track_caller]
    fn survives_kills_and_is_repeated(&self) {
        let points =
            self.survives("kill step #", |lab, outcomes, _, hit| self.is_repeated(lab, outcomes, hit));
        tell("kills survived", points);
    }

    /// After a kill, the next daemon has done the request or not, and does it when asked again. Returns the state.
    #[track_caller]
    pub fn is_repeated(&self, lab: &Lab, outcomes: &Outcomes, hit: &str) -> Shape {
        self.is_whole(lab, outcomes, hit);
        ask_again(lab, self.command).unwrap_or_else(|error| panic!("{hit}, asked again: {error}"));
        let now = Shape::of(lab);
        self.assert_is(&now, &outcomes.after, &format!("{hit}, asked again"));
        now
    }
}

cases! { CASES
    [
        killed: survives_kills_and_is_repeated;
        failing: survives_failures;
        refused: survives_failed_calls;
    ]
    {
        create_network: Case::new(&[], CREATE_NETWORK, &[DELETE_NETWORK]);
        delete_network: Case::new(&[CREATE_NETWORK], DELETE_NETWORK, &[CREATE_NETWORK]);
        create_endpoint: Case::new(&[CREATE_NETWORK], CREATE_ENDPOINT, &[DELETE_ENDPOINT]);
        delete_endpoint: Case::new(&[CREATE_NETWORK, CREATE_ENDPOINT], DELETE_ENDPOINT, &[CREATE_ENDPOINT]);
        join: Case::new(&[CREATE_NETWORK, CREATE_ENDPOINT], JOIN, &[LEAVE]);
        leave: Case::new(&[CREATE_NETWORK, CREATE_ENDPOINT, JOIN, PROGRAM], LEAVE, &[JOIN]);
        publish: Case::new(&[CREATE_NETWORK, CREATE_ENDPOINT, JOIN], PROGRAM, &[REVOKE]);
        unpublish: Case::new(&[CREATE_NETWORK, CREATE_ENDPOINT, JOIN, PROGRAM], REVOKE, &[PROGRAM]);
    }
}

const POOL: &str = r#"/IpamDriver.RequestPool {"AddressSpace":"netbpf","Pool":"10.66.0.0/24","SubPool":"","Options":null,"V6":false}"#;
const RETURN_POOL: &str = r#"/IpamDriver.ReleasePool {"PoolID":"10.66.0.0/24"}"#;
const ADDRESS: &str =
    r#"/IpamDriver.RequestAddress {"PoolID":"10.66.0.0/24","Address":"10.66.0.5","Options":null}"#;
const RETURN_ADDRESS: &str = r#"/IpamDriver.ReleaseAddress {"PoolID":"10.66.0.0/24","Address":"10.66.0.5"}"#;

/// The host does not show what is lent to Docker. But what is lent cannot be lent again.
#[test]
fn subnets_and_addresses_are_lent_and_returned_or_not() {
    let lab = faulty_lab();
    lab.start_daemon();
    let mut counts = [0; 2];
    let tried = ["fail", "kill"].map(Tried::new);
    let is_lent = |lend: &str, give_back: &str| match ask(&lab, lend) {
        Ok(()) => {
            ask(&lab, give_back).expect("returned");
            false
        }
        Err(_) => true,
    };
    for (before, lend, give_back) in [(None, POOL, RETURN_POOL), (Some(POOL), ADDRESS, RETURN_ADDRESS)] {
        before.into_iter().for_each(|request| ask(&lab, request).expect("lent"));
        for (request, was_lent) in [(lend, false), (give_back, true)] {
            for order in ["kill step", "fail step", "fail call"] {
                for point in 1.. {
                    if was_lent {
                        ask(&lab, lend).expect("lent");
                    }
                    give(&lab, &format!("{order} {point}"));
                    let answer = ask_again(&lab, request);
                    let Some(hit) = outcome(&lab) else {
                        answer.unwrap_or_else(|error| panic!("{request}: {error}"));
                        assert_ne!(is_lent(lend, give_back), was_lent, "{request}");
                        ask(&lab, give_back).expect("returned");
                        break;
                    };
                    let is_killed = hit.starts_with("killed");
                    counts[usize::from(is_killed)] += 1;
                    tried[usize::from(is_killed)].add();
                    if is_killed {
                        lab.await_daemon_end();
                        lab.start_daemon();
                    } else {
                        assert!(answer.is_err(), "{request}: {hit}");
                        assert_eq!(is_lent(lend, give_back), was_lent, "{request}: {hit}: {answer:?}");
                    }
                    // Whether it was lent or not.
                    ask(&lab, give_back).unwrap_or_else(|error| panic!("{request}: {hit}: {error}"));
                    assert!(!is_lent(lend, give_back), "{request}: {hit}");
                }
            }
        }
        before.into_iter().for_each(|_| ask(&lab, RETURN_POOL).expect("returned"));
    }
    assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
    tell("failed steps survived", counts[0]);
    tell("kills survived", counts[1]);
    clear_up(&lab);
}

/// Asks for the network of the cases.
pub fn ask_for_a_network(lab: &Lab) -> Result<(), String> {
    ask(lab, CREATE_NETWORK)
}

/// Asks for their endpoint in it.
pub fn ask_for_an_endpoint(lab: &Lab) -> Result<(), String> {
    ask(lab, CREATE_ENDPOINT)
}

/// Removes Docker's objects, which `netbpf rm` does not remove.
#[track_caller]
pub fn remove_all(lab: &Lab) {
    for request in [DELETE_ENDPOINT, DELETE_NETWORK] {
        ask(lab, request).unwrap_or_else(|error| panic!("{request}: {error}"));
    }
}

/// Sends a request to the driver: a path, a space, the message. An error contains the text of the answer.
#[track_caller]
pub fn ask(lab: &Lab, request: &str) -> Result<(), String> {
    let (path, message) = request.split_once(' ').expect("a path and a message");
    let body = post(lab, "/run/docker/plugins/netbpf.sock", path, message)?;
    let body: serde_json::Value =
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    body["Err"].as_str().map_or(Ok(()), |error| Err(error.to_owned()))
}

/// The body of the answer at a socket, if that reports success; otherwise the whole answer as an error.
#[track_caller]
pub fn post(lab: &Lab, socket: &str, path: &str, message: &str) -> Result<String, String> {
    let mut stream =
        UnixStream::connect(lab.path(socket)).unwrap_or_else(|error| panic!("{socket}: {error}"));
    let length = message.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: netbpf\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}"
    );
    let mut answer = String::new();
    let answered =
        write!(stream, "{head}\r\n\r\n{message}").and_then(|()| stream.read_to_string(&mut answer));
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 2") => Ok(body.to_owned()),
        _ => Err(format!("{answered:?}: {answer}")),
    }
}
