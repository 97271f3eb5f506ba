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

#[cfg(test)]
mod tests {
    use super::*;

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
