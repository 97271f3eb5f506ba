//! The time in which engines start and remove containers in a network of netbpf, and in one of their own on the same host.

use std::time::Instant;

use anyhow::Result;
use netbpf_tests::{
    engine::{Engine, IMAGE},
    lab::{Lab, Output},
    podman::{Backend, Podman},
};

use crate::{
    figures::{Subject, Unit},
    measure::Session,
    pair::text,
    world::World,
};

/// An engine on a host with netbpf.
enum Told<'a> {
    Docker(Engine<'a>),
    Podman(Podman<'a>),
}

/// Docker, if it is there, and podman.
pub fn run(world: &World<'_>, session: &Session) -> Result<()> {
    let labs: Vec<(Subject, Lab)> = world
        .programs()
        .map(|(subject, program)| (subject, Lab::start_program(program).unchecked()))
        .collect();
    if world.engine.is_some() {
        measure(session, &labs, |lab| Told::Docker(Engine::start(lab)))?;
    }
    measure(session, &labs, |lab| Told::Podman(Podman::enter(lab, Backend::Netavark)))
}

/// The engine's own network is that on the first host.
fn measure<'a>(
    session: &Session,
    labs: &'a [(Subject, Lab)],
    start: impl Fn(&'a Lab) -> Told<'a>,
) -> Result<()> {
    session.doing("starting an engine");
    let engines: Vec<(Subject, Told<'_>)> =
        labs.iter().map(|(subject, lab)| (*subject, start(lab))).collect();
    let mut ways = Vec::new();
    for (subject, engine) in &engines {
        engine.create_networks()?;
        if ways.is_empty() {
            ways.push((Subject::Bridge, (engine, "plain")));
        }
        ways.push((*subject, (engine, engine.ours())));
    }
    let Some((_, first)) = engines.first() else { return Ok(()) };
    let names = [
        first.words("run -d"),
        first.words("rm -f"),
        first.words("run -d -p"),
        first.words("rm -f, with a port"),
    ];
    let titles: [_; 4] = std::array::from_fn(|index| (names[index].as_str(), Unit::Milliseconds));
    session.measure(session.plan.rounds, titles, &ways, |(engine, network)| {
        let [run, remove] = engine.run_and_remove(network, "")?;
        let [publish, unpublish] = engine.run_and_remove(network, "-p 18080:80")?;
        Ok([run, remove, publish, unpublish])
    })
}

impl Told<'_> {
    /// The engine's command.
    fn words(&self, command: &str) -> String {
        match self {
            Self::Docker(_) => format!("docker {command}"),
            Self::Podman(_) => format!("podman {command}"),
        }
    }

    fn execute(&self, command: &str) -> Output {
        match self {
            Self::Docker(engine) => engine.docker(command),
            Self::Podman(podman) => podman.podman(command),
        }
    }

    /// The name of its network of netbpf.
    fn ours(&self) -> &'static str {
        match self {
            Self::Docker(_) => "docked",
            Self::Podman(_) => "podded",
        }
    }

    /// Creates its own network and that of netbpf.
    fn create_networks(&self) -> Result<()> {
        // podman's name server would take time of its own.
        let plain = match self {
            Self::Docker(_) => "network create plain",
            Self::Podman(_) => "network create --disable-dns plain",
        };
        text(self.execute(plain))?;
        text(self.execute(&format!("network create -d netbpf {}", self.ours()))).map(drop)
    }

    /// Starts and removes a container. Returns the times in ms.
    fn run_and_remove(&self, network: &str, publish: &str) -> Result<[f64; 2]> {
        let (image, remove) = match self {
            Self::Docker(_) => (IMAGE, "rm -f new"),
            Self::Podman(_) => ("--rootfs /image", "rm -f -t 0 new"),
        };
        let run = format!("run -d --name new --network {network} {publish} {image} sleep 1000000");
        // It is removed in any case, because a sample is tried again.
        let [run, remove] = [self.time(&run), self.time(remove)];
        Ok([run?, remove?])
    }

    fn time(&self, command: &str) -> Result<f64> {
        let started = Instant::now();
        let output = self.execute(command);
        let took = started.elapsed().as_secs_f64() * 1e3;
        text(output).map(|_| took)
    }
}
