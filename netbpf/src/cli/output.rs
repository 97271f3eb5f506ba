//! Standard output and standard error. Labels, names and errors may contain control characters from others, which a
//! terminal would obey: for terminals they are escaped. Pipes and files get the text unchanged, as in Docker.

use std::{
    fmt::{self, Write as _},
    io::{self, Write},
};

use crate::model::push_escaped;

/// One of the two streams.
pub struct Output {
    to: Box<dyn Write>,
    is_terminal: bool,
}

impl Output {
    /// An output to `to`.
    pub fn new(to: impl Write + 'static, is_terminal: bool) -> Self {
        Self { to: Box::new(to), is_terminal }
    }

    /// Called by `write!`, so that commands need not import the trait.
    pub fn write_fmt(&mut self, arguments: fmt::Arguments) -> io::Result<()> {
        Write::write_fmt(self, arguments)
    }

    /// Same as [`Write::flush`].
    pub fn flush(&mut self) -> io::Result<()> {
        Write::flush(self)
    }

    /// Writes without escaping: for our own colours, and for the output of containers.
    pub fn raw(&mut self) -> &mut dyn Write {
        &mut *self.to
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_terminal {
            return self.to.write(bytes);
        }
        self.to.write_all(escaped(bytes).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Escapes everything that a terminal obeys, except newlines and tabs.
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\n' | '\t' => text.push(character),
                _ => push_escaped(&mut text, character),
            }
        }
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("a string takes all");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        for (text, shown) in [
            (&b"plain \xc3\xa4\tb\n"[..], "plain ä\tb\n"),
            (b"\x1b[31mred\x1b]0;title\x07", r"\u{1b}[31mred\u{1b}]0;title\u{7}"),
            (b"a\rb\x08\x7f", r"a\rb\u{8}\u{7f}"),
            // The control sequence introducer as one character, and as one byte.
            (b"\xc2\x9b31m", r"\u{9b}31m"),
            (b"\x9b31m", r"\x9b31m"),
            ("a\u{202e}b\u{2066}".as_bytes(), r"a\u{202e}b\u{2066}"),
        ] {
            assert_eq!(escaped(text), shown);
        }
    }
}
