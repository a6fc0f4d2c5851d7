//! Netlink sockets (netlink(7)): requests, answers, dumps, batches.

use crate::attr::Attrs;
use crate::fault::Refused;
use netlink_sys::{Socket as Raw, SocketAddr, protocols};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// More than the kernel puts into one answer (32 KiB, af_netlink.c).
const ANSWER: usize = 64 << 10;
/// How often a dump is asked for again when things moved under it.
const ATTEMPTS: usize = 64;

pub(crate) const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
pub(crate) const ACK: u16 = libc::NLM_F_ACK as u16;
pub(crate) const DUMP: u16 = libc::NLM_F_DUMP as u16;
pub(crate) const CREATE: u16 = libc::NLM_F_CREATE as u16;
pub(crate) const EXCL: u16 = libc::NLM_F_EXCL as u16;
pub(crate) const APPEND: u16 = libc::NLM_F_APPEND as u16;
const INTERRUPTED: u16 = libc::NLM_F_DUMP_INTR as u16;
const CAPPED: u16 = 0x100;
const ACK_TLVS: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`
const ERROR_TEXT: u16 = 1;

/// One message out of an answer.
pub(crate) struct Message {
    pub kind: u16,
    pub flags: u16,
    pub seq: u32,
    pub port: u32,
    pub body: Vec<u8>,
}

/// A socket in the namespace in which it was opened. It holds that namespace as long as it lives.
pub(crate) struct Socket {
    raw: Raw,
    seq: u32,
    port: u32,
    send_buffer: usize,
}

impl Socket {
    /// For links, addresses and routes.
    pub fn route() -> io::Result<Socket> {
        let socket = Socket::open(protocols::NETLINK_ROUTE)?;
        // Old kernels without it ignore the filters of a dump; we look at all that comes anyway.
        let _ = socket.raw.set_netlink_get_strict_chk(true);
        Ok(socket)
    }

    /// For nftables and conntrack.
    pub fn netfilter() -> io::Result<Socket> {
        Socket::open(protocols::NETLINK_NETFILTER)
    }

    /// For the sockets of a namespace (sock_diag(7)).
    pub fn sockets() -> io::Result<Socket> {
        Socket::open(protocols::NETLINK_SOCK_DIAG)
    }

    fn open(protocol: isize) -> io::Result<Socket> {
        let mut raw = Raw::new(protocol)?;
        let port = raw.bind_auto()?.port_number();
        raw.set_ext_ack(true)?;
        raw.set_cap_ack(true)?;
        Ok(Socket { raw, seq: 0, port, send_buffer: 0 })
    }

    /// By this number notices of our own doing are known.
    pub fn port(&self) -> u32 {
        self.port
    }

    pub fn join(&mut self, group: u32) -> io::Result<()> {
        self.raw.add_membership(group)
    }

    /// Append a message to a buffer of messages to be sent; its number comes back.
    pub fn put(&mut self, out: &mut Vec<u8>, kind: u16, flags: u16, body: &[u8]) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        let start = out.len();
        let len = 16 + body.len();
        out.extend((len as u32).to_ne_bytes());
        out.extend(kind.to_ne_bytes());
        out.extend((flags | REQUEST).to_ne_bytes());
        out.extend(self.seq.to_ne_bytes());
        out.extend(0u32.to_ne_bytes());
        out.extend(body);
        out.resize(start + len.next_multiple_of(4), 0);
        self.seq
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        // The kernel refuses (EMSGSIZE) what is larger than the buffer less a little.
        if bytes.len() + 1024 > self.send_buffer.max(64 << 10) {
            let size = bytes.len() * 2;
            self.grow_send_buffer(size)?;
            self.send_buffer = size;
        }
        loop {
            match self.raw.send_to(bytes, &SocketAddr::new(0, 0), 0) {
                Ok(_) => return Ok(()),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err.into()),
            }
        }
    }

    fn grow_send_buffer(&self, size: usize) -> io::Result<()> {
        let size = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
        // Needs `unsafe`: rustix has the option only without `FORCE`, which stays below `net.core.wmem_max`.
        // SAFETY: the value is a live c_int and its true size is passed with it; the descriptor is open.
        let done = unsafe {
            libc::setsockopt(
                self.raw.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_SNDBUFFORCE,
                (&raw const size).cast(),
                size_of_val(&size) as libc::socklen_t,
            )
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The messages of the next answer; `None` if there is none and `flags` say not to wait.
    pub fn receive(&self, flags: libc::c_int) -> Result<Option<Vec<Message>>, Refused> {
        let mut bytes = Vec::with_capacity(ANSWER);
        loop {
            match self.raw.recv(&mut bytes, flags | libc::MSG_TRUNC) {
                Ok(len) if len > bytes.len() => return Err(Refused::plain(libc::EMSGSIZE)),
                Ok(_) => return Ok(Some(messages(&bytes))),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(err) => return Err(err.into()),
            }
        }
    }

    fn next(&self) -> Result<Vec<Message>, Refused> {
        self.receive(0)?.ok_or_else(|| Refused::plain(libc::EAGAIN))
    }

    /// Ask for one change and wait for the kernel's yes.
    pub fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<(), Refused> {
        let mut out = Vec::with_capacity(body.len() + 16);
        let seq = self.put(&mut out, kind, flags | ACK, body);
        self.send(&out)?;
        loop {
            for message in self.next()? {
                if message.seq == seq && message.kind == libc::NLMSG_ERROR as u16 {
                    return verdict(&message);
                }
            }
        }
    }

    /// Ask for one thing and wait for it.
    pub fn get(&mut self, kind: u16, body: &[u8]) -> Result<Message, Refused> {
        let mut out = Vec::with_capacity(body.len() + 16);
        let seq = self.put(&mut out, kind, 0, body);
        self.send(&out)?;
        loop {
            for message in self.next()? {
                if message.seq != seq {
                    continue;
                }
                if message.kind == libc::NLMSG_ERROR as u16 {
                    verdict(&message)?;
                    return Err(Refused { errno: libc::EPROTO, text: "the kernel answered without content".into() });
                }
                return Ok(message);
            }
        }
    }

    /// Ask for all of something. If it changes while the kernel lists it, it is asked for again.
    pub fn dump(&mut self, kind: u16, body: &[u8]) -> Result<Vec<Message>, Refused> {
        for _ in 0..ATTEMPTS {
            match self.dump_once(kind, body) {
                Ok(Some(all)) => return Ok(all),
                Ok(None) => {}
                Err(refused) if refused.errno == libc::EINTR || refused.errno == libc::EAGAIN => {}
                Err(refused) => return Err(refused),
            }
        }
        Err(Refused { errno: libc::EINTR, text: format!("changed {ATTEMPTS} times while it was being listed") })
    }

    fn dump_once(&mut self, kind: u16, body: &[u8]) -> Result<Option<Vec<Message>>, Refused> {
        let mut out = Vec::with_capacity(body.len() + 16);
        let seq = self.put(&mut out, kind, DUMP, body);
        self.send(&out)?;
        let mut all = Vec::new();
        let mut whole = true;
        loop {
            for message in self.next()?.into_iter().filter(|m| m.seq == seq) {
                whole &= message.flags & INTERRUPTED == 0;
                match i32::from(message.kind) {
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        verdict(&message)?;
                        return Ok(whole.then_some(all));
                    }
                    _ => all.push(message),
                }
            }
        }
    }

    /// Send a transaction of nftables and hear what became of it: the number of the first message that was refused,
    /// or of `last`, which asks for an answer. The kernel has done it all when `send` comes back.
    pub fn transact(&mut self, bytes: &[u8], last: u32) -> Result<(), (u32, Refused)> {
        let failed = |refused: Refused| (last, refused);
        self.send(bytes).map_err(failed)?;
        let mut answered = false;
        let mut first = None;
        while let Some(messages) = self.receive(libc::MSG_DONTWAIT).map_err(failed)? {
            for message in messages.iter().filter(|m| m.kind == libc::NLMSG_ERROR as u16) {
                match verdict(message) {
                    Ok(()) => answered |= message.seq == last,
                    Err(refused) => {
                        first.get_or_insert((message.seq, refused));
                    }
                }
            }
        }
        match first {
            Some(refused) => Err(refused),
            None if answered => Ok(()),
            None => Err((last, Refused { errno: libc::EIO, text: "the kernel did not answer".into() })),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut all = Vec::new();
    while let Some((head, _)) = bytes.split_first_chunk::<16>() {
        let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([head[at], head[at + 1]]);
        let len = word(0) as usize;
        let Some(body) = bytes.get(16..len) else { break };
        all.push(Message { kind: half(4), flags: half(6), seq: word(8), port: word(12), body: body.to_vec() });
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

/// What an `NLMSG_ERROR` or `NLMSG_DONE` says: a negative errno or zero, and words (`NLMSGERR_ATTR_MSG`).
fn verdict(message: &Message) -> Result<(), Refused> {
    let code = message.body.first_chunk::<4>().map_or(0, |b| i32::from_ne_bytes(*b));
    if code >= 0 {
        return Ok(());
    }
    let mut refused = Refused::plain(-code);
    if message.flags & ACK_TLVS != 0 {
        let mut at = 4;
        if message.kind == libc::NLMSG_ERROR as u16 {
            let echoed = message.body.get(4..8).and_then(|b| Some(u32::from_ne_bytes(b.try_into().ok()?)));
            at += if message.flags & CAPPED != 0 { 16 } else { echoed.unwrap_or(16) as usize };
        }
        let attrs = Attrs(message.body.get(at..).unwrap_or_default());
        if let Some(text) = attrs.str(ERROR_TEXT) {
            refused.text = text.trim_end_matches('.').to_owned();
        }
    }
    Err(refused)
}
