//! Load on a path, for benchmarks: connections, questions and answers, and as many bytes as fit.

use crate::Host;
use crate::probe::{break_off, connect};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// How long a single step may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is written and read at once where it is much.
const CHUNK: usize = 128 << 10;
/// The first byte of a connection says what it is for.
const QUESTIONS: u8 = b'?';
const MUCH: u8 = b'+';

/// Something that answers every question with one byte and swallows all else, until it is dropped.
#[derive(Debug)]
pub struct Target {
    listener: TcpListener,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Target {
    /// On this address of a host's.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn serve(host: &Host, addr: &str) -> io::Result<Target> {
        let listener = host.enter(|| TcpListener::bind(addr))?;
        let twin = listener.try_clone()?;
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = twin.accept() {
                // A client that breaks a connection has measured what it wanted to.
                std::thread::spawn(move || drop(answer(stream)));
            }
        });
        Ok(Target { listener, thread: Some(thread) })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Fails only if it is shut down already.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Read);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut kind = [0];
    if stream.read(&mut kind)? == 0 {
        return Ok(());
    }
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        if kind == [QUESTIONS] {
            stream.write_all(&buffer[..1])?;
        }
    }
}

/// How long each of so many connections took to be there, one after the other.
///
/// # Errors
/// A connection that cannot be made.
pub fn connects(from: &Host, to: SocketAddr, count: usize) -> io::Result<Vec<Duration>> {
    from.enter(|| {
        (0..count)
            .map(|_| {
                let started = Instant::now();
                let stream = TcpStream::connect(to)?;
                let took = started.elapsed();
                // No socket stays behind in TIME_WAIT.
                break_off(stream);
                Ok(took)
            })
            .collect()
    })
}

/// How long each of so many questions waited for its answer, on one connection, one after the other.
///
/// # Errors
/// A connection that cannot be made, or that breaks.
pub fn questions(from: &Host, to: SocketAddr, count: usize) -> io::Result<Vec<Duration>> {
    from.enter(|| {
        let mut stream = connect(to, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.write_all(&[QUESTIONS])?;
        let mut buffer = [0];
        let mut took = Vec::with_capacity(count);
        for _ in 0..count {
            let started = Instant::now();
            stream.write_all(&[0])?;
            stream.read_exact(&mut buffer)?;
            took.push(started.elapsed());
        }
        break_off(stream);
        Ok(took)
    })
}

/// Bytes a second over one connection, for about this long.
///
/// # Errors
/// A connection that cannot be made, or that breaks.
pub fn throughput(from: &Host, to: SocketAddr, time: Duration) -> io::Result<f64> {
    from.enter(|| {
        let mut stream = connect(to, PATIENCE)?;
        stream.write_all(&[MUCH])?;
        let chunk = vec![0; CHUNK];
        let started = Instant::now();
        let mut sent = 0;
        while started.elapsed() < time {
            stream.write_all(&chunk)?;
            sent += chunk.len();
        }
        // Until the other end has read it all and closes.
        stream.shutdown(Shutdown::Write)?;
        match stream.read(&mut [0]) {
            Ok(0) => {}
            Ok(_) => return Err(ErrorKind::InvalidData.into()),
            Err(error) => return Err(error),
        }
        Ok(sent as f64 / started.elapsed().as_secs_f64())
    })
}
