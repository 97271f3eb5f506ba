//! TCP: opens a connection to the container for each client and copies both directions, with half-close. Must not know
//! which clients may connect.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustix::net::sockopt;
use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};

/// How long a container has to answer a SYN.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// The idle time after which the kernel checks whether the peer is still there (keepalive).
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// The maximum number of connections of one port, so that some are left for others.
const MAX_CONNECTIONS: usize = 4096;
/// The size of the copy buffer for one direction, in bytes.
const BUFFER: usize = 32 * 1024;
/// The pause after an error of `accept` that concerns more than one client: no memory or descriptors may be left.
const PAUSE: Duration = Duration::from_millis(100);

/// Relays one port. At the limit, further clients wait in the listener's queue.
pub(super) async fn serve(listener: TcpListener, to: SocketAddr, turns: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            (client, turn) = accept(&listener, &turns), if connections.len() < MAX_CONNECTIONS => {
                connections.spawn_local(async move {
                    // An error on one side ends the other as well.
                    let _ = carry(client, to).await;
                    drop(turn);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn accept(listener: &TcpListener, turns: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let Ok(turn) = Arc::clone(turns).acquire_owned().await else { std::future::pending().await };
        match listener.accept().await {
            Ok((client, _)) => return (client, turn),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn carry(mut client: TcpStream, to: SocketAddr) -> io::Result<()> {
    let mut server = timeout(CONNECT_TIMEOUT, TcpStream::connect(to)).await??;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    }
    copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        task::{LocalSet, spawn_local},
    };

    use super::*;

    #[tokio::test]
    async fn at_the_limit_a_client_waits_until_another_one_ends() {
        let test = async {
            let listener = TcpListener::bind("[::1]:0").await.expect("a port");
            let port = listener.local_addr().expect("an address");
            let server = TcpListener::bind("127.0.0.1:0").await.expect("a server");
            let to = server.local_addr().expect("an address");
            spawn_local(serve(listener, to, Arc::new(Semaphore::new(1))));

            let first = TcpStream::connect(port).await.expect("a connection");
            let (mut at_server, _) = server.accept().await.expect("a connection");
            let mut second = TcpStream::connect(port).await.expect("a connection");
            second.write_all(b"2").await.expect("send");
            let none = timeout(Duration::from_millis(100), server.accept()).await;
            none.expect_err("it must wait");

            drop(first);
            assert_eq!(at_server.read(&mut [0]).await.expect("an end"), 0);
            drop(at_server);
            let (mut at_server, _) = server.accept().await.expect("a connection");
            let mut said = [0];
            at_server.read_exact(&mut said).await.expect("what was sent before");
            assert_eq!(said, *b"2");
        };
        LocalSet::new().run_until(test).await;
    }
}
