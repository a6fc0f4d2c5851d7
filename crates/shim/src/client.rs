use rustix::io::Errno;
use shim::{Reply, Request};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// How much output waits for a slow client before its source is no longer read.
pub const OUTPUT: usize = 64 * 1024;
/// A request is a line; an exec's is the longest, with its environment.
const REQUEST: usize = 4 * 1024 * 1024;

/// A connection.
pub struct Client {
    socket: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    /// What it waits for.
    pub role: Role,
    /// The other side has closed both directions; what it sent before may still wait to be read.
    pub hung_up: bool,
    /// Nothing more can be had from it.
    pub gone: bool,
}

/// What a connection waits for.
#[derive(Debug, PartialEq, Eq)]
pub enum Role {
    /// Its request is not complete.
    Asking,
    /// `runtime create`.
    Created,
    /// `runtime start`.
    Started,
    /// The container's end.
    Exit,
    /// The start and the end of an exec.
    Exec(String),
    /// Output, and the right to write input.
    Stream(Stream),
    /// Only its last bytes.
    Leaving,
}

/// What an attached client wants.
#[derive(Debug, PartialEq, Eq)]
pub struct Stream {
    /// The exec's name; `None` is the container itself.
    pub of: Option<String>,
    /// It sends input, and has not said that there is no more.
    pub stdin: bool,
    /// It wants these streams (1, 2).
    pub wants: [bool; 2],
}

impl Client {
    /// A new connection.
    pub fn new(socket: UnixStream) -> io::Result<Client> {
        socket.set_nonblocking(true)?;
        Ok(Client { socket, input: vec![], output: vec![], sent: 0, role: Role::Asking, hung_up: false, gone: false })
    }

    /// Bytes that it has not taken yet.
    pub fn backlog(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Queues bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        if !self.hung_up {
            self.output.drain(..std::mem::take(&mut self.sent));
            self.output.extend_from_slice(bytes);
        }
    }

    /// Queues a line.
    pub fn reply(&mut self, reply: &Reply) {
        // These types serialize without fail: no maps with odd keys, no fallible implementations.
        let mut line = serde_json::to_vec(reply).unwrap_or_default();
        line.push(b'\n');
        self.send(&line);
    }

    /// Queues the last line.
    pub fn conclude(&mut self, reply: &Reply) {
        self.reply(reply);
        self.role = Role::Leaving;
    }

    /// Sends what the other side takes.
    pub fn flush(&mut self) {
        while self.sent < self.output.len() {
            match rustix::net::send(&self.socket, &self.output[self.sent..], rustix::net::SendFlags::NOSIGNAL) {
                Ok(length) => self.sent += length,
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => {
                    self.hung_up = true;
                    break;
                }
            }
        }
        self.output = Vec::new();
        self.sent = 0;
        if self.role == Role::Leaving {
            self.discard();
            self.gone = true;
        }
    }

    /// Throws away input that nobody will take. A unix socket closed with unread data would give the other side an
    /// ECONNRESET instead of the end of the stream.
    fn discard(&self) {
        let mut buffer = [0; 4096];
        while matches!((&self.socket).read(&mut buffer), Ok(1..)) {}
    }

    /// Reads until the request is complete: `Some` then, or when it is no request.
    pub fn request(&mut self) -> Option<Result<Request, String>> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let rest = self.input.split_off(end + 1);
                let line = std::mem::replace(&mut self.input, rest);
                return Some(
                    serde_json::from_slice(&line)
                        .map_err(|error| format!("not a request of the shim's protocol: {error}")),
                );
            }
            if self.input.len() > REQUEST {
                return Some(Err(format!("a request is a line of at most {REQUEST} bytes")));
            }
            match (&self.socket).read(&mut buffer) {
                Ok(0) => {
                    self.gone = true;
                    return None;
                }
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => {
                    self.gone = true;
                    return None;
                }
            }
        }
    }

    /// Reads input of an attached client into `buffer`. `Some(0)` is its end.
    pub fn input(&mut self, buffer: &mut [u8]) -> Option<usize> {
        if !self.input.is_empty() {
            let length = self.input.len().min(buffer.len());
            buffer[..length].copy_from_slice(&self.input[..length]);
            self.input.drain(..length);
            if self.input.is_empty() {
                self.input = Vec::new();
            }
            return Some(length);
        }
        match (&self.socket).read(buffer) {
            Ok(length) => Some(length),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => None,
            Err(_) => Some(0),
        }
    }

    /// Input came together with the request, and has to be used without waiting for the socket.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }
}

impl AsRawFd for Client {
    fn as_raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}
