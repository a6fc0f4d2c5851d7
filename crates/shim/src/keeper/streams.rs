use super::{CHUNK, Keeper, PIPE, Process};
use crate::client::{self, Role, Stream};
use crate::stdio::Got;
use shim::frame_header;

/// Output to the log and to clients, input from clients.
impl Keeper {
    pub(super) fn process_of(&self, name: Option<&str>) -> Option<usize> {
        self.processes.iter().position(|process| process.name.as_deref() == name)
    }

    /// Whether every client that wants this stream can take more of it.
    pub(super) fn has_room(&self, process: &Process, stream: u8) -> bool {
        let limit = if process.ended.is_some() { client::OUTPUT + PIPE } else { client::OUTPUT };
        self.clients.iter().all(|client| match &client.role {
            Role::Stream(wish) if wish.of == process.name && wish.wants[usize::from(stream == 2)] => {
                client.backlog() < limit
            }
            _ => true,
        })
    }

    /// Whether input of this client has a place to go, or is to be thrown away.
    pub(super) fn may_read(&self, stream: &Stream) -> bool {
        let process = self.process_of(stream.of.as_deref());
        stream.stdin && process.is_some_and(|at| self.processes[at].streams.room() != Some(0))
    }

    pub(super) fn output(&mut self, at: usize, stream: u8) {
        let process = &mut self.processes[at];
        let Got::Bytes(length) = process.streams.read(stream, &mut self.chunk) else { return };
        let bytes = &self.chunk[..length];
        if process.name.is_none()
            && let Some(log) = &mut self.log
        {
            log.take(stream, bytes);
        }
        for client in &mut self.clients {
            match &client.role {
                Role::Stream(wish) if wish.of == process.name && wish.wants[usize::from(stream == 2)] => {
                    if !process.streams.tty {
                        client.send(&frame_header(stream, length as u32));
                    }
                    client.send(bytes);
                    client.flush();
                }
                _ => {}
            }
        }
    }

    pub(super) fn input(&mut self, index: usize) {
        let Role::Stream(stream) = &self.clients[index].role else { return };
        if !stream.stdin {
            return;
        }
        let Some(process) = self.process_of(stream.of.as_deref()) else { return };
        let streams = &mut self.processes[process].streams;
        let limit = streams.room().unwrap_or(CHUNK).min(CHUNK);
        if limit == 0 {
            return;
        }
        match self.clients[index].input(&mut self.chunk[..limit]) {
            None => {}
            Some(0) => self.no_more_input(index),
            Some(length) => {
                streams.feed(&self.chunk[..length]);
                if streams.open {
                    streams.pour();
                }
            }
        }
    }

    /// A client that fed a process has no more for it, or is gone.
    pub(super) fn no_more_input(&mut self, index: usize) {
        let Role::Stream(stream) = &mut self.clients[index].role else { return };
        if !std::mem::replace(&mut stream.stdin, false) {
            return;
        }
        let ends = stream.of.is_some() || self.config.stdin_once;
        let of = stream.of.clone();
        if let Some(process) = self.process_of(of.as_deref()).filter(|_| ends) {
            let streams = &mut self.processes[process].streams;
            streams.end_input();
            if streams.open {
                streams.pour();
            }
        }
    }
}
