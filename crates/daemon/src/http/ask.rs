//! A request on its way to what it asks for: who speaks, which version, what stands in path, query and body.

use super::version::Version;
use crate::engine::Engine;
use crate::error::{Error, Result};
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

/// No JSON body that a client means is longer.
const JSON_MAX: usize = 8 << 20;

/// A request.
pub struct Ask {
    /// The engine that is asked.
    pub engine: Arc<Engine>,
    /// The client's version of the Engine API.
    pub version: Version,
    /// What stood in the path's places.
    pub places: BTreeMap<&'static str, String>,
    /// What stood behind the question mark.
    pub query: Query,
    /// The rest of it.
    pub request: Request,
}

impl Ask {
    /// What stood in one of the path's places.
    pub fn place(&self, name: &str) -> &str {
        self.places.get(name).map_or("", String::as_str)
    }

    /// The name or id in the path.
    pub fn name(&self) -> &str {
        self.place("name")
    }

    /// Takes the body out.
    pub fn take_body(&mut self) -> Body {
        std::mem::replace(self.request.body_mut(), Body::empty())
    }

    /// Reads the body to its end.
    ///
    /// # Errors
    /// Too long, or the client went away.
    pub async fn bytes(&mut self) -> Result<Bytes> {
        let bytes = axum::body::to_bytes(self.take_body(), JSON_MAX).await;
        bytes.map_err(|error| Error::Invalid(format!("reading the request body (at most {JSON_MAX} bytes): {error}")))
    }

    /// Reads the body as JSON; `None` if there is none.
    ///
    /// # Errors
    /// Not JSON, not said to be JSON, or of another form: then the field is named.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let bytes = self.json_bytes().await?;
        if bytes.is_empty() { Ok(None) } else { parse(&bytes).map(Some) }
    }

    /// Reads a body that should be JSON; empty if there is none.
    ///
    /// # Errors
    /// It is said to be something else.
    pub async fn json_bytes(&mut self) -> Result<Bytes> {
        let kind = self.request.headers().get(CONTENT_TYPE).cloned();
        let bytes = self.bytes().await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Bytes::new());
        }
        if let Some(kind) = kind {
            let kind = String::from_utf8_lossy(kind.as_bytes()).into_owned();
            let bare = kind.split(';').next().unwrap_or_default().trim();
            if !bare.eq_ignore_ascii_case("application/json") {
                return Err(Error::Invalid(format!(
                    "unsupported Content-Type header ({kind}): must be 'application/json'"
                )));
            }
        }
        Ok(bytes)
    }
}

/// JSON of a form, or a refusal that names the field.
///
/// # Errors
/// Not JSON, or of another form.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        if path == "." || error.is_syntax() || error.is_eof() {
            Error::Invalid(format!("invalid JSON: {error}"))
        } else {
            Error::Invalid(format!("invalid JSON: {path}: {error}"))
        }
    })?;
    reader.end().map_err(|error| Error::Invalid(format!("invalid JSON: unexpected content after JSON: {error}")))?;
    Ok(value)
}

/// What stood behind the question mark, in order.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads it.
    ///
    /// # Errors
    /// Not of the form `a=b&c=d`.
    pub fn read(request: &Request) -> Result<Query> {
        axum::extract::Query::<Vec<(String, String)>>::try_from_uri(request.uri())
            .map(|query| Query(query.0))
            .map_err(|error| Error::Invalid(format!("invalid query: {error}")))
    }

    /// The first value of a name; an empty one is none.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Every value of a name.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
    }

    /// Somebody said something about it.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// True unless empty, `0`, `no`, `false` or `none` (Docker's rule).
    pub fn is(&self, name: &str) -> bool {
        self.text(name).is_some_and(|text| !["0", "no", "false", "none"].contains(&text.trim().to_lowercase().as_str()))
    }

    /// The same with a default for what is not said.
    pub fn is_or(&self, name: &str, default: bool) -> bool {
        if self.text(name).is_some() { self.is(name) } else { default }
    }

    /// A number, or anything else that is read from a text.
    ///
    /// # Errors
    /// Names the value.
    pub fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>>
    where
        T::Err: Display,
    {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|error| Error::Invalid(format!("invalid value {text:?} for {name}: {error}")))
    }
}

#[cfg(test)]
impl Query {
    /// For tests: a query as it is typed.
    pub fn of(text: &str) -> Query {
        let uri = format!("http://h/x?{text}");
        Query::read(&Request::builder().uri(uri).body(Body::empty()).unwrap()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_is_dockers() {
        let query = Query::of("a=1&b=0&c=false&d=True&e=&f=none&g=%20No%20&h=x");
        let truth: String = "abcdefghz".chars().map(|c| if query.is(&c.to_string()) { '1' } else { '0' }).collect();
        assert_eq!(truth, "100100010");
        assert!(query.is_or("z", true) && !query.is_or("b", true) && query.is_or("e", true));
    }

    #[test]
    fn bad_values_are_named() {
        let query = Query::of("t=soon&n=5");
        assert_eq!(query.parsed::<i64>("n").unwrap(), Some(5));
        assert_eq!(
            query.parsed::<i64>("t").unwrap_err().to_string(),
            "invalid value \"soon\" for t: invalid digit found in string"
        );
        assert_eq!(query.parsed::<i64>("missing").unwrap(), None);
    }

    #[test]
    fn bad_json_names_the_field() {
        let refused = |text: &str| parse::<api::ContainerCreateBody>(text.as_bytes()).unwrap_err().to_string();
        assert!(
            refused(r#"{"HostConfig":{"Memory":"lots"}}"#).starts_with("invalid JSON: HostConfig.Memory: invalid type")
        );
        assert!(refused(r#"{"Env":["a",5]}"#).starts_with("invalid JSON: Env[1]: invalid type: integer `5`"));
        assert!(refused("{").starts_with("invalid JSON: EOF"));
        assert!(refused("{} x").starts_with("invalid JSON: unexpected content after JSON"));
        assert!(refused("[]").starts_with("invalid JSON: "));
    }
}
