//! Credentials for registries, read from Docker's `config.json` and handed to the engine with a pull or push.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use serde_json::{Value, json};

static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

/// Takes the directory that `--config` names, else `DOCKER_CONFIG`, else `~/.docker`.
pub fn remember_directory(flag: Option<&str>) {
    let directory = flag.map(PathBuf::from).or_else(|| env::var_os("DOCKER_CONFIG").map(PathBuf::from));
    let directory = directory.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")));
    if let Some(directory) = directory {
        // The command line is parsed once, so this is the only call.
        let _ = DIRECTORY.set(directory);
    }
}

/// The header `X-Registry-Auth` for a registry, if the user has credentials for it.
pub fn header(registry: &str) -> Option<String> {
    let text = fs::read_to_string(DIRECTORY.get()?.join("config.json")).ok()?;
    let config: Value = serde_json::from_str(&text).ok()?;
    of(&config, registry).map(|auth| encode(auth.to_string().as_bytes()))
}

/// The credentials that a configuration has for a registry.
fn of(config: &Value, registry: &str) -> Option<Value> {
    let auths = config.get("auths")?.as_object()?;
    let host = |key: &str| {
        let bare = key.split_once("://").map_or(key, |(_, rest)| rest);
        let bare = bare.split('/').next().unwrap_or(bare);
        if bare == "index.docker.io" { "docker.io".to_owned() } else { bare.to_owned() }
    };
    let (_, entry) = auths.iter().find(|(key, _)| host(key) == registry)?;
    let server = if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry };
    if let Some(token) = entry.get("identitytoken").and_then(Value::as_str).filter(|t| !t.is_empty()) {
        return Some(json!({"identitytoken": token, "serveraddress": server}));
    }
    let plain = match entry.get("auth").and_then(Value::as_str) {
        Some(auth) => String::from_utf8(decode(auth)?).ok()?,
        None => format!("{}:{}", entry.get("username")?.as_str()?, entry.get("password")?.as_str()?),
    };
    let (user, password) = plain.split_once(':')?;
    Some(json!({"username": user, "password": password.trim_end_matches('\0'), "serveraddress": server}))
}

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64 in the alphabet for URLs, with padding (RFC 4648 section 5).
fn encode(data: &[u8]) -> String {
    let mut out = String::new();
    for chunk in data.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            if place <= chunk.len() {
                out.push(char::from(LETTERS[(bits >> (18 - 6 * place)) as usize & 63]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// Base64 in either alphabet, with or without padding.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes().filter(|b| !b.is_ascii_whitespace() && *b != b'=') {
        let byte = match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => other,
        };
        let value = LETTERS.iter().position(|&letter| letter == byte)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64() {
        for text in ["", "f", "fo", "foo", "foob", "me:s3cret", "\u{ff}\u{fe}?>"] {
            assert_eq!(decode(&encode(text.as_bytes())).as_deref(), Some(text.as_bytes()), "{text:?}");
        }
        assert_eq!(encode(b"foob"), "Zm9vYg==");
        assert_eq!(decode("bWU6czNjcmV0").as_deref(), Some(&b"me:s3cret"[..]));
        assert_eq!(decode("!"), None);
    }

    #[test]
    fn credentials_are_found_by_the_registrys_host() {
        let config = json!({"auths": {
            "https://index.docker.io/v1/": {"auth": "bWU6czNjcmV0"},
            "localhost:5000": {"username": "a", "password": "b"},
            "ghcr.io": {"identitytoken": "t"}
        }});
        assert_eq!(
            of(&config, "docker.io"),
            Some(json!({"username": "me", "password": "s3cret", "serveraddress": "https://index.docker.io/v1/"}))
        );
        assert_eq!(
            of(&config, "localhost:5000"),
            Some(json!({"username": "a", "password": "b", "serveraddress": "localhost:5000"}))
        );
        assert_eq!(of(&config, "ghcr.io"), Some(json!({"identitytoken": "t", "serveraddress": "ghcr.io"})));
        assert_eq!(of(&config, "quay.io"), None);
    }
}
