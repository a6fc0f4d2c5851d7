//! Between bodies, which come piece by piece, and work that blocks and wants a `Read` or a `Write`.

use crate::error::{Error, Result};
use axum::body::Body;
use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt, stream};
use std::io::{self, Read, Write};
use tokio::sync::mpsc;

/// Pieces that may wait on the other side.
const QUEUE: usize = 8;
/// Small writes are gathered up to so many bytes.
const PIECE: usize = 64 * 1024;

/// A body as a `Read` for a blocking thread. A client that goes away ends it with an error.
pub fn reader(body: Body) -> BodyReader {
    let (sender, pieces) = mpsc::channel(QUEUE);
    let mut stream = body.into_data_stream();
    tokio::spawn(async move {
        while let Some(piece) = stream.next().await {
            if sender.send(piece.map_err(io::Error::other)).await.is_err() {
                return;
            }
        }
    });
    BodyReader { pieces, rest: Bytes::new() }
}

/// See [`reader`].
pub struct BodyReader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
            }
        }
        let taken = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..taken]);
        Ok(taken)
    }
}

/// Runs blocking work that writes, and answers what it writes. An error breaks the answer off, so that nobody takes a part
/// for the whole; a client that goes away ends the work at its next write.
pub fn written<F>(work: F) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static
where
    F: FnOnce(&mut dyn Write) -> Result<()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        let mut writer = BodyWriter { sender: sender.clone(), gathered: Vec::with_capacity(PIECE) };
        let worked = work(&mut writer).and_then(|()| writer.flush().map_err(|error| Error::Fault(error.to_string())));
        if let Err(error) = worked {
            tracing::warn!("an answer was broken off: {error}");
            let _ = sender.blocking_send(Err(io::Error::other(error.to_string())));
        }
    });
    stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}

struct BodyWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    gathered: Vec<u8>,
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.gathered, Vec::with_capacity(PIECE));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the client went away");
        self.sender.blocking_send(Ok(piece.into())).map_err(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_answered_whole() {
        let pieces: Vec<_> = written(|out| {
            for number in 0..50_000u32 {
                out.write_all(&number.to_be_bytes()).map_err(|error| Error::Fault(error.to_string()))?;
            }
            Ok(())
        })
        .collect()
        .await;
        let bytes: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.unwrap()).collect();
        assert_eq!(bytes.len(), 200_000);
        assert_eq!(bytes[199_996..], 49_999u32.to_be_bytes());
    }

    #[tokio::test]
    async fn failing_work_breaks_the_answer_off() {
        let pieces: Vec<_> = written(|out| {
            out.write_all(b"part").map_err(|error| Error::Fault(error.to_string()))?;
            Err(Error::Fault("no more".into()))
        })
        .collect()
        .await;
        assert!(pieces.last().unwrap().is_err());
    }

    #[tokio::test]
    async fn a_body_is_read_to_its_end() {
        let text = "x".repeat(300_000);
        let mut reader = reader(Body::from_stream(stream::iter(
            text.as_bytes()
                .chunks(999)
                .map(|chunk| Ok::<_, io::Error>(Bytes::copy_from_slice(chunk)))
                .collect::<Vec<_>>(),
        )));
        let read = tokio::task::spawn_blocking(move || {
            let mut all = String::new();
            reader.read_to_string(&mut all).map(|_| all)
        });
        assert_eq!(read.await.unwrap().unwrap(), text);
    }
}
