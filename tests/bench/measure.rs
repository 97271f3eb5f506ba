//! Takes samples in rounds where each subject has its turn, with a progress bar, and ends on ^C. Must not know what is
//! measured.

use std::{
    cell::RefCell,
    io::IsTerminal,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::figures::{Figure, Subject, Unit};

/// How many times a sample is tried: a port may still be in use by the last one, or a packet may be lost.
const TRIES: usize = 3;

/// Set when the user wants to end the run.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The extent of the measurements.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The number of rounds.
    pub rounds: usize,
    /// The length of each sample in seconds, for tools that run for a time.
    pub seconds: u32,
    /// Only the most important figures.
    pub quick: bool,
    /// The maximum number of containers in one network.
    pub containers: u32,
}

impl Plan {
    /// The number of rounds with short samples.
    pub fn fine_rounds(&self) -> usize {
        5 * self.rounds
    }

    /// The length of short samples.
    pub fn short(&self) -> Duration {
        Duration::from_secs(self.seconds.into()) / 5
    }
}

/// The figures of this run.
pub struct Session {
    /// The extent of the measurements.
    pub plan: Plan,
    figures: RefCell<Vec<Figure>>,
    scene: RefCell<&'static str>,
    bar: Option<ProgressBar>,
}

/// The name and unit of a figure.
pub type Title<'a> = (&'a str, Unit);

impl Session {
    /// A session without figures.
    pub fn new(plan: Plan) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let template = "{spinner} {prefix:.bold} {bar:24.cyan} {pos}/{len} {wide_msg:.dim} {elapsed}";
            bar.set_style(
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { plan, figures: RefCell::default(), scene: RefCell::new(""), bar }
    }

    /// Assigns the following figures to this scene.
    pub fn begin(&self, scene: &'static str, number: usize, of: usize) {
        *self.scene.borrow_mut() = scene;
        let shown = format!("{number}/{of} {scene}");
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(shown);
                bar.set_length(0);
                bar.set_position(0);
            }
            None => eprintln!("{shown}"),
        }
    }

    /// Shows what is being prepared.
    pub fn doing(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None => eprintln!("  {what}"),
        }
    }

    /// Removes the progress bar.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Prints a line above the progress bar.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Takes one sample of each subject in each round, and keeps the figures. A sample has a number for each figure.
    pub fn measure<const N: usize, T>(
        &self,
        rounds: usize,
        titles: [Title<'_>; N],
        subjects: &[(Subject, T)],
        mut sample: impl FnMut(&T) -> Result<[f64; N]>,
    ) -> Result<()> {
        let mut samples: [Vec<(Subject, Vec<f64>)>; N] =
            std::array::from_fn(|_| subjects.iter().map(|(subject, _)| (*subject, Vec::new())).collect());
        if let Some(bar) = &self.bar {
            bar.inc_length((rounds * subjects.len()) as u64);
        }
        let name = titles.first().map_or("", |(name, _)| name);
        self.doing(name);
        for round in 0..rounds {
            for turn in turns(subjects.len(), round) {
                let (subject, of) = &subjects[turn];
                if let Some(bar) = &self.bar {
                    bar.set_message(format!("{name}: {}", subject.name()));
                }
                let numbers = self.try_sample(|| sample(of))?;
                for (figure, number) in samples.iter_mut().zip(numbers) {
                    figure[turn].1.push(number);
                }
                if let Some(bar) = &self.bar {
                    bar.inc(1);
                }
            }
        }
        for ((name, unit), samples) in titles.into_iter().zip(samples) {
            self.keep(name, unit, samples);
        }
        Ok(())
    }

    /// Keeps a figure that was computed elsewhere.
    pub fn keep(&self, name: &str, unit: Unit, samples: Vec<(Subject, Vec<f64>)>) {
        let figure = Figure { scene: *self.scene.borrow(), name: name.to_owned(), unit, samples };
        self.figures.borrow_mut().push(figure);
    }

    /// All figures so far.
    pub fn figures(&self) -> Vec<Figure> {
        self.figures.borrow().clone()
    }

    fn try_sample<T>(&self, mut sample: impl FnMut() -> Result<T>) -> Result<T> {
        for tried in 1.. {
            go_on()?;
            match sample() {
                Err(error) if tried == TRIES || INTERRUPTED.load(Ordering::Relaxed) => return Err(error),
                Err(error) => {
                    let error = format!("{error:#}");
                    let last = error.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
                    self.say(&format!("once more: {last}"));
                    std::thread::sleep(Duration::from_millis(300));
                }
                done => return done,
            }
        }
        unreachable!("the last try returns")
    }
}

/// Fails once the user wants to end the run.
pub fn go_on() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// The order of the subjects in a round: each round starts with another one.
fn turns(subjects: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..subjects).map(move |turn| (turn + round) % subjects)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session::new(Plan { rounds: 3, seconds: 1, quick: true, containers: 10 })
    }

    #[test]
    fn each_subject_has_its_turn_in_each_round_and_none_is_always_first() {
        let order: Vec<Vec<usize>> = (0..3).map(|round| turns(3, round).collect()).collect();
        assert_eq!(order, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
    }

    #[test]
    fn samples_are_kept_by_round_whoever_was_first() {
        let session = session();
        let subjects = [(Subject::Bare, 1.0), (Subject::Netbpf, 10.0)];
        let mut count = 0.0;
        session
            .measure(3, [("n", Unit::Thousands), ("twice n", Unit::Thousands)], &subjects, |factor| {
                count += 1.0;
                Ok([count * factor, 2.0 * count * factor])
            })
            .unwrap();
        let figures = session.figures();
        assert_eq!(figures[0].of(Subject::Bare).unwrap(), [1.0, 4.0, 5.0]);
        assert_eq!(figures[0].of(Subject::Netbpf).unwrap(), [20.0, 30.0, 60.0]);
        assert_eq!(figures[1].of(Subject::Bare).unwrap(), [2.0, 8.0, 10.0]);
    }

    #[test]
    fn a_sample_that_fails_is_tried_again_but_not_for_ever() {
        let session = session();
        let mut tries = 0;
        let sample = |fails: usize, tries: &mut usize| {
            *tries += 1;
            if *tries <= fails { bail!("no luck") } else { Ok(*tries) }
        };
        assert_eq!(session.try_sample(|| sample(2, &mut tries)).unwrap(), 3);
        tries = 0;
        assert!(session.try_sample(|| sample(9, &mut tries)).is_err());
        assert_eq!(tries, TRIES);
    }
}
