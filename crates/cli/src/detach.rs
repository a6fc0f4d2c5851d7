//! The keys that leave a container running and end only our connection to it.

/// Control-p, control-q.
pub const DEFAULT: [u8; 2] = [16, 17];

/// Reads `ctrl-p,ctrl-q`: keys separated by commas, each one character or `ctrl-` and a letter or one of `@[\]^_`.
pub fn keys(text: &str) -> Result<Vec<u8>, String> {
    text.split(',')
        .map(|key| {
            if let Some(name) = key.strip_prefix("ctrl-") {
                return match name.as_bytes() {
                    [letter @ b'a'..=b'z'] => Ok(letter - b'a' + 1),
                    [sign @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Ok(sign - b'@'),
                    _ => Err(format!("Unknown character: '{key}'")),
                };
            }
            match key.as_bytes() {
                [byte] => Ok(*byte),
                _ => Err(format!("Unknown character: '{key}'")),
            }
        })
        .collect()
}

/// Watches input for the sequence. Keys that may begin it are held back until it is clear that they do not.
pub struct Watch {
    sequence: Vec<u8>,
    matched: usize,
}

/// What to do with some input.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// Pass these bytes on.
    Pass(Vec<u8>),
    /// Pass these bytes on, then detach.
    Detach(Vec<u8>),
}

impl Watch {
    /// Watches for `sequence`; an empty one never matches.
    pub fn new(sequence: Vec<u8>) -> Self {
        Self { sequence, matched: 0 }
    }

    /// Takes the next input.
    pub fn take(&mut self, input: &[u8]) -> Seen {
        if self.sequence.is_empty() {
            return Seen::Pass(input.to_vec());
        }
        let mut pass = Vec::with_capacity(input.len());
        for &byte in input {
            if byte != self.sequence[self.matched] && self.matched > 0 {
                pass.extend_from_slice(&self.sequence[..self.matched]);
                self.matched = 0;
            }
            if byte == self.sequence[self.matched] {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    return Seen::Detach(pass);
                }
            } else {
                pass.push(byte);
            }
        }
        Seen::Pass(pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_keys() {
        for (text, wanted) in [
            ("ctrl-p,ctrl-q", Ok(vec![16, 17])),
            ("a", Ok(vec![b'a'])),
            ("ctrl-@,ctrl-_,x", Ok(vec![0, 31, b'x'])),
            ("ctrl-foo", Err("Unknown character: 'ctrl-foo'".to_owned())),
            ("foo", Err("Unknown character: 'foo'".to_owned())),
        ] {
            assert_eq!(keys(text), wanted, "{text}");
        }
    }

    #[test]
    fn the_sequence_is_found_across_reads_and_never_passed_on() {
        let mut watch = Watch::new(DEFAULT.to_vec());
        assert_eq!(watch.take(b"ab\x10"), Seen::Pass(b"ab".to_vec()));
        assert_eq!(watch.take(b"c"), Seen::Pass(b"\x10c".to_vec()));
        assert_eq!(watch.take(b"\x10\x10"), Seen::Pass(b"\x10".to_vec()));
        assert_eq!(watch.take(b"\x11rest"), Seen::Detach(Vec::new()));
        let mut never = Watch::new(Vec::new());
        assert_eq!(never.take(b"\x10\x11"), Seen::Pass(b"\x10\x11".to_vec()));
    }
}
