//! Asks a name server for the addresses of a name, as a client in the network namespace of the calling thread would: by
//! UDP, without a search domain. Blocks for a limited time.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};

/// The port of name servers.
const PORT: u16 = 53;

/// What a name server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked {
    /// The addresses of the name; none if it has no address.
    Found(Vec<IpAddr>),
    /// Nobody has the name (`NXDOMAIN`).
    NoName,
    /// The server cannot tell, for this reason.
    Failed(String),
}

/// Asks for the addresses of a name, IPv4 first.
///
/// # Errors
/// If the name is none, no server is reached, or none answers within `patience`.
pub fn look_up(server: IpAddr, name: &str, patience: Duration) -> io::Result<Looked> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
    let mut name = Name::from_ascii(name).map_err(invalid)?;
    name.set_fqdn(true);
    let mut addresses = Vec::new();
    for kind in [RecordType::A, RecordType::AAAA] {
        let reply = ask(server, &name, kind, patience)?;
        match reply.metadata.response_code {
            ResponseCode::NoError => {}
            ResponseCode::NXDomain => return Ok(Looked::NoName),
            code => return Ok(Looked::Failed(code.to_string())),
        }
        addresses.extend(reply.answers.iter().filter_map(|record| match &record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        }));
        // Who has one of IPv4 is reached by it.
        if !addresses.is_empty() {
            break;
        }
    }
    Ok(Looked::Found(addresses))
}

fn ask(server: IpAddr, name: &Name, kind: RecordType, patience: Duration) -> io::Result<Message> {
    let own: IpAddr = match server {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(own, 0))?;
    socket.connect(SocketAddr::new(server, PORT))?;
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name.clone(), kind));
    socket.send(&query.to_vec().map_err(io::Error::other)?)?;
    let end = Instant::now() + patience;
    let mut buffer = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = match socket.recv(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            received => received?,
        };
        let reply = buffer.get(..length).map(Message::from_vec);
        if let Some(Ok(reply)) = reply
            && reply.metadata.id == query.metadata.id
        {
            return Ok(reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{Record, rdata};

    use super::*;

    #[test]
    fn silence_ends_in_time_and_a_bad_name_at_once() {
        let begin = Instant::now();
        let bad = look_up(Ipv4Addr::LOCALHOST.into(), "a..b", Duration::from_secs(9)).unwrap_err();
        assert_eq!(bad.kind(), io::ErrorKind::InvalidInput);
        // Nobody answers at an address for documentation; without a route, that is said at once.
        let silent = look_up([192, 0, 2, 254].into(), "web", Duration::from_millis(20));
        assert!(silent.is_err());
        assert!(begin.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn addresses_are_read() {
        let mut reply = Message::query();
        let name = Name::from_ascii("web.").unwrap();
        reply.metadata.response_code = ResponseCode::NoError;
        reply.add_answer(Record::from_rdata(name, 1, RData::A(rdata::A::new(10, 0, 0, 2))));
        let again = Message::from_vec(&reply.to_vec().unwrap()).unwrap();
        assert!(
            matches!(&again.answers[0].data, RData::A(address) if address.0 == Ipv4Addr::new(10, 0, 0, 2))
        );
    }
}
