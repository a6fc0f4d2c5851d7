//! Reads a tar stream entry by entry: ustar, pax, GNU long names and sparse files.
//!
//! An own reader, because the `tar` crate gathers long names and pax headers in memory whatever their size, and layers come
//! from strangers: here every buffer has a bound. Formats: POSIX.1-2001 pax, GNU tar manual "Basic Tar Format" and "Sparse Formats".

use std::collections::BTreeMap;
use std::io::Read;

use crate::error::{Doing, Error, Result, bad_archive, bad_entry};

const BLOCK: usize = 512;
/// Bound of one pax header, extended attributes included. Go's archive/tar has the same.
const PAX_MAX: u64 = 1 << 20;
/// Bound of one GNU long name.
const LONG_NAME_MAX: u64 = 64 << 10;
/// Bound of the pieces of one sparse file.
const SPARSE_MAX: usize = 1 << 16;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Hardlink,
    Symlink,
    Char,
    Block,
    Dir,
    Fifo,
}

/// A point in time: seconds since 1970 and nanoseconds.
pub(crate) type Time = (i64, u32);

/// One entry, with everything that pax or GNU records said about it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: Kind,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: Time,
    pub atime: Option<Time>,
    pub dev: (u32, u32),
    /// Length of the file once unpacked.
    pub size: u64,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the stored bytes go, as (offset, length); `None` for an ordinary file.
    pub sparse: Option<Vec<(u64, u64)>>,
}

/// The stream. Between two calls of `next_entry` it reads as the data of the entry (for a sparse file, the stored pieces).
pub(crate) struct TarStream<R> {
    inner: R,
    /// Data bytes of the current entry not yet read.
    left: u64,
    /// Zero bytes after the data, up to the block's end.
    padding: u64,
}

#[derive(Default)]
struct Extra {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The offset and numbytes records of pax sparse format 0.0, in order: the only repeated keys.
    pieces: Vec<u64>,
}

impl<R: Read> TarStream<R> {
    pub fn new(inner: R) -> Self {
        TarStream { inner, left: 0, padding: 0 }
    }

    /// Gives the reader back, for what follows the archive's end.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry, or `None` at the archive's end.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut extra = Extra::default();
        loop {
            self.skip_rest()?;
            let Some(header) = self.block()? else {
                return Ok(None);
            };
            if header.iter().all(|b| *b == 0) {
                return Ok(None);
            }
            let name = short_path(&header);
            check_sum(&header, &name)?;
            let size = unsigned(&header[124..136], &name, "size")?;
            match header[156] {
                b'x' => extra.read_pax(&self.metadata(size, PAX_MAX, &name)?, &name)?,
                b'g' => drop(self.metadata(size, PAX_MAX, &name)?),
                b'L' => extra.path = Some(until_nul(&self.metadata(size, LONG_NAME_MAX, &name)?).to_vec()),
                b'K' => extra.link = Some(until_nul(&self.metadata(size, LONG_NAME_MAX, &name)?).to_vec()),
                kind => return self.entry(&header, kind, size, name, extra).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &[u8; BLOCK], kind: u8, size: u64, name: Vec<u8>, extra: Extra) -> Result<Entry> {
        let pax = |key: &str| extra.pax.get(key.as_bytes());
        let path = pax("GNU.sparse.name").or(pax("path")).cloned().or(extra.path).unwrap_or(name);
        let number = |key: &str, field: &[u8]| match pax(key) {
            Some(text) => decimal(text).ok_or_else(|| bad_entry(&path, format!("pax record {key} is not a number"))),
            None => unsigned(field, &path, key),
        };
        let kind = match kind {
            // Archives older than ustar mark a directory by a slash only.
            b'0' | 0 | b'7' if path.ends_with(b"/") => Kind::Dir,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Char,
            b'4' => Kind::Block,
            b'5' => Kind::Dir,
            b'6' => Kind::Fifo,
            other => {
                return Err(bad_entry(&path, format!("kind `{}` is not one of POSIX tar", other.escape_ascii())));
            }
        };
        let stored = match pax("size") {
            Some(_) => number("size", &[])?,
            None => size,
        };
        // Only files have data: what others say of their size means something else or nothing.
        self.left = if kind == Kind::File { stored } else { 0 };
        self.padding = self.left.next_multiple_of(BLOCK as u64) - self.left;
        let time = |key: &str| match pax(key) {
            Some(text) => {
                pax_time(text).map(Some).ok_or_else(|| bad_entry(&path, format!("pax record {key} is not a time")))
            }
            None => Ok(None),
        };
        let mtime = match time("mtime")? {
            Some(time) => time,
            None => (number_field(&header[136..148], &path, "mtime")?, 0),
        };
        let device = |range| -> Result<u32> {
            match kind {
                Kind::Char | Kind::Block => u32::try_from(unsigned(&header[range], &path, "device")?)
                    .map_err(|_| bad_entry(&path, "device number is over 32 bits")),
                _ => Ok(0),
            }
        };
        let mut entry = Entry {
            kind,
            mode: (unsigned(&header[100..108], &path, "mode")? & 0o7777) as u32,
            uid: number("uid", &header[108..116])?,
            gid: number("gid", &header[116..124])?,
            mtime,
            atime: time("atime")?,
            dev: (device(329..337)?, device(337..345)?),
            size: self.left,
            link: pax("linkpath").cloned().or(extra.link).unwrap_or_else(|| until_nul(&header[157..257]).to_vec()),
            xattrs: Vec::new(),
            sparse: None,
            path: path.clone(),
        };
        if header[156] == b'S' {
            self.old_gnu_sparse(header, &mut entry)?;
        } else if kind == Kind::File {
            self.pax_sparse(&extra.pax, &extra.pieces, &mut entry)?;
        }
        for (key, value) in extra.pax {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                entry.xattrs.push((name.to_vec(), value));
            }
        }
        if entry.path.contains(&0) || entry.link.contains(&0) {
            return Err(bad_entry(&entry.path, "a name holds a zero byte"));
        }
        Ok(entry)
    }

    /// GNU's format of kind `S`: pieces in the header and in extra blocks before the data.
    fn old_gnu_sparse(&mut self, header: &[u8; BLOCK], entry: &mut Entry) -> Result<()> {
        let mut pieces = Vec::new();
        let mut take = |fields: &[u8]| -> Result<()> {
            for field in fields.chunks_exact(24).take_while(|field| field[0] != 0) {
                pieces.push(unsigned(&field[..12], &entry.path, "sparse offset")?);
                pieces.push(unsigned(&field[12..], &entry.path, "sparse length")?);
            }
            if pieces.len() > SPARSE_MAX * 2 { Err(bad_entry(&entry.path, "too many sparse pieces")) } else { Ok(()) }
        };
        take(&header[386..482])?;
        let mut more = header[482] != 0;
        while more {
            let block = self.block()?.ok_or_else(|| bad_archive("the archive ends within a sparse header"))?;
            take(&block[..504])?;
            more = block[504] != 0;
        }
        let size = unsigned(&header[483..495], &entry.path, "sparse size")?;
        self.set_sparse(entry, size, &pieces)
    }

    /// GNU's pax formats 0.0, 0.1 and 1.0.
    fn pax_sparse(&mut self, pax: &BTreeMap<Vec<u8>, Vec<u8>>, pieces: &[u64], entry: &mut Entry) -> Result<()> {
        let get = |key: &str| pax.get(key.as_bytes());
        let wrong = |what: &str| bad_entry(&entry.path, format!("its sparse records are wrong: {what}"));
        let size = match get("GNU.sparse.realsize").or(get("GNU.sparse.size")) {
            Some(text) => decimal(text).ok_or_else(|| wrong("size"))?,
            None => return Ok(()),
        };
        if let Some(map) = get("GNU.sparse.map") {
            let numbers: Option<Vec<u64>> = map.split(|b| *b == b',').map(decimal).collect();
            let numbers = numbers.ok_or_else(|| wrong("map"))?;
            return self.set_sparse(entry, size, &numbers);
        }
        if get("GNU.sparse.major").is_none() {
            return self.set_sparse(entry, size, pieces);
        }
        // Format 1.0: the map stands before the data, as decimal lines padded to whole blocks.
        let line = |stream: &mut Self, block: &mut Vec<u8>| -> Result<u64> {
            let mut digits = Vec::new();
            loop {
                if block.is_empty() {
                    if stream.left < BLOCK as u64 {
                        return Err(wrong("map ends early"));
                    }
                    stream.left -= BLOCK as u64;
                    let mut next = stream.block()?.ok_or_else(|| wrong("map ends early"))?.to_vec();
                    next.reverse();
                    *block = next;
                }
                match block.pop() {
                    Some(b'\n') => return decimal(&digits).ok_or_else(|| wrong("map")),
                    Some(digit) if digits.len() < 20 => digits.push(digit),
                    _ => return Err(wrong("map")),
                }
            }
        };
        let mut block = Vec::new();
        let count = line(self, &mut block)?;
        if count > SPARSE_MAX as u64 {
            return Err(wrong("too many pieces"));
        }
        let numbers: Vec<u64> = (0..count * 2).map(|_| line(self, &mut block)).collect::<Result<_>>()?;
        self.set_sparse(entry, size, &numbers)
    }

    fn set_sparse(&self, entry: &mut Entry, size: u64, numbers: &[u64]) -> Result<()> {
        let pieces: Vec<(u64, u64)> = numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        let mut end = 0;
        let mut stored: u64 = 0;
        for (offset, length) in &pieces {
            let next = offset.checked_add(*length).filter(|next| *next <= size);
            match next {
                Some(next) if *offset >= end => end = next,
                _ => return Err(bad_entry(&entry.path, "its sparse pieces overlap or lie behind its end")),
            }
            stored += length;
        }
        if stored != self.left || numbers.len() % 2 == 1 {
            return Err(bad_entry(&entry.path, "its sparse pieces and its stored size differ"));
        }
        entry.size = size;
        entry.sparse = Some(pieces);
        Ok(())
    }

    /// One header block; `None` at a clean end of the stream.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            match self.inner.read(&mut block[have..]).doing(|| "reading an archive".to_owned())? {
                0 if have == 0 => return Ok(None),
                0 => return Err(bad_archive("the archive ends within a header: it is truncated or not a tar archive")),
                n => have += n,
            }
        }
        Ok(Some(block))
    }

    fn metadata(&mut self, size: u64, bound: u64, name: &[u8]) -> Result<Vec<u8>> {
        if size > bound {
            return Err(bad_entry(name, format!("its extended header of {size} bytes is over {bound}")));
        }
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        let mut data = Vec::with_capacity(size as usize);
        self.read_to_end(&mut data).doing(|| "reading an archive".to_owned())?;
        Ok(data)
    }

    fn skip_rest(&mut self) -> Result<()> {
        std::io::copy(self, &mut std::io::sink()).doing(|| "reading an archive".to_owned())?;
        let mut padding = [0; BLOCK];
        let read = self.inner.read_exact(&mut padding[..self.padding as usize]);
        self.padding = 0;
        read.map_err(truncated).doing(|| "reading an archive".to_owned())
    }
}

impl<R: Read> Read for TarStream<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        if want == 0 {
            return Ok(0);
        }
        match self.inner.read(&mut buf[..want])? {
            0 => Err(truncated(std::io::ErrorKind::UnexpectedEof.into())),
            n => {
                self.left -= n as u64;
                Ok(n)
            }
        }
    }
}

impl Extra {
    /// Records of the form `LENGTH KEY=VALUE\n`, the length counting itself.
    fn read_pax(&mut self, mut data: &[u8], name: &[u8]) -> Result<()> {
        let wrong = || bad_entry(name, "its pax header is malformed");
        while !data.is_empty() {
            let space = data.iter().take(21).position(|b| *b == b' ').ok_or_else(wrong)?;
            let length = decimal(&data[..space]).and_then(|n| usize::try_from(n).ok()).ok_or_else(wrong)?;
            if length > data.len() || length < space + 2 || data[length - 1] != b'\n' {
                return Err(wrong());
            }
            let record = &data[space + 1..length - 1];
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(wrong)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            if key == b"GNU.sparse.offset" || key == b"GNU.sparse.numbytes" {
                self.pieces.push(decimal(value).ok_or_else(wrong)?);
            }
            self.pax.insert(key.to_vec(), value.to_vec());
            data = &data[length..];
        }
        Ok(())
    }
}

fn truncated(error: std::io::Error) -> std::io::Error {
    if error.kind() != std::io::ErrorKind::UnexpectedEof {
        return error;
    }
    crate::error::in_io(crate::error::Refusal::BadArchive("the archive is truncated".to_owned()))
}

fn until_nul(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|b| *b == 0).unwrap_or(field.len())]
}

fn short_path(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&header[..100]);
    let prefix = until_nul(&header[345..500]);
    // GNU archives (magic "ustar  ") keep other things where POSIX has the prefix.
    if &header[257..263] == b"ustar\0" && !prefix.is_empty() { [prefix, b"/", name].concat() } else { name.to_vec() }
}

/// The checksum field counts as spaces. Some old writers summed signed bytes.
fn check_sum(header: &[u8; BLOCK], name: &[u8]) -> Result<()> {
    let bytes = || header.iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { b' ' } else { *b });
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|b| i64::from(b as i8)).sum();
    match number_field(&header[148..156], name, "checksum") {
        Ok(said) if said == unsigned || said == signed => Ok(()),
        _ => Err(bad_archive("a header has a wrong checksum: the data is damaged or not a tar archive")),
    }
}

/// Octal text, or GNU's base 256 where the first bit is set.
fn number_field(field: &[u8], name: &[u8], what: &str) -> Result<i64> {
    let wrong = || bad_entry(name, format!("its {what} is not a number"));
    if field[0] & 0x80 != 0 {
        let first = i64::from(((field[0] << 1) as i8) >> 1);
        return field[1..]
            .iter()
            .try_fold(first, |n, b| n.checked_mul(256).and_then(|n| n.checked_add(i64::from(*b))).ok_or_else(wrong));
    }
    let text = std::str::from_utf8(until_nul(field)).map_err(|_| wrong())?.trim();
    if text.is_empty() { Ok(0) } else { i64::from_str_radix(text, 8).map_err(|_| wrong()) }
}

fn unsigned(field: &[u8], name: &[u8], what: &str) -> Result<u64, Error> {
    u64::try_from(number_field(field, name, what)?).map_err(|_| bad_entry(name, format!("its {what} is negative")))
}

/// A decimal number below 2^63: larger ones are of no use as a size, and their sums would overflow.
fn decimal(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| plain && *n <= i64::MAX as u64)
}

/// `-?SECONDS[.FRACTION]`.
fn pax_time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = seconds.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    match (seconds.starts_with('-'), nanos) {
        (true, 1..) => Some((whole.checked_sub(1)?, 1_000_000_000 - nanos)),
        _ => Some((whole, nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_read() {
        assert_eq!(number_field(b"0000644\0", b"x", "mode").unwrap(), 0o644);
        assert_eq!(number_field(b" 17 \0\0\0\0", b"x", "mode").unwrap(), 0o17);
        assert_eq!(number_field(&[0x80, 0, 0, 0, 0, 0, 1, 0], b"x", "uid").unwrap(), 256);
        assert_eq!(number_field(&[0xff; 12], b"x", "mtime").unwrap(), -1);
        assert!(
            number_field(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], b"x", "size")
                .is_err()
        );
        assert!(number_field(b"12x\0\0\0\0\0", b"x", "mode").is_err());
        assert_eq!(pax_time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(pax_time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(pax_time(b"1.x"), None);
        assert_eq!(decimal(b"18446744073709551615"), None);
    }
}
