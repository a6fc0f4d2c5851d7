//! A client for one repository of a registry (OCI distribution specification 1.1).
//!
//! An own thin client over `reqwest`: the ready-made one (`oci-client`) reads manifests and tokens of any length into memory,
//! follows redirects to plain http, knows no identity tokens, and turns a failed log-in into an anonymous attempt.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use crate::auth::Credentials;
use crate::config::media;
use crate::digest::Digest;
use crate::error::{Error, Refusal, Result};
use crate::reference::Reference;

/// How registries are approached.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// What to show if a registry asks.
    pub credentials: Credentials,
    /// Registries (`host`, `host:port` or a CIDR) that may be spoken to without TLS or with an unknown certificate. Loopback
    /// addresses always may.
    pub insecure: Vec<String>,
}

/// What is wanted of the repository.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Pull,
    Push,
    LogIn,
}

pub(crate) struct Registry {
    http: reqwest::Client,
    /// `https://host:port`
    base: Url,
    /// Host and port as the user named them.
    pub name: String,
    repository: String,
    want: Want,
    credentials: Credentials,
    /// The `Authorization` header that worked last.
    header: Mutex<Option<HeaderValue>>,
}

/// The longest answer of a token service or error message that is read.
const SMALL: u64 = 1 << 20;

impl Registry {
    /// Finds out how the reference's registry speaks, and logs in if it wants that.
    pub async fn connect(reference: &Reference, want: Want, access: &Access) -> Result<Registry> {
        let name = reference.domain().to_owned();
        // Docker Hub's name and its registry's address differ.
        let host = if name == "docker.io" { "registry-1.docker.io" } else { &name };
        let lax = is_loopback(&name) || access.insecure.iter().any(|entry| names(entry, &name));
        let network = |why: String| Error::Network { registry: name.clone(), why };
        let http = client(lax).map_err(|error| network(reasons(&error)))?;
        let mut failures = Vec::new();
        for scheme in if lax { &["https", "http"][..] } else { &["https"] } {
            let text = format!("{scheme}://{host}");
            let base = Url::parse(&text).map_err(|error| network(format!("{text} is no address: {error}")))?;
            let ping = http.get(endpoint(&base, "/v2/")).timeout(Duration::from_secs(30)).send().await;
            let response = match ping {
                Ok(response) => response,
                Err(error) => {
                    failures.push(reasons(&error));
                    continue;
                }
            };
            let registry = Registry {
                http,
                base,
                repository: reference.path().to_owned(),
                want,
                credentials: access.credentials.clone(),
                header: Mutex::new(None),
                name,
            };
            if response.status() == StatusCode::UNAUTHORIZED {
                let header = registry.log_in(response.headers()).await?;
                registry.set_header(header);
            }
            return Ok(registry);
        }
        let why = failures.pop().unwrap_or_default();
        if !lax && why.to_lowercase().contains("corrupt message") {
            return Err(Refusal::NeedsTls { registry: name, why: "it answered without TLS".to_owned() }.into());
        }
        Err(network(why))
    }

    /// The raw manifest or index of a tag or digest with its media type, its digest checked if it was asked for by one.
    pub async fn manifest(&self, which: &str, bound: u64) -> Result<(Vec<u8>, String)> {
        let url = endpoint(&self.base, &format!("/v2/{}/manifests/{which}", self.repository));
        let accept = [media::OCI_INDEX, media::DOCKER_INDEX, media::OCI_MANIFEST, media::DOCKER_MANIFEST].join(", ");
        let response = self.send(&|| self.http.get(url.clone()).header(ACCEPT, &accept)).await?;
        let response = self.good(response).await?;
        let said = response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = said.split(';').next().unwrap_or_default().trim().to_owned();
        let promised =
            response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let raw = self.read(response, bound).await?;
        let found = Digest::of(&raw).to_string();
        let wanted = [Some(which.to_owned()).filter(|which| which.starts_with("sha256:")), promised];
        // Promises in other algorithms cannot be checked, and need not be: nobody asked by them.
        for wanted in wanted.into_iter().flatten().filter(|wanted| wanted.starts_with("sha256:")) {
            if wanted != found {
                return Err(self.broken(format!("the manifest {wanted} arrives as {found}")));
            }
        }
        Ok((raw, media_type))
    }

    /// Begins to read a blob, whose announced length must be the descriptor's.
    pub async fn blob(&self, digest: Digest, size: u64) -> Result<Response> {
        let url = endpoint(&self.base, &format!("/v2/{}/blobs/{digest}", self.repository));
        let response = self.send(&|| self.http.get(url.clone())).await?;
        let response = self.good(response).await?;
        match response.content_length() {
            Some(length) if length != size => {
                Err(self.broken(format!("the blob {digest} has {length} bytes, its descriptor says {size}")))
            }
            _ => Ok(response),
        }
    }

    pub async fn has_blob(&self, digest: Digest) -> Result<bool> {
        let url = endpoint(&self.base, &format!("/v2/{}/blobs/{digest}", self.repository));
        let response = self.send(&|| self.http.head(url.clone())).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        self.good(response).await.map(|_| true)
    }

    /// Uploads a blob in one piece. `body` is called anew for every attempt.
    pub async fn put_blob(&self, digest: Digest, size: u64, body: &(dyn Fn() -> reqwest::Body + Sync)) -> Result<()> {
        let url = endpoint(&self.base, &format!("/v2/{}/blobs/uploads/", self.repository));
        let response = self.send(&|| self.http.post(url.clone()).header("content-length", 0)).await?;
        let response = self.good(response).await?;
        let location = response.headers().get("location").and_then(|value| value.to_str().ok());
        let location = location.and_then(|location| response.url().join(location).ok());
        let mut place = location.ok_or_else(|| self.broken("it does not say where to upload to".to_owned()))?;
        if place.scheme() != self.base.scheme() && place.scheme() != "https" {
            return Err(self.broken(format!("it wants the upload over plain http at {place}")));
        }
        place.query_pairs_mut().append_pair("digest", &digest.to_string());
        let request = || {
            let request = self.http.put(place.clone()).header("content-type", "application/octet-stream");
            request.header("content-length", size).body(body())
        };
        let response = self.send(&request).await?;
        self.good(response).await.map(drop)
    }

    pub async fn put_manifest(&self, which: &str, raw: &[u8], media_type: &str) -> Result<()> {
        let url = endpoint(&self.base, &format!("/v2/{}/manifests/{which}", self.repository));
        let request =
            || self.http.request(Method::PUT, url.clone()).header("content-type", media_type).body(raw.to_vec());
        let response = self.send(&request).await?;
        self.good(response).await.map(drop)
    }

    /// Reads an answer up to a bound.
    pub async fn read(&self, mut response: Response, bound: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.network(&error))? {
            if (bytes.len() + chunk.len()) as u64 > bound {
                return Err(
                    self.broken(format!("the answer of {} is longer than {bound} bytes", response.url().path()))
                );
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    pub fn broken(&self, why: String) -> Error {
        Refusal::BadRegistry { registry: self.name.clone(), why }.into()
    }

    pub fn network(&self, error: &reqwest::Error) -> Error {
        Error::Network { registry: self.name.clone(), why: reasons(error) }
    }

    fn set_header(&self, header: Option<HeaderValue>) {
        *self.header.lock().unwrap_or_else(PoisonError::into_inner) = header;
    }

    /// Sends a request; logs in once (again) if the registry wants that.
    async fn send(&self, make: &(dyn Fn() -> RequestBuilder + Sync)) -> Result<Response> {
        let response = self.send_once(make).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let Some(header) = self.log_in(response.headers()).await? else { return Ok(response) };
        self.set_header(Some(header));
        self.send_once(make).await
    }

    async fn send_once(&self, make: &(dyn Fn() -> RequestBuilder + Sync)) -> Result<Response> {
        let mut request = make().build().map_err(|error| self.network(&error))?;
        let header = self.header.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Uploads may be sent elsewhere: whoever that is must not see what the registry may.
        if let Some(header) = header.filter(|_| request.url().origin() == self.base.origin()) {
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        self.http.execute(request).await.map_err(|error| self.network(&error))
    }

    /// Answers a challenge (RFC 9110 11.6.1) with a header; `None` if there is nothing to show for it.
    async fn log_in(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>> {
        let challenges: Vec<&str> =
            headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
        let secret = |text: String| {
            let mut value = HeaderValue::from_str(&text).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        if !self.credentials.registry_token.is_empty() {
            return Ok(secret(format!("Bearer {}", self.credentials.registry_token)));
        }
        if let Some(challenge) = challenges.iter().find_map(|text| parameters(text, "bearer")) {
            let token = self.token(&challenge).await?;
            return Ok(secret(format!("Bearer {token}")));
        }
        if challenges.iter().any(|text| parameters(text, "basic").is_some()) && !self.credentials.username.is_empty() {
            use base64::Engine;
            let pair = format!("{}:{}", self.credentials.username, self.credentials.password);
            return Ok(secret(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))));
        }
        Ok(None)
    }

    /// Fetches a bearer token (distribution's "token authentication specification", and its OAuth2 form for identity tokens).
    async fn token(&self, challenge: &[(String, String)]) -> Result<String> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let get = |key: &str| challenge.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        let realm = get("realm").unwrap_or_default();
        let mut url =
            Url::parse(&realm).map_err(|_| self.broken(format!("its token service `{realm}` is no address")))?;
        if url.scheme() != "https" && self.base.scheme() == "https" {
            return Err(self.broken(format!("its token service {url} is not https: credentials are not sent there")));
        }
        let scope = match self.want {
            Want::Pull => format!("repository:{}:pull", self.repository),
            Want::Push => format!("repository:{}:pull,push", self.repository),
            Want::LogIn => String::new(),
        };
        let service = get("service").unwrap_or_default();
        let request = if self.credentials.identity_token.is_empty() {
            url.query_pairs_mut().append_pair("service", &service);
            if !scope.is_empty() {
                url.query_pairs_mut().append_pair("scope", &scope);
            }
            let request = self.http.get(url.clone());
            match self.credentials.username.is_empty() {
                true => request,
                false => request.basic_auth(&self.credentials.username, Some(&self.credentials.password)),
            }
        } else {
            self.http.post(url.clone()).form(&[
                ("grant_type", "refresh_token"),
                ("service", &service),
                ("client_id", "berth"),
                ("scope", &scope),
                ("refresh_token", &self.credentials.identity_token),
            ])
        };
        let response = request.send().await.map_err(|error| self.network(&error))?;
        let status = response.status();
        let body = self.read(response, SMALL).await?;
        if !status.is_success() {
            let why = error_text(&body);
            let host = url.host_str().unwrap_or_default();
            return Err(Refusal::Unauthorized(format!("{}: {host} gives no token: {status}{why}", self.name)).into());
        }
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|_| self.broken("its token is not readable".to_owned()))?;
        let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        token.ok_or_else(|| self.broken("its token service answers without a token".to_owned()))
    }

    /// Turns the registry's errors into ours.
    async fn good(&self, response: Response) -> Result<Response> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let what = response.url().path().to_owned();
        let why = error_text(&self.read(response, SMALL).await.unwrap_or_default());
        let refusal = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let name = &self.repository;
                let verb = if self.want == Want::Push { "push" } else { "pull" };
                let text = format!(
                    "{verb} access denied for {}/{name}, repository does not exist or may require 'login'{why}",
                    self.name
                );
                Refusal::Unauthorized(text)
            }
            StatusCode::NOT_FOUND => Refusal::NotInRegistry(format!("registry {}: {what} not found{why}", self.name)),
            _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                let why = format!("{what} answers {status}{why}");
                return Err(Error::Network { registry: self.name.clone(), why });
            }
            _ => return Err(self.broken(format!("{what} answers {status}{why}"))),
        };
        Err(refusal.into())
    }
}

/// Asks a registry (`docker.io`, `host:port`) whether it takes the credentials, as `docker login` does.
///
/// # Errors
/// [`Refusal::Unauthorized`] if it does not, [`Refusal::BadReference`] if the name is no registry's, else as
/// [`Store::pull`](crate::Store::pull).
pub async fn log_in(registry: &str, access: &Access) -> Result<()> {
    // Docker Hub is known by its old address, too.
    let bare = registry.trim_start_matches("https://").trim_end_matches("/v1/").trim_end_matches('/');
    let reference = Reference::parse(&format!("{bare}/x"))?;
    if reference.domain() != bare && bare != "index.docker.io" {
        return Err(Refusal::BadReference(format!("`{registry}` is not the name of a registry")).into());
    }
    let registry = Registry::connect(&reference, Want::LogIn, access).await?;
    let url = endpoint(&registry.base, "/v2/");
    let response = registry.send(&|| registry.http.get(url.clone())).await?;
    match response.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let why = error_text(&registry.read(response, SMALL).await.unwrap_or_default());
            Err(Refusal::Unauthorized(format!("{}: incorrect username or password{why}", registry.name)).into())
        }
        _ => registry.good(response).await.map(drop),
    }
}

fn client(lax: bool) -> reqwest::Result<reqwest::Client> {
    let redirects = reqwest::redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > 10 {
            return attempt.error("more than 10 redirects");
        }
        // A registry reached over https may not lead to where anybody can listen.
        let was_safe = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
        if was_safe && attempt.url().scheme() != "https" && !lax {
            return attempt.error("it redirects from https to plain http");
        }
        attempt.follow()
    });
    reqwest::Client::builder()
        .user_agent(concat!("berth/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(15))
        .read_timeout(Duration::from_secs(60))
        .danger_accept_invalid_certs(lax)
        .redirect(redirects)
        .build()
}

/// The base with this path. Paths are made of parsed references and digests only.
fn endpoint(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(path);
    url
}

fn host_of(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => name,
    }
}

fn address_of(name: &str) -> Option<IpAddr> {
    host_of(name).trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn is_loopback(name: &str) -> bool {
    host_of(name) == "localhost" || address_of(name).is_some_and(|address| address.is_loopback())
}

/// Whether an entry of the list of insecure registries means this one.
fn names(entry: &str, name: &str) -> bool {
    if let Ok(net) = entry.parse::<ipnet::IpNet>() {
        return address_of(name).is_some_and(|address| net.contains(&address));
    }
    entry == name || entry == host_of(name)
}

/// The parameters of a challenge of this scheme.
fn parameters(challenge: &str, scheme: &str) -> Option<Vec<(String, String)>> {
    let (word, mut rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
    if !word.eq_ignore_ascii_case(scheme) {
        return None;
    }
    let mut found = Vec::new();
    while let Some((key, after)) = rest.split_once('=') {
        let key = key.trim_matches(|c: char| c == ',' || c.is_whitespace()).to_ascii_lowercase();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.push((key, value.to_owned()));
        rest = next;
    }
    Some(found)
}

/// `: code: message` of a registry's error body, empty if it has none.
fn error_text(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(Errors { errors }) = serde_json::from_slice(body) else { return String::new() };
    let short = |text: &str| text.chars().take(300).collect::<String>();
    errors
        .iter()
        .take(3)
        .map(|error| format!(": {}: {}", short(&error.code.to_lowercase().replace('_', " ")), short(&error.message)))
        .collect()
}

/// An error of the http client with its causes: alone, it only says that sending failed.
fn reasons(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_and_the_list_only() {
        for name in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"] {
            assert!(is_loopback(name), "{name}");
        }
        for name in ["docker.io", "10.0.0.1:5000", "localhost.example:80", "[2001:db8::1]:5000"] {
            assert!(!is_loopback(name), "{name}");
        }
        assert!(names("10.0.0.0/8", "10.1.2.3:5000") && !names("10.0.0.0/8", "11.1.2.3:5000"));
        assert!(names("reg:5000", "reg:5000") && names("reg", "reg:5000") && !names("reg:5000", "reg:5001"));
        assert!(!names("10.0.0.0/8", "reg:5000"));
    }

    #[test]
    fn challenges_are_taken_apart() {
        let text = r#"Bearer realm="https://auth.example/token?a=b,c",service="reg", scope=x,error="e""#;
        let found = parameters(text, "bearer").unwrap();
        let get = |key: &str| found.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        assert_eq!(get("realm"), Some("https://auth.example/token?a=b,c"));
        assert_eq!((get("service"), get("scope"), get("error")), (Some("reg"), Some("x"), Some("e")));
        assert!(parameters("Basic realm=x", "bearer").is_none());
    }

    #[test]
    fn a_registrys_errors_are_repeated() {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":1}]}"#;
        assert_eq!(error_text(body), ": manifest unknown: manifest unknown");
        assert_eq!(error_text(b"<html>"), "");
    }
}
