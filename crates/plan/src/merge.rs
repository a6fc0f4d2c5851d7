//! Two sorted maps side by side.

use std::collections::BTreeMap;
use std::iter::Peekable;

/// Each key of either map, in order, with what each map has there. Takes one pass over both.
pub(crate) fn merge<'a, K: Ord, V>(left: &'a BTreeMap<K, V>, right: &'a BTreeMap<K, V>) -> Merge<'a, K, V> {
    Merge { left: left.iter().peekable(), right: right.iter().peekable() }
}

/// The pass.
pub(crate) struct Merge<'a, K, V> {
    left: Peekable<std::collections::btree_map::Iter<'a, K, V>>,
    right: Peekable<std::collections::btree_map::Iter<'a, K, V>>,
}

impl<'a, K: Ord, V> Iterator for Merge<'a, K, V> {
    type Item = (&'a K, Option<&'a V>, Option<&'a V>);

    fn next(&mut self) -> Option<Self::Item> {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let order = match (self.left.peek(), self.right.peek()) {
            (None, None) => return None,
            (Some(_), None) => Less,
            (None, Some(_)) => Greater,
            (Some((left, _)), Some((right, _))) => left.cmp(right),
        };
        match order {
            Less => self.left.next().map(|(key, value)| (key, Some(value), None)),
            Greater => self.right.next().map(|(key, value)| (key, None, Some(value))),
            Equal => {
                let right = self.right.next().map(|(_, value)| value);
                self.left.next().map(|(key, value)| (key, Some(value), right))
            }
        }
    }
}
