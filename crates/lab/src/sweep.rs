use crate::probe;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, socket_with};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// After how long a datagram or an echo request is sent again that nobody has answered.
const AGAIN: Duration = Duration::from_millis(300);

/// One question of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// What a TCP server says until it closes.
    Tcp(SocketAddr),
    /// What comes back for a datagram.
    Udp(SocketAddr),
    /// An ICMP echo request.
    Echo(IpAddr),
}

/// Asks all at once, from the network namespace of the calling thread, so that it takes no longer than the slowest answer or
/// `patience`. `None` where nobody answered; an echo reply says nothing.
///
/// # Errors
/// The kernel's, when there are more questions than a process may have sockets.
pub fn sweep(asks: &[Ask], patience: Duration) -> io::Result<Vec<Option<String>>> {
    let started = Instant::now();
    let mut open: Vec<Question> = Vec::with_capacity(asks.len());
    for (nth, ask) in asks.iter().enumerate() {
        open.push(Question::new(*ask, nth)?);
    }
    let mut sent = Instant::now();
    loop {
        let waiting: Vec<&mut Question> = open.iter_mut().filter(|question| question.socket.is_some()).collect();
        let left = patience.saturating_sub(started.elapsed());
        if waiting.is_empty() || left.is_zero() {
            return Ok(open.into_iter().map(|question| question.answer).collect());
        }
        let wait = left.min(AGAIN.saturating_sub(sent.elapsed()));
        let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        let mut ready: Vec<PollFd<'_>> = waiting.iter().filter_map(|question| question.interest()).collect();
        poll(&mut ready, Some(&wait))?;
        let ready: Vec<bool> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
        for (question, ready) in waiting.into_iter().zip(ready) {
            if ready {
                question.go_on();
            }
        }
        if sent.elapsed() >= AGAIN {
            sent = Instant::now();
            open.iter_mut().for_each(Question::repeat);
        }
    }
}

struct Question {
    ask: Ask,
    /// What is sent, again and again; for TCP nothing is.
    words: Vec<u8>,
    /// `None` once it is settled.
    socket: Option<OwnedFd>,
    connecting: bool,
    said: Vec<u8>,
    answer: Option<String>,
}

impl Question {
    fn new(ask: Ask, nth: usize) -> io::Result<Question> {
        let (kind, protocol, addr) = match ask {
            Ask::Tcp(addr) => (SocketType::STREAM, None, addr),
            Ask::Udp(addr) => (SocketType::DGRAM, None, addr),
            Ask::Echo(IpAddr::V4(addr)) => (SocketType::RAW, Some(ipproto::ICMP), (addr, 0).into()),
            Ask::Echo(IpAddr::V6(addr)) => (SocketType::RAW, Some(ipproto::ICMPV6), (addr, 0).into()),
        };
        let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, protocol)?;
        let words = match ask {
            Ask::Tcp(_) => Vec::new(),
            Ask::Udp(_) => b"?".to_vec(),
            // Their numbers tell its answer from those of others, of which raw sockets hear too; and the first is no other question's,
            // for flows are known by it.
            Ask::Echo(addr) => probe::echo(addr, probe::next_sequence(), nth as u16),
        };
        let mut question = Question { ask, words, socket: None, connecting: false, said: Vec::new(), answer: None };
        // Connected, so that refusals are heard and answers from another address are not.
        match connect(&socket, &addr) {
            Ok(()) => question.socket = Some(socket),
            Err(rustix::io::Errno::INPROGRESS) => (question.socket, question.connecting) = (Some(socket), true),
            // No way there: that is an answer too.
            Err(_) => {}
        }
        question.repeat();
        Ok(question)
    }

    fn interest(&self) -> Option<PollFd<'_>> {
        let flags = if self.connecting { PollFlags::OUT } else { PollFlags::IN };
        Some(PollFd::from_borrowed_fd(self.socket.as_ref()?.as_fd(), flags))
    }

    fn repeat(&mut self) {
        if let Some(socket) = self.socket.as_ref().filter(|_| !self.words.is_empty()) {
            // What cannot be sent now may be sent the next time; a refusal is heard below.
            let _ = rustix::net::send(socket, &self.words, SendFlags::empty());
        }
    }

    fn go_on(&mut self) {
        let Some(socket) = &self.socket else { return };
        if self.connecting {
            self.connecting = false;
            if !matches!(rustix::net::sockopt::socket_error(socket), Ok(Ok(()))) {
                self.socket = None;
            }
            return;
        }
        let mut buffer = [0; 2048];
        match rustix::net::recv(socket, &mut buffer, RecvFlags::empty()) {
            Ok((count @ 1.., _)) => match self.ask {
                Ask::Tcp(_) => self.said.extend_from_slice(&buffer[..count]),
                Ask::Udp(_) => self.settle(buffer[..count].to_vec()),
                Ask::Echo(addr) if probe::answers(addr, &buffer[..count], &self.words) => self.settle(Vec::new()),
                Ask::Echo(_) => {}
            },
            Ok(_) => {
                let said = std::mem::take(&mut self.said);
                self.settle(said);
            }
            Err(rustix::io::Errno::AGAIN) => {}
            Err(_) => self.socket = None,
        }
    }

    fn settle(&mut self, said: Vec<u8>) {
        self.answer = Some(String::from_utf8_lossy(&said).into_owned());
        self.socket = None;
    }
}
