//! Where a command prints, so that tests can read it. Nothing here knows what is printed.

use std::{
    borrow::Cow,
    env,
    fmt::Display,
    io::{self, IsTerminal},
};

use super::output::{Output, escaped};

/// Standard output and standard error of a command.
pub struct Console {
    /// What was asked for.
    pub out: Output,
    /// What went wrong.
    pub err: Output,
    /// Whether a person looks at `out`.
    pub is_terminal: bool,
}

impl Console {
    /// Those of this process.
    pub fn of_process() -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        let (is_terminal, is_err_terminal) = (out.is_terminal(), err.is_terminal());
        Self { is_terminal, out: Output::new(out, is_terminal), err: Output::new(err, is_err_terminal) }
    }

    /// One line on standard error.
    pub fn complain(&mut self, error: &impl Display) {
        // There is nobody left to tell when this fails.
        let _ = writeln!(self.err, "{error}");
    }

    /// Something that was done and may not be what was meant, in Docker's form.
    pub fn warn(&mut self, warning: &str) {
        self.complain(&format_args!("WARNING: {warning}"));
    }

    /// Clears the screen of a terminal, so that what is printed next replaces what is there.
    pub fn clear(&mut self) -> io::Result<()> {
        if self.is_terminal { write!(self.out.raw(), "\x1b[2J\x1b[H") } else { Ok(()) }
    }

    /// As [`Output`] shows it: for lines with colours, which are written raw.
    pub fn shown<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.is_terminal { escaped(text.as_bytes()).into() } else { text.into() }
    }

    /// In green or red, where a person looks and wants colours.
    pub fn paint(&self, colour: Colour, text: &str) -> String {
        let text = self.shown(text);
        if self.is_terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) {
            format!("\x1b[{}m{text}\x1b[0m", colour as u8)
        } else {
            text.into_owned()
        }
    }
}

/// A colour's number in ECMA-48.
#[derive(Clone, Copy)]
pub enum Colour {
    /// Something is wrong.
    Red = 31,
    /// All is well.
    Green = 32,
    /// Something is worth a look.
    Yellow = 33,
}

#[cfg(test)]
pub mod tests {
    use std::{cell::RefCell, io::Write, rc::Rc};

    use super::*;

    /// What a command printed.
    #[derive(Clone, Default)]
    pub struct Printed {
        out: Buffer,
        err: Buffer,
    }

    impl Printed {
        /// On standard output.
        pub fn out(&self) -> String {
            String::from_utf8_lossy(&self.out.0.borrow()).into_owned()
        }

        /// On standard error.
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
        /// One that keeps what is printed.
        pub fn of_test() -> (Self, Printed) {
            let output = Printed::default();
            let new = |buffer: &Buffer| super::Output::new(buffer.clone(), false);
            (Self { out: new(&output.out), err: new(&output.err), is_terminal: false }, output)
        }
    }
}
