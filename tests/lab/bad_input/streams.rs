//! Connections that clients take over, or do not: `exec` and `attach` without an upgrade, twice, and with clients that go
//! away.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use netbpf_tests::lab::{Lab, eventually};
use serde_json::{Value, json};

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
const CLOSE: &str = "Connection: close\r\n";

/// How long the daemon may take to send or take a byte.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends a request with these headers, and leaves the connection open.
fn send(lab: &Lab, headers: &str, path: &str, body: &str) -> UnixStream {
    let mut stream = UnixStream::connect(lab.path("/run/netbpf/netbpf.sock")).expect("the daemon listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: docker\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).expect("a request");
    stream
}

/// The answer up to the end of the connection: its head, and what follows.
fn read(mut stream: UnixStream) -> (String, Vec<u8>) {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let rest = answer.split_off(end + 4);
    (String::from_utf8_lossy(&answer).into_owned(), rest)
}

/// Creates a program of `web`. Returns its ID.
fn create(lab: &Lab, script: &str) -> String {
    let config = json!({ "Cmd": ["sh", "-c", script], "AttachStdin": true, "AttachStdout": true, "AttachStderr": true });
    let (head, body) = read(send(lab, CLOSE, "/v1.41/containers/web/exec", &config.to_string()));
    assert!(head.starts_with("HTTP/1.1 201 "), "{head}");
    let created: Value = serde_json::from_slice(&body).expect("an ID");
    created["Id"].as_str().expect("an ID").to_owned()
}

/// Waits for the end of a program. Returns its exit code.
fn code(lab: &Lab, id: &str) -> i64 {
    eventually("the program ends", || lab.ask(&format!("/v1.41/exec/{id}/json"))["ExitCode"].as_i64())
}

#[test]
fn a_stream_is_taken_over_once_or_not_at_all() {
    let lab = Lab::start();
    lab.run("web", "");
    let start = |headers: &str, id: &str| send(&lab, headers, &format!("/v1.41/exec/{id}/start"), "{}");

    // Without an upgrade there is no input, and the output is a body.
    let id = create(&lab, "cat; echo end; exit 3");
    let (head, body) = read(start(CLOSE, &id));
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("raw-stream"), "{head}");
    assert!(body.windows(12).any(|bytes| bytes == b"\x01\0\0\0\0\0\0\x04end\n"), "{body:?}");
    assert_eq!(code(&lab, &id), 3);
    let (head, _) = read(start(CLOSE, &id));
    assert!(head.starts_with("HTTP/1.1 409 "), "{head}");

    // With one, the rest of the connection is input, also what comes with the request.
    let id = create(&lab, "read line; echo $line; exit 4");
    let mut stream = start(UPGRADE, &id);
    stream.write_all(b"GET /v1.41/info HTTP/1.1\r\n").expect("input");
    let (head, body) = read(stream);
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: tcp"), "{head}");
    assert!(body.ends_with(b"GET /v1.41/info HTTP/1.1\r\n"), "{body:?}");
    assert_eq!(code(&lab, &id), 4);

    // A client that goes away ends the input, and a program whose output nobody reads.
    let id = create(&lab, "cat; exit 5");
    let mut stream = start(UPGRADE, &id);
    stream.read_exact(&mut [0; 12]).expect("a head");
    drop(stream);
    assert_eq!(code(&lab, &id), 5);
    let id = create(&lab, "while :; do echo more; done");
    let mut stream = start(UPGRADE, &id);
    stream.read_exact(&mut [0; 4096]).expect("output");
    drop(stream);
    assert_eq!(code(&lab, &id), 128 + 13);

    // A shell whose client goes away ends with its terminal.
    let config = json!({ "Cmd": ["sh"], "Tty": true, "AttachStdin": true, "AttachStdout": true });
    let (_, body) = read(send(&lab, CLOSE, "/v1.41/containers/web/exec", &config.to_string()));
    let created: Value = serde_json::from_slice(&body).expect("an ID");
    let id = created["Id"].as_str().expect("an ID");
    let mut stream = start(UPGRADE, id);
    let mut heard = Vec::new();
    while !heard.ends_with(b"# ") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a prompt");
        heard.extend(byte);
    }
    drop(stream);
    assert_eq!(code(&lab, id), 128 + 1);

    // Nothing is left of a client that goes away while its container is silent.
    let daemon = lab.processes("netbpf daemon");
    let descriptors = || {
        let folders = daemon
            .iter()
            .map(|pid| std::fs::read_dir(lab.path(format!("/proc/{pid}/fd"))).expect("descriptors"));
        folders.map(Iterator::count).sum::<usize>()
    };
    let before = descriptors();
    let mut stream = send(&lab, UPGRADE, "/v1.41/containers/web/attach?stream=1&stdout=1", "");
    stream.read_exact(&mut [0; 12]).expect("a head");
    assert!(descriptors() > before);
    stream.shutdown(std::net::Shutdown::Write).expect("a client without input");
    drop(stream);
    eventually("its descriptors are closed", || (descriptors() <= before).then_some(()));

    // The number and the length of headers are bounded.
    let many = "X-Header: x\r\n".repeat(1000);
    let long = format!("X-Header: {}\r\n", "x".repeat(1 << 20));
    for headers in [many, long] {
        let mut stream =
            UnixStream::connect(lab.path("/run/netbpf/netbpf.sock")).expect("the daemon listens");
        // The daemon may close the connection before it has read everything.
        let _ = stream.write_all(format!("GET /v1.41/info HTTP/1.1\r\n{headers}\r\n").as_bytes());
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    assert_eq!(lab.ask("/v1.41/info")["Containers"], 1);

    // An attached container has no input, and its end is that of the stream.
    let mut stream =
        send(&lab, UPGRADE, "/v1.41/containers/web/attach?stream=1&stdin=1&stdout=1&stderr=1", "");
    stream.write_all(&[b'x'; 100_000]).expect("input that nobody reads");
    lab.netbpf(["rm", "-f", "web"]).ok();
    let (head, body) = read(stream);
    assert!(head.starts_with("HTTP/1.1 101 ") && body.is_empty(), "{head} {body:?}");
}
