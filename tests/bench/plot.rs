//! Draws the figures as SVG and PNG. The layout is our own, with bars and texts drawn by the `svg` crate: a chart
//! library would add fifty crates, or another style, for a few rectangles. rsvg-convert makes the PNG with the
//! machine's fonts. netbpf is blue and all others are grey, a difference that everybody can see.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, bail};
use svg::{
    Document,
    node::element::{Group, Line, Rectangle, Text, Title},
};

use crate::{
    figures::{Figure, Spread, Subject, Unit},
    report::number,
    targets::better_by,
};

const WIDTH: f64 = 900.0;
/// The left end of the bars, and the length of the longest; there is room for its number behind it.
const LEFT: f64 = 292.0;
const LENGTH: f64 = 470.0;
const BAR: f64 = 13.0;
const GAP: f64 = 15.0;
const FONT: &str = "'DejaVu Sans', 'Helvetica Neue', Arial, sans-serif";
const INK: &str = "#222222";
const PALE_INK: &str = "#5f5f5f";
const GRID: &str = "#e3e3e3";

/// The subjects with a bar, from top to bottom, and their colours.
const BARS: [(Subject, &str); 6] = [
    (Subject::Large, "#003f66"),
    (Subject::Netbpf, "#0072b2"),
    (Subject::Against, "#56b4e9"),
    (Subject::Bridge, "#8c8c8c"),
    (Subject::Docker, "#8c8c8c"),
    (Subject::Filtered, "#c4c4c4"),
];

/// The figures in the picture, and their labels. The first of two panels shows the time above that of the bare pair.
const ABOVE_BARE: &[(&str, &str)] =
    &[("UDP round trip, one CPU", "UDP packet"), ("TCP round trip, one CPU", "TCP packet")];
const TIMES: &[(&str, &str)] = &[
    ("UDP 64 bytes, carried, one CPU", "small packets"),
    ("TCP bulk, MTU 1500, one stream, one CPU", "TCP bulk, one CPU"),
    ("TCP bulk, MTU 1500, one stream, two CPUs", "TCP bulk, two CPUs"),
    ("From outside, TCP round trip, one CPU", "published port: round trip"),
    ("From outside, TCP bulk, one CPU", "published port: TCP bulk"),
    ("From outside, new connections, one CPU", "published port: connections"),
    ("Lookup, median", "name lookup"),
    ("Lookups, four clients", "name lookups, four clients"),
];
const COMMANDS: &[&str] = &["network connect", "network disconnect", "run -d", "rm -f"];

/// One bar: its length in the panel's unit, the quartiles around it, and its label.
struct Bar {
    subject: Subject,
    value: f64,
    quartiles: Option<(f64, f64)>,
    label: String,
}

/// The bars of one figure, and the value of the bare pair.
struct Row {
    name: &'static str,
    bars: Vec<Bar>,
    bare: Option<f64>,
}

/// Draws `bench.svg` and `bench.png` in a directory. Returns false, without drawing, if there is nothing to compare.
pub fn write(folder: &Path, figures: &[Figure], below: &str) -> Result<bool> {
    let Some(document) = draw(figures, below) else { return Ok(false) };
    let (picture, bitmap) = (folder.join("bench.svg"), folder.join("bench.png"));
    svg::save(&picture, &document).with_context(|| format!("write {}", picture.display()))?;
    let mut convert = Command::new("rsvg-convert");
    let converted = convert.args(["--zoom", "2", "--output"]).arg(&bitmap).arg(&picture).output();
    let converted = converted.context("start rsvg-convert")?;
    if !converted.status.success() {
        bail!("make {}: {}", bitmap.display(), String::from_utf8_lossy(&converted.stderr));
    }
    Ok(true)
}

fn draw(figures: &[Figure], below: &str) -> Option<Document> {
    let rows = |names: &[(&'static str, &'static str)], row: fn(&Figure, &'static str) -> Option<Row>| {
        let found = names
            .iter()
            .filter_map(|(name, short)| row(figures.iter().find(|figure| figure.name == *name)?, short));
        found.collect::<Vec<Row>>()
    };
    let commands: Vec<_> = COMMANDS.iter().map(|name| (*name, *name)).collect();
    let panels = [
        ("Time above a bare veth pair, µs, one way", "shorter is better", rows(ABOVE_BARE, above_bare)),
        ("Times as good as Docker's bridge", "longer is better", rows(TIMES, times)),
        ("Command line, ms", "shorter is better", rows(&commands, plain)),
    ];
    let panels: Vec<_> = panels.into_iter().filter(|(_, _, rows)| !rows.is_empty()).collect();
    let all = || panels.iter().flat_map(|(_, _, rows)| rows);
    all().next()?;

    let mut picture = Group::new();
    let mut y = 40.0;
    picture = picture.add(
        text(24.0, y, "netbpf beside Docker's bridge", INK).set("font-size", 20).set("font-weight", "bold"),
    );
    y += 26.0;
    let has = |subject: Subject| all().any(|row| row.bars.iter().any(|bar| bar.subject == subject));
    picture = picture.add(legend(y, has, all().any(|row| row.bare.is_some())));
    for (title, better, rows) in &panels {
        y += 44.0;
        picture = picture
            .add(text(24.0, y, title, INK).set("font-weight", "bold"))
            .add(text(WIDTH - 24.0, y, better, PALE_INK).set("text-anchor", "end"));
        y += 14.0;
        let (panel, height) = panel(y, rows);
        picture = picture.add(panel);
        y += height;
    }
    y += 36.0;
    picture = picture.add(text(24.0, y, below, PALE_INK).set("font-size", 11));
    y += 20.0;
    Some(
        Document::new()
            .set("viewBox", (0, 0, WIDTH, y))
            .set("width", WIDTH)
            .set("height", y)
            .set("font-family", FONT)
            .set("font-size", 13)
            .add(Title::new("netbpf beside Docker's bridge"))
            .add(Rectangle::new().set("width", WIDTH).set("height", y).set("fill", "#ffffff"))
            .add(picture),
    )
}

/// The overhead of each subject over the bare pair, from samples of the same round.
fn above_bare(figure: &Figure, name: &'static str) -> Option<Row> {
    let bars = BARS.iter().filter_map(|(subject, _)| {
        let above = figure.difference(*subject, Subject::Bare)?;
        let absolute = figure.spread(*subject)?.median;
        let label = format!("{} of {} µs", number(above.median), number(absolute));
        let quartiles = Some((above.lower.max(0.0), above.upper.max(0.0)));
        Some(Bar { subject: *subject, value: above.median.max(0.0), quartiles, label })
    });
    row(name, bars.collect(), None)
}

/// The value of each subject.
fn plain(figure: &Figure, name: &'static str) -> Option<Row> {
    let bars = BARS.iter().filter_map(|(subject, _)| {
        let Spread { median, lower, upper } = figure.spread(*subject)?;
        let label = absolute(median, figure.unit);
        Some(Bar { subject: *subject, value: median, quartiles: Some((lower, upper)), label })
    });
    row(name, bars.collect(), None)
}

/// How many times better each subject is than Docker's: the bridge without br_netfilter, or the engine.
fn times(figure: &Figure, name: &'static str) -> Option<Row> {
    let rival = [Subject::Bridge, Subject::Docker].into_iter().find(|rival| figure.of(*rival).is_some())?;
    let more = figure.unit.more_is_better();
    let bars = BARS.iter().filter_map(|(subject, _)| {
        let ratio = if more { figure.ratio(*subject, rival) } else { figure.ratio(rival, *subject) };
        let Spread { median, lower, upper } = ratio?;
        let label = absolute(figure.spread(*subject)?.median, figure.unit);
        let quartiles = (*subject != rival).then_some((lower, upper));
        Some(Bar { subject: *subject, value: median, quartiles, label })
    });
    let bare = better_by(figure, Subject::Bare, rival);
    row(name, bars.collect(), bare)
}

fn row(name: &'static str, bars: Vec<Bar>, bare: Option<f64>) -> Option<Row> {
    let shows_netbpf = bars.iter().any(|bar| bar.subject == Subject::Netbpf);
    (shows_netbpf && bars.len() > 1).then_some(Row { name, bars, bare })
}

fn absolute(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Thousands => format!("{} thousand/s", number(value)),
        unit => format!("{} {}", number(value), unit.symbol()),
    }
}

fn panel(top: f64, rows: &[Row]) -> (Group, f64) {
    let ends = rows.iter().flat_map(|row| {
        let bars =
            row.bars.iter().map(|bar| bar.quartiles.map_or(bar.value, |(_, upper)| upper.max(bar.value)));
        bars.chain(row.bare)
    });
    let step = step(ends.fold(0.0, f64::max));
    let last = (rows.iter().flat_map(|row| &row.bars).map(|bar| bar.value).fold(0.0, f64::max) / step)
        .ceil()
        .max(1.0);
    let x = |value: f64| LEFT + (value / (last * step)).min(1.03) * LENGTH;
    let height: f64 = rows.iter().map(|row| row.bars.len() as f64 * (BAR + 1.0) + GAP).sum::<f64>();

    let mut group = Group::new();
    for mark in 0..=last as u32 {
        let at = f64::from(mark) * step;
        let shown = format!("{}", (at * 100.0).round() / 100.0);
        group =
            group.add(line(x(at), top, x(at), top + height, if mark == 0 { PALE_INK } else { GRID })).add(
                text(x(at), top + height + 15.0, &shown, PALE_INK)
                    .set("text-anchor", "middle")
                    .set("font-size", 11),
            );
    }
    let mut y = top + GAP / 2.0;
    for row in rows {
        let middle = y + row.bars.len() as f64 * (BAR + 1.0) / 2.0;
        group = group.add(text(LEFT - 12.0, middle + 4.0, row.name, INK).set("text-anchor", "end"));
        let begin = y;
        for bar in &row.bars {
            group = group.add(draw_bar(bar, y, x));
            y += BAR + 1.0;
        }
        if let Some(bare) = row.bare {
            group = group.add(mark_of_bare(line(x(bare), begin - 3.0, x(bare), y + 2.0, INK)));
        }
        // Last, so that no line crosses them.
        for (bar, y) in row.bars.iter().zip((0_u8..).map(|bar| begin + f64::from(bar) * (BAR + 1.0))) {
            group = group.add(label(bar, y, x));
        }
        y += GAP;
    }
    (group, height + 16.0)
}

fn mark_of_bare(line: Line) -> Line {
    line.set("stroke-width", 1.5).set("stroke-dasharray", "3 2")
}

fn draw_bar(bar: &Bar, y: f64, x: impl Fn(f64) -> f64) -> Group {
    let colour = BARS.iter().find(|(subject, _)| *subject == bar.subject).map_or(INK, |(_, colour)| colour);
    let length = (x(bar.value) - LEFT).max(1.0);
    let rectangle = Rectangle::new().set("x", LEFT).set("y", y).set("width", length).set("height", BAR);
    let group = Group::new().add(rectangle.set("fill", colour));
    let Some((lower, upper)) = bar.quartiles else { return group };
    let middle = y + BAR / 2.0;
    group.add(line(x(lower), middle, x(upper), middle, INK))
}

/// The label behind a bar.
fn label(bar: &Bar, y: f64, x: impl Fn(f64) -> f64) -> Text {
    let own = bar.subject == Subject::Netbpf;
    let end = bar.quartiles.map_or(bar.value, |(_, upper)| upper.max(bar.value));
    let label = text(x(end) + 6.0, y + BAR - 2.5, &bar.label, if own { INK } else { PALE_INK })
        .set("font-size", 11)
        .set("stroke", "#ffffff")
        .set("stroke-width", 3)
        .set("paint-order", "stroke");
    if own { label.set("font-weight", "bold") } else { label }
}

fn legend(y: f64, has: impl Fn(Subject) -> bool, has_bare: bool) -> Group {
    let mut group = Group::new();
    let mut x = 24.0;
    let mut entry = |group: Group, sign: Group, words: &str| {
        let shifted = sign.set("transform", format!("translate({x} {})", y - 11.0));
        let group = group.add(shifted).add(text(x + 19.0, y, words, INK).set("font-size", 12));
        x += 36.0 + 6.3 * words.chars().count() as f64;
        group
    };
    let square = |colour: &str| {
        Group::new().add(Rectangle::new().set("width", BAR).set("height", BAR).set("fill", colour))
    };
    for (subject, colour) in BARS {
        let words = match subject {
            Subject::Bridge => "bridge (Docker 28)",
            Subject::Filtered => "bridge with br_netfilter (Docker ≤ 27)",
            Subject::Large => "netbpf, 256 KB in one piece",
            // It has the bridge's colour and place.
            Subject::Docker if has(Subject::Bridge) => continue,
            other => other.name(),
        };
        if has(subject) {
            group = entry(group, square(colour), words);
        }
    }
    if has_bare {
        let sign = Group::new().add(mark_of_bare(line(6.0, -1.0, 6.0, 14.0, INK)));
        group = entry(group, sign, "bare veth pair");
    }
    group
}

/// The distance between grid lines, of which there are about six.
fn step(largest: f64) -> f64 {
    let rough = (largest / 6.0).max(1e-3);
    let size = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * size)
        .find(|step| *step >= rough)
        .unwrap_or(size)
}

fn text(x: f64, y: f64, words: &str, colour: &str) -> Text {
    Text::new(words).set("x", x).set("y", y).set("fill", colour)
}

fn line(x1: f64, y1: f64, x2: f64, y2: f64, colour: &str) -> Line {
    Line::new().set("x1", x1).set("y1", y1).set("x2", x2).set("y2", y2).set("stroke", colour)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::steady;

    #[test]
    fn bars_are_as_long_as_what_they_show() {
        let figure =
            steady("run -d", Unit::Milliseconds, &[(Subject::Docker, 200.0), (Subject::Netbpf, 50.0)]);
        let row = times(&figure, "run").unwrap();
        let bars: Vec<_> = row.bars.iter().map(|bar| (bar.subject, bar.value, bar.label.as_str())).collect();
        assert_eq!(bars, [(Subject::Netbpf, 4.0, "50.0 ms"), (Subject::Docker, 1.0, "200 ms")]);
    }

    #[test]
    fn what_is_above_the_bare_pair_is_a_panel_of_its_own() {
        let samples = [(Subject::Bare, 3.0), (Subject::Bridge, 3.5), (Subject::Netbpf, 3.1)];
        let picture = draw(&[steady("UDP round trip, one CPU", Unit::Microseconds, &samples)], "").unwrap();
        let text = picture.to_string();
        assert!(text.contains("0.500 of 3.50 µs") && text.contains("Time above a bare veth pair"), "{text}");
        assert!(!text.contains("Times as good"), "{text}");
    }

    #[test]
    fn nothing_to_compare_is_no_picture() {
        assert!(draw(&[steady("run -d", Unit::Milliseconds, &[(Subject::Netbpf, 50.0)])], "").is_none());
        assert!(draw(&[], "").is_none());
    }

    #[test]
    fn lines_are_at_round_numbers() {
        assert_eq!([1.3, 6.0, 9.2, 0.9].map(step), [0.25, 1.0, 2.0, 0.2]);
    }
}
