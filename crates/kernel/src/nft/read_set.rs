//! Sets and elements as the kernel shows them.

use super::batch::Shape;
use super::numbers::*;
use super::value;
use crate::attr::Attrs;
use plan::nft::{Data, DataType, Element, Key, Set};
use std::collections::BTreeMap;

/// A set's name and shape. Of somebody else's kinds of sets (other types, timeouts …) only the name is shown, and a
/// key without parts, which nobody wishes for. `None` for the nameless sets of rules.
pub(super) fn set(attrs: Attrs<'_>) -> Option<(String, Shape)> {
    let flags = attrs.be32(set::FLAGS).unwrap_or_default();
    if flags & set::ANONYMOUS != 0 {
        return None;
    }
    let name = attrs.str(set::NAME)?.to_owned();
    Some((name, shape(attrs, flags).unwrap_or(Shape { key: Vec::new(), data: None, interval: false })))
}

fn shape(attrs: Attrs<'_>, flags: u32) -> Option<Shape> {
    let interval = flags & set::INTERVAL != 0;
    let known = set::INTERVAL | set::MAP | set::CONCAT;
    let key = value::unpacked(attrs.be32(set::KEY_TYPE)?)?;
    if flags & !known != 0 || attrs.be32(set::KEY_LEN)? as usize != value::length(&key) {
        return None;
    }
    let data = match (flags & set::MAP != 0).then(|| attrs.be32(set::DATA_TYPE)) {
        None => None,
        Some(kind) if kind? == data::VERDICT_TYPE => Some(DataType::Verdict),
        Some(kind) => Some(DataType::Parts(value::unpacked(kind?)?)),
    };
    Some(Shape { key, data, interval })
}

/// One element of the kernel's, half an interval perhaps.
struct Raw {
    key: Vec<u8>,
    key_end: Option<Vec<u8>>,
    ends_interval: bool,
    element: Option<Element>,
}

/// A set with its elements, from the answers to `GETSETELEM`.
pub(super) fn filled<'a>(shape: Shape, lists: impl Iterator<Item = Attrs<'a>>) -> Set {
    let raws: Vec<Raw> = lists
        .filter_map(|list| list.nest(element::ELEMENTS))
        .flatten()
        .filter_map(|(_, element)| raw(Attrs(element), &shape))
        .collect();
    // Where one interval ends, in order; an end stands for all intervals that start before it.
    let mut ends: Vec<&[u8]> = raws.iter().filter(|raw| raw.ends_interval).map(|raw| raw.key.as_slice()).collect();
    ends.sort_unstable();
    let single = shape.interval && shape.key.len() == 1;
    let elements: BTreeMap<Key, Element> = raws
        .iter()
        .filter(|raw| !raw.ends_interval)
        .filter_map(|raw| {
            let last = match &raw.key_end {
                Some(end) => end.clone(),
                None if single => last_of(&raw.key, &ends)?,
                None => raw.key.clone(),
            };
            // What cannot be one of our keys is shown as a key without parts.
            let key = value::read_all(&shape.key, &raw.key, &last).unwrap_or_default();
            Some((key, raw.element.clone()?))
        })
        .collect();
    Set { key: shape.key, data: shape.data, interval: shape.interval, elements }
}

/// The last value of the interval that starts here.
fn last_of(start: &[u8], ends: &[&[u8]]) -> Option<Vec<u8>> {
    let next = ends.partition_point(|end| *end <= start);
    match ends.get(next) {
        Some(end) => value::before(end),
        None => Some(vec![255; start.len()]),
    }
}

fn raw(attrs: Attrs<'_>, shape: &Shape) -> Option<Raw> {
    let bytes = |kind: u16| attrs.nest(kind).and_then(|key| key.get(data::VALUE)).map(<[u8]>::to_vec);
    let data = match &shape.data {
        None => None,
        Some(DataType::Verdict) => attrs.nest(element::DATA).and_then(value::read_verdict).map(Data::Verdict),
        Some(DataType::Parts(kinds)) => {
            bytes(element::DATA).and_then(|bytes| value::read_all(kinds, &bytes, &bytes)).map(Data::Parts)
        }
    };
    let ends_interval = attrs.be32(element::FLAGS).unwrap_or_default() & element::INTERVAL_END != 0;
    let why = value::read_comment(attrs.get(element::USERDATA));
    let element = (!ends_interval).then_some(Element { data, why });
    Some(Raw { key: bytes(element::KEY)?, key_end: bytes(element::KEY_END), ends_interval, element })
}
