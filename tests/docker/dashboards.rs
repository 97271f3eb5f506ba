//! Programs that use Docker's API on netbpf's own socket: Docker's library for Python, and dashboards that poll.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use netbpf_tests::lab::{Lab, meanwhile};
use serde_json::Value;

/// Networks and containers in docker-py. Debian's docker-compose brings this library, for the system's Python.
const PYTHON: &str = r#"
import docker
client = docker.DockerClient(base_url='unix:///run/netbpf/netbpf.sock', version='auto')
assert client.ping()
assert client.version()['Version'], client.version()
assert client.info()['Images'] == 0

ipam = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet='10.3.0.0/24', gateway='10.3.0.1')])
network = client.networks.create('third', driver='bridge', ipam=ipam, labels={'a': 'b'}, check_duplicate=True)
assert [n.name for n in client.networks.list(names=['third'])] == ['third']
assert client.networks.get(network.id).attrs['IPAM']['Config'][0]['Gateway'] == '10.3.0.1'
network.connect('web', ipv4_address='10.3.0.9', aliases=['cat'])
network.reload()
assert [c.name for c in network.containers] == ['web'], network.containers
web = client.containers.get('web')
assert web.attrs['NetworkSettings']['Networks']['third']['IPAddress'] == '10.3.0.9'
assert web.status == 'running' and web.ports['80/tcp'][0]['HostPort'] == '8080', web.ports
network.disconnect(web, force=True)
network.remove()
try:
    client.networks.get('third')
    raise SystemExit('it is still there')
except docker.errors.NotFound:
    pass
assert client.networks.prune(filters={'label': 'none'})['NetworksDeleted'] == []
plain = client.networks.create('plain')
plain.remove()

# This library loses output that arrives together with the head of the answer, so the programs take a moment.
def run(script, **options):
    return tuple(web.exec_run(['sh', '-c', 'sleep 0.3; ' + script], **options))
assert run('echo hello') == (0, b'hello\n')
ran = run('echo out; echo wrong >&2; exit 4', demux=True)
assert ran == (4, (b'out\n', b'wrong\n')), ran
ran = run('echo hello', tty=True)
assert ran == (0, b'hello\r\n'), ran
assert [c.name for c in client.containers.list(all=True)] == ['web']
assert web.top()['Processes'][0][-1] == 'sleep infinity', web.top()
stats = web.stats(stream=False)
assert stats['networks']['eth0'] and stats['pids_stats']['current'] == 1, stats
assert 'mynet' in [n.name for n in client.networks.list()]
events = client.events(since=1, until=4000000000, decode=True)
assert next(events)['Type'] == 'network'
events.close()
assert client.images.list() == [] and client.volumes.list() == []
try:
    client.containers.run('busybox', 'true')
    raise SystemExit('it runs')
except docker.errors.APIError as error:
    assert error.response.status_code == 501 and 'netbpf has no images' in str(error), error
web.rename('shop')
web.restart(timeout=0)
web.stop(timeout=0)
assert web.wait()['StatusCode'] == 137
web.remove(force=True)
"#;

#[test]
fn docker_s_library_for_python() {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    lab.run("web", "--net mynet -p 8080:80");
    lab.host(["/usr/bin/python3", "-c", PYTHON]).ok();
    lab.netbpf(["network", "rm", "mynet"]).ok();
}

fn raw(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("the daemon listens");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// The status and the body of the answer to a request.
fn ask(socket: &Path, path: &str) -> (u16, Value) {
    let answer = raw(socket, &format!("GET {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("GET {path}: {answer}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = serde_json::from_str(body).unwrap_or_else(|error| panic!("GET {path}: {error}: {answer}"));
    (status.unwrap_or_else(|| panic!("GET {path}: {head}")), body)
}

/// What a dashboard asks for at once: the list, then each container in it.
fn poll(socket: &Path, version: &str) -> usize {
    let (status, list) = ask(socket, &format!("/{version}/containers/json?all=1"));
    assert_eq!(status, 200, "{list}");
    let list = list.as_array().expect("a list").clone();
    let mut answers = 1;
    for container in &list {
        let networks = &container["NetworkSettings"]["Networks"];
        assert!(networks["mynet"]["NetworkID"].is_string(), "{container}");
        assert!(container["HostConfig"]["NetworkMode"].is_string(), "{container}");
        let id = container["Id"].as_str().expect("an ID");
        for action in ["json", "stats?stream=0&one-shot=1", "top"] {
            let (status, body) = ask(socket, &format!("/{version}/containers/{id}/{action}"));
            let is_gone = matches!(status, 404 | 409) && body["message"].is_string();
            assert!(status == 200 || is_gone, "{action}: {status} {body}");
            answers += 1;
        }
    }
    for path in ["networks", "images/json", "volumes", "info", "system/df"] {
        let (status, body) = ask(socket, &format!("/{version}/{path}"));
        assert_eq!(status, 200, "{path}: {body}");
        answers += 1;
    }
    answers
}

/// What a client asks for first, by `HEAD` or by `GET`.
fn ping(socket: &Path) {
    for (method, path, body) in
        [("HEAD", "/_ping", ""), ("GET", "/_ping", "OK"), ("GET", "/v1.24/_ping", "OK")]
    {
        let answer =
            raw(socket, &format!("{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n"));
        let (head, found) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 ") && found == body, "{method} {path}: {answer}");
        for header in [
            "api-version: 1.55",
            "builder-version: 1",
            "docker-experimental: false",
            "ostype: linux",
            "cache-control: no-cache, no-store, must-revalidate",
        ] {
            assert!(head.lines().any(|line| line == header), "{method} {path}: {header}: {head}");
        }
    }
}

#[test]
fn dashboards_poll_while_containers_come_and_go() {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    let socket = lab.path("/run/netbpf/netbpf.sock");
    ping(&socket);
    let answers = AtomicUsize::new(0);
    let pollers = ["v1.24", "v1.41", "v1.55"].map(|version| {
        let (socket, answers) = (&socket, &answers);
        move || {
            answers.fetch_add(poll(socket, version), Ordering::Relaxed);
            thread::sleep(Duration::from_millis(100));
        }
    });
    meanwhile(pollers, || {
        for round in 0..8 {
            let names = ["a", "b", "c"].map(|name| format!("{name}{round}"));
            names.iter().for_each(|name| lab.run(name, "--net mynet"));
            lab.netbpf(["rm", "-f"].into_iter().chain(names.iter().map(String::as_str))).ok();
        }
    });
    assert!(answers.into_inner() > 100, "dashboards were answered");
    lab.netbpf(["network", "rm", "mynet"]).ok();
}
