//! Answers, in the forms that Docker's clients expect.

use super::version;
use crate::error::Error;
use api::{ErrorBody, NEWEST};
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, SERVER};
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use futures_util::Stream;
use serde::Serialize;
use std::io;

/// What every handler answers with.
pub type Answer = Response<Body>;

/// JSON, 200.
pub fn json(value: &impl Serialize) -> Answer {
    json_as(StatusCode::OK, value)
}

/// JSON with another status.
pub fn json_as(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(mut text) => {
            text.push(b'\n');
            typed(status, "application/json", text)
        }
        Err(fault) => error(&Error::Fault(format!("encode the answer: {fault}"))),
    }
}

/// Plain text, 200.
pub fn text(text: impl Into<Body>) -> Answer {
    typed(StatusCode::OK, "text/plain; charset=utf-8", text)
}

/// Nothing but a status.
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Answer::new(Body::empty());
    *answer.status_mut() = status;
    answer
}

/// 204: done, and nothing to say.
pub fn done() -> Answer {
    empty(StatusCode::NO_CONTENT)
}

/// Any body of any type.
pub fn typed(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Answer {
    let mut answer = Answer::new(body.into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// A body that comes piece by piece. Its headers are sent at once.
pub fn streamed<S>(kind: &'static str, pieces: S) -> Answer
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    typed(StatusCode::OK, kind, Body::from_stream(pieces))
}

/// What went wrong.
pub fn error(error: &Error) -> Answer {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status == StatusCode::NOT_MODIFIED {
        return empty(status);
    }
    json_as(status, &ErrorBody { message: error.to_string() })
}

/// What every answer carries: who we are and what we speak.
pub fn signed(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    let server = concat!("berth/", env!("CARGO_PKG_VERSION"), " (linux)");
    headers.insert(SERVER, HeaderValue::from_static(server));
    headers.insert(HeaderName::from_static("ostype"), HeaderValue::from_static("linux"));
    headers.insert(HeaderName::from_static("docker-experimental"), HeaderValue::from_static("false"));
    if let Ok(newest) = HeaderValue::from_str(&version::text(NEWEST)) {
        headers.insert(HeaderName::from_static("api-version"), newest);
    }
    answer
}
