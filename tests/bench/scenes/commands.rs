//! The time of commands from the start of the client to its end: one at a time, and several at once.

use std::time::Instant;

use anyhow::Result;
use netbpf_tests::{
    engine::{Engine, IMAGE},
    lab::{Lab, Process},
};

use crate::{
    figures::{Subject, Unit},
    measure::Session,
    pair::text,
    world::World,
};

/// The name of the figure, for the targets.
pub const CONNECT: &str = "network connect";

/// The number of concurrent commands.
const AT_ONCE: usize = 8;

/// The daemon that gets the commands.
enum Told<'a> {
    Engine(&'a Engine<'a>),
    Netbpf(&'a Lab),
}

impl Told<'_> {
    fn start(&self, command: &str) -> Process {
        match self {
            Self::Engine(engine) => engine.spawn_docker(command),
            Self::Netbpf(lab) => lab.spawn_netbpf(command.split_whitespace()),
        }
    }

    /// The time of a command in ms.
    fn time(&self, command: impl AsRef<str>) -> Result<f64> {
        self.time_all([command])
    }

    /// The time of concurrent commands in ms, until the last one has ended.
    fn time_all<S: AsRef<str>>(&self, commands: impl IntoIterator<Item = S>) -> Result<f64> {
        let started = Instant::now();
        let commands: Vec<_> = commands.into_iter().map(|command| self.start(command.as_ref())).collect();
        let outputs: Vec<_> = commands.into_iter().map(Process::output).collect();
        let took = started.elapsed().as_secs_f64() * 1e3;
        outputs.into_iter().try_for_each(|output| text(output).map(drop))?;
        Ok(took)
    }

    fn run(&self, name: &str, network: &str) -> String {
        match self {
            Self::Engine(_) => format!("run -d --name {name} --network {network} {IMAGE} sleep 1000000"),
            Self::Netbpf(_) => format!("run -d --name {name} --net {network} -- sleep infinity"),
        }
    }
}

fn numbered(command: &str) -> impl Iterator<Item = String> {
    (0..AT_ONCE).map(move |number| format!("{command}-{number}"))
}

/// Docker and netbpf.
pub fn run(world: &World<'_>, session: &Session) -> Result<()> {
    let engine = world.engine.map(|engine| (Subject::Docker, Told::Engine(engine)));
    let netbpfs = world.netbpfs.iter().map(|(subject, lab)| (*subject, Told::Netbpf(lab)));
    let told: Vec<_> = engine.into_iter().chain(netbpfs).collect();
    for (_, who) in &told {
        who.time("network create side")?;
        who.time_all(numbered("moves").map(|name| who.run(&name, "bridge")))?;
    }
    // The commands take milliseconds, so many rounds are cheap.
    let titles = [(CONNECT, Unit::Milliseconds), ("network disconnect", Unit::Milliseconds)];
    session.measure(3 * session.plan.rounds, titles, &told, |who| {
        Ok([who.time("network connect side moves-0")?, who.time("network disconnect side moves-0")?])
    })?;
    let titles = [("run -d", Unit::Milliseconds), ("rm -f", Unit::Milliseconds)];
    session.measure(session.plan.rounds, titles, &told, |who| {
        Ok([who.time(who.run("new", "side"))?, who.time("rm -f new")?])
    })?;
    if !session.plan.quick {
        run_at_once(session, &told)?;
    }
    told.iter().try_for_each(|(_, who)| {
        who.time_all(numbered("rm -f moves"))?;
        who.time("network rm side").map(drop)
    })
}

fn run_at_once(session: &Session, told: &[(Subject, Told<'_>)]) -> Result<()> {
    let names = ["network connect", "network disconnect", "run -d", "rm -f"]
        .map(|command| format!("{AT_ONCE} times {command} at once"));
    let titles: [_; 4] = std::array::from_fn(|index| (names[index].as_str(), Unit::Milliseconds));
    session.measure(session.plan.rounds, titles, told, |who| {
        Ok([
            who.time_all(numbered("network connect side moves"))?,
            who.time_all(numbered("network disconnect side moves"))?,
            who.time_all(numbered("new").map(|name| who.run(&name, "side")))?,
            who.time_all(numbered("rm -f new"))?,
        ])
    })
}
