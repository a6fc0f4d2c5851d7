//! Signals by name or number.

use crate::error::{Error, Result};

/// signal(7), as on x86-64 and arm64.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// `SIGTERM`, `TERM`, `term`, `15`, `RTMIN+3`.
///
/// # Errors
/// `invalid signal: X`
pub fn signal(text: &str) -> Result<i32> {
    let invalid = || Error::Invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=RTMAX).contains(&number) { Ok(number) } else { Err(invalid()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let known = match name {
        "CLD" => Some(17),
        "POLL" => Some(29),
        "IOT" => Some(6),
        "UNUSED" => Some(31),
        _ => NAMES.iter().zip(1..).find(|(known, _)| **known == name).map(|(_, number)| number),
    };
    let real_time = || {
        let relative = |base: i32, rest: &str| match rest {
            "" => Some(base),
            rest => rest.parse::<i32>().ok().map(|offset| base + offset),
        };
        let number = match name.strip_prefix("RTMIN") {
            Some(rest) => relative(RTMIN, rest.strip_prefix('+').unwrap_or(rest)),
            None => relative(RTMAX, name.strip_prefix("RTMAX")?),
        };
        number.filter(|number| (RTMIN..=RTMAX).contains(number))
    };
    known.or_else(real_time).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_many_spellings() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("TERM", 15),
            ("sigterm", 15),
            ("15", 15),
            ("KILL", 9),
            ("SYS", 31),
            ("CLD", 17),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("64", 64),
        ] {
            assert_eq!(signal(text).unwrap(), number, "{text}");
        }
        for bad in ["", "0", "65", "-9", "SIG", "SIGSIGTERM", "NOSUCH", "RTMIN+99", "RTMAX+1"] {
            assert_eq!(signal(bad).unwrap_err().to_string(), format!("invalid signal: {bad}"));
        }
    }
}
