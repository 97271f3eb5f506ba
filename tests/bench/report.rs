//! The results as tables for people and as JSON for programs. Pure, given the machine's properties.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::{
    figures::{Figure, Spread, Subject, Unit},
    scenes::SCENES,
    targets::{Limit, Target, better_by},
};

/// The subjects with which netbpf is compared, one column each.
const RIVALS: [Subject; 4] = [Subject::Bridge, Subject::Filtered, Subject::Docker, Subject::Against];

/// All figures, with a table for each scene.
pub fn tables(figures: &[Figure]) -> String {
    let mut text = String::new();
    for scene in SCENES {
        let of_scene: Vec<&Figure> = figures.iter().filter(|figure| figure.scene == scene.name).collect();
        if !of_scene.is_empty() {
            let _ = write!(text, "\n{}\n{}", scene.title, table(&of_scene));
        }
    }
    text
}

fn table(figures: &[&Figure]) -> String {
    let has = |subject: &Subject| figures.iter().any(|figure| figure.of(*subject).is_some());
    let subjects: Vec<Subject> = Subject::ALL.into_iter().filter(has).collect();
    let rivals: Vec<Subject> =
        if has(&Subject::Netbpf) { RIVALS.into_iter().filter(has).collect() } else { Vec::new() };
    let mut rows = vec![
        std::iter::once(String::new())
            .chain(subjects.iter().map(|subject| subject.name().to_owned()))
            .chain(rivals.iter().map(|rival| format!("vs {}", rival.name())))
            .collect::<Vec<_>>(),
    ];
    for figure in figures {
        let symbol = figure.unit.symbol();
        let name = if symbol.is_empty() { figure.name.clone() } else { format!("{}, {symbol}", figure.name) };
        let values =
            subjects.iter().map(|subject| figure.spread(*subject).map_or_else(String::new, plus_minus));
        let ratios = rivals.iter().map(|rival| {
            let better = better_by(figure, Subject::Netbpf, *rival);
            better.map_or_else(String::new, |times| format!("{times:.2} ×"))
        });
        rows.push(std::iter::once(name).chain(values).chain(ratios).collect());
    }
    aligned(&rows)
}

/// Aligns the first column to the left, and all others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ =
                if column == 0 { write!(line, "  {cell:<width$}") } else { write!(line, "  {cell:>width$}") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A median and half the distance between the quartiles.
fn plus_minus(spread: Spread) -> String {
    format!("{} ±{}", number(spread.median), number_like(spread.half_width(), spread.median))
}

/// A number with three significant digits.
pub fn number(value: f64) -> String {
    number_like(value, value)
}

/// A number with as many decimals as another one.
fn number_like(value: f64, like: f64) -> String {
    let digits = match like.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// One line for each target that this run measured, and the number of the others.
pub fn targets_table(targets: &[Target]) -> String {
    let measured: Vec<&Target> = targets.iter().filter(|target| target.value.is_some()).collect();
    let rows: Vec<Vec<String>> = measured
        .iter()
        .map(|target| {
            let Target { what, limit, value, unit } = target;
            let limit = match limit {
                Limit::AtMost(limit) => format!("≤ {limit} {unit}"),
                Limit::AtLeast(limit) => format!("≥ {limit} {unit}"),
            };
            let value = value.map_or_else(String::new, |value| format!("{value:.2} {unit}"));
            let met = match target.is_met() {
                Some(true) => "met",
                Some(false) => "NOT MET",
                None => "",
            };
            vec![what.clone(), limit, value, met.to_owned()]
        })
        .collect();
    let others = match targets.len() - measured.len() {
        0 => String::new(),
        others => format!("  ({others} not measured)\n"),
    };
    aligned(&rows) + &others
}

/// All results with every sample, as JSON.
pub fn json(machine: Value, figures: &[Figure], targets: &[Target], failures: &[String]) -> Value {
    let figures: Vec<Value> = figures.iter().map(figure_json).collect();
    let targets: Vec<Value> = targets.iter().map(target_json).collect();
    json!({ "machine": machine, "figures": figures, "targets": targets, "failures": failures })
}

fn figure_json(figure: &Figure) -> Value {
    let Figure { scene, name, unit, samples } = figure;
    let subjects: Map<String, Value> = samples
        .iter()
        .filter_map(|(subject, samples)| {
            let Spread { median, lower, upper } = Spread::of(samples)?;
            let quartiles = [lower, upper];
            let value = json!({ "median": median, "quartiles": quartiles, "samples": samples });
            Some((subject.name().to_owned(), value))
        })
        .collect();
    let ratios: Map<String, Value> = samples
        .iter()
        .filter(|(subject, _)| *subject != Subject::Netbpf)
        .filter_map(|(subject, _)| {
            let Spread { median, lower, upper } = figure.ratio(Subject::Netbpf, *subject)?;
            Some((subject.name().to_owned(), json!({ "median": median, "quartiles": [lower, upper] })))
        })
        .collect();
    json!({
        "scene": scene,
        "name": name,
        "unit": unit.symbol(),
        "more_is_better": unit.more_is_better(),
        "subjects": subjects,
        "netbpf_to": ratios,
        "netbpf_overhead_to": overheads(figure),
    })
}

/// netbpf's overhead over the bare veth pair, relative to that of the others.
fn overheads(figure: &Figure) -> Map<String, Value> {
    let times = matches!(figure.unit, Unit::Microseconds);
    let others = [Subject::Bridge, Subject::Filtered].into_iter().filter(|_| times);
    others
        .filter_map(|other| {
            let ratio = figure.overhead_ratio(Subject::Netbpf, other)?;
            Some((other.name().to_owned(), json!(ratio)))
        })
        .collect()
}

fn target_json(target: &Target) -> Value {
    let (word, limit) = match target.limit {
        Limit::AtMost(limit) => ("at_most", limit),
        Limit::AtLeast(limit) => ("at_least", limit),
    };
    json!({ "what": target.what, word: limit, "unit": target.unit, "value": target.value, "met": target.is_met() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure() -> Figure {
        Figure {
            scene: "round-trip",
            name: "UDP round trip".to_owned(),
            unit: Unit::Microseconds,
            samples: vec![
                (Subject::Bare, vec![3.0, 3.0, 3.0]),
                (Subject::Bridge, vec![3.4, 3.5, 3.6]),
                (Subject::Netbpf, vec![3.1, 3.1, 3.1]),
            ],
        }
    }

    #[test]
    fn a_table_has_a_column_for_each_subject_and_one_for_each_comparison() {
        let lines = tables(&[figure()]);
        let lines: Vec<&str> = lines.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "Round trip, one way",
                "                       bare veth      bridge      netbpf  vs bridge",
                "  UDP round trip, µs  3.00 ±0.00  3.50 ±0.05  3.10 ±0.00     1.13 ×",
            ]
        );
    }

    #[test]
    fn numbers_have_three_digits_that_count() {
        assert_eq!(
            [0.1234, 1.234, 12.34, 123.4, 1234.0].map(number),
            ["0.123", "1.23", "12.3", "123", "1234"]
        );
    }

    #[test]
    fn a_target_says_how_far_it_is() {
        let target = |value, limit| Target { what: "connect".to_owned(), limit, value, unit: "ms" };
        let table = targets_table(&[
            target(Some(5.0), Limit::AtMost(8.0)),
            target(Some(5.0), Limit::AtLeast(8.0)),
            target(None, Limit::AtMost(8.0)),
        ]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines,
            [
                "  connect  ≤ 8 ms  5.00 ms      met",
                "  connect  ≥ 8 ms  5.00 ms  NOT MET",
                "  (1 not measured)",
            ]
        );
    }

    #[test]
    fn json_has_every_sample_and_what_follows_from_them() {
        let json = json(json!({}), &[figure()], &[], &[]);
        let figure = &json["figures"][0];
        assert_eq!(figure["subjects"]["bridge"]["samples"], json!([3.4, 3.5, 3.6]));
        assert_eq!(figure["subjects"]["netbpf"]["median"], 3.1);
        let overhead = figure["netbpf_overhead_to"]["bridge"].as_f64().unwrap();
        assert!((overhead - 0.2).abs() < 1e-9, "{overhead}");
    }
}
