//! Connections from containers: each message behind its length (RFC 1035 §4.2.2), and a client may ask on without waiting
//! (RFC 7766). None of them can hold more than its share, or hold it for long.

use super::forward::Via;
use super::slots::Id;
use super::thread::{Thread, Token};
use plan::dns::race::MS;
use plan::dns::wire::TCP_LIMIT;
use rustix::event::epoll::EventFlags;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use tracing::warn;

/// Of one sandbox.
const MOST: usize = 32;
/// Of all sandboxes.
const MOST_OF_ALL: usize = 1024;
/// Without a whole question or answer for so long, a connection is closed.
const IDLE: u64 = 10_000 * MS;
/// A client that lets so many bytes of answers wait does not read them.
const UNREAD: usize = 4 * TCP_LIMIT;
/// So many questions of one connection wait for others' answers.
const WAITING: usize = 100;
/// How long to wait before accepting again if no descriptor was left.
const REST: u64 = 200 * MS;

/// A connection.
pub(super) struct Connection {
    pub door: Id,
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Questions that wait for the answers of others.
    waiting: usize,
    deadline: u64,
    /// The client has said all that it will.
    ended: bool,
    watched: EventFlags,
}

impl Thread {
    /// Takes new connections from a sandbox.
    pub fn accept(&mut self, id: Id) {
        for _ in 0..MOST {
            let Some(door) = self.doors.get_mut(id) else { return };
            let Some(listeners) = &door.listeners else { return };
            let stream = match listeners.tcp.accept() {
                Ok((stream, _)) => stream,
                Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
                Err(err) if err.kind() == ErrorKind::ConnectionAborted => continue,
                Err(err) => {
                    // No descriptor is left: it would be told again and again.
                    warn!(%err, "a container's connection to the resolver cannot be taken");
                    if let Some(door) = self.doors.get(id)
                        && let Some(listeners) = &door.listeners
                    {
                        let _ = self.ignore(&listeners.tcp);
                    }
                    return self.at(self.now + REST, Token::Connections(id));
                }
            };
            if door.connections >= MOST
                || self.connections.len() >= MOST_OF_ALL
                || stream.set_nonblocking(true).is_err()
            {
                // Closed; the client may ask by datagram.
                continue;
            }
            door.connections += 1;
            let deadline = self.now + IDLE;
            let connection = self.connections.add(Connection {
                door: id,
                stream,
                input: Vec::new(),
                output: Vec::new(),
                waiting: 0,
                deadline,
                ended: false,
                watched: EventFlags::IN,
            });
            let added = self.connections.get(connection);
            let token = Token::Connection(connection);
            if added.is_none_or(|added| self.watch(&added.stream, token, EventFlags::IN).is_err()) {
                self.close(connection);
            }
            self.at(deadline, token);
        }
    }

    /// After a rest.
    pub fn accept_again(&mut self, id: Id) {
        if let Some(door) = self.doors.get(id)
            && let Some(listeners) = &door.listeners
        {
            // Watched already, or never more.
            let _ = self.watch(&listeners.tcp, Token::Connections(id), EventFlags::IN);
        }
    }

    /// Reads and writes what can be.
    pub fn converse(&mut self, id: Id, flags: EventFlags) {
        let mut packet = std::mem::take(&mut self.packet);
        // Without a way back there is nobody to answer.
        let alive = !flags.intersects(EventFlags::ERR | EventFlags::HUP) && self.listen_to(id, &mut packet);
        self.packet = packet;
        if !alive {
            return self.close(id);
        }
        self.flush(id);
    }

    /// Reads once and takes the questions in it; `false`: the connection is of no use any more.
    fn listen_to(&mut self, id: Id, buffer: &mut [u8]) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return true };
        if connection.ended {
            return true;
        }
        match connection.stream.read(buffer) {
            Ok(0) => connection.ended = true,
            Ok(count) => connection.input.extend(&buffer[..count]),
            Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => return false,
        }
        let (door, mut input) = (connection.door, std::mem::take(&mut connection.input));
        let mut at = 0;
        while let Some((len, rest)) = input[at..].split_first_chunk::<2>()
            && let Some(message) = rest.get(..usize::from(u16::from_be_bytes(*len)))
        {
            at += 2 + message.len();
            if self.connections.get(id).is_none_or(|c| c.waiting >= WAITING || c.output.len() > UNREAD) {
                return false;
            }
            if self.question(door, message, Via::Stream(id)) {
                let out = std::mem::take(&mut self.out);
                self.push(id, &out);
                self.out = out;
            }
        }
        input.drain(..at);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.input = input;
        }
        true
    }

    /// Puts an answer behind those that are to be sent.
    pub fn push(&mut self, id: Id, message: &[u8]) {
        let deadline = self.now + IDLE;
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Ok(len) = u16::try_from(message.len()) else { return };
        connection.output.extend(len.to_be_bytes());
        connection.output.extend(message);
        connection.deadline = deadline;
    }

    /// Counts the questions of a connection that wait for others.
    pub fn count_waiting(&mut self, id: Id, more: bool) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.waiting = if more { connection.waiting + 1 } else { connection.waiting.saturating_sub(1) };
        }
    }

    /// Sends what can be sent.
    pub fn flush(&mut self, id: Id) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        while !connection.output.is_empty() {
            match connection.stream.write(&connection.output) {
                Ok(0) => return self.close(id),
                Ok(count) => drop(connection.output.drain(..count)),
                Err(err) if err.kind() == ErrorKind::WouldBlock => break,
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.close(id),
            }
        }
        if connection.ended && connection.output.is_empty() && connection.waiting == 0 {
            return self.close(id);
        }
        let mut wanted = if connection.ended { EventFlags::empty() } else { EventFlags::IN };
        if !connection.output.is_empty() {
            wanted |= EventFlags::OUT;
        }
        if wanted != connection.watched {
            connection.watched = wanted;
            let failed = self
                .connections
                .get(id)
                .is_some_and(|connection| self.watch_for(&connection.stream, Token::Connection(id), wanted).is_err());
            if failed {
                self.close(id);
            }
        }
    }

    /// Its time may be over.
    pub fn look_at_connection(&mut self, id: Id) {
        let Some(connection) = self.connections.get(id) else { return };
        // Questions on their way have their own end.
        let deadline = if connection.waiting > 0 { self.now + IDLE } else { connection.deadline };
        if deadline <= self.now { self.close(id) } else { self.at(deadline, Token::Connection(id)) }
    }

    fn close(&mut self, id: Id) {
        let Some(connection) = self.connections.remove(id) else { return };
        if let Some(door) = self.doors.get_mut(connection.door) {
            door.connections -= 1;
        }
    }
}
