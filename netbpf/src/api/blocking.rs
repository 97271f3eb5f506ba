//! A client of the API for processes that make one request and end, as plugins of runtimes do: blocking, without a
//! runtime of its own. Must not know the messages.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};

/// The daemon's socket, unless it or a client is told another path.
pub const SOCKET: &str = "/run/netbpf/netbpf.sock";
/// How long the daemon may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The maximum size of an answer in bytes.
const MAX_ANSWER: u64 = 8 << 20;
/// The maximum number of headers of an answer.
const MAX_HEADERS: usize = 32;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens at the socket.
    #[error("cannot connect to the netbpf daemon at {}: {source}", socket.display())]
    Unreachable {
        /// The path of the socket.
        socket: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The daemon did not answer, or did not answer in time.
    #[error("{operation}: no answer from the netbpf daemon: {source}")]
    Lost {
        /// Method and path.
        operation: String,
        /// The cause.
        source: io::Error,
    },
    /// The answer is no message of a netbpf daemon.
    #[error("{operation}: unexpected answer: {reason}")]
    Message {
        /// Method and path.
        operation: String,
        /// What is wrong.
        reason: String,
    },
    /// The daemon refused the request.
    #[error("{message}")]
    Refused {
        /// The status code.
        status: u16,
        /// The daemon's message.
        message: String,
    },
}

/// `GET` with an answer.
///
/// # Errors
/// [`Error`].
pub fn get<Answer: DeserializeOwned>(socket: &Path, target: &str) -> Result<Answer, Error> {
    decoded("GET", target, &request(socket, "GET", target, &[])?)
}

/// `GET` without an answer but its success.
///
/// # Errors
/// [`Error`].
pub fn ask(socket: &Path, target: &str) -> Result<(), Error> {
    request(socket, "GET", target, &[]).map(drop)
}

/// A text in a path or a query.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// `POST` without an answer but its success.
///
/// # Errors
/// [`Error`].
pub fn submit(socket: &Path, target: &str, message: &impl Serialize) -> Result<(), Error> {
    request(socket, "POST", target, &json(message)).map(drop)
}

/// `POST` with an answer.
///
/// # Errors
/// [`Error`].
pub fn post<Answer: DeserializeOwned>(
    socket: &Path,
    target: &str,
    message: &impl Serialize,
) -> Result<Answer, Error> {
    decoded("POST", target, &request(socket, "POST", target, &json(message))?)
}

fn decoded<Answer: DeserializeOwned>(method: &str, target: &str, answer: &[u8]) -> Result<Answer, Error> {
    serde_json::from_slice(answer).map_err(|error| Error::Message {
        operation: format!("{method} {target}"),
        reason: error.to_string(),
    })
}

fn json(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("the API's messages are maps with texts as keys")
}

/// Makes a request and returns the body of its answer.
fn request(socket: &Path, method: &str, target: &str, body: &[u8]) -> Result<Vec<u8>, Error> {
    let operation = format!("{method} {target}");
    let mut stream = UnixStream::connect(socket)
        .map_err(|source| Error::Unreachable { socket: socket.to_owned(), source })?;
    // As HTTP/1.0, so that the body of the answer comes in one piece, up to the end of the connection.
    let head = format!(
        "{operation} HTTP/1.0\r\nHost: netbpf\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut answer = Vec::new();
    let exchanged = stream
        .set_read_timeout(Some(TIMEOUT))
        .and_then(|()| stream.write_all(&[head.as_bytes(), body].concat()))
        .and_then(|()| stream.take(MAX_ANSWER).read_to_end(&mut answer));
    match exchanged {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        exchanged => exchanged,
    }
    .map_err(|source| Error::Lost { operation: operation.clone(), source })?;
    let (status, body) = split(&answer).map_err(|reason| Error::Message { operation, reason })?;
    match status {
        200..300 => Ok(body.to_vec()),
        _ => Err(Error::Refused { status, message: message_of(body) }),
    }
}

/// The status code and the body of an answer.
fn split(answer: &[u8]) -> Result<(u16, &[u8]), String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    match head.parse(answer).map_err(|error| error.to_string())? {
        httparse::Status::Complete(length) => match head.code {
            Some(status) => Ok((status, &answer[length..])),
            None => Err("it has no status".to_owned()),
        },
        httparse::Status::Partial => Err("its head is incomplete".to_owned()),
    }
}

/// The text of a refusal.
fn message_of(body: &[u8]) -> String {
    match serde_json::from_slice(body) {
        Ok(super::types::Error { message, .. }) => message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    /// Serves one connection with this answer. Returns what was asked.
    fn asked(answer: &'static [u8], ask: impl FnOnce(&Path)) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = vec![0; 4096];
            let length = stream.read(&mut question).unwrap();
            stream.write_all(answer).unwrap();
            String::from_utf8(question[..length].to_vec()).unwrap()
        });
        ask(&path);
        server.join().unwrap()
    }

    #[test]
    fn a_message_and_its_answer_are_json() {
        let question = asked(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n[1,2]", |socket| {
            let answer: Vec<u8> = post(socket, "/x", &[3]).unwrap();
            assert_eq!(answer, [1, 2]);
        });
        assert!(
            question.starts_with("POST /x HTTP/1.0\r\n") && question.ends_with("\r\n\r\n[3]"),
            "{question}"
        );
    }

    #[test]
    fn a_refusal_has_its_message() {
        asked(b"HTTP/1.0 404 Not Found\r\n\r\n{\"message\":\"network x not found\"}", |socket| {
            let error = submit(socket, "/x", &()).unwrap_err();
            assert!(matches!(error, Error::Refused { status: 404, .. }), "{error:?}");
            assert_eq!(error.to_string(), "network x not found");
        });
    }

    #[test]
    fn answers_of_others_are_errors() {
        for (answer, said) in [
            (&b""[..], "no answer"),
            (b"HTTP/1.0 200", "its head is incomplete"),
            (b"220 mail\r\n\r\n", "invalid"),
        ] {
            asked(answer, |socket| {
                let error = post::<Vec<u8>>(socket, "/x", &()).unwrap_err().to_string();
                assert!(error.contains(said), "{error}");
            });
        }
        let error = ask(Path::new("/nowhere/sock"), "/x").unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    }
}
