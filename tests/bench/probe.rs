//! A minimal client and server: a message there and back; a flood; a server that reads it. sockperf can do the same,
//! but needs two seconds to start before each half second of measurement, and interleaved measurements need short
//! turns. Each probe is a process of this program (`netbpf-bench probe …`), so that it can run in a namespace and be
//! bound to a CPU like any other tool.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::figures::quantile;

/// How long to wait for the other end.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The length of a message in bytes.
const SIZE: usize = 64;
/// The part of the time before the measurement starts, which warms up caches.
const WARM_UP: f64 = 0.1;

/// Runs a probe with the arguments that follow `probe` on the command line.
pub fn run(words: &[String]) -> Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["echo", "udp", port] => echo_udp(port.parse()?),
        ["echo", "tcp", port] => echo_tcp(port.parse()?),
        ["sink", port] => sink(port.parse()?),
        ["ping", "udp", address, millis] => say_median(udp_round_trips(address, time(millis)?)?),
        ["ping", "tcp", address, millis] => say_median(tcp_round_trips(address, time(millis)?)?),
        ["flood", address, millis] => flood(address, time(millis)?),
        _ => bail!("no such probe: {}", words.join(" ")),
    }
}

fn time(millis: &str) -> Result<Duration> {
    Ok(Duration::from_millis(millis.parse()?))
}

fn say_median(mut micros: Vec<f64>) -> Result<()> {
    micros.sort_by(f64::total_cmp);
    let median = quantile(&micros, 0.5).context("no answer came in time")?;
    // Half of the round trip.
    println!("{:.4}", median / 2.0);
    Ok(())
}

fn echo_udp(port: u16) -> Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", port))?;
    let mut message = [0; SIZE];
    loop {
        let (length, from) = socket.recv_from(&mut message)?;
        // Fails if the client is gone, which must not end the server.
        let _ = socket.send_to(&message[..length], from);
    }
}

fn echo_tcp(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    loop {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut message = [0; SIZE];
        while stream.read_exact(&mut message).is_ok() && stream.write_all(&message).is_ok() {}
    }
}

fn sink(port: u16) -> Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", port))?;
    loop {
        socket.recv(&mut [0; SIZE])?;
    }
}

fn udp_round_trips(address: &str, time: Duration) -> Result<Vec<f64>> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(address).with_context(|| format!("connect to {address}"))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    let mut message = [0; SIZE];
    round_trips(time, || {
        socket.send(&message)?;
        socket.recv(&mut message).map(drop)
    })
}

fn tcp_round_trips(address: &str, time: Duration) -> Result<Vec<f64>> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut message = [0; SIZE];
    round_trips(time, || {
        stream.write_all(&message)?;
        stream.read_exact(&mut message)
    })
}

/// The time of each round trip in µs.
fn round_trips(time: Duration, mut once: impl FnMut() -> std::io::Result<()>) -> Result<Vec<f64>> {
    let mut micros = Vec::with_capacity(1 << 18);
    let started = Instant::now();
    let mut before = started;
    while before - started < time {
        once().context("wait for an answer")?;
        let now = Instant::now();
        if now - started > time.mul_f64(WARM_UP) {
            micros.push((now - before).as_secs_f64() * 1e6);
        }
        before = now;
    }
    Ok(micros)
}

/// Sends a flood. Prints the number of datagrams and the time in seconds.
fn flood(address: &str, time: Duration) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(address).with_context(|| format!("connect to {address}"))?;
    let (started, mut sent) = (Instant::now(), 0_u64);
    while started.elapsed() < time {
        for _ in 0..32 {
            sent += u64::from(socket.send(&[0; SIZE]).is_ok());
        }
    }
    println!("{sent} {:.6}", started.elapsed().as_secs_f64());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_are_timed_after_the_first_tenth() {
        let pause = Duration::from_millis(2);
        let times = round_trips(Duration::from_millis(100), || {
            std::thread::sleep(pause);
            Ok(())
        })
        .unwrap();
        assert!((10..=46).contains(&times.len()), "{}", times.len());
        assert!(times.iter().all(|micros| *micros >= 2000.0), "{times:?}");
    }

    #[test]
    fn an_echo_sends_back_what_it_gets() {
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).unwrap().port();
        let (udp, tcp) = (free(), free());
        std::thread::spawn(move || echo_udp(udp));
        std::thread::spawn(move || echo_tcp(tcp));
        // Nothing tells when the servers listen.
        std::thread::sleep(Duration::from_millis(200));
        let time = Duration::from_millis(50);
        assert!(!udp_round_trips(&format!("127.0.0.1:{udp}"), time).unwrap().is_empty());
        assert!(!tcp_round_trips(&format!("127.0.0.1:{tcp}"), time).unwrap().is_empty());
    }
}
