//! The output of a command, which tests can read. Does not know what is printed.

use std::{
    borrow::Cow,
    env,
    fmt::Display,
    io::{self, IsTerminal},
};

use super::output::{Output, escaped};

/// The standard output and standard error of a command.
pub struct Console {
    /// Standard output: results.
    pub out: Output,
    /// Standard error: errors and warnings.
    pub err: Output,
    /// Whether `out` is a terminal.
    pub is_terminal: bool,
}

impl Console {
    /// The streams of this process.
    pub fn of_process() -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        let (is_terminal, is_err_terminal) = (out.is_terminal(), err.is_terminal());
        Self { is_terminal, out: Output::new(out, is_terminal), err: Output::new(err, is_err_terminal) }
    }

    /// Prints one line to standard error.
    pub fn print_error(&mut self, error: &impl Display) {
        // Errors are ignored: there is nowhere to report them.
        let _ = writeln!(self.err, "{error}");
    }

    /// Prints a warning in Docker's format.
    pub fn warn(&mut self, warning: &str) {
        self.print_error(&format_args!("WARNING: {warning}"));
    }

    /// Clears the screen of a terminal.
    pub fn clear(&mut self) -> io::Result<()> {
        if self.is_terminal { write!(self.out.raw(), "\x1b[2J\x1b[H") } else { Ok(()) }
    }

    /// The text as [`Output`] prints it; for coloured lines, which are written raw.
    pub fn shown<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.is_terminal { escaped(text.as_bytes()).into() } else { text.into() }
    }

    /// Colours a text, if the output is a terminal and `NO_COLOR` is not set.
    pub fn paint(&self, colour: Colour, text: &str) -> String {
        let text = self.shown(text);
        if self.is_terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) {
            format!("\x1b[{}m{text}\x1b[0m", colour as u8)
        } else {
            text.into_owned()
        }
    }
}

/// A colour, by its number in ECMA-48.
#[derive(Clone, Copy)]
pub enum Colour {
    /// For errors.
    Red = 31,
    /// For success.
    Green = 32,
    /// For notes.
    Yellow = 33,
}

#[cfg(test)]
pub mod tests {
    use std::{cell::RefCell, io::Write, rc::Rc};

    use super::*;

    /// The output of a command.
    #[derive(Clone, Default)]
    pub struct Printed {
        out: Buffer,
        err: Buffer,
    }

    impl Printed {
        /// Its standard output.
        pub fn out(&self) -> String {
            String::from_utf8_lossy(&self.out.0.borrow()).into_owned()
        }

        /// Its standard error.
        pub fn err(&self) -> String {
            String::from_utf8_lossy(&self.err.0.borrow()).into_owned()
        }
    }

    #[derive(Clone, Default)]
    struct Buffer(Rc<RefCell<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Console {
        /// A console that keeps its output.
        pub fn of_test() -> (Self, Printed) {
            let output = Printed::default();
            let new = |buffer: &Buffer| super::Output::new(buffer.clone(), false);
            (Self { out: new(&output.out), err: new(&output.err), is_terminal: false }, output)
        }
    }
}
