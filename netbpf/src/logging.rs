//! The log of netbpf's processes, on standard error: a line for each event. Texts of others are escaped, because the
//! reader's terminal would obey their control characters, and a newline would forge a line.

use std::{fmt, io};

use tracing_subscriber::{
    EnvFilter,
    field::MakeExt as _,
    fmt::format::{Writer, debug_fn},
};

use crate::model::one_line;

/// Starts the log. `colours` are netbpf's own.
pub fn start(filter: EnvFilter, target: bool, colours: bool) {
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .fmt_fields(
            debug_fn(|to: &mut Writer<'_>, field, value| write_field(to, field.name(), value)).delimited(" "),
        )
        .with_writer(io::stderr)
        .with_ansi(colours)
        .with_target(target)
        .init();
}

fn write_field(to: &mut Writer<'_>, name: &str, value: &dyn fmt::Debug) -> fmt::Result {
    let text = one_line(&format!("{value:?}"));
    match name {
        "message" => to.write_str(&text),
        name => write!(to, "{name}={text}"),
    }
}

/// The text of an error and its causes, each once: the text of most errors contains that of their cause.
pub fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("open {path}: {source}; make room")]
    struct WithItsSource {
        path: &'static str,
        source: io::Error,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("the store is closed")]
    struct WithoutItsSource(#[source] WithItsSource);

    #[test]
    fn each_cause_is_written_once() {
        let source = || WithItsSource { path: "/db", source: io::Error::other("disk full") };
        let written = |error: anyhow::Error| with_causes(&error);
        assert_eq!(written(source().into()), "open /db: disk full; make room");
        assert_eq!(
            written(anyhow::Error::from(WithoutItsSource(source())).context("start")),
            "start: the store is closed: open /db: disk full; make room"
        );
        let none: Option<()> = None;
        assert_eq!(written(none.context("no room").unwrap_err()), "no room");
    }

    #[test]
    fn control_characters_are_escaped() {
        for (name, value, written) in [
            ("message", "a\n2026-01-01 INFO forged", r"a\n2026-01-01 INFO forged"),
            ("error", "\u{1b}[31m\0\u{9b}", r"error=\u{1b}[31m\0\u{9b}"),
            ("path", "/run/netbpf", "path=/run/netbpf"),
        ] {
            let mut text = String::new();
            write_field(&mut Writer::new(&mut text), name, &format_args!("{value}"))
                .expect("a string takes all");
            assert_eq!(text, written);
        }
    }
}
