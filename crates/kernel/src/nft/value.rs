//! Keys, data and comments as bytes.

use super::numbers::{data, notes};
use crate::attr::{Attrs, Writer, text};
use plan::ids::{IfName, Mac};
use plan::nft::{Field, Owner, Type, Value, Verdict, Why};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The number by which nft knows a type (its `enum datatypes`), and its length in bytes.
pub(super) fn of(kind: Type) -> (u32, usize) {
    match kind {
        Type::Addr4 => (7, 4),
        Type::Addr6 => (8, 16),
        Type::Proto => (12, 1),
        Type::Port => (13, 2),
        Type::IfName => (41, 16),
        Type::Mac => (9, 6),
        Type::EtherType => (10, 2),
    }
}

/// The types of a concatenation are packed six bits each (nft's `TYPE_BITS`).
pub(super) fn packed(kinds: &[Type]) -> u32 {
    kinds.iter().fold(0, |packed, kind| packed << 6 | of(*kind).0)
}

const ALL: [Type; 7] = [Type::Addr4, Type::Addr6, Type::Proto, Type::Port, Type::IfName, Type::Mac, Type::EtherType];

/// `None` for a type that is none of ours.
pub(super) fn unpacked(mut packed: u32) -> Option<Vec<Type>> {
    let mut kinds = Vec::new();
    while packed != 0 {
        kinds.push(ALL.into_iter().find(|kind| of(*kind).0 == packed & 63)?);
        packed >>= 6;
    }
    kinds.reverse();
    (!kinds.is_empty()).then_some(kinds)
}

/// Parts of a concatenation start at multiples of four bytes; a single part has its own length.
pub(super) fn length(kinds: &[Type]) -> usize {
    match kinds {
        [one] => of(*one).1,
        many => many.iter().map(|kind| of(*kind).1.next_multiple_of(4)).sum(),
    }
}

/// The byte order that nft notes for a set's key or data. Without it, it prints interface names as "".
pub(super) fn order(kinds: &[Type]) -> u32 {
    match kinds {
        [Type::IfName] => notes::ORDER_HOST,
        [_] => notes::ORDER_BIG,
        _ => notes::ORDER_NONE,
    }
}

pub(super) fn of_field(field: Field) -> Option<Type> {
    Some(match field {
        Field::Iif | Field::Oif => Type::IfName,
        Field::Saddr4 | Field::Daddr4 | Field::ArpSaddr4 => Type::Addr4,
        Field::Saddr6 | Field::Daddr6 | Field::NdTarget => Type::Addr6,
        Field::L4Proto => Type::Proto,
        Field::EtherSaddr | Field::ArpEther => Type::Mac,
        Field::EtherType => Type::EtherType,
        Field::Sport | Field::Dport | Field::CtOriginalDport => Type::Port,
        Field::NfProto | Field::Icmp6Type => return None,
    })
}

/// A part's first and last value.
pub(super) fn ends(value: &Value) -> (Vec<u8>, Vec<u8>) {
    let one = |bytes: &[u8]| (bytes.to_vec(), bytes.to_vec());
    match value {
        Value::IfName(name) => one(&name_bytes(name)),
        Value::Addr4(addr) => one(&addr.octets()),
        Value::Range4(from, to) => (from.octets().to_vec(), to.octets().to_vec()),
        Value::Addr6(addr) => one(&addr.octets()),
        Value::Range6(from, to) => (from.octets().to_vec(), to.octets().to_vec()),
        Value::Proto(number) => one(&[*number]),
        Value::Mac(mac) => one(&mac.0),
        Value::EtherType(kind) => one(&kind.to_be_bytes()),
        Value::Port(port) => one(&port.to_be_bytes()),
        Value::PortRange(from, to) => (from.to_be_bytes().to_vec(), to.to_be_bytes().to_vec()),
    }
}

fn name_bytes(name: &IfName) -> [u8; 16] {
    let mut bytes = [0; 16];
    // A name has at most 15 bytes.
    for (byte, from) in bytes.iter_mut().zip(name.as_str().as_bytes()) {
        *byte = *from;
    }
    bytes
}

/// First and last values of a whole key or of data.
pub(super) fn concatenated(parts: &[Value]) -> (Vec<u8>, Vec<u8>) {
    if let [one] = parts {
        return ends(one);
    }
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for part in parts {
        let (from, to) = ends(part);
        for (all, bytes) in [(&mut first, from), (&mut last, to)] {
            all.extend(bytes);
            all.resize(all.len().next_multiple_of(4), 0);
        }
    }
    (first, last)
}

/// One part from its first and last value. `None` for what no part of ours can be.
pub(super) fn read(kind: Type, from: &[u8], to: &[u8]) -> Option<Value> {
    let same = from == to;
    Some(match kind {
        Type::IfName => Value::IfName(if same { text(from)?.parse().ok()? } else { return None }),
        Type::Proto => Value::Proto(if same { *from.first()? } else { return None }),
        Type::EtherType => Value::EtherType(if same { port(from)? } else { return None }),
        Type::Mac => Value::Mac(if same { Mac(from.try_into().ok()?) } else { return None }),
        Type::Port => {
            let (a, b) = (port(from)?, port(to)?);
            if same { Value::Port(a) } else { Value::PortRange(a, b) }
        }
        Type::Addr4 => {
            let (a, b) = (addr4(from)?, addr4(to)?);
            if same { Value::Addr4(a) } else { Value::Range4(a, b) }
        }
        Type::Addr6 => {
            let (a, b) = (addr6(from)?, addr6(to)?);
            if same { Value::Addr6(a) } else { Value::Range6(a, b) }
        }
    })
}

/// All parts of a key or of data.
pub(super) fn read_all(kinds: &[Type], from: &[u8], to: &[u8]) -> Option<Vec<Value>> {
    let mut parts = Vec::with_capacity(kinds.len());
    let mut at = 0;
    for kind in kinds {
        let len = of(*kind).1;
        parts.push(read(*kind, from.get(at..at + len)?, to.get(at..at + len)?)?);
        at += len.next_multiple_of(4);
    }
    Some(parts)
}

fn port(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

fn addr4(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(<[u8; 4]>::try_from(bytes).ok()?.into())
}

fn addr6(bytes: &[u8]) -> Option<Ipv6Addr> {
    Some(<[u8; 16]>::try_from(bytes).ok()?.into())
}

/// The value after this one in its type's order; `None` after the last.
pub(super) fn after(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut next = bytes.to_vec();
    for byte in next.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(next);
        }
    }
    None
}

/// The value before this one; `None` before the first.
pub(super) fn before(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut previous = bytes.to_vec();
    for byte in previous.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != 255 {
            return Some(previous);
        }
    }
    None
}

pub(super) fn put_verdict(out: &mut Writer, verdict: &Verdict) {
    out.nest(data::VERDICT, |out| {
        let code = match verdict {
            Verdict::Accept => libc::NF_ACCEPT,
            Verdict::Drop => libc::NF_DROP,
            Verdict::Return => libc::NFT_RETURN,
            Verdict::Jump(_) => libc::NFT_JUMP,
        };
        out.be32(data::CODE, code as u32);
        if let Verdict::Jump(chain) = verdict {
            out.str(data::CHAIN, chain);
        }
    });
}

pub(super) fn read_verdict(attrs: Attrs<'_>) -> Option<Verdict> {
    let verdict = attrs.nest(data::VERDICT)?;
    match verdict.be32(data::CODE)? as i32 {
        libc::NF_ACCEPT => Some(Verdict::Accept),
        libc::NF_DROP => Some(Verdict::Drop),
        libc::NFT_RETURN => Some(Verdict::Return),
        libc::NFT_JUMP => Some(Verdict::Jump(verdict.str(data::CHAIN)?.into())),
        _ => None,
    }
}

/// A reason, in the form in which nft shows it as a comment: type, length, and text with its zero byte.
pub(super) fn comment(why: &Why) -> Vec<u8> {
    let text = why.to_string();
    // `Why` is cut to `COMMENT_MAX` when it is made, so the length fits into its byte.
    let mut bytes = vec![notes::COMMENT, (text.len() + 1) as u8];
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

/// The reason in user data. What has none, or words of somebody else's, has a reason that nobody wishes for.
pub(super) fn read_comment(userdata: Option<&[u8]>) -> Why {
    let comment = userdata.and_then(|bytes| note(bytes, notes::COMMENT)).and_then(text).unwrap_or_default();
    let foreign = |_| Why { text: format!("foreign: {comment}"), owner: Owner::Engine };
    comment.parse().unwrap_or_else(foreign)
}

fn note(mut bytes: &[u8], kind: u8) -> Option<&[u8]> {
    while let [tag, len, rest @ ..] = bytes {
        let value = rest.get(..usize::from(*len))?;
        if *tag == kind {
            return Some(value);
        }
        bytes = &rest[value.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_packed_as_nft_packs_them() {
        // From `nft --debug=mnl`: ipv4_addr . inet_proto . inet_service
        let kinds = [Type::Addr4, Type::Proto, Type::Port];
        assert_eq!(packed(&kinds), 0x730d);
        assert_eq!(unpacked(0x730d).unwrap(), kinds);
        assert_eq!(unpacked(packed(&[Type::IfName])).unwrap(), [Type::IfName]);
        assert_eq!(unpacked(19), None, "a mark");
        assert_eq!((length(&kinds), length(&[Type::Port])), (12, 2));
    }

    #[test]
    fn neighbours_carry_over() {
        assert_eq!(after(&[10, 0, 0, 255]).unwrap(), [10, 0, 1, 0]);
        assert_eq!(before(&[10, 0, 1, 0]).unwrap(), [10, 0, 0, 255]);
        assert_eq!((after(&[255, 255]), before(&[0, 0])), (None, None));
    }

    #[test]
    fn a_comment_that_is_not_ours_is_foreign() {
        let why = Why::new("web: -p 8080:80", Owner::Engine);
        assert_eq!(read_comment(Some(&comment(&why))), why);
        assert_eq!(read_comment(Some(b"\x00\x03hi\x00")).text, "foreign: hi");
        assert_eq!(read_comment(None).text, "foreign: ");
    }
}
