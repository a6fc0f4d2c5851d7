//! Messages of the DNS (RFC 1035 §4, RFC 6891): reading a question, writing an answer, looking through somebody else's.
//!
//! Everything here takes whatever bytes there are and reads no further than they go. Answers of others are passed on as they
//! came, with another number, the asker's own spelling of the question, and lifetimes that have gone on.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a header.
pub const HEADER: usize = 12;
/// What an asker without EDNS takes in a datagram.
pub const PLAIN_LIMIT: usize = 512;
/// What we take in a datagram: fits into every network's packets (DNS flag day 2020).
pub const OUR_LIMIT: u16 = 1232;
/// The longest message over TCP.
pub const TCP_LIMIT: usize = 65535;

/// Types of records (IANA).
pub mod kind {
    /// An IPv4 address.
    pub const A: u16 = 1;
    /// Where a zone begins.
    pub const SOA: u16 = 6;
    /// A name.
    pub const PTR: u16 = 12;
    /// Who takes mail.
    pub const MX: u16 = 15;
    /// Free text.
    pub const TXT: u16 = 16;
    /// An IPv6 address.
    pub const AAAA: u16 = 28;
    /// The pseudo-record of EDNS.
    pub const OPT: u16 = 41;
    /// How to reach a service.
    pub const SVCB: u16 = 64;
    /// How to reach a web server; may hold addresses.
    pub const HTTPS: u16 = 65;
    /// Everything that there is.
    pub const ANY: u16 = 255;
}

/// The class of the internet.
pub const IN: u16 = 1;

/// How a question ended (IANA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rcode(pub u8);

impl Rcode {
    /// It was answered.
    pub const NO_ERROR: Rcode = Rcode(0);
    /// It could not be read.
    pub const FORMAT: Rcode = Rcode(1);
    /// It could not be answered now.
    pub const SERVER_FAILURE: Rcode = Rcode(2);
    /// There is no such name.
    pub const NO_SUCH_NAME: Rcode = Rcode(3);
    /// No question of a kind that is known here.
    pub const NOT_IMPLEMENTED: Rcode = Rcode(4);
    /// It is not answered to this asker.
    pub const REFUSED: Rcode = Rcode(5);
}

const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const AUTHENTIC: u16 = 0x0020;
const CHECKING_DISABLED: u16 = 0x0010;
const DNSSEC_OK: u16 = 0x8000;

/// A name in lower case: each label behind its length, without the root's empty one.
#[derive(Clone, Copy)]
pub struct Name {
    len: u8,
    bytes: [u8; 254],
}

impl Name {
    const ROOT: Name = Name { len: 0, bytes: [0; 254] };

    /// From its usual form, with a dot at its end or without. `None` if it breaks the rules of length.
    pub fn parse(text: &str) -> Option<Name> {
        let mut name = Name::ROOT;
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Some(name);
        }
        for label in text.split('.') {
            name.push(label.as_bytes())?;
        }
        Some(name)
    }

    fn push(&mut self, label: &[u8]) -> Option<()> {
        let (from, to) = (usize::from(self.len) + 1, usize::from(self.len) + 1 + label.len());
        if label.is_empty() || label.len() > 63 || to > self.bytes.len() {
            return None;
        }
        // At most 63 and 254, as was just seen.
        self.bytes[from - 1] = label.len() as u8;
        for (to, from) in self.bytes[from..to].iter_mut().zip(label) {
            *to = from.to_ascii_lowercase();
        }
        self.len = to as u8;
        Some(())
    }

    /// Its bytes, which are the same for every spelling.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Its labels, the one of the lowest level first.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        labels(self.as_bytes())
    }

    /// It is one label.
    pub fn is_single(&self) -> bool {
        self.len > 0 && usize::from(self.bytes[0]) + 1 == usize::from(self.len)
    }

    /// The address that this name in `in-addr.arpa` or `ip6.arpa` stands for.
    pub fn reversed_address(&self) -> Option<IpAddr> {
        let mut parts: [&[u8]; 34] = [&[]; 34];
        let mut count = 0;
        for label in self.labels() {
            *parts.get_mut(count)? = label;
            count += 1;
        }
        match &parts[..count] {
            [d, c, b, a, b"in-addr", b"arpa"] => {
                let octet = |text: &[u8]| {
                    let digits = std::str::from_utf8(text).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?;
                    digits.parse::<u8>().ok()
                };
                Some(Ipv4Addr::new(octet(a)?, octet(b)?, octet(c)?, octet(d)?).into())
            }
            [digits @ .., b"ip6", b"arpa"] if digits.len() == 32 => {
                let mut bits: u128 = 0;
                for digit in digits.iter().rev() {
                    let [digit] = digit else { return None };
                    bits = bits << 4 | u128::from(char::from(*digit).to_digit(16)?);
                }
                Some(Ipv6Addr::from(bits).into())
            }
            _ => None,
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name {}

fn labels(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, more) = rest.split_first()?;
        let (label, more) = more.split_at_checked(usize::from(*len))?;
        rest = more;
        Some(label)
    })
}

/// A name in its usual form, from the bytes that [`Name::as_bytes`] gave.
pub fn text(name: &[u8]) -> String {
    labels(name).map(|label| label.escape_ascii().to_string()).collect::<Vec<_>>().join(".")
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text(self.as_bytes()))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a question says of EDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// The longest datagram that the asker takes.
    pub size: u16,
    /// The version that it speaks; ours is 0.
    pub version: u8,
    /// It wants the records of DNSSEC.
    pub dnssec_ok: bool,
}

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// The asker's number for it.
    pub id: u16,
    flags: u16,
    /// What it asks for.
    pub name: Name,
    /// The type of records.
    pub kind: u16,
    /// Their class.
    pub class: u16,
    /// Where in the message the question ends; it begins behind the header.
    end: u16,
    /// If it speaks EDNS.
    pub edns: Option<Edns>,
}

/// A message that is no question which can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It gets no answer: it is one itself, or too short for a header.
    Silence,
    /// It gets this and no more.
    Rcode(Rcode),
}

/// Numbers and lengths out of a message, never from behind its end.
struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let part = self.packet.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(part)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// A name without pointers, as every question has it: there is nothing before it to point to.
    fn name(&mut self) -> Option<Name> {
        let mut name = Name::ROOT;
        loop {
            match self.take(1)?[0] {
                0 => return Some(name),
                len @ 1..=63 => name.push(self.take(usize::from(len))?)?,
                _ => return None,
            }
        }
    }

    /// Past a name that may end in a pointer.
    fn skip_name(&mut self) -> Option<()> {
        loop {
            match self.take(1)?[0] {
                0 => return Some(()),
                len @ 1..=63 => {
                    self.take(usize::from(len))?;
                }
                0xc0..=0xff => return self.take(1).map(drop),
                _ => return None,
            }
        }
    }

    fn record(&mut self) -> Option<Record<'a>> {
        self.skip_name()?;
        let (kind, class) = (self.u16()?, self.u16()?);
        let ttl_at = self.at;
        let ttl = self.u32()?;
        let len = self.u16()?;
        Some(Record { kind, class, ttl_at, ttl, data: self.take(usize::from(len))? })
    }
}

struct Record<'a> {
    kind: u16,
    class: u16,
    ttl_at: usize,
    ttl: u32,
    data: &'a [u8],
}

/// The fields of a header but for the number.
struct Header {
    flags: u16,
    counts: [u16; 4],
}

fn header(packet: &[u8]) -> Option<Header> {
    let mut reader = Reader { packet, at: 2 };
    let flags = reader.u16()?;
    Some(Header { flags, counts: [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?] })
}

/// A message's number.
pub fn id(packet: &[u8]) -> Option<u16> {
    Reader { packet, at: 0 }.u16()
}

/// Reads a question.
///
/// # Errors
/// What it gets instead of an answer.
pub fn query(packet: &[u8]) -> Result<Query, Unfit> {
    let bad = Unfit::Rcode(Rcode::FORMAT);
    let Header { flags, counts } = header(packet).ok_or(Unfit::Silence)?;
    if flags & RESPONSE != 0 {
        return Err(Unfit::Silence);
    }
    if flags & OPCODE != 0 {
        return Err(Unfit::Rcode(Rcode::NOT_IMPLEMENTED));
    }
    let [1, answers, authorities, additional] = counts else { return Err(bad) };
    let mut reader = Reader { packet, at: HEADER };
    let name = reader.name().ok_or(bad)?;
    let (kind, class) = (reader.u16().ok_or(bad)?, reader.u16().ok_or(bad)?);
    // A name has 254 bytes at most.
    let end = reader.at as u16;
    let mut edns = None;
    let records = u32::from(answers) + u32::from(authorities) + u32::from(additional);
    for _ in 0..records {
        let record = reader.record().ok_or(bad)?;
        if record.kind == kind::OPT {
            let second = edns.replace(Edns {
                size: record.class,
                version: record.ttl.to_be_bytes()[1],
                dnssec_ok: record.ttl as u16 & DNSSEC_OK != 0,
            });
            if second.is_some() {
                return Err(bad);
            }
        }
    }
    let id = id(packet).ok_or(Unfit::Silence)?;
    Ok(Query { id, flags, name, kind, class, end, edns })
}

impl Query {
    /// The question as its asker spelt it; `packet` is the message that it was read from.
    pub fn spelt<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        packet.get(HEADER..usize::from(self.end)).unwrap_or_default()
    }

    /// The longest datagram that the asker takes.
    pub fn datagram_limit(&self) -> usize {
        self.edns.map_or(PLAIN_LIMIT, |edns| usize::from(edns.size).max(PLAIN_LIMIT))
    }

    /// What tells it from questions that have other answers.
    pub fn key(&self) -> impl AsRef<[u8]> + use<> {
        let mut key = Key { len: 0, bytes: [0; 260] };
        let asks = self.flags & (RECURSION_DESIRED | AUTHENTIC | CHECKING_DISABLED);
        let edns = self.edns.map_or(0, |edns| if edns.dnssec_ok { 2 } else { 1 });
        let tail = [(asks >> 4) as u8, edns];
        for part in [self.name.as_bytes(), &self.kind.to_be_bytes(), &self.class.to_be_bytes(), &tail] {
            key.bytes[key.len..key.len + part.len()].copy_from_slice(part);
            key.len += part.len();
        }
        key
    }

    /// The flags of an answer to it.
    fn answered(&self, rcode: Rcode) -> u16 {
        let kept = self.flags & (RECURSION_DESIRED | CHECKING_DISABLED);
        RESPONSE | RECURSION_AVAILABLE | kept | u16::from(rcode.0 & 15)
    }
}

struct Key {
    len: usize,
    bytes: [u8; 260],
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn put_header(out: &mut Vec<u8>, id: u16, flags: u16, counts: [u16; 4]) {
    out.clear();
    for number in [id, flags].into_iter().chain(counts) {
        out.extend(number.to_be_bytes());
    }
}

fn put_edns(out: &mut Vec<u8>, extended_rcode: u8, dnssec_ok: bool) {
    out.push(0);
    out.extend(kind::OPT.to_be_bytes());
    out.extend(OUR_LIMIT.to_be_bytes());
    out.extend([extended_rcode, 0]);
    out.extend(if dnssec_ok { DNSSEC_OK } else { 0 }.to_be_bytes());
    out.extend([0, 0]);
}

/// Writes the answer to a message that is no question.
pub fn refuse(packet: &[u8], rcode: Rcode, out: &mut Vec<u8>) {
    let flags = header(packet).map_or(0, |header| header.flags);
    let kept = flags & (OPCODE | RECURSION_DESIRED | CHECKING_DISABLED);
    put_header(out, id(packet).unwrap_or_default(), RESPONSE | kept | u16::from(rcode.0 & 15), [0; 4]);
}

/// Records of an answer of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Records<'a> {
    /// None.
    None,
    /// Addresses, all of the family that was asked for.
    Addrs(&'a [IpAddr]),
    /// A name, as [`Name::as_bytes`] has it.
    Name(&'a [u8]),
}

/// Writes an answer of our own; what does not fit is left out, and said to be. `ttl` is in seconds.
pub fn answer(query: &Query, packet: &[u8], rcode: Rcode, records: Records, ttl: u32, limit: usize, out: &mut Vec<u8>) {
    let speaks = u16::from(query.edns.is_some());
    put_header(out, query.id, query.answered(rcode), [1, 0, 0, speaks]);
    out.extend(query.spelt(packet));
    let start = out.len();
    let room = limit.saturating_sub(usize::from(speaks) * EDNS_BYTES);
    let mut count: u16 = 0;
    let mut record = |data: &[&[u8]]| {
        // A pointer to the question's name.
        out.extend([0xc0, HEADER as u8]);
        out.extend(query.kind.to_be_bytes());
        out.extend(IN.to_be_bytes());
        out.extend(ttl.to_be_bytes());
        // An address, or a name with its root.
        let len = data.iter().map(|part| part.len()).sum::<usize>() as u16;
        out.extend(len.to_be_bytes());
        data.iter().for_each(|part| out.extend(*part));
        count += 1;
    };
    match records {
        Records::None => {}
        // More than would ever fit.
        Records::Addrs(addrs) => addrs.iter().take(4000).for_each(|addr| match addr {
            IpAddr::V4(addr) => record(&[&addr.octets()]),
            IpAddr::V6(addr) => record(&[&addr.octets()]),
        }),
        Records::Name(name) => record(&[name, &[0]]),
    }
    if out.len() > room {
        out.truncate(start);
        out[2] |= (TRUNCATED >> 8) as u8;
        count = 0;
    }
    out[6..8].copy_from_slice(&count.to_be_bytes());
    if let Some(edns) = query.edns {
        put_edns(out, 0, edns.dnssec_ok);
    }
}

/// What the pseudo-record of EDNS takes.
const EDNS_BYTES: usize = 11;

/// Writes that this version of EDNS is not spoken here (`BADVERS`, RFC 6891 §6.1.3).
pub fn other_version(query: &Query, packet: &[u8], out: &mut Vec<u8>) {
    put_header(out, query.id, query.answered(Rcode::NO_ERROR), [1, 0, 0, 1]);
    out.extend(query.spelt(packet));
    put_edns(out, 1, false);
}

/// Writes the question for another server, under a number of ours. What concerns only the hop to us is not passed on.
pub fn ask(query: &Query, spelt: &[u8], id: u16, out: &mut Vec<u8>) {
    let flags = query.flags & (RECURSION_DESIRED | AUTHENTIC | CHECKING_DISABLED);
    put_header(out, id, flags, [1, 0, 0, u16::from(query.edns.is_some())]);
    out.extend(spelt);
    if let Some(edns) = query.edns {
        put_edns(out, 0, edns.dnssec_ok);
    }
}

/// An answer of another server, looked through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How it ended.
    pub rcode: Rcode,
    /// Not all of it is there.
    pub truncated: bool,
    /// There are records in the answer's own section.
    pub has_answers: bool,
    /// For how many seconds it may be kept; `None`: not at all.
    pub lifetime: Option<u32>,
    /// Where in it lifetimes are written.
    pub ttls: Vec<u16>,
}

/// The longest that an answer may be kept, in seconds.
const LONGEST: u32 = 86_400;
/// The longest that it may be kept that there is nothing (RFC 2308 §5), in seconds.
const LONGEST_NEGATIVE: u32 = 3_600;

/// Looks through an answer to `query`. `None`: it is none, or cannot be read.
pub fn look(packet: &[u8], query: &Query) -> Option<Seen> {
    let Header { flags, counts: [questions, answers, authorities, additional] } = header(packet)?;
    (flags & RESPONSE != 0 && flags & OPCODE == 0).then_some(())?;
    let rcode = Rcode((flags & 15) as u8);
    let truncated = flags & TRUNCATED != 0;
    let mut seen = Seen { rcode, truncated, has_answers: answers > 0, lifetime: None, ttls: Vec::new() };
    if questions == 0 && rcode != Rcode::NO_ERROR && rcode != Rcode::NO_SUCH_NAME && packet.len() == HEADER {
        // A server that did not understand may have kept nothing of the question.
        return Some(seen);
    }
    let mut reader = Reader { packet, at: HEADER };
    (questions == 1 && reader.name()? == query.name).then_some(())?;
    (reader.u16()? == query.kind && reader.u16()? == query.class).then_some(())?;
    if truncated {
        return Some(seen);
    }
    let (mut shortest, mut negative) = (LONGEST, None);
    for nth in 0..u32::from(answers) + u32::from(authorities) + u32::from(additional) {
        let record = reader.record()?;
        if record.kind == kind::OPT {
            continue;
        }
        seen.ttls.push(u16::try_from(record.ttl_at).ok()?);
        // A number of 32 bits with its highest set counts as 0 (RFC 2181 §8).
        let ttl = if record.ttl > i32::MAX as u32 { 0 } else { record.ttl };
        if nth < u32::from(answers) + u32::from(authorities) {
            shortest = shortest.min(ttl);
        }
        if record.kind == kind::SOA && nth >= u32::from(answers) {
            // The last of five numbers behind two names.
            let minimum =
                record.data.last_chunk().filter(|_| record.data.len() >= 22).copied().map(u32::from_be_bytes)?;
            negative = Some(ttl.min(minimum).min(LONGEST_NEGATIVE));
        }
    }
    let lifetime = match rcode {
        Rcode::NO_ERROR if answers > 0 => Some(shortest),
        Rcode::NO_ERROR | Rcode::NO_SUCH_NAME => negative.map(|negative| negative.min(shortest)),
        _ => None,
    };
    seen.lifetime = lifetime.filter(|seconds| *seconds > 0);
    Some(seen)
}

/// Writes that a question could not be answered; `spelt` is the question as its asker spelt it.
pub fn failure(query: &Query, spelt: &[u8], out: &mut Vec<u8>) {
    let speaks = u16::from(query.edns.is_some());
    put_header(out, query.id, query.answered(Rcode::SERVER_FAILURE), [1, 0, 0, speaks]);
    out.extend(spelt);
    if let Some(edns) = query.edns {
        put_edns(out, 0, edns.dnssec_ok);
    }
}

/// What becomes of lifetimes on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// The answer is as old, in seconds.
    Seconds(u32),
    /// It is older than it should be, and what is left of it is this, in seconds.
    Stale(u32),
}

/// Writes somebody else's answer for this asker. `spelt` is the question as this asker spelt it, `ttls` where the lifetimes are.
pub fn relay(query: &Query, spelt: &[u8], answer: &[u8], ttls: &[u16], age: Age, limit: usize, out: &mut Vec<u8>) {
    let flags = header(answer).map_or(0, |header| header.flags);
    // What the server says of itself and of the answer, and what the asker said.
    let theirs = flags & !(RECURSION_DESIRED | CHECKING_DISABLED);
    let flags = theirs | RESPONSE | RECURSION_AVAILABLE | query.flags & (RECURSION_DESIRED | CHECKING_DISABLED);
    let rest = HEADER + spelt.len();
    if answer.len() > limit || answer.len() < rest {
        // Too short is one that kept nothing of the question, by a server that may not know EDNS.
        let edns = query.edns.filter(|_| answer.len() > limit);
        let truncated = if answer.len() > limit { TRUNCATED } else { 0 };
        put_header(out, query.id, flags | truncated, [1, 0, 0, u16::from(edns.is_some())]);
        out.extend(spelt);
        if let Some(edns) = edns {
            put_edns(out, 0, edns.dnssec_ok);
        }
        return;
    }
    out.clear();
    out.extend(answer);
    out[..2].copy_from_slice(&query.id.to_be_bytes());
    out[2..4].copy_from_slice(&flags.to_be_bytes());
    out[HEADER..rest].copy_from_slice(spelt);
    for at in ttls {
        let at = usize::from(*at);
        let Some(Ok(ttl)) = out.get(at..at + 4).map(<[u8; 4]>::try_from) else { continue };
        let ttl = match age {
            Age::Seconds(age) => u32::from_be_bytes(ttl).saturating_sub(age),
            Age::Stale(left) => left,
        };
        out[at..at + 4].copy_from_slice(&ttl.to_be_bytes());
    }
}
