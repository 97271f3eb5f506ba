//! Other servers: passes a query on as it is and brings the reply back as it is. It must not know zones or askers.

use std::{
    cell::RefCell,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use hickory_proto::op::ResponseCode;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::{
    inside::Inside,
    message::{self, Transport},
};

/// How many servers are asked, one after another.
const SERVERS: usize = 3;
/// How long each may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// Asks the servers in turn until one has a reply that is neither SERVFAIL nor REFUSED; from here, or from `inside`
/// another network namespace. `scratch` is room for the largest datagram.
pub(super) async fn forward(
    query: &[u8],
    transport: Transport,
    servers: &[SocketAddr],
    inside: Option<&Inside>,
    scratch: &RefCell<Box<[u8]>>,
) -> Option<Vec<u8>> {
    if inside.is_some_and(|inside| inside.is_asking(query)) {
        // A server there asks back: to pass it on would never end.
        return None;
    }
    for &server in servers.iter().take(SERVERS) {
        // An ID and a source port that nobody can foresee: who wants to forge a reply has to guess both.
        let mut asked = query.to_vec();
        message::set_id(&mut asked, rand::random());
        let exchange = async {
            let lent = match inside {
                Some(inside) => Some(inside.borrow(&asked).await?),
                None => None,
            };
            match (transport, &lent) {
                (Transport::Udp, None) => by_udp(&asked, connected(server).await?, scratch).await,
                (Transport::Udp, Some(lent)) => by_udp(&asked, lent.udp(server).await?, scratch).await,
                (Transport::Tcp, None) => by_tcp(&asked, TcpStream::connect(server).await?).await,
                (Transport::Tcp, Some(lent)) => by_tcp(&asked, lent.tcp(server).await?).await,
            }
        };
        let Ok(Ok(mut reply)) = timeout(PATIENCE, exchange).await else { continue };
        if matches!(message::code(&reply), None | Some(ResponseCode::ServFail | ResponseCode::Refused)) {
            continue;
        }
        if let Some(id) = query.first_chunk() {
            message::set_id(&mut reply, *id);
        }
        return Some(reply);
    }
    None
}

async fn connected(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    Ok(socket)
}

async fn by_udp(query: &[u8], socket: UdpSocket, scratch: &RefCell<Box<[u8]>>) -> io::Result<Vec<u8>> {
    socket.send(query).await?;
    loop {
        if socket.ready(Interest::READABLE | Interest::ERROR).await?.is_error() {
            // Nobody listens there (ICMP): no need to wait.
            return Err(socket.take_error()?.unwrap_or(io::ErrorKind::ConnectionRefused.into()));
        }
        let buffer = &mut *scratch.borrow_mut();
        match socket.try_recv(buffer) {
            Ok(length) if message::answers(query, &buffer[..length]) => return Ok(buffer[..length].to_vec()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn by_tcp(query: &[u8], mut stream: TcpStream) -> io::Result<Vec<u8>> {
    stream.write_all(&framed(query)).await?;
    let mut reply = Vec::new();
    read_framed(&mut stream, &mut reply).await?;
    if message::answers(query, &reply) { Ok(reply) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// A message as TCP carries it: its length before it.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    // A longer one does not exist: it was read with such a length, or written within a limit.
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), &message[..length.into()]].concat()
}

/// Reads a message with its length before it, in place of what `message` holds.
pub(super) async fn read_framed(
    stream: &mut (impl AsyncRead + Unpin),
    message: &mut Vec<u8>,
) -> io::Result<()> {
    let length = stream.read_u16().await?;
    message.clear();
    let read = stream.take(length.into()).read_to_end(message).await?;
    if read == usize::from(length) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
