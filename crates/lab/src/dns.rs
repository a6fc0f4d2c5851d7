//! A name server of one table, and questions to others; with a reading and writing of messages of its own (RFC 1035), so that
//! it judges the engine's.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a table's server answers for everything that it does not hold, in seconds.
const NEGATIVE_TTL: u32 = 60;
const KINDS: [(&str, u16); 11] = [
    ("A", 1),
    ("NS", 2),
    ("SOA", 6),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("HTTPS", 65),
    ("SRV", 33),
    ("CAA", 257),
    ("ANY", 255),
];

fn kind_number(word: &str) -> u16 {
    let known = KINDS.iter().find(|(name, _)| *name == word).map(|(_, number)| *number);
    known.or_else(|| word.parse().ok()).unwrap_or_else(|| panic!("`{word}` is no type of records"))
}

fn kind_word(number: u16) -> String {
    let known = KINDS.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

#[derive(Clone, Debug)]
struct Entry {
    name: String,
    kind: u16,
    /// An address, a name, a text, a number of bytes of text, or `!` and a number of failure.
    value: String,
    ttl: u32,
}

#[derive(Debug, Default)]
struct State {
    table: Mutex<Vec<Entry>>,
    asked: Mutex<Vec<(SocketAddr, String)>>,
    silent: AtomicBool,
    delay: AtomicU64,
    stopping: AtomicBool,
}

/// A name server that answers until it is dropped, and remembers what it was asked.
#[derive(Debug)]
pub struct NameServer {
    addr: SocketAddr,
    state: Arc<State>,
    listener: TcpListener,
    threads: Vec<JoinHandle<()>>,
}

impl NameServer {
    /// In the calling thread's namespace, over UDP and TCP. Of the table see [`NameServer::set`].
    pub(crate) fn start(addr: SocketAddr, table: &str) -> io::Result<NameServer> {
        let socket = UdpSocket::bind(addr)?;
        let addr = socket.local_addr()?;
        let listener = TcpListener::bind(addr)?;
        // To look at `stopping` now and then: unlike a listener, a datagram socket cannot be woken from outside.
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        let state = Arc::new(State::default());
        let (of_udp, of_tcp, accepting) = (state.clone(), state.clone(), listener.try_clone()?);
        let threads = vec![
            std::thread::spawn(move || serve_datagrams(&socket, &of_udp)),
            std::thread::spawn(move || {
                while let Ok((stream, peer)) = accepting.accept() {
                    let state = of_tcp.clone();
                    // A client that goes away mid-way is the test's affair.
                    std::thread::spawn(move || serve_stream(stream, peer, &state));
                }
            }),
        ];
        let server = NameServer { addr, state, listener, threads };
        server.set(table);
        Ok(server)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Puts another table in place of the old one. Lines or `;` separate its entries, each `NAME TYPE VALUE [TTL]`, the last in
    /// seconds (60). A name may stand in it several times; one that does not stand in it does not exist. Instead of a value:
    /// `!2` is a failure of that number, and for TXT a number means so many bytes of text.
    #[track_caller]
    pub fn set(&self, table: &str) {
        let lines = table.split(['\n', ';']).map(str::trim).filter(|line| !line.is_empty());
        let entries = lines.map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [name, kind, value, ttl @ ..] = &words[..] else { panic!("`{line}` is no entry of a table") };
            let ttl = ttl.first().map_or(60, |ttl| ttl.parse().unwrap());
            Entry { name: name.to_lowercase(), kind: kind_number(kind), value: (*value).to_owned(), ttl }
        });
        *lock(&self.state.table) = entries.collect();
    }

    /// What it was asked so far, in order, each `NAME TYPE`, spelt as it came.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.state.asked).iter().map(|(_, what)| what.clone()).collect()
    }

    /// Who asked, in the same order.
    pub fn askers(&self) -> Vec<SocketAddr> {
        lock(&self.state.asked).iter().map(|(who, _)| *who).collect()
    }

    /// Forgets what it was asked.
    pub fn forget(&self) {
        lock(&self.state.asked).clear();
    }

    /// From now on hears and says nothing, or speaks again.
    pub fn be_silent(&self, silent: bool) {
        self.state.silent.store(silent, Ordering::Relaxed);
    }

    /// From now on thinks for so long before each answer.
    pub fn think_for(&self, time: Duration) {
        self.state.delay.store(time.as_micros() as u64, Ordering::Relaxed);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::Relaxed);
        // Fails only if it is shut down already.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Read);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}

fn serve_datagrams(socket: &UdpSocket, state: &Arc<State>) {
    let mut buffer = [0; 65536];
    while !state.stopping.load(Ordering::Relaxed) {
        let Ok((count, peer)) = socket.recv_from(&mut buffer) else { continue };
        let Some(answer) = state.answer(&buffer[..count], peer, false) else { continue };
        let delay = state.delay.load(Ordering::Relaxed);
        // An answer that cannot be sent is one that the asker does not get.
        if delay == 0 {
            let _ = socket.send_to(&answer, peer);
        } else if let Ok(socket) = socket.try_clone() {
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_micros(delay));
                let _ = socket.send_to(&answer, peer);
            });
        }
    }
}

fn serve_stream(mut stream: TcpStream, peer: SocketAddr, state: &State) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    loop {
        let question = read_message(&mut stream)?;
        let Some(answer) = state.answer(&question, peer, true) else { return Ok(()) };
        std::thread::sleep(Duration::from_micros(state.delay.load(Ordering::Relaxed)));
        write_message(&mut stream, &answer)?;
    }
}

fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let len = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes()[..], message].concat())
}

/// What of a message a test cares about.
struct Parts {
    id: u16,
    flags: u16,
    name: String,
    kind: u16,
    question_end: usize,
    answers: Vec<(u16, u32, String)>,
    /// The size that a pseudo-record of EDNS names.
    edns: Option<u16>,
}

fn u16_at(packet: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?))
}

/// A name, perhaps with pointers, and where the message goes on.
fn read_name(packet: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut end = None;
    for _ in 0..128 {
        match *packet.get(at)? {
            0 => return Some((labels.join("."), end.unwrap_or(at + 1))),
            len @ 1..=63 => {
                let label = packet.get(at + 1..at + 1 + usize::from(len))?;
                labels.push(String::from_utf8_lossy(label).into_owned());
                at += 1 + usize::from(len);
            }
            0xc0.. => {
                end = end.or(Some(at + 2));
                at = usize::from(u16_at(packet, at)? & 0x3fff);
            }
            _ => return None,
        }
    }
    None
}

fn parts(packet: &[u8]) -> Option<Parts> {
    let (id, flags) = (u16_at(packet, 0)?, u16_at(packet, 2)?);
    let (name, at) = if u16_at(packet, 4)? == 1 { read_name(packet, 12)? } else { (String::new(), 8) };
    let kind = if at > 8 { u16_at(packet, at)? } else { 0 };
    let mut parts = Parts { id, flags, name, kind, question_end: at + 4, answers: Vec::new(), edns: None };
    let mut at = parts.question_end;
    let answers = u16_at(packet, 6)?;
    let all = answers + u16_at(packet, 8)? + u16_at(packet, 10)?;
    for nth in 0..all {
        let (_, end) = read_name(packet, at)?;
        let (kind, class) = (u16_at(packet, end)?, u16_at(packet, end + 2)?);
        let ttl = u32::from(u16_at(packet, end + 4)?) << 16 | u32::from(u16_at(packet, end + 6)?);
        let len = usize::from(u16_at(packet, end + 8)?);
        let data = packet.get(end + 10..end + 10 + len)?;
        if kind == 41 {
            parts.edns = Some(class);
        } else if nth < answers {
            let text = match kind {
                1 => Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).to_string(),
                28 => Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).to_string(),
                2 | 12 => read_name(packet, end + 10)?.0,
                16 => format!("{len} bytes"),
                _ => format!("{data:?}"),
            };
            parts.answers.push((kind, ttl, text));
        }
        at = end + 10 + len;
    }
    Some(parts)
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend(label.bytes());
    }
    out.push(0);
}

impl State {
    fn answer(&self, question: &[u8], peer: SocketAddr, whole: bool) -> Option<Vec<u8>> {
        let asked = parts(question)?;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        lock(&self.asked).push((peer, format!("{} {}", asked.name, kind_word(asked.kind))));
        if self.silent.load(Ordering::Relaxed) {
            return None;
        }
        let table = lock(&self.table);
        let name = asked.name.to_lowercase();
        let of_name: Vec<&Entry> = table.iter().filter(|entry| entry.name == name).collect();
        let fitting: Vec<&Entry> = of_name.iter().copied().filter(|entry| entry.kind == asked.kind).collect();
        let failure = fitting.iter().find_map(|entry| entry.value.strip_prefix('!')?.parse::<u16>().ok());
        let rcode = failure.unwrap_or(if of_name.is_empty() { 3 } else { 0 });
        let mut records = Vec::new();
        let mut count: u16 = 0;
        for entry in fitting.iter().filter(|_| failure.is_none()) {
            let data = match (entry.kind, entry.value.parse::<IpAddr>()) {
                (1, Ok(IpAddr::V4(addr))) => addr.octets().to_vec(),
                (28, Ok(IpAddr::V6(addr))) => addr.octets().to_vec(),
                (16, _) => {
                    let text = entry.value.parse().map_or(entry.value.clone(), |count| "x".repeat(count));
                    let parts = text.as_bytes().chunks(255);
                    parts.flat_map(|part| [&[part.len() as u8], part].concat()).collect()
                }
                _ => {
                    let mut data = Vec::new();
                    put_name(&mut data, &entry.value);
                    data
                }
            };
            put_record(&mut records, &[0xc0, 12], entry.kind, entry.ttl, &data);
            count += 1;
        }
        let mut authority: u16 = 0;
        if count == 0 && failure.is_none() {
            // Who is in charge (two roots), a serial, and four times.
            let numbers = [1, 60, 60, 60, NEGATIVE_TTL].map(u32::to_be_bytes).concat();
            put_record(&mut records, &[0], 6, NEGATIVE_TTL, &[&[0, 0][..], &numbers].concat());
            authority = 1;
        }
        let limit = if whole { 65535 } else { asked.edns.map_or(512, usize::from) };
        let cut = asked.question_end + records.len() + 11 > limit;
        if cut {
            (records, count, authority) = (Vec::new(), 0, 0);
        }
        // An answer, with authority, recursion as asked for and available.
        let flags = 0x8480 | asked.flags & 0x0100 | rcode | if cut { 0x0200 } else { 0 };
        let counts = [1, count, authority, u16::from(asked.edns.is_some())];
        let mut out = [asked.id, flags].into_iter().chain(counts).flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
        out.extend(question.get(12..asked.question_end)?);
        out.extend(records);
        if asked.edns.is_some() {
            out.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        }
        Some(out)
    }
}

fn put_record(out: &mut Vec<u8>, name: &[u8], kind: u16, ttl: u32, data: &[u8]) {
    out.extend(name);
    out.extend(kind.to_be_bytes());
    out.extend(1u16.to_be_bytes());
    out.extend(ttl.to_be_bytes());
    out.extend((data.len() as u16).to_be_bytes());
    out.extend(data);
}

/// How to ask.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Over TCP.
    pub tcp: bool,
    /// The size that a pseudo-record of EDNS names.
    pub edns: Option<u16>,
}

/// An answer, as a test looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// `NOERROR`, `NXDOMAIN`, `SERVFAIL`, `REFUSED`, or a number.
    pub rcode: String,
    /// Not all of it is there.
    pub truncated: bool,
    /// The data of the answer's records as text.
    pub data: Vec<String>,
    /// The lifetime of the first of them, in seconds.
    pub ttl: Option<u32>,
    /// The name in the question, as it came back.
    pub name: String,
    /// The size of EDNS, if it is spoken.
    pub edns: Option<u16>,
}

impl fmt::Display for Reply {
    /// `NOERROR 192.0.2.1 192.0.2.2`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rcode)?;
        if self.truncated {
            f.write_str(" truncated")?;
        }
        self.data.iter().try_for_each(|data| write!(f, " {data}"))
    }
}

/// A question as a message, with this number.
pub fn question(what: &str, id: u16, edns: Option<u16>) -> Vec<u8> {
    let (name, kind) = what.split_once(' ').unwrap_or((what, "A"));
    let counts = [1, 0, 0, u16::from(edns.is_some())];
    let mut out: Vec<u8> = [id, 0x0100].into_iter().chain(counts).flat_map(u16::to_be_bytes).collect();
    put_name(&mut out, name);
    out.extend(kind_number(kind).to_be_bytes());
    out.extend(1u16.to_be_bytes());
    if let Some(size) = edns {
        out.extend([0, 0, 41]);
        out.extend(size.to_be_bytes());
        out.extend([0; 6]);
    }
    out
}

/// Asks `NAME TYPE` in the calling thread's namespace.
pub(crate) fn ask(server: SocketAddr, what: &str, manner: Manner, patience: Duration) -> io::Result<Reply> {
    let id = std::process::id() as u16;
    let message = question(what, id, manner.edns);
    let answer = if manner.tcp {
        let mut stream = crate::probe::connect(server, patience)?;
        write_message(&mut stream, &message)?;
        read_message(&mut stream)?
    } else {
        let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(patience))?;
        socket.send(&message)?;
        let mut buffer = vec![0; 65536];
        let count = socket.recv(&mut buffer)?;
        buffer.truncate(count);
        buffer
    };
    reply(&answer, id).ok_or_else(|| io::Error::other(format!("no answer to that question: {answer:?}")))
}

/// A message as a reply to the question of this number.
pub fn reply(answer: &[u8], id: u16) -> Option<Reply> {
    let parts = parts(answer).filter(|parts| parts.id == id && parts.flags & 0x8000 != 0)?;
    let rcode = match parts.flags & 15 {
        0 => "NOERROR".to_owned(),
        1 => "FORMERR".to_owned(),
        2 => "SERVFAIL".to_owned(),
        3 => "NXDOMAIN".to_owned(),
        4 => "NOTIMP".to_owned(),
        5 => "REFUSED".to_owned(),
        other => other.to_string(),
    };
    Some(Reply {
        rcode,
        truncated: parts.flags & 0x0200 != 0,
        ttl: parts.answers.first().map(|(_, ttl, _)| *ttl),
        data: parts.answers.into_iter().map(|(_, _, text)| text).collect(),
        name: parts.name,
        edns: parts.edns,
    })
}
