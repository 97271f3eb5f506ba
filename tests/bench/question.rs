//! Sends DNS queries to a server one after another and measures each. dnsperf waits long between queries that are sent
//! one at a time. Supports one kind of query only.

use std::{
    io,
    net::UdpSocket,
    time::{Duration, Instant},
};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Queries a name's IPv4 address for some time, from the calling thread's network namespace. Returns the time of each
/// answer in µs, sorted. An answer without an address is an error.
pub fn ask(server: &str, name: &str, time: Duration) -> io::Result<Vec<f64>> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((server, 53))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    let (mut times, mut answer) = (Vec::new(), [0; 512]);
    let started = Instant::now();
    while started.elapsed() < time {
        let question = question(times.len() as u16, name);
        let asked = Instant::now();
        socket.send(&question)?;
        let length = socket.recv(&mut answer)?;
        times.push(asked.elapsed().as_secs_f64() * 1e6);
        if !has_address(&question, &answer[..length]) {
            return Err(io::Error::other(format!("{server} does not know {name}")));
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// A query for type A and class IN with recursion desired (RFC 1035, 4.1).
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut question = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        question.push(label.len() as u8);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    question
}

/// Whether this is an answer to the query, without an error and with a record.
fn has_address(question: &[u8], answer: &[u8]) -> bool {
    let is_answer = answer.len() > 12 && answer[..2] == question[..2] && answer[2] & 0x80 != 0;
    is_answer && answer[3] & 0x0f == 0 && answer[6..8] != [0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_as_dns_has_it() {
        assert_eq!(
            question(0x1234, "db.net"),
            b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x02db\x03net\0\0\x01\0\x01"
        );
    }

    #[test]
    fn only_an_answer_with_a_record_counts() {
        let question = question(7, "db");
        let answer = |flags: [u8; 2], count: u8| {
            let mut answer = question.clone();
            answer[2..4].copy_from_slice(&flags);
            answer[7] = count;
            answer
        };
        assert!(has_address(&question, &answer([0x81, 0x80], 1)));
        assert!(!has_address(&question, &answer([0x81, 0x83], 0)), "NXDOMAIN");
        assert!(!has_address(&question, &answer([0x81, 0x80], 0)), "no record");
        assert!(!has_address(&question, &question), "the question itself");
    }
}
