//! Connections on a listening unix socket. At the end none is cut off that has something to ask: a service manager keeps
//! the socket while the daemon is started again, so that a command finds either this daemon or the next one, and never
//! a closed door. Knows HTTP, and not what is asked.

use std::{io, os::fd::AsRawFd, pin::pin, time::Duration};

use axum::Router;
use futures::FutureExt as _;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use nix::sys::socket::{MsgFlags, recv};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
    task::JoinSet,
    time::sleep,
};

/// How long after the end a connection may take to ask its first question.
const GRACE: Duration = Duration::from_millis(500);
/// Until the next try to accept one, where the process has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers until `end`, and then until what was asked is done.
pub async fn serve(
    listener: UnixListener,
    router: Router,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let end = end.shared();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve_one(stream, router.clone(), end.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "accept a connection");
                    sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = end.clone() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn serve_one(stream: UnixStream, router: Router, end: impl Future<Output = ()> + Clone) {
    // hyper takes a connection on which nothing was asked yet for an idle one, and closes it at the end. But who has
    // just connected is about to ask.
    let too_late = async {
        end.clone().await;
        sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        _ = first_byte(&stream) => {}
        () = too_late => return,
    }
    let mut connection =
        pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    // The connection first, so that what there is to read is read before the end is told. That a client goes away is
    // its own affair.
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = end => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Waits until there is something to read, and leaves it there. tokio calls sockets readable that are not.
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

    /// A server, what ends it, and a client whose connection it has accepted.
    async fn served() -> (JoinHandle<io::Result<()>>, oneshot::Sender<()>, UnixStream) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).expect("a socket");
        let client = UnixStream::connect(&path).await.expect("a connection");
        let mut next = UnixStream::connect(&path).await.expect("another");
        let router = Router::new().route("/", get(async || "hello"));
        let (end, ended) = oneshot::channel();
        let server = tokio::spawn(serve(listener, router, async { drop(ended.await) }));
        // Connections are accepted in their order.
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
    async fn who_has_connected_before_the_end_may_still_ask() {
        let (server, end, mut client) = served().await;
        drop(end);
        tokio::task::yield_now().await;
        ask(&mut client).await;
        server.await.expect("the server").expect("no error");
    }

    #[tokio::test]
    async fn neither_the_silent_nor_the_idle_hold_the_end_up() {
        let (server, end, mut silent) = served().await;
        drop(end);
        server.await.expect("the server").expect("no error");
        assert_eq!(silent.read(&mut [0]).await.expect("an end"), 0);
    }
}
