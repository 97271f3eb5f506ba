//! Connections that become streams: after the head of the answer, both sides send what they like (`Upgrade: tcp`). A
//! client that asks for no upgrade gets the output as the body of the answer, and has no input. Must not know what the
//! streams are.

use std::{convert::Infallible, io::Cursor, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::FromRequestParts,
    http::{HeaderValue, StatusCode, header, request},
    response::{IntoResponse, Response},
};
use futures::{StreamExt as _, stream::poll_fn};
use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::{UnixStream, unix::OwnedWriteHalf},
    sync::mpsc,
    time::{sleep, timeout},
};

use crate::daemon::Input;

/// Number of pieces of output that wait for a slow client; then its program waits.
const WAITING: usize = 16;

/// The time between two looks whether a client is gone.
const LOOK: Duration = Duration::from_secs(1);

/// How long a client may go on writing after the end of the output.
const LINGER: Duration = Duration::from_secs(5);

/// Number of bytes of input that are read at once.
const BLOCK: usize = 16 * 1024;

/// The way of output to a client.
pub type Output = mpsc::Sender<Bytes>;

/// The connection of a request that asks for an upgrade; none if it does not.
pub struct Connection(Option<OnUpgrade>);

impl<S: Sync> FromRequestParts<S> for Connection {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Infallible> {
        let asks = parts.headers.contains_key(header::UPGRADE);
        Ok(Self(parts.extensions.remove::<OnUpgrade>().filter(|_| asks)))
    }
}

impl Connection {
    /// Answers the request. After the head of the answer, `begin` gets the way of output and may start a program: some
    /// clients lose output that arrives with the head. Output is carried to the client until its sender is dropped, and
    /// the client's input to the program until either of them ends it.
    pub fn answer<F>(self, content_type: HeaderValue, begin: impl FnOnce(Output) -> F) -> Response
    where
        F: Future<Output = Option<Input>> + Send + 'static,
    {
        let (sender, mut output) = mpsc::channel::<Bytes>(WAITING);
        let begin = begin(sender);
        let Some(upgrade) = self.0 else {
            tokio::spawn(begin);
            let pieces = poll_fn(move |context| output.poll_recv(context));
            let body = Body::from_stream(pieces.map(Ok::<_, Infallible>));
            return ([(header::CONTENT_TYPE, content_type)], body).into_response();
        };
        tokio::spawn(async move {
            // It fails if the client is gone.
            let Ok(connection) = upgrade.await else { return };
            let parts = connection.downcast::<TokioIo<UnixStream>>();
            let Parts { io, read_buf, .. } = parts.expect("the server's connections are unix sockets");
            let (from_client, mut to_client) = io.into_inner().into_split();
            let mut reading = tokio::spawn(read_input(Cursor::new(read_buf).chain(from_client), begin.await));
            write_output(&mut to_client, output).await;
            // A client that still writes would get an error instead of the end of the output.
            if timeout(LINGER, &mut reading).await.is_err() {
                reading.abort();
            }
        });
        let headers = [
            (header::CONNECTION, HeaderValue::from_static("Upgrade")),
            (header::UPGRADE, HeaderValue::from_static("tcp")),
            (header::CONTENT_TYPE, content_type),
        ];
        (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
    }
}

/// Writes pieces until there are no more, or the client is gone.
async fn write_output(client: &mut OwnedWriteHalf, mut output: mpsc::Receiver<Bytes>) {
    loop {
        let piece = tokio::select! {
            piece = output.recv() => piece,
            () = is_gone(client) => return,
        };
        let Some(piece) = piece else { break };
        if client.write_all(&piece).await.is_err() {
            return;
        }
    }
    // It fails if the client is gone.
    let _ = client.shutdown().await;
}

/// Returns when the client has closed its connection. One that has no input has closed only its own side of it, which is
/// the same to a reader; so the socket is looked at from time to time.
async fn is_gone(client: &OwnedWriteHalf) {
    while !client.ready(Interest::WRITABLE).await.is_ok_and(|ready| ready.is_write_closed()) {
        sleep(LOOK).await;
    }
}

/// Passes on what the client writes. Without a program that reads it, it is read all the same, so that the client does
/// not wait.
async fn read_input(mut client: impl AsyncRead + Unpin, mut input: Option<Input>) {
    let mut block = vec![0; BLOCK];
    while let Ok(length @ 1..) = client.read(&mut block).await {
        if let Some(program) = &input
            && program.write_all(&block[..length]).await.is_err()
        {
            input = None;
        }
    }
}
