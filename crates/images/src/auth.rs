//! Credentials for registries: as the API's header brings them, and as Docker's `config.json` keeps them.

use std::collections::HashMap;
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::Deserialize;

use crate::durable;
use crate::error::{Doing, Error, Refusal, Result};
use crate::reference::Reference;

/// What a registry may be shown. All empty means anonymous.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub username: String,
    /// The user's password or access token.
    pub password: String,
    /// An OAuth2 refresh token, in place of name and password.
    pub identity_token: String,
    /// A bearer token to be sent as it is.
    pub registry_token: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Docker's form of credentials, in its file and in the API's header.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
    /// `base64(name:password)`
    auth: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DockerConfig {
    auths: HashMap<String, Entry>,
    #[serde(rename = "credsStore")]
    creds_store: Option<String>,
    #[serde(rename = "credHelpers")]
    cred_helpers: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

/// The key under which Docker keeps Docker Hub's credentials.
const HUB_KEY: &str = "https://index.docker.io/v1/";

impl Credentials {
    /// A user's name and password.
    pub fn basic(username: &str, password: &str) -> Credentials {
        Credentials { username: username.to_owned(), password: password.to_owned(), ..Credentials::default() }
    }

    /// Reads the API's `X-Registry-Auth` header: base64url of a JSON object. An empty one is anonymous.
    ///
    /// # Errors
    /// [`Refusal::BadReference`] if it is not readable. The text does not repeat it, for it is a secret.
    pub fn from_header(text: &str) -> Result<Credentials, Refusal> {
        let bad = || Refusal::BadReference("the X-Registry-Auth header is not base64url of a JSON object".to_owned());
        if text.is_empty() {
            return Ok(Credentials::default());
        }
        let mut padded = text.to_owned();
        while !padded.len().is_multiple_of(4) {
            padded.push('=');
        }
        let json = URL_SAFE.decode(&padded).or_else(|_| STANDARD.decode(&padded)).map_err(|_| bad())?;
        serde_json::from_slice::<Entry>(&json).map_err(|_| bad())?.credentials(bad)
    }

    /// Finds the credentials for a reference's registry in Docker's configuration file; anonymous if there are none.
    /// Credential helpers (`docker-credential-NAME get`) are executed, so this blocks.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the file is not readable, [`Error::Io`] if a helper cannot be executed.
    pub fn from_docker_config(path: &Path, reference: &Reference) -> Result<Credentials> {
        let Some(text) = durable::read(path)? else { return Ok(Credentials::default()) };
        let bad = |why: String| Error::Damaged { file: path.display().to_string(), why };
        let config: DockerConfig = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        let registry = reference.domain();
        let key = if registry == "docker.io" { HUB_KEY } else { registry };
        let helper = config.cred_helpers.get(registry).or(config.cred_helpers.get(key)).or(config.creds_store.as_ref());
        if let Some(helper) = helper.filter(|helper| !helper.is_empty()) {
            return ask_helper(helper, key);
        }
        let host = |key: &str| {
            let rest = key.strip_prefix("https://").or(key.strip_prefix("http://")).unwrap_or(key);
            rest.split('/').next().unwrap_or_default().to_owned()
        };
        let found = config
            .auths
            .get(key)
            .or_else(|| config.auths.iter().find(|(known, _)| host(known) == host(key)).map(|(_, entry)| entry));
        let damaged = || Refusal::Unauthorized(format!("the entry of {key} in {} is not readable", path.display()));
        Ok(found.cloned().unwrap_or_default().credentials(damaged)?)
    }

    /// Whether there is nothing to show.
    pub fn is_anonymous(&self) -> bool {
        self.username.is_empty() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }
}

impl Entry {
    /// Takes name and password out of `auth`, where they are not given plainly.
    fn credentials(self, bad: impl Fn() -> Refusal) -> Result<Credentials, Refusal> {
        let mut found = Credentials {
            username: self.username,
            password: self.password,
            identity_token: self.identitytoken,
            registry_token: self.registrytoken,
        };
        if found.username.is_empty() && !self.auth.is_empty() {
            let plain = STANDARD.decode(self.auth.trim()).map_err(|_| bad())?;
            let plain = String::from_utf8(plain).map_err(|_| bad())?;
            let (username, password) = plain.split_once(':').ok_or_else(&bad)?;
            found.username = username.to_owned();
            // Some versions of Docker padded the password with zero bytes.
            found.password = password.trim_end_matches('\0').to_owned();
        }
        Ok(found)
    }
}

fn ask_helper(helper: &str, key: &str) -> Result<Credentials> {
    if !helper.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err(Refusal::Unauthorized(format!("`{helper}` is not the name of a credential helper")).into());
    }
    let program = format!("docker-credential-{helper}");
    let doing = || format!("asking {program} for the credentials of {key}");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .doing(doing)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that answers without reading its question is still heard.
        match stdin.write_all(key.as_bytes()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            other => other.doing(doing)?,
        }
    }
    let output = child.wait_with_output().doing(doing)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        // The protocol's word for "none".
        if said.contains("credentials not found") {
            return Ok(Credentials::default());
        }
        return Err(Refusal::Unauthorized(format!("{program} has no credentials of {key}: {said}")).into());
    }
    let answer: HelperAnswer = serde_json::from_slice(&output.stdout)
        .map_err(|_| Refusal::Unauthorized(format!("{program}'s answer for {key} is not readable")))?;
    if answer.username == "<token>" {
        return Ok(Credentials { identity_token: answer.secret, ..Credentials::default() });
    }
    Ok(Credentials::basic(&answer.username, &answer.secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_config(text: &str, name: &str) -> Result<Credentials> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        Credentials::from_docker_config(&path, &Reference::parse(name).unwrap())
    }

    #[test]
    fn dockers_file_is_read() {
        let text = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHVi OnNlY3JldA=="},
            "localhost:5000":{"auth":"dXNlcjpwYTpzcw=="},"https://old.example/v1/":{"username":"u","password":"p"},
            "token.example":{"identitytoken":"t"}}}"#
            .replace("aHVi On", "aHViOn");
        assert_eq!(in_config(&text, "busybox").unwrap(), Credentials::basic("hub", "secret"));
        assert_eq!(in_config(&text, "localhost:5000/x").unwrap(), Credentials::basic("user", "pa:ss"));
        assert_eq!(in_config(&text, "old.example/x").unwrap(), Credentials::basic("u", "p"));
        assert_eq!(in_config(&text, "token.example/x").unwrap().identity_token, "t");
        assert!(in_config(&text, "other.example/x").unwrap().is_anonymous());
        assert!(in_config("{", "x").is_err());
        assert!(in_config(r#"{"auths":{"a.b":{"auth":"!"}}}"#, "a.b/x").is_err());
        assert!(in_config(r#"{"credsStore":"../x"}"#, "a.b/x").unwrap_err().to_string().contains("../x"));
    }

    #[test]
    fn the_header_is_read_and_never_shown() {
        let json = r#"{"username":"u","password":"geheim","serveraddress":"x"}"#;
        let credentials = Credentials::from_header(&URL_SAFE.encode(json)).unwrap();
        assert_eq!(credentials, Credentials::basic("u", "geheim"));
        assert!(!format!("{credentials:?}").contains("geheim"));
        assert!(Credentials::from_header("").unwrap().is_anonymous());
        assert!(Credentials::from_header(URL_SAFE.encode("{}").trim_end_matches('=')).unwrap().is_anonymous());
        assert!(Credentials::from_header("%%%").is_err());
    }
}
