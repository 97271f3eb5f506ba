//! Who takes a packet that has arrived: a process, by the kernel's list of sockets.

use std::{fs, net::IpAddr, os::unix::fs::MetadataExt};

use super::walk::{Ground, Step, Walk, on};
use crate::{
    daemon::Error,
    link::questions::{self, Listener},
    plan::explain::{
        Code, Source,
        packet::{Packet, Payload},
    },
};

/// The most processes whose files are looked at.
const MAX_PROCESSES: usize = 4096;

/// Adds who takes a packet. Returns whether somebody does, so that there is an answer.
pub async fn of<'a>(walk: &mut Walk<'a>, ground: Ground<'a>, packet: &Packet) -> Result<bool, Error> {
    let name = ground.name().to_owned();
    let to = packet.destination;
    let Payload::Ports { protocol, destination: port, .. } = packet.payload else {
        return answers_pings(walk, ground, to).await;
    };
    let number = protocol.number();
    let found = on(ground, "sockets", move || {
        let listeners = questions::listeners(number, port)?;
        // Only of the one that is told: to find it takes a look at each process.
        let told = listeners.iter().position(|listener| listener.takes(to));
        let told = told.or_else(|| listeners.iter().position(Listener::is_on_loopback)).unwrap_or_default();
        let owner = listeners.get(told).map(|listener| process(listener.inode)).unwrap_or_default();
        Ok((listeners, owner))
    })
    .await;
    let (listeners, owner) = match found {
        Ok(found) => found,
        Err(Error::Question { source, .. }) => {
            let text = format!("who listens at {protocol}/{port} cannot be told: {source}");
            walk.add(Step::unknown(&name, text, Source::Sockets));
            return Ok(true);
        }
        Err(error) => return Err(error),
    };
    let shown = |index: usize| {
        let Listener { address, .. } = listeners[index];
        let owner = if owner.is_empty() { "a process" } else { owner.as_str() };
        (owner.to_owned(), std::net::SocketAddr::new(address, port).to_string())
    };
    if let Some(index) = listeners.iter().position(|listener| listener.takes(to)) {
        let (owner, at) = shown(index);
        let text = format!("{owner} listens at {at}");
        walk.add(Step::good(&name, Code::Listening, text, Source::Sockets).by(format!("{protocol} {at}")));
        return Ok(true);
    }
    let at = std::net::SocketAddr::new(to, port);
    if let Some(index) = listeners.iter().position(Listener::is_on_loopback)
        && walk.published_elsewhere(ground, packet).is_none()
    {
        let (owner, own) = shown(index);
        let text = format!("nobody listens at {at}");
        let help = format!("{owner} listens for {name} itself only: let it listen at 0.0.0.0, or at {to}");
        let step = Step::bad(&name, Code::ListensOnLoopback, text, Source::Sockets);
        walk.add(step.by(format!("{owner} has {own}")).help(help));
        return Ok(false);
    }
    if let Some(step) = walk.published_elsewhere(ground, packet) {
        walk.add(step);
        return Ok(false);
    }
    let text = match listeners.len() {
        0 => format!("nobody listens at {at}"),
        _ => format!("nobody listens at {at}, but at {}", shown(0).1),
    };
    let help = match ground {
        Ground::Host => "is the service started? No container publishes this port".to_owned(),
        Ground::Station(_) => format!("is the service started? netbpf exec {name} ss -ltnup"),
    };
    walk.add(Step::bad(&name, Code::NotListening, text, Source::Sockets).help(help));
    Ok(false)
}

async fn answers_pings<'a>(walk: &mut Walk<'a>, ground: Ground<'a>, to: IpAddr) -> Result<bool, Error> {
    let name = ground.name().to_owned();
    let setting = match to {
        IpAddr::V4(_) => "ipv4/icmp_echo_ignore_all",
        IpAddr::V6(_) => "ipv6/icmp/echo_ignore_all",
    };
    let value = on(ground, "settings", move || fs::read_to_string(format!("/proc/sys/net/{setting}"))).await;
    if value.is_ok_and(|value| value.trim() == "1") {
        let setting = format!("net.{}", setting.replace('/', "."));
        let text = format!("{name} does not answer pings");
        let step = Step::bad(&name, Code::NoEcho, text, Source::Kernel);
        walk.add(
            step.by(format!("{setting} = 1"))
                .help(format!("sysctl -w {setting}=0 in {name}; or ask for a port")),
        );
        return Ok(false);
    }
    let text = format!("{to} is its own, and it answers pings");
    walk.add(Step::good(&name, Code::Local, text, Source::Kernel));
    Ok(true)
}

/// The process of the calling thread's namespace that has a socket open: `nginx (812)`; empty if none is found.
fn process(inode: u32) -> String {
    let Ok(own) = fs::metadata("/proc/thread-self/ns/net").map(|it| it.ino()) else { return String::new() };
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids.take(MAX_PROCESSES) {
        let folder = format!("/proc/{pid}");
        if !fs::metadata(format!("{folder}/ns/net")).is_ok_and(|it| it.ino() == own) {
            continue;
        }
        let files = fs::read_dir(format!("{folder}/fd")).into_iter().flatten().flatten();
        let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        if targets.any(|target| target.as_os_str() == wanted.as_str()) {
            let name = fs::read_to_string(format!("{folder}/comm")).unwrap_or_default();
            return format!("{} ({pid})", name.trim_end_matches('\n').escape_debug());
        }
    }
    String::new()
}
