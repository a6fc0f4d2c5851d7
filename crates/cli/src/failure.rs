//! Everything that ends a command early, and the exit code it deserves.

use std::io;

/// Why a command stopped. `Display` is what the user reads; [`Failure::code`] is what a script reads.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The engine answered with an error status and a message.
    #[error("Error response from daemon: {message}")]
    Engine {
        /// The HTTP status of the answer.
        status: u16,
        /// The engine's own words.
        message: String,
    },
    /// Nothing answers at the address of the engine.
    #[error("Cannot connect to the berth daemon at {host}. Is the berth daemon running?")]
    Unreachable {
        /// The address as the user would write it after `-H`.
        host: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The user may not open the engine's socket.
    #[error(
        "permission denied while trying to connect to the berth daemon socket at {host}: run this command as root, or as a member of the group that owns the socket"
    )]
    Forbidden {
        /// The address as the user would write it after `-H`.
        host: String,
    },
    /// The command itself refuses, before or without asking the engine.
    #[error("{0}")]
    Refused(String),
    /// A text (may be empty: then nothing is printed) with an exit code of its own.
    #[error("{text}")]
    Exit {
        /// What to print on the error stream.
        text: String,
        /// The exit code.
        code: u8,
    },
    /// The connection or the answer is not what the protocol promises.
    #[error("the engine's answer to {request} cannot be used: {reason}")]
    Garbled {
        /// The request, as method and path.
        request: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// A file or a stream of this machine failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Failure {
    /// A refusal of the command itself, exit code 1.
    pub fn refused(text: impl Into<String>) -> Self {
        Self::Refused(text.into())
    }

    /// Names the file or stream that failed.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Ends the command with this code and no text.
    pub fn silent(code: u8) -> Self {
        Self::Exit { text: String::new(), code }
    }

    /// The exit code: 1 unless the failure carries its own.
    pub fn code(&self) -> u8 {
        match self {
            Self::Exit { code, .. } => *code,
            _ => 1,
        }
    }

    /// Whether the engine said that the thing does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Engine { status: 404, .. })
    }

    /// The same failure as `run`, `create` and `start` report it: with the program's name, the way to the
    /// help, and one of the codes 125, 126 (found, but not executable) and 127 (not found).
    pub fn of_run(self, command: &str) -> Self {
        if matches!(self, Self::Exit { .. }) {
            return self;
        }
        let text = self.to_string();
        Self::Exit {
            // Only what the engine says of a start can mean the container's program.
            code: match &self {
                Self::Engine { message, .. } => start_code(message),
                _ => 125,
            },
            text: format!("berth: {text}\n\nRun 'berth {command} --help' for more information"),
        }
    }
}

/// The exit code of a start that failed with `text`: the engine reports a missing program only by its words.
pub fn start_code(text: &str) -> u8 {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["executable file not found", "no such file or directory"]) {
        127
    } else if says(&["permission denied", "is a directory"]) {
        126
    } else {
        125
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_words_choose_the_exit_code_of_run() {
        for (text, code) in [
            (r#"exec: "nope": executable file not found in $PATH"#, 127),
            ("exec /nope: no such file or directory", 127),
            ("exec /etc/passwd: permission denied", 126),
            ("exec /etc: is a directory", 126),
            ("network nope not found", 125),
        ] {
            let failure = Failure::Engine { status: 400, message: text.to_owned() };
            let reported = failure.of_run("run");
            assert_eq!(reported.code(), code, "{text}");
            assert_eq!(
                reported.to_string(),
                format!("berth: Error response from daemon: {text}\n\nRun 'berth run --help' for more information")
            );
        }
    }

    #[test]
    fn a_failure_with_its_own_code_keeps_it() {
        assert_eq!(Failure::silent(7).of_run("run").code(), 7);
        let ours = Failure::refused("open /x: no such file or directory");
        assert_eq!(ours.of_run("run").code(), 125);
        assert_eq!(Failure::refused("no").code(), 1);
    }
}
