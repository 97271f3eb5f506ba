//! Serves HTTP on a listening unix socket and ends gracefully: every client that has connected gets its answer. A
//! service manager keeps the socket open while the daemon restarts, so a command always reaches this daemon or the next
//! one. Knows HTTP, but not the requests.

use std::{
    io,
    os::fd::AsRawFd,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, BodyDataStream, Bytes},
};
use futures::{FutureExt as _, StreamExt as _, stream::poll_fn};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use nix::sys::socket::{MsgFlags, recv};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
    runtime::Handle,
    task::JoinSet,
    time::sleep,
};

use crate::heap;

/// How long a connection has for its first request, and for the rest of one, once the server is about to end.
const GRACE: Duration = Duration::from_millis(500);
/// How many bytes of a body that no handler reads are accepted.
const MAX_UNREAD: usize = 64 << 20;
/// The pause after a failed `accept`, for example without free descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// How long no client comes or leaves before unused memory goes back to the kernel. Commands one after the other come
/// sooner.
const QUIET: Duration = Duration::from_millis(50);

/// Serves until `end`, and then until all running requests are answered. A connection that cannot be accepted
/// (`EMFILE`) is logged and accepted later.
pub async fn serve(listener: UnixListener, router: Router, end: impl Future<Output = ()> + Send + 'static) {
    let end = end.shared();
    let mut connections = JoinSet::new();
    let mut has_served = false;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve_one(stream, router.clone(), end.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "accept a connection");
                    sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => has_served = true,
            () = sleep(QUIET), if has_served => {
                heap::give_back();
                has_served = false;
            }
            () = end.clone() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve_one(stream: UnixStream, router: Router, end: impl Future<Output = ()> + Clone) {
    // hyper takes a connection without a request for idle and closes it at the end, but a client that has just
    // connected is about to send one.
    let too_late = async {
        end.clone().await;
        sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        _ = first_byte(&stream) => {}
        () = too_late => return,
    }
    let router = TowerToHyperService::new(router);
    let waits = Arc::new(AtomicBool::new(true));
    let for_client = Arc::clone(&waits);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        waits.store(false, Ordering::Relaxed);
        router.call(request.map(|body| watched(body, Arc::clone(&waits))))
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A request may take the connection over, which then is no longer waited for.
    let mut connection = pin!(connection.with_upgrades());
    // The connection comes first, so that received data is read before the shutdown starts. A client that disconnects
    // is no error.
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = end => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = connection => {}
        () = too_slow(&for_client) => {}
    }
}

/// A request's body that tells whether the server waits for more of it. What a handler does not read is read without
/// it: a client that still writes when the connection is closed gets an error instead of its answer.
fn watched(body: Incoming, waits: Arc<AtomicBool>) -> Body {
    if body.is_end_stream() {
        return Body::empty();
    }
    let mut rest = Rest(Some(Watched { data: Body::new(body).into_data_stream(), waits }));
    Body::from_stream(poll_fn(move |context| {
        let Some(watched) = &mut rest.0 else { return Poll::Ready(None) };
        let next = watched.poll_next(context);
        if matches!(next, Poll::Ready(None)) {
            rest.0 = None;
        }
        next
    }))
}

struct Watched {
    data: BodyDataStream,
    waits: Arc<AtomicBool>,
}

impl Watched {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, axum::Error>>> {
        let next = self.data.poll_next_unpin(context);
        self.waits.store(next.is_pending(), Ordering::Relaxed);
        next
    }
}

/// The rest of a body.
struct Rest(Option<Watched>);

impl Drop for Rest {
    fn drop(&mut self) {
        // Without a runtime, the daemon is at its end.
        let (Some(mut watched), Ok(runtime)) = (self.0.take(), Handle::try_current()) else { return };
        runtime.spawn(async move {
            let mut left = MAX_UNREAD;
            while let Some(Ok(data)) = poll_fn(|context| watched.poll_next(context)).next().await
                && let Some(less) = left.checked_sub(data.len())
            {
                left = less;
            }
        });
    }
}

/// Returns when the server waits for the rest of a request, which a client may never send.
async fn too_slow(waits: &AtomicBool) {
    loop {
        sleep(GRACE).await;
        if waits.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Waits until there is data, and leaves it there. Tokio sometimes reports sockets as readable that are not.
async fn first_byte(stream: &UnixStream) -> io::Result<usize> {
    let peek = || Ok(recv(stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK)?);
    stream.async_io(Interest::READABLE, peek).await
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::oneshot,
        task::JoinHandle,
    };

    use super::*;

    /// A server, the sender that ends it, and a client whose connection it has accepted.
    async fn served() -> (JoinHandle<()>, oneshot::Sender<()>, UnixStream) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("a socket");
        let client = UnixStream::connect(&path).await.expect("a connection");
        let mut next = UnixStream::connect(&path).await.expect("another");
        let slow = async || {
            sleep(3 * GRACE).await;
            "hello"
        };
        let read = async |body: String| body;
        let router = Router::new().route("/", get(async || "hello").post(read)).route("/slow", get(slow));
        let (end, ended) = oneshot::channel();
        let server = tokio::spawn(serve(listener, router, async { drop(ended.await) }));
        // Connections are accepted in order, so the first one is accepted, too.
        ask(&mut next).await;
        (server, end, client)
    }

    async fn ask(client: &mut UnixStream) {
        client.write_all(b"GET / HTTP/1.1\r\nHost: netbpf\r\n\r\n").await.expect("a question");
        let mut first = [0; 15];
        client.read_exact(&mut first).await.expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200 OK");
    }

    #[tokio::test]
    async fn a_client_that_connected_before_the_end_may_still_send_a_request() {
        let (server, end, mut client) = served().await;
        drop(end);
        tokio::task::yield_now().await;
        ask(&mut client).await;
        server.await.expect("the server");
    }

    #[tokio::test]
    async fn a_client_that_writes_a_body_that_nobody_reads_gets_its_answer() {
        let (server, end, mut client) = served().await;
        let body = vec![b'x'; 4 << 20];
        let head = format!("PUT / HTTP/1.1\r\nHost: netbpf\r\nContent-Length: {}\r\n\r\n", body.len());
        client.write_all(head.as_bytes()).await.expect("a head");
        client.write_all(&body).await.expect("the server reads the body");
        let mut first = [0; 12];
        client.read_exact(&mut first).await.expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 405");
        drop(end);
        server.await.expect("the server");
    }

    #[tokio::test]
    async fn a_client_without_a_request_does_not_delay_the_end() {
        let (server, end, mut silent) = served().await;
        drop(end);
        server.await.expect("the server");
        assert_eq!(silent.read(&mut [0]).await.expect("an end"), 0);
    }

    #[tokio::test]
    async fn a_client_with_half_a_request_does_not_delay_the_end() {
        for half in ["GET / HT", "POST / HTTP/1.1\r\nHost: netbpf\r\nContent-Length: 9\r\n\r\n{"] {
            let (server, end, mut slow) = served().await;
            slow.write_all(half.as_bytes()).await.expect("half a request");
            drop(end);
            server.await.expect("the server");
            assert_eq!(slow.read(&mut [0]).await.expect("an end"), 0, "{half}");
        }
    }

    #[tokio::test]
    async fn a_request_that_takes_its_time_is_answered_after_the_end() {
        let (server, end, mut client) = served().await;
        client.write_all(b"GET /slow HTTP/1.1\r\nHost: netbpf\r\n\r\n").await.expect("a question");
        drop(end);
        let mut first = [0; 15];
        client.read_exact(&mut first).await.expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        server.await.expect("the server");
    }
}
