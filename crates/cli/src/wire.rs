//! HTTP/1.1 over the engine's unix socket: plain requests, streamed answers, and connections taken over.
//!
//! The answers stay JSON values, because `inspect` and `--format` show whatever the engine sends, known to us or not.

use std::cell::RefCell;
use std::io::{self, Read};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::engine::Address;
use crate::failure::Failure;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// An engine we talk to.
pub struct Wire {
    /// Where it listens.
    pub address: Address,
    /// A connection whose last answer was read to its end.
    idle: RefCell<Option<SendRequest<Body>>>,
}

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    path: String,
    has_query: bool,
    json: Option<Value>,
    headers: Vec<(&'static str, String)>,
}

impl Call {
    fn new(method: Method, path: String) -> Self {
        Self { method, path, has_query: false, json: None, headers: Vec::new() }
    }

    /// Reads something.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path.into())
    }

    /// Changes something.
    pub fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path.into())
    }

    /// Takes something away.
    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path.into())
    }

    /// Asks for headers only.
    pub fn head(path: impl Into<String>) -> Self {
        Self::new(Method::HEAD, path.into())
    }

    /// Replaces something.
    pub fn put(path: impl Into<String>) -> Self {
        Self::new(Method::PUT, path.into())
    }

    /// Adds a parameter.
    pub fn query(mut self, key: &str, value: impl AsRef<str>) -> Self {
        self.path.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        self.path.push_str(key);
        self.path.push('=');
        self.path.push_str(&escape(value.as_ref()));
        self
    }

    /// Adds a parameter if there is a value for it.
    pub fn query_if(self, key: &str, value: Option<impl AsRef<str>>) -> Self {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    /// Adds a switch if it is on.
    pub fn switch(self, key: &str, on: bool) -> Self {
        if on { self.query(key, "1") } else { self }
    }

    /// Sets the body.
    pub fn json(mut self, body: Value) -> Self {
        self.json = Some(body);
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn request(&self, body: Option<Body>, upgrade: bool) -> Result<Request<Body>, Failure> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            .header(header::HOST, "berth")
            .header(header::USER_AGENT, concat!("berth/", env!("CARGO_PKG_VERSION")));
        if upgrade {
            request = request.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "tcp");
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let body = match (body, &self.json) {
            (Some(stream), _) => {
                request = request.header(header::CONTENT_TYPE, "application/x-tar");
                stream
            }
            (None, Some(json)) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                full(Bytes::from(json.to_string()))
            }
            (None, None) => full(Bytes::new()),
        };
        request.body(body).map_err(|err| Failure::Refused(format!("{} cannot be asked: {err}", self.name())))
    }
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A path segment or a parameter with everything but letters, digits and `-._~` escaped.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// An answer that is read as it comes.
pub struct Stream {
    body: Incoming,
    request: String,
    /// The answer's headers.
    pub headers: header::HeaderMap,
}

impl Stream {
    /// The next bytes; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        while let Some(frame) = self.body.frame().await {
            let frame =
                frame.map_err(|err| Failure::Garbled { request: self.request.clone(), reason: err.to_string() })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The answer as JSON values one after another, whatever stands between them.
    pub fn values(self) -> Values {
        Values { stream: self, buffer: Vec::new() }
    }
}

/// JSON values of a streamed answer.
pub struct Values {
    stream: Stream,
    buffer: Vec<u8>,
}

impl Values {
    /// The next value; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Value>, Failure> {
        loop {
            let mut parser = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<Value>();
            match parser.next() {
                Some(Ok(value)) => {
                    let read = parser.byte_offset();
                    self.buffer.drain(..read);
                    return Ok(Some(value));
                }
                Some(Err(err)) if !err.is_eof() => {
                    return Err(Failure::Garbled {
                        request: self.stream.request.clone(),
                        reason: format!("its JSON is broken: {err}"),
                    });
                }
                Some(Err(_)) | None => {}
            }
            match self.stream.chunk().await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None if self.buffer.iter().all(u8::is_ascii_whitespace) => return Ok(None),
                None => {
                    return Err(Failure::Garbled {
                        request: self.stream.request.clone(),
                        reason: "it ends in the middle of a JSON value".to_owned(),
                    });
                }
            }
        }
    }
}

/// A connection that the engine handed over: both directions are raw bytes from now on.
pub struct Hijacked {
    /// The connection.
    pub stream: UnixStream,
    /// What the engine had already sent behind its answer.
    pub early: Bytes,
}

impl Wire {
    /// Talks to the engine at this address; nothing is sent yet.
    pub fn new(address: Address) -> Self {
        Self { address, idle: RefCell::new(None) }
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Failure> {
        let stream = self.address.connect().await?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|err| self.lost("the greeting", &err))?;
        tokio::spawn(async move {
            // Its error reaches whoever waits for the answer; here nobody could do anything about it.
            let _ = connection.with_upgrades().await;
        });
        Ok(sender)
    }

    fn lost(&self, request: &str, err: &hyper::Error) -> Failure {
        Failure::Garbled {
            request: request.to_owned(),
            reason: format!("the connection to {} broke: {err}", self.address.host()),
        }
    }

    async fn exchange(
        &self,
        call: &Call,
        body: Option<Body>,
        upgrade: bool,
    ) -> Result<(Response<Incoming>, SendRequest<Body>), Failure> {
        let idle = self.idle.borrow_mut().take();
        // A body that streams can be sent only once, and a kept connection may have gone stale: no risk there.
        if let (Some(mut sender), None) = (idle, &body)
            && sender.ready().await.is_ok()
        {
            match sender.send_request(call.request(None, upgrade)?).await {
                Ok(answer) => return Ok((answer, sender)),
                Err(err) if err.is_canceled() || err.is_closed() => {}
                Err(err) => return Err(self.lost(&call.name(), &err)),
            }
        }
        let mut sender = self.connect().await?;
        let answer =
            sender.send_request(call.request(body, upgrade)?).await.map_err(|err| self.lost(&call.name(), &err))?;
        Ok((answer, sender))
    }

    /// The answer, if its status is a good one; otherwise the engine's message.
    async fn accepted(&self, call: &Call, answer: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
        let status = answer.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS || status == StatusCode::NOT_MODIFIED {
            return Ok(answer);
        }
        let text = answer.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let message = match serde_json::from_slice::<Value>(&text) {
            Ok(Value::Object(map)) if map.get("message").is_some_and(Value::is_string) => {
                map["message"].as_str().unwrap_or_default().trim().to_owned()
            }
            _ if text.is_empty() => format!("{} was answered with {status} and no message", call.name()),
            _ => String::from_utf8_lossy(&text).trim().to_owned(),
        };
        Err(Failure::Engine { status: status.as_u16(), message })
    }

    /// Sends a request and reads its whole answer: JSON, or null where the answer is empty.
    pub async fn ask(&self, call: Call) -> Result<Value, Failure> {
        let (answer, sender) = self.exchange(&call, None, false).await?;
        let answer = self.accepted(&call, answer).await?;
        let value = self.whole(&call, answer).await?;
        *self.idle.borrow_mut() = Some(sender);
        Ok(value)
    }

    /// Sends a request and gives the JSON of its answer as the engine wrote it.
    pub async fn text(&self, call: Call) -> Result<String, Failure> {
        let (answer, sender) = self.exchange(&call, None, false).await?;
        let answer = self.accepted(&call, answer).await?;
        let text = answer.into_body().collect().await.map_err(|err| self.lost(&call.name(), &err))?.to_bytes();
        *self.idle.borrow_mut() = Some(sender);
        String::from_utf8(text.into())
            .map_err(|_| Failure::Garbled { request: call.name(), reason: "it is no UTF-8".to_owned() })
    }

    async fn whole(&self, call: &Call, answer: Response<Incoming>) -> Result<Value, Failure> {
        let bytes = answer.into_body().collect().await.map_err(|err| self.lost(&call.name(), &err))?.to_bytes();
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes)
            .map_err(|err| Failure::Garbled { request: call.name(), reason: format!("it is no JSON: {err}") })
    }

    /// Sends a request on a connection of its own and comes back when the answer has begun; the future in the answer
    /// reads the rest. So a `wait` is known to be heard before the container starts.
    pub async fn begin(&self, call: Call) -> Result<impl Future<Output = Result<Value, Failure>> + use<'_>, Failure> {
        let mut sender = self.connect().await?;
        let answer =
            sender.send_request(call.request(None, false)?).await.map_err(|err| self.lost(&call.name(), &err))?;
        let answer = self.accepted(&call, answer).await?;
        Ok(async move {
            let value = self.whole(&call, answer).await;
            drop(sender);
            value
        })
    }

    /// Sends a request whose answer is read as it comes.
    pub async fn stream(&self, call: Call) -> Result<Stream, Failure> {
        self.streamed(call, None).await
    }

    /// Sends what `from` reads as the body, and gives the answer to be read as it comes.
    pub async fn upload(&self, call: Call, from: impl Read + Send + 'static) -> Result<Stream, Failure> {
        self.streamed(call, Some(body_of(from))).await
    }

    async fn streamed(&self, call: Call, body: Option<Body>) -> Result<Stream, Failure> {
        let (answer, _) = self.exchange(&call, body, false).await?;
        let answer = self.accepted(&call, answer).await?;
        Ok(Stream { request: call.name(), headers: answer.headers().clone(), body: answer.into_body() })
    }

    /// Sends a request and takes the connection over.
    pub async fn hijack(&self, call: Call) -> Result<Hijacked, Failure> {
        let mut sender = self.connect().await?;
        let answer =
            sender.send_request(call.request(None, true)?).await.map_err(|err| self.lost(&call.name(), &err))?;
        let answer = self.accepted(&call, answer).await?;
        let garbled = |reason: String| Failure::Garbled { request: call.name(), reason };
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(garbled(format!("the engine does not hand the connection over ({})", answer.status())));
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(|err| garbled(err.to_string()))?;
        let parts = upgraded
            .downcast::<TokioIo<UnixStream>>()
            .map_err(|_| garbled("the connection is no unix socket".to_owned()))?;
        Ok(Hijacked { stream: parts.io.into_inner(), early: parts.read_buf })
    }
}

/// A body that a thread reads from a file or from standard input, a few chunks ahead at most.
fn body_of(mut from: impl Read + Send + 'static) -> Body {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(4);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(&buffer[..count])),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => Err(err),
            };
            let failed = read.is_err();
            if sender.blocking_send(read).is_err() || failed {
                return;
            }
        }
    });
    let frames = stream::unfold(receiver, |mut receiver| async move {
        let chunk = receiver.recv().await?;
        Some((chunk.map(Frame::data), receiver))
    });
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_escaped() {
        let call = Call::get("/images/json")
            .query("filters", r#"{"a":["b c"]}"#)
            .switch("all", true)
            .switch("digests", false)
            .query_if("none", None::<&str>);
        assert_eq!(call.name(), "GET /images/json?filters=%7B%22a%22%3A%5B%22b%20c%22%5D%7D&all=1");
    }
}
