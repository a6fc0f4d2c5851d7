//! Ids and names for what users did not name.

use crate::error::{Doing, Error, Result};
use std::fmt::Write;

const LEFT: &[&str] = &[
    "amber", "ample", "autumn", "azure", "balmy", "bold", "brave", "breezy", "bright", "brisk", "calm", "candid",
    "clever", "coastal", "cosy", "crimson", "daring", "deft", "eager", "early", "fair", "fleet", "fond", "frosty",
    "gentle", "golden", "grand", "hardy", "hearty", "hidden", "humble", "jolly", "keen", "kind", "lively", "lofty",
    "loyal", "lucid", "mellow", "merry", "mighty", "misty", "modest", "noble", "northern", "patient", "placid",
    "plucky", "polite", "proud", "quick", "quiet", "rapid", "rugged", "salty", "serene", "sharp", "silent", "silver",
    "smooth", "steady", "stout", "sunny", "swift", "tidal", "tidy", "tranquil", "trusty", "upbeat", "vivid", "warm",
    "western", "wise", "witty", "zesty",
];

const RIGHT: &[&str] = &[
    "anchor",
    "anvil",
    "bay",
    "beacon",
    "bollard",
    "bow",
    "breaker",
    "brig",
    "bulwark",
    "buoy",
    "cabin",
    "canal",
    "capstan",
    "cargo",
    "chart",
    "clipper",
    "compass",
    "cove",
    "crane",
    "current",
    "cutter",
    "davit",
    "deck",
    "delta",
    "dinghy",
    "dock",
    "ferry",
    "fjord",
    "fleet",
    "foghorn",
    "galley",
    "gangway",
    "gull",
    "halyard",
    "harbour",
    "hatch",
    "hawser",
    "helm",
    "hull",
    "island",
    "jetty",
    "keel",
    "kelp",
    "ketch",
    "lagoon",
    "lantern",
    "lighthouse",
    "lock",
    "lugger",
    "mainsail",
    "marina",
    "mast",
    "mooring",
    "oar",
    "pier",
    "pilot",
    "pontoon",
    "port",
    "prow",
    "quay",
    "reef",
    "rigging",
    "rudder",
    "sail",
    "schooner",
    "sextant",
    "shoal",
    "sloop",
    "spar",
    "strait",
    "tide",
    "tiller",
    "trawler",
    "tug",
    "wake",
    "wharf",
];

/// 64 random hexadecimal digits. A short id of digits alone could be taken for a number, so that is drawn again.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn id() -> Result<String> {
    loop {
        let mut bytes = [0u8; 32];
        fill(&mut bytes)?;
        let id = bytes.iter().fold(String::with_capacity(64), |mut id, byte| {
            // Writing into a string cannot fail.
            let _ = write!(id, "{byte:02x}");
            id
        });
        if id[..12].bytes().any(|digit| digit.is_ascii_alphabetic()) {
            return Ok(id);
        }
    }
}

/// Two words, `swift_harbour`, and a digit behind them when asked for the second time or more.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn name(attempt: usize) -> Result<String> {
    let mut bytes = [0u8; 4];
    fill(&mut bytes)?;
    let left = LEFT[usize::from(u16::from_le_bytes([bytes[0], bytes[1]])) % LEFT.len()];
    let right = RIGHT[usize::from(u16::from_le_bytes([bytes[2], bytes[3]])) % RIGHT.len()];
    Ok(if attempt == 0 { format!("{left}_{right}") } else { format!("{left}_{right}{attempt}") })
}

fn fill(bytes: &mut [u8]) -> Result<()> {
    let flags = rustix::rand::GetRandomFlags::empty();
    let got = rustix::rand::getrandom(&mut *bytes, flags).doing("get random bytes")?;
    if got == bytes.len() { Ok(()) } else { Err(Error::Fault(format!("got {got} of {} random bytes", bytes.len()))) }
}

/// A container's name as given, checked and without its leading slash.
///
/// # Errors
/// Docker's rule `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, in Docker's words.
pub fn checked(name: &str) -> Result<String> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let mut chars = bare.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = chars.clone().next().is_some() && chars.all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if first && rest {
        Ok(bare.to_owned())
    } else {
        Err(Error::Invalid(format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["web", "/web", "a1", "0.b-c_d"] {
            assert_eq!(checked(good).unwrap(), good.trim_start_matches('/'));
        }
        for bad in ["", "/", "a", "-web", ".web", "we b", "wéb", "a/b", "_x"] {
            assert!(checked(bad).unwrap_err().to_string().contains(&format!("({bad})")), "{bad}");
        }
    }

    #[test]
    fn ids_are_64_digits_and_differ() {
        let (one, two) = (id().unwrap(), id().unwrap());
        assert_eq!(one.len(), 64);
        assert_ne!(one, two);
    }
}
