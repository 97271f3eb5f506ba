//! Connections that become streams: after the head of the answer, both sides send what they like (`Upgrade: tcp`). A
//! client that asks for no upgrade gets the output as the body of the answer, and has no input. Must not know what the
//! streams are.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::FromRequestParts,
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use futures::{StreamExt as _, stream::poll_fn};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split},
    sync::mpsc,
    time::timeout,
};

use crate::daemon::Input;

/// Number of pieces of output that wait for a slow client; then its program waits.
const WAITING: usize = 16;

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

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
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
            let (from_client, to_client) = split(TokioIo::new(connection));
            let mut reading = tokio::spawn(read_input(from_client, begin.await));
            write_output(to_client, output).await;
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
async fn write_output(mut client: WriteHalf<TokioIo<Upgraded>>, mut output: mpsc::Receiver<Bytes>) {
    while let Some(piece) = output.recv().await {
        if client.write_all(&piece).await.is_err() {
            return;
        }
    }
    // It fails if the client is gone.
    let _ = client.shutdown().await;
}

/// Passes on what the client writes. Without a program that reads it, it is read all the same, so that the client does
/// not wait.
async fn read_input(mut client: ReadHalf<TokioIo<Upgraded>>, mut input: Option<Input>) {
    let mut block = vec![0; BLOCK];
    while let Ok(length @ 1..) = client.read(&mut block).await {
        if let Some(program) = &input
            && program.write_all(&block[..length]).await.is_err()
        {
            input = None;
        }
    }
}
