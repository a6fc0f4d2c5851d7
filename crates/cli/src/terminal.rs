//! The user's terminal: its size, raw mode, and giving it back as it was.

use std::io::{self, IsTerminal};

use rustix::stdio::{stdin, stdout};
use rustix::termios::{self, OptionalActions, Termios};

/// Whether standard input is a terminal.
pub fn is_input() -> bool {
    io::stdin().is_terminal()
}

/// Whether standard output is a terminal.
pub fn is_output() -> bool {
    io::stdout().is_terminal()
}

/// Height and width of the terminal of standard output, zeros if it is none.
pub fn size() -> (u16, u16) {
    termios::tcgetwinsize(stdout()).map_or((0, 0), |size| (size.ws_row, size.ws_col))
}

/// How many characters a line of text for people may have: as many as the terminal has, and 100 where there is none.
pub fn width() -> usize {
    match size().1 {
        0 => 100,
        columns => columns.into(),
    }
}

/// The terminal in raw mode; dropping it, by whatever way out, restores what was before.
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Hands every key to us instead of interpreting it.
    ///
    /// # Errors
    /// What the kernel says when standard input is no terminal.
    pub fn enter() -> io::Result<Self> {
        let before = termios::tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nothing left to do if the terminal itself is gone.
        let _ = termios::tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}
