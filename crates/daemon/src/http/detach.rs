//! The keys that leave a terminal without ending what runs in it.

use crate::error::{Error, Result};

/// `ctrl-p,ctrl-q`
const DEFAULT: [u8; 2] = [0x10, 0x11];

/// Watches what a person types for the sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys {
    keys: Vec<u8>,
    /// How many of them were typed just now; they are held back until it is clear what they mean.
    matched: usize,
}

impl DetachKeys {
    /// Keys as people write them, separated by commas: a single character, or `ctrl-` and one of `a-z @ [ \ ] ^ _`.
    /// Nothing is the default.
    ///
    /// # Errors
    /// Anything else, in Docker's words.
    pub fn parse(text: &str) -> Result<DetachKeys> {
        if text.is_empty() {
            return Ok(DetachKeys { keys: DEFAULT.to_vec(), matched: 0 });
        }
        let invalid = || Error::Invalid(format!("Invalid detach keys ({text}) provided"));
        let mut keys = Vec::new();
        for word in text.split(',') {
            let key = match word.strip_prefix("ctrl-").unwrap_or(word).as_bytes() {
                [key] if !word.starts_with("ctrl-") => *key,
                [key @ b'a'..=b'z'] => key - b'a' + 1,
                [b'@'] => 0,
                [key @ b'['..=b'_'] => key - b'[' + 27,
                _ => return Err(invalid()),
            };
            keys.push(key);
        }
        Ok(DetachKeys { keys, matched: 0 })
    }

    /// What of the typed bytes goes on to the container, and whether the sequence is complete: then the rest is dropped.
    pub fn pass(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut on = Vec::with_capacity(typed.len());
        for &byte in typed {
            if byte != self.keys[self.matched] {
                // What was held back was meant for the container after all.
                on.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (on, true);
                }
            } else {
                on.push(byte);
            }
        }
        (on, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_people_write_them() {
        for (text, keys) in [
            ("", &[0x10, 0x11][..]),
            ("ctrl-p,ctrl-q", &[0x10, 0x11]),
            ("a", b"a"),
            ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", &[0, 27, 28, 29, 30, 31]),
            ("ctrl-a,x,ctrl-z", &[1, b'x', 26]),
        ] {
            assert_eq!(DetachKeys::parse(text).unwrap().keys, keys, "{text}");
        }
        for bad in ["ctrl-", "ctrl-A", "ctrl-pp", "ab", ",", "ctrl-p,", "é", "shift-a"] {
            assert_eq!(
                DetachKeys::parse(bad).unwrap_err().to_string(),
                format!("Invalid detach keys ({bad}) provided")
            );
        }
    }

    #[test]
    fn typed_bytes_pass_but_for_the_sequence() {
        let mut keys = DetachKeys::parse("").unwrap();
        assert_eq!(keys.pass(b"ls\r"), (b"ls\r".to_vec(), false));
        assert_eq!(keys.pass(b"\x10"), (b"".to_vec(), false), "held back");
        assert_eq!(keys.pass(b"x"), (b"\x10x".to_vec(), false), "and passed on when it meant nothing");
        assert_eq!(keys.pass(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(keys.pass(b"\x11more"), (b"".to_vec(), true), "over two reads");
        let mut keys = DetachKeys::parse("a,b,c").unwrap();
        assert_eq!(keys.pass(b"ababc"), (b"ab".to_vec(), true));
    }
}
