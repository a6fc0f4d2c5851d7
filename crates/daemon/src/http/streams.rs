//! Connections that become streams: attach and exec.
//!
//! The engine gives a stream that carries Docker's frames already (raw bytes with a terminal), so bytes only go to and fro.
//! Each direction ends by itself: the client's end of input closes the container's input, and the output goes on; the end
//! of the output ends all. A client that is gone is noticed also while there is nothing to tell it.

use super::answer::{Answer, empty, streamed};
use super::detach::DetachKeys;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use futures_util::TryStreamExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio_util::io::{ReaderStream, StreamReader};

/// Frames of both outputs.
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// A terminal's bytes; before API 1.42 frames too.
pub const RAW: &str = "application/vnd.docker.raw-stream";

/// Bytes held for a client in each direction: that is all that a slow one costs.
const BUFFER: usize = 32 * 1024;

/// What the client sends.
pub struct Input {
    bytes: Box<dyn AsyncRead + Send + Unpin>,
    departure: Option<Departure>,
}

impl Input {
    /// The client has closed its connection, and reads no more either. Without a connection of one's own that is never
    /// known: then the HTTP server drops the session.
    pub async fn departed(&mut self) {
        departed(self.departure.as_ref()).await;
    }
}

async fn departed(departure: Option<&Departure>) {
    match departure {
        Some(departure) => departure.seen().await,
        None => std::future::pending().await,
    }
}

/// Tells when the other side has closed a connection in both directions. It watches by a descriptor of its own, so that it
/// may forget what it was told without those who read and write missing it.
struct Departure(UnixStream);

impl Departure {
    fn of(connection: &UnixStream) -> io::Result<Departure> {
        let twin = connection.as_fd().try_clone_to_owned()?;
        UnixStream::from_std(twin.into()).map(Departure)
    }

    async fn seen(&self) {
        loop {
            match self.0.ready(Interest::WRITABLE).await {
                Ok(ready) if ready.is_write_closed() => return,
                // That it can be written is no news. Forgotten, it leaves the next news to wake us.
                Ok(_) => drop(self.0.try_io(Interest::WRITABLE, || Err::<(), _>(ErrorKind::WouldBlock.into()))),
                Err(_) => return,
            }
        }
    }
}

/// What the client reads.
pub type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// The type of a stream's content.
pub fn kind(tty: bool, version: super::version::Version) -> &'static str {
    if !tty && version >= (1, 42) { MULTIPLEXED } else { RAW }
}

/// Answers with a stream, and runs `session` on it: over the connection itself (101) when the client offers that, else as the
/// answer's body, with the request's body as input. The request's body must have been read if it was no input.
pub fn hijack<F, Fut>(request: &mut Request, body: Body, kind: &'static str, session: F) -> Answer
where
    F: FnOnce(Input, Output) -> Fut + Send + 'static,
    Fut: Future<Output = io::Result<()>> + Send + 'static,
{
    let Some(protocol) = request.headers().get(UPGRADE).cloned() else {
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let input = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
        let input = Input { bytes: Box::new(Box::pin(input)), departure: None };
        tokio::spawn(run(session, input, Box::new(ours)));
        return streamed(kind, ReaderStream::new(theirs));
    };
    let upgrade = hyper::upgrade::on(request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => {
                let (input, output) = halves(connection);
                run(session, input, output).await;
            }
            Err(error) => tracing::debug!(%error, "a client went away before its stream began"),
        }
    });
    let mut answer = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, protocol);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// What is read from and written to a connection that has become a stream.
fn halves(connection: Upgraded) -> (Input, Output) {
    match downcast::<TokioIo<UnixStream>>(connection) {
        Ok(parts) => {
            let connection = parts.io.into_inner();
            let departure = Departure::of(&connection).ok();
            let (input, output) = connection.into_split();
            // The first bytes may have come together with the request.
            let bytes = Box::new(io::Cursor::new(parts.read_buf).chain(input));
            (Input { bytes, departure }, Box::new(output))
        }
        Err(connection) => {
            let (input, output) = tokio::io::split(TokioIo::new(connection));
            (Input { bytes: Box::new(input), departure: None }, Box::new(output))
        }
    }
}

async fn run<F, Fut>(session: F, input: Input, output: Output)
where
    F: FnOnce(Input, Output) -> Fut + Send,
    Fut: Future<Output = io::Result<()>> + Send,
{
    if let Err(error) = session(input, output).await {
        tracing::debug!(%error, "a stream ended early");
    }
}

/// Carries bytes to and fro until the output ends, the client goes, or the keys are typed that leave it running. The client is
/// told of the output's end when `settled` is over too.
///
/// # Errors
/// The client's connection broke.
pub async fn talk(
    input: Input,
    mut output: Output,
    streams: UnixStream,
    keys: Option<DetachKeys>,
    settled: impl Future<Output = ()>,
) -> io::Result<()> {
    let (mut from, to) = streams.into_split();
    let outward = async {
        let mut buffer = vec![0; BUFFER];
        loop {
            let got = from.read(&mut buffer).await?;
            if got == 0 {
                settled.await;
                return output.shutdown().await;
            }
            output.write_all(&buffer[..got]).await?;
            output.flush().await?;
        }
    };
    let mut outward = std::pin::pin!(outward);
    let Input { bytes, departure } = input;
    let detached = tokio::select! {
        ended = &mut outward => return ended,
        detached = inward(bytes, to, keys) => detached,
    };
    if detached {
        return Ok(());
    }
    // There is no more input; whether the client still listens, the container's silence does not tell.
    tokio::select! {
        ended = outward => ended,
        () = departed(departure.as_ref()) => Err(ErrorKind::BrokenPipe.into()),
    }
}

/// Whether the keys were typed; otherwise the input has ended, and the container was told.
async fn inward(
    mut input: Box<dyn AsyncRead + Send + Unpin>,
    mut to: tokio::net::unix::OwnedWriteHalf,
    mut keys: Option<DetachKeys>,
) -> bool {
    let mut buffer = vec![0; BUFFER];
    loop {
        // A broken connection ends the input as an orderly end does; the output will notice by itself.
        let got = input.read(&mut buffer).await.unwrap_or(0);
        if got == 0 {
            let _ = to.shutdown().await;
            return false;
        }
        let typed = &buffer[..got];
        let (on, detached) = match &mut keys {
            Some(keys) => keys.pass(typed),
            None => (typed.to_vec(), false),
        };
        if to.write_all(&on).await.is_err() {
            // The container reads no more. What the client still sends is thrown away, so that it is not held up.
            while input.read(&mut buffer).await.is_ok_and(|got| got > 0) {}
            return false;
        }
        if detached {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::DuplexStream;
    use tokio::task::JoinHandle;

    fn session(keys: Option<DetachKeys>) -> (DuplexStream, UnixStream, JoinHandle<io::Result<()>>) {
        let (client, ours) = tokio::io::duplex(BUFFER);
        let (container, streams) = UnixStream::pair().unwrap();
        let (input, output) = tokio::io::split(ours);
        let input = Input { bytes: Box::new(input), departure: None };
        let talking = tokio::spawn(talk(input, Box::new(output), streams, keys, async {}));
        (client, container, talking)
    }

    #[tokio::test]
    async fn the_end_of_input_is_passed_on_and_output_goes_on() {
        let (mut client, mut container, talking) = session(None);
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        container.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"hello");
        container.write_all(b"after").await.unwrap();
        drop(container);
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"after");
        talking.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_end_of_output_ends_all() {
        let (client, container, talking) = session(None);
        drop(container);
        talking.await.unwrap().unwrap();
        drop(client);
    }

    #[tokio::test]
    async fn the_end_is_told_when_what_belongs_to_it_is_recorded() {
        let (mut client, ours) = tokio::io::duplex(BUFFER);
        let (container, streams) = UnixStream::pair().unwrap();
        let (input, output) = tokio::io::split(ours);
        let input = Input { bytes: Box::new(input), departure: None };
        let (record, recorded) = tokio::sync::oneshot::channel::<()>();
        let settled = async { drop(recorded.await) };
        let talking = tokio::spawn(talk(input, Box::new(output), streams, None, settled));
        drop(container);
        let mut byte = [0];
        let early = tokio::time::timeout(std::time::Duration::from_millis(50), client.read(&mut byte)).await;
        assert!(early.is_err(), "the end came first");
        record.send(()).unwrap();
        assert_eq!(client.read(&mut byte).await.unwrap(), 0);
        talking.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_keys_leave_it_running() {
        let (mut client, mut container, talking) = session(Some(DetachKeys::parse("").unwrap()));
        client.write_all(b"ls\r\x10\x11").await.unwrap();
        talking.await.unwrap().unwrap();
        let mut got = Vec::new();
        container.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"ls\r");
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert!(read.is_empty());
    }

    #[tokio::test]
    async fn a_departure_is_told_from_the_end_of_input() {
        let (mut client, ours) = UnixStream::pair().unwrap();
        let departure = Departure::of(&ours).unwrap();
        let wait = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(wait, departure.seen()).await.is_err());
        client.shutdown().await.unwrap();
        assert!(tokio::time::timeout(wait, departure.seen()).await.is_err(), "it still listens");
        let (input, output) = ours.into_split();
        let input = Input { bytes: Box::new(input), departure: Some(departure) };
        let (_container, streams) = UnixStream::pair().unwrap();
        let talking = tokio::spawn(talk(input, Box::new(output), streams, None, async {}));
        tokio::time::sleep(wait).await;
        assert!(!talking.is_finished());
        drop(client);
        assert_eq!(talking.await.unwrap().unwrap_err().kind(), ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_holds_little() {
        let (client, mut container, talking) = session(None);
        let block = vec![0; 4096];
        let mut sent = 0;
        while let Ok(Ok(())) =
            tokio::time::timeout(std::time::Duration::from_millis(200), container.write_all(&block)).await
        {
            sent += block.len();
            assert!(sent < 4 << 20, "it is all held somewhere");
        }
        drop(client);
        assert!(talking.await.unwrap().is_err());
    }
}
