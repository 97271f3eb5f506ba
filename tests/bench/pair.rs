//! A pair of containers or plain namespaces: the places of clients and servers, the path between them, and the running
//! servers. Must not know how they were created.

use std::{
    cell::RefCell,
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use netbpf_tests::lab::{Lab, Output, Process, eventually};

/// How long a command may take beyond its given time.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The CPUs to which both ends are bound.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    /// The CPU of clients, and of servers if both ends share a CPU.
    pub one: usize,
    /// The CPU of servers otherwise; `None` on a machine with one CPU.
    pub other: Option<usize>,
}

/// A service of the server, with a port of its own; runs once on each of the two CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// A probe that echoes UDP datagrams.
    UdpEcho,
    /// A probe that echoes TCP data.
    TcpEcho,
    /// A probe that reads UDP datagrams.
    Sink,
    /// iperf3.
    Bulk,
    /// nginx.
    Web,
}

/// All services.
pub const SERVICES: [Service; 5] =
    [Service::UdpEcho, Service::TcpEcho, Service::Sink, Service::Bulk, Service::Web];

impl Service {
    /// The port of the service on a CPU.
    pub fn port(self, shares_cpu: bool) -> u16 {
        1000 + 10 * self as u16 + u16::from(shares_cpu)
    }

    fn command(self, port: u16, folder: &str) -> Result<Vec<String>> {
        let words = match self {
            Self::UdpEcho => return probe(&["echo", "udp", &port.to_string()]),
            Self::TcpEcho => return probe(&["echo", "tcp", &port.to_string()]),
            Self::Sink => return probe(&["sink", &port.to_string()]),
            Self::Bulk => format!("iperf3 -s -p {port}"),
            Self::Web => format!("nginx -e stderr -c {folder}/nginx.conf"),
        };
        Ok(words.split(' ').map(str::to_owned).collect())
    }

    /// Its protocol in the form of `docker run -p`.
    pub fn protocol(self) -> &'static str {
        match self {
            Self::UdpEcho | Self::Sink => "udp",
            Self::TcpEcho | Self::Bulk | Self::Web => "tcp",
        }
    }
}

/// The options that publish all services of a container, with `offset` added to the ports.
pub fn publish_all(offset: u16) -> String {
    let ports = SERVICES.iter().flat_map(|service| [true, false].map(|shares| (*service, shares)));
    let options = ports.map(|(service, shares)| {
        let port = service.port(shares);
        format!("-p {}:{port}/{}", offset + port, service.protocol())
    });
    options.collect::<Vec<_>>().join(" ")
}

/// Two ends of a network on a host.
pub struct Pair<'a> {
    /// The host of both ends.
    pub host: &'a Lab,
    /// The client's namespace, as a path for nsenter.
    pub client: String,
    /// The server's namespace, as a path for nsenter.
    pub server: String,
    /// The server's IPv4 address.
    pub address: String,
    /// The offset of the published ports; a different one for each pair on the host.
    pub offset: u16,
    running: RefCell<Vec<(Service, bool, Process)>>,
}

/// The path from a client to the server of a pair.
#[derive(Clone)]
pub struct Way<'a> {
    pair: &'a Pair<'a>,
    from: String,
    /// The address at which the client connects.
    pub address: String,
    offset: u16,
}

impl<'a> Pair<'a> {
    /// Two existing ends; namespaces are `/run/netns/NAME` or `/proc/PID/ns/net` of the host.
    pub fn new(host: &'a Lab, client: String, server: String, address: String, offset: u16) -> Self {
        Self { host, client, server, address, offset, running: RefCell::default() }
    }

    /// The path from the client to the server.
    pub fn inside(&'a self) -> Way<'a> {
        Way { pair: self, from: self.client.clone(), address: self.address.clone(), offset: 0 }
    }

    /// The path from the namespace `from` to the published ports at an address of the host.
    pub fn published(&'a self, from: &str, address: &str) -> Way<'a> {
        Way { pair: self, from: from.to_owned(), address: address.to_owned(), offset: self.offset }
    }

    /// Starts a server on the client's CPU or on the other one.
    fn serve(&self, service: Service, cpus: Cpus, shares_cpu: bool) -> Result<()> {
        let mut running = self.running.borrow_mut();
        if running.iter().any(|(of, shares, _)| (*of, *shares) == (service, shares_cpu)) {
            return Ok(());
        }
        let port = service.port(shares_cpu);
        // All pairs of the host share its file system.
        let folder = format!("/run/web-{}", self.offset + port);
        if service == Service::Web {
            std::fs::create_dir_all(self.host.path(&folder))?;
            std::fs::write(self.host.path(&folder).join("nginx.conf"), web_config(&folder, port))?;
        }
        let cpu = if shares_cpu { Some(cpus.one) } else { cpus.other };
        let command = service.command(port, &folder)?;
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let process = self.host.spawn(words(&self.server, cpu, &command));
        eventually(&format!("{service:?} listens"), || {
            let listening = self.host.host(words(&self.server, None, &["ss", "-Hltun"])).ok();
            listening.stdout.contains(&format!(":{port} ")).then_some(())
        });
        running.push((service, shares_cpu, process));
        Ok(())
    }
}

impl Way<'_> {
    /// Starts a server at the end of this path. Returns the port at which the client connects.
    pub fn serve(&self, service: Service, cpus: Cpus, shares_cpu: bool) -> Result<u16> {
        self.pair.serve(service, cpus, shares_cpu)?;
        Ok(self.offset + service.port(shares_cpu))
    }

    /// Runs a command at the client's end, optionally bound to a CPU. Returns its output.
    pub fn run(&self, cpu: Option<usize>, command: &[&str]) -> Result<String> {
        text(self.pair.host.spawn(words(&self.from, cpu, command)).output_within(2 * TIMEOUT))
    }

    /// Runs a probe at the client's end, bound to a CPU. Returns its output.
    pub fn probe(&self, cpu: usize, told: &[&str]) -> Result<String> {
        let command = probe(told)?;
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        self.run(Some(cpu), &command)
    }

    /// Runs a closure in a thread at the client's end.
    pub fn at_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pair.host.in_namespace(&self.from, work)
    }

    /// A UDP socket at the server's end that nobody reads, with its port.
    pub fn unread(&self) -> Result<(UdpSocket, u16)> {
        let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
        let socket = self.pair.host.in_namespace(&self.pair.server, bind)?;
        let port = socket.local_addr()?.port();
        Ok((socket, port))
    }

    /// The kernel's counters at the server's end for UDP over IPv4: `(received by the server, dropped at its full
    /// socket)`.
    pub fn udp_counters(&self) -> Result<(u64, u64)> {
        let said = text(self.pair.host.host(words(&self.pair.server, None, &["cat", "/proc/net/snmp"])))?;
        let mut lines = said.lines().filter_map(|line| line.strip_prefix("Udp: "));
        let (Some(names), Some(values)) = (lines.next(), lines.next()) else { bail!("no UDP in {said}") };
        let value = |name: &str| {
            let at = names.split(' ').position(|it| it == name)?;
            values.split(' ').nth(at)?.parse().ok()
        };
        match (value("InDatagrams"), value("RcvbufErrors")) {
            (Some(received), Some(lost)) => Ok((received, lost)),
            _ => bail!("no UDP counters in {said}"),
        }
    }
}

/// The command line of this program as a probe.
fn probe(told: &[&str]) -> Result<Vec<String>> {
    let this = std::env::current_exe().context("find this program")?;
    let this = this.to_str().context("this program's path is no text")?;
    Ok([this, "probe"].iter().chain(told).map(|word| (*word).to_owned()).collect())
}

/// The output of a command, or an error if it failed.
pub fn text(output: Output) -> Result<String> {
    if !output.status.success() {
        bail!("{output}");
    }
    Ok(output.stdout)
}

/// The command line that runs a command in a namespace, optionally bound to a CPU.
fn words(namespace: &str, cpu: Option<usize>, command: &[&str]) -> Vec<String> {
    let mut words = vec!["nsenter".to_owned(), format!("--net={namespace}")];
    if let Some(cpu) = cpu {
        words.extend(["taskset".to_owned(), "-c".to_owned(), cpu.to_string()]);
    }
    words.extend(command.iter().map(|word| (*word).to_owned()));
    words
}

/// The configuration of nginx, which writes to a directory of the host only.
fn web_config(folder: &str, port: u16) -> String {
    format!(
        "daemon off; worker_processes 1; pid {folder}/pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{ listen {port}; location / {{ return 200 'netbpf\\n'; }} }}
}}
"
    )
}
