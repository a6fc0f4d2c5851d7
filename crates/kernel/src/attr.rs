//! Netlink attributes (netlink(7), linux/netlink.h: `struct nlattr`), written and read.
//!
//! The typed messages of `netlink-packet-netfilter` are not used for nftables: half of the expressions that we need are
//! missing there, and its readers fail as a whole at an attribute that they do not know, while what a stranger wrote
//! into our table must be seen and shown.

/// `NLA_F_NESTED`
pub(crate) const NESTED: u16 = 1 << 15;
const TYPE: u16 = 0x3fff;
const HEADER: usize = 4;

fn padded(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// Attributes in the making.
#[derive(Default)]
pub(crate) struct Writer(pub Vec<u8>);

impl Writer {
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let end = padded(self.0.len() + HEADER + value.len());
        // An attribute's length has 16 bits; all of our values are a few hundred bytes at most.
        self.0.extend(((HEADER + value.len()) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(end, 0);
        self
    }

    /// With the zero byte at the end that the kernel's strings have.
    pub fn str(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// In network byte order, as all numbers of nftables are.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Writer)) -> &mut Self {
        let start = self.0.len();
        self.0.extend([0; HEADER]);
        fill(self);
        let len = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.0[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        self
    }
}

/// Attributes to be read. What is malformed ends the reading: the kernel makes no such thing.
#[derive(Clone, Copy)]
pub(crate) struct Attrs<'a>(pub &'a [u8]);

impl<'a> Attrs<'a> {
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter().find(|(k, _)| *k == kind).map(|(_, value)| value)
    }

    pub fn nest(self, kind: u16) -> Option<Attrs<'a>> {
        self.get(kind).map(Attrs)
    }

    pub fn str(self, kind: u16) -> Option<&'a str> {
        self.get(kind).and_then(text)
    }

    pub fn be32(self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    pub fn ne32(self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.get(kind)?.try_into().ok()?))
    }
}

/// A string of the kernel's, up to its zero byte.
pub(crate) fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes.split(|b| *b == 0).next()?).ok()
}

impl<'a> IntoIterator for Attrs<'a> {
    type Item = (u16, &'a [u8]);
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        Iter(self.0)
    }
}

pub(crate) struct Iter<'a>(&'a [u8]);

impl<'a> Iterator for Iter<'a> {
    type Item = (u16, &'a [u8]);
    fn next(&mut self) -> Option<Self::Item> {
        let (head, _) = self.0.split_first_chunk::<HEADER>()?;
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & TYPE;
        let value = self.0.get(HEADER..len)?;
        self.0 = self.0.get(padded(len)..).unwrap_or_default();
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut out = Writer::default();
        out.str(1, "abc").nest(2, |list| {
            list.be32(1, 7).be32(1, 8);
        });
        let read = Attrs(&out.0);
        assert_eq!(read.str(1), Some("abc"));
        let list: Vec<_> = read.nest(2).unwrap().into_iter().map(|(_, v)| v[3]).collect();
        assert_eq!(list, [7, 8]);
        assert!(read.get(3).is_none());
    }

    #[test]
    fn garbage_ends_the_reading() {
        for garbage in [&[1][..], &[3, 0, 1, 0], &[200, 0, 1, 0, 5], &[0, 0, 0, 0]] {
            assert_eq!(Attrs(garbage).into_iter().count(), 0, "{garbage:?}");
        }
    }
}
