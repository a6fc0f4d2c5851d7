//! Writing to standard output and standard error. A reader that went away (`| head`) is no fault of ours.

use std::io::{self, Write};

/// Writes text to standard output.
pub fn out(text: &str) {
    let _ = bytes(&mut io::stdout().lock(), text.as_bytes());
}

/// Writes a line to standard output.
pub fn line(text: &str) {
    out(&format!("{text}\n"));
}

/// Writes a line to standard error.
pub fn complain(text: &str) {
    let _ = bytes(&mut io::stderr().lock(), format!("{text}\n").as_bytes());
}

/// Writes and flushes at once, so that what a container says is seen when it says it.
pub fn bytes(to: &mut dyn Write, data: &[u8]) -> io::Result<()> {
    to.write_all(data)?;
    to.flush()
}
