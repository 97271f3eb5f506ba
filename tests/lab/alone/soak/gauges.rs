//! What may grow in hours: memory and descriptors of netbpf's processes, entries of its maps, pins, rules, links, its files.
//! Reads them between rounds, and judges at the end whether they are flat. Must not know what the rounds do.

use std::{cmp::Reverse, collections::BTreeMap, fs, path::Path};

use netbpf_tests::lab::{Lab, STATE_DIR};

use crate::shape;

/// The subcommand of each kind of process.
const PROCESSES: [&str; 4] = ["daemon", "responder", "relay", "supervise"];

/// The number of readings until caches and allocators have what they need.
const WARM_UP: usize = 12;

/// All readings.
#[derive(Default)]
pub struct Gauges {
    series: BTreeMap<(Kind, String), Vec<Reading>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Memory,
    Descriptors,
    Entries,
    Files,
    Store,
}

#[derive(Clone, Copy)]
struct Reading {
    /// The number of the process (or the sum of several), which tells whether it is another one than before; or zero.
    of: u32,
    value: u64,
}

impl Gauges {
    /// Reads all, while nothing happens.
    #[track_caller]
    pub fn read(&mut self, lab: &Lab) {
        for word in PROCESSES {
            let pids = lab.processes(&format!("netbpf {word}"));
            let of = pids.iter().sum();
            let sum = |read: &dyn Fn(&u32) -> u64| pids.iter().map(read).sum();
            self.add(Kind::Memory, word, of, sum(&|pid| memory(lab, *pid)));
            self.add(Kind::Descriptors, word, of, sum(&|pid| count(&lab.path(format!("/proc/{pid}/fd")))));
        }
        for (map, entries) in shape::entry_counts(lab) {
            self.add(Kind::Entries, &map, 0, entries);
        }
        let (elements, rules) = packet_filter(lab);
        self.add(Kind::Entries, "elements of nft sets and maps", 0, elements);
        self.add(Kind::Entries, "nft rules", 0, rules);
        let links = lab.host(["ip", "-o", "link"]).ok().stdout.lines().count();
        self.add(Kind::Entries, "links of the host", 0, links as u64);
        for folder in ["/sys/fs/bpf", "/run/netbpf", STATE_DIR] {
            let (files, bytes) = below(&lab.path(folder));
            self.add(Kind::Files, folder, 0, files);
            if folder == STATE_DIR {
                self.add(Kind::Store, folder, 0, bytes / 1024);
            }
        }
    }

    fn add(&mut self, kind: Kind, what: &str, of: u32, value: u64) {
        self.series.entry((kind, what.to_owned())).or_default().push(Reading { of, value });
    }

    /// The present memory and descriptors, for one line.
    pub fn line(&self) -> String {
        let now = |kind| {
            let last = |word: &str| {
                let read = self.series.get(&(kind, word.to_owned())).and_then(|readings| readings.last());
                read.map_or(0, |reading| reading.value).to_string()
            };
            PROCESSES.map(last).join("/")
        };
        format!(
            "{} KiB, {} descriptors of {}",
            now(Kind::Memory),
            now(Kind::Descriptors),
            PROCESSES.join("/")
        )
    }

    /// A table of all, and those that have grown.
    pub fn judge(&self) -> (String, Vec<String>) {
        let mut table =
            format!("{:<46} {:>8} {:>8} {:>8} {:>8}  verdict\n", "", "first", "warm", "last", "most");
        let mut grown = Vec::new();
        for ((kind, what), readings) in &self.series {
            let name = kind.name(what);
            let verdict = kind.judge(readings);
            let Row { first, warm, last, most } = verdict.row;
            let told = match verdict.growth {
                None => "too short to tell".to_owned(),
                Some(growth) if growth > verdict.bound => {
                    grown.push(format!("{name}: from {warm} to {last}, {growth} more"));
                    format!("GROWN by {growth}, allowed {}", verdict.bound)
                }
                Some(growth) => format!("flat: {growth} more, allowed {}", verdict.bound),
            };
            table += &format!("{name:<46} {first:>8} {warm:>8} {last:>8} {most:>8}  {told}\n");
        }
        (table, grown)
    }
}

/// The judgement of one series.
struct Verdict {
    row: Row,
    /// None if it is too short to tell.
    growth: Option<u64>,
    bound: u64,
}

#[derive(Clone, Copy)]
struct Row {
    first: u64,
    /// The most after the warm-up.
    warm: u64,
    /// The most at the end.
    last: u64,
    most: u64,
}

impl Kind {
    fn name(self, what: &str) -> String {
        match self {
            Self::Memory => format!("memory of {what}, KiB"),
            Self::Descriptors => format!("descriptors of {what}"),
            Self::Entries if what.contains(char::is_lowercase) => what.to_owned(),
            Self::Entries => format!("entries of {what}"),
            Self::Files => format!("files in {what}"),
            Self::Store => format!("size of {what}, KiB"),
        }
    }

    /// The allowed growth of what was `warm` after the warm-up.
    fn bound(self, warm: u64) -> u64 {
        match self {
            Self::Memory => (warm / 10).max(1024),
            // Connections that are being closed.
            Self::Descriptors => 3,
            // Between rounds they are always the same.
            Self::Entries | Self::Files => 0,
            // Space is allocated in large pieces.
            Self::Store => warm / 2,
        }
    }

    /// Judges the process whose life grew most, of those that lived long enough; what is no process lives once.
    ///
    /// What the process with the longest life needed, without growing, is a warm-up in the other lives: an allocator
    /// takes longer for it in some of them.
    fn judge(self, readings: &[Reading]) -> Verdict {
        let warm_up = if self.bound(0) == 0 && self != Self::Store { 1 } else { WARM_UP };
        let lives = readings.chunk_by(|one, next| one.of == next.of);
        let mut lives: Vec<_> = lives.filter(|life| life.len() >= 3 * warm_up).collect();
        lives.sort_by_key(|life| Reverse(life.len()));
        let mut rows: Vec<_> = lives.iter().map(|life| Row::of(life, warm_up)).collect();
        if let [longest, others @ ..] = &mut rows[..]
            && longest.growth() <= self.bound(longest.warm)
        {
            others.iter_mut().for_each(|row| row.warm = row.warm.max(longest.most));
        }
        match rows.into_iter().max_by_key(Row::growth) {
            Some(row) => Verdict { row, growth: Some(row.growth()), bound: self.bound(row.warm) },
            None => Verdict { row: Row::of(readings, 1), growth: None, bound: 0 },
        }
    }
}

impl Row {
    /// Of at least two readings; `warm_up` is the number of those before the warm state, and in it, and at the end.
    fn of(life: &[Reading], warm_up: usize) -> Self {
        let most = |part: &[Reading]| part.iter().map(|reading| reading.value).max().unwrap_or_default();
        let warm = &life[warm_up.min(life.len() - 1)..];
        Self {
            first: life[0].value,
            warm: most(&warm[..warm_up.min(warm.len())]),
            last: most(&life[life.len() - warm_up..]),
            most: most(life),
        }
    }

    fn growth(&self) -> u64 {
        self.last.saturating_sub(self.warm)
    }
}

/// The memory of a process that it shares with no file, in KiB.
fn memory(lab: &Lab, pid: u32) -> u64 {
    let status = fs::read_to_string(lab.path(format!("/proc/{pid}/status"))).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).expect("RssAnon of a process")
}

fn count(folder: &Path) -> u64 {
    fs::read_dir(folder).expect("a folder").count() as u64
}

/// The number of files below a folder, and their size.
fn below(folder: &Path) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let inside = if metadata.is_dir() { below(&entry.path()) } else { (0, metadata.len()) };
        files += 1 + inside.0;
        bytes += inside.1;
    }
    (files, bytes)
}

/// The numbers of elements of sets and maps, and of rules.
#[track_caller]
fn packet_filter(lab: &Lab) -> (u64, u64) {
    let listed = lab.host(["nft", "-j", "list", "ruleset"]).ok().json();
    let objects = || listed["nftables"].as_array().into_iter().flatten();
    let elements = |object: &serde_json::Value| {
        ["set", "map"].iter().map(|kind| object[kind]["elem"].as_array().map_or(0, Vec::len)).sum::<usize>()
    };
    let rules = objects().filter(|object| object["rule"].is_object()).count();
    (objects().map(elements).sum::<usize>() as u64, rules as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(of: u32, values: impl IntoIterator<Item = u64>) -> Vec<Reading> {
        values.into_iter().map(|value| Reading { of, value }).collect()
    }

    #[test]
    fn memory_that_grows_without_end_is_told_from_a_warm_up() {
        let leak = Kind::Memory.judge(&life(1, (0..100).map(|number| 8000 + 50 * number)));
        assert!(leak.growth.is_some_and(|growth| growth > leak.bound));
        let warm_up = Kind::Memory.judge(&life(1, (0..100).map(|number| 8000 + 400 * number.min(12))));
        assert_eq!(warm_up.growth, Some(0));
        assert_eq!((warm_up.row.first, warm_up.row.warm, warm_up.row.last), (8000, 12_800, 12_800));
    }

    #[test]
    fn each_process_is_compared_with_itself() {
        let lives = [life(1, vec![5000; 40]), life(2, vec![9000; 5]), life(3, vec![7000; 40])].concat();
        let verdict = Kind::Memory.judge(&lives);
        assert_eq!((verdict.growth, verdict.row.most), (Some(0), 7000));
        assert_eq!(Kind::Memory.judge(&life(1, vec![5000; 20])).growth, None);
    }

    #[test]
    fn a_shorter_life_may_warm_up_to_what_the_longest_one_needed() {
        let slow = |most: u64| (0..100_u64).map(move |number| 20_000 + (most - 20_000) * number / 99);
        let lives = |most| [life(1, vec![47_000; 300]), life(2, slow(most))].concat();
        assert_eq!(Kind::Memory.judge(&lives(34_000)).growth, Some(0));
        let leak = Kind::Memory.judge(&lives(60_000));
        assert!(leak.growth.is_some_and(|growth| growth > leak.bound));
        let grown = [life(1, (0..300).map(|number| 9000 + 50 * number)), life(2, slow(34_000))].concat();
        let leak = Kind::Memory.judge(&grown);
        assert!(leak.growth.is_some_and(|growth| growth > leak.bound));
    }

    #[test]
    fn one_entry_that_stays_is_told() {
        let kept = Kind::Entries.judge(&life(0, [7, 7, 7, 7, 7, 8]));
        assert!(kept.growth > Some(kept.bound));
        assert_eq!(Kind::Entries.judge(&life(0, [7; 6])).growth, Some(0));
    }
}
