//! How long people wait for commands, from the start of the client to its end.

use std::time::Instant;

use anyhow::Result;
use netbpf_tests::{
    engine::{Engine, IMAGE},
    lab::Lab,
};

use crate::{
    figures::{Subject, Unit},
    measure::Session,
    pair::text,
    world::World,
};

/// What the figure is called that targets are about.
pub const CONNECT: &str = "network connect";

/// Who is told.
enum Told<'a> {
    Engine(&'a Engine<'a>),
    Netbpf(&'a Lab),
}

impl Told<'_> {
    fn make(&self) -> Result<()> {
        match self {
            Self::Engine(engine) => {
                text(engine.docker("network create side"))?;
                text(engine.docker(&format!("run -d --name moves {IMAGE} sleep 1000000")))?;
            }
            Self::Netbpf(lab) => {
                text(lab.netbpf(["network", "create", "side"]))?;
                text(lab.netbpf(["run", "-d", "--name", "moves", "--", "sleep", "infinity"]))?;
            }
        }
        Ok(())
    }

    fn unmake(&self) -> Result<()> {
        match self {
            Self::Engine(engine) => {
                text(engine.docker("rm -f moves"))?;
                text(engine.docker("network rm side"))?;
            }
            Self::Netbpf(lab) => {
                text(lab.netbpf(["rm", "-f", "moves"]))?;
                text(lab.netbpf(["network", "rm", "side"]))?;
            }
        }
        Ok(())
    }

    /// How long a command took, in ms.
    fn time(&self, command: &str) -> Result<f64> {
        let started = Instant::now();
        let output = match self {
            Self::Engine(engine) => engine.docker(command),
            Self::Netbpf(lab) => lab.netbpf(command.split_whitespace()),
        };
        let took = started.elapsed().as_secs_f64() * 1e3;
        text(output).map(|_| took)
    }

    fn run(&self) -> String {
        match self {
            Self::Engine(_) => format!("run -d --name new --network side {IMAGE} sleep 1000000"),
            Self::Netbpf(_) => "run -d --name new --net side -- sleep infinity".to_owned(),
        }
    }
}

/// Docker against netbpf.
pub fn run(world: &World<'_>, session: &Session) -> Result<()> {
    let engine = world.engine.map(|engine| (Subject::Docker, Told::Engine(engine)));
    let netbpfs = world.netbpfs.iter().map(|(subject, lab)| (*subject, Told::Netbpf(lab)));
    let told: Vec<_> = engine.into_iter().chain(netbpfs).collect();
    for (_, who) in &told {
        who.make()?;
    }
    // They take milliseconds: many rounds cost little.
    let titles = [(CONNECT, Unit::Milliseconds), ("network disconnect", Unit::Milliseconds)];
    session.measure(3 * session.plan.rounds, titles, &told, |who| {
        Ok([who.time("network connect side moves")?, who.time("network disconnect side moves")?])
    })?;
    let titles = [("run -d", Unit::Milliseconds), ("rm -f", Unit::Milliseconds)];
    session.measure(session.plan.rounds, titles, &told, |who| {
        Ok([who.time(&who.run())?, who.time("rm -f new")?])
    })?;
    told.iter().try_for_each(|(_, who)| who.unmake())
}
