//! This run beside the published one, whose figures README shows. Absolute times differ from machine to machine, so only
//! ratios to the other subjects of the same run are kept and compared. Pure.

use std::{collections::BTreeMap, fmt::Write};

use serde_json::{Value, json};

use crate::figures::{Figure, Spread, Subject};

/// The subjects to which netbpf is compared: those that do not change with netbpf.
const RIVALS: [Subject; 4] = [Subject::Bare, Subject::Bridge, Subject::Filtered, Subject::Docker];

/// Medians that are nearer to each other than this are equal: builds of the same source differ by as much.
const NOISE: f64 = 0.03;

/// How many times better netbpf is than another subject, by figure and subject: the lower quartile, the median and the
/// upper quartile.
pub type Ratios = BTreeMap<String, BTreeMap<String, [f64; 3]>>;

/// A run in the form that is kept in `tests/bench/published.json`.
pub fn json(machine: &Value, figures: &[Figure]) -> Value {
    json!({ "machine": machine, "netbpf_times_better": ratios(figures) })
}

fn ratios(figures: &[Figure]) -> Ratios {
    let of = |figure: &Figure| {
        let to = |rival: Subject| {
            let Spread { median, lower, upper } = figure.times_better(Subject::Netbpf, rival)?;
            Some((rival.name().to_owned(), [lower, median, upper].map(rounded)))
        };
        RIVALS.into_iter().filter_map(to).collect::<BTreeMap<_, _>>()
    };
    let all = figures.iter().map(|figure| (figure.name.clone(), of(figure)));
    all.filter(|(_, ratios)| !ratios.is_empty()).collect()
}

/// With four decimals.
fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

/// The ratios of a run in that form.
///
/// # Errors
///
/// If it is not in that form.
pub fn read(published: &str) -> serde_json::Result<Ratios> {
    let mut published: Value = serde_json::from_str(published)?;
    serde_json::from_value(published["netbpf_times_better"].take())
}

/// A line for each ratio that became worse or better than in the published run, the worst first; and how many did not
/// change. A ratio changed if what lies between the quartiles does not overlap, and the medians differ by more than 3 %.
pub fn changes(published: &Ratios, figures: &[Figure]) -> String {
    let mut changed = Vec::new();
    let mut unchanged = 0;
    for (name, ratios) in ratios(figures) {
        for (rival, now) in ratios {
            let Some(before) = published.get(&name).and_then(|ratios| ratios.get(&rival)) else { continue };
            if is_change(*before, now) {
                changed.push((now[1] / before[1], format!("{name}, to {rival}"), before[1], now[1]));
            } else {
                unchanged += 1;
            }
        }
    }
    changed.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut text = String::new();
    for (change, what, before, now) in changed {
        let word = if change < 1.0 { "slower" } else { "faster" };
        let _ = writeln!(text, "  {word}  {what}: {now:.2} × as good, published {before:.2} ×");
    }
    let _ = writeln!(text, "  ({unchanged} as published)");
    text
}

fn is_change([lower, median, upper]: [f64; 3], now: [f64; 3]) -> bool {
    let overlap = now[0] <= upper && lower <= now[2];
    !overlap && (now[1] / median - 1.0).abs() > NOISE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Unit, steady};

    fn run(netbpf: f64, rate: f64) -> [Figure; 2] {
        let time = [(Subject::Bare, 10.0), (Subject::Against, 1.0), (Subject::Netbpf, netbpf)];
        let rates = [(Subject::Bridge, 100.0), (Subject::Netbpf, rate)];
        [steady("round trip", Unit::Microseconds, &time), steady("packets", Unit::Thousands, &rates)]
    }

    fn between(before: &[Figure], now: &[Figure]) -> String {
        changes(&read(&json(&json!({}), before).to_string()).unwrap(), now)
    }

    #[test]
    fn worse_and_better_ratios_are_told_and_small_changes_are_not() {
        assert_eq!(between(&run(10.5, 130.0), &run(10.6, 129.0)), "  (2 as published)\n");
        assert_eq!(
            between(&run(10.5, 130.0), &run(11.5, 150.0)),
            "  slower  round trip, to bare veth: 0.87 × as good, published 0.95 ×\n  \
             faster  packets, to bridge: 1.50 × as good, published 1.30 ×\n  (0 as published)\n"
        );
    }

    #[test]
    fn ranges_that_overlap_are_no_change() {
        assert!(!is_change([0.8, 0.9, 1.0], [0.95, 1.1, 1.2]));
        assert!(is_change([0.8, 0.9, 1.0], [1.05, 1.1, 1.2]));
        assert!(!is_change([1.0, 1.0, 1.0], [1.02, 1.02, 1.02]));
    }

    #[test]
    fn figures_that_only_one_run_has_are_not_compared() {
        assert_eq!(between(&run(10.0, 100.0)[..1], &run(20.0, 50.0)[1..]), "  (0 as published)\n");
        assert!(read("{}").is_err());
    }
}
