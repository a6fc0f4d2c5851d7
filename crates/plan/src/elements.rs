//! What a table takes and what it refuses: types, references, and keys that overlap.

use crate::netstate::{ElementChange, Errno};
use crate::nft::{Chain, Data, DataType, Element, Expr, Key, Set, Table, Type, Value, Verdict};
use std::collections::BTreeMap;

/// `EINVAL`
const EINVAL: i32 = 22;
/// Up to so many new keys each is compared with all others; more are sorted first.
const FEW: usize = 4;

impl Table {
    /// Would the kernel take the whole table?
    ///
    /// # Errors
    /// `Missing` for a set or chain that a rule names, `Exists` for keys that overlap, `EINVAL` for an element that
    /// does not fit its set.
    pub fn admissible(&self) -> Result<(), Errno> {
        for chain in self.chains.values() {
            self.refers_to_what_is_there(chain)?;
        }
        for (name, set) in &self.sets {
            for (key, element) in &set.elements {
                set.fits(name, key, element)?;
            }
            set.apart(name, None)?;
        }
        Ok(())
    }

    fn refers_to_what_is_there(&self, chain: &Chain) -> Result<(), Errno> {
        for expr in chain.rules.iter().flat_map(|rule| &rule.body) {
            match expr {
                Expr::In { set, .. }
                | Expr::Dnat { map: set, .. }
                | Expr::DnatPort { map: set, .. }
                | Expr::Snat { map: set, .. }
                | Expr::Vmap { map: set, .. }
                    if !self.sets.contains_key(set) =>
                {
                    return Err(Errno::Missing(format!("set {set}")));
                }
                Expr::Verdict(Verdict::Jump(to)) if !self.chains.contains_key(to) => {
                    return Err(Errno::Missing(format!("chain {to}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Change elements, all or nothing.
    ///
    /// # Errors
    /// As `admissible`; the table is as it was then.
    pub fn change(&mut self, changes: &[ElementChange]) -> Result<(), Errno> {
        for change in changes {
            let set = self.sets.get(&change.set).ok_or_else(|| Errno::Missing(format!("set {}", change.set)))?;
            if let Some(element) = &change.put {
                set.fits(&change.set, &change.key, element)?;
            }
        }
        let mut undo: Vec<(&ElementChange, Option<Element>)> = Vec::with_capacity(changes.len());
        let mut put: BTreeMap<&str, Vec<&Key>> = BTreeMap::new();
        for change in changes {
            let Some(set) = self.sets.get_mut(&change.set) else { continue };
            let before = match &change.put {
                Some(element) => {
                    put.entry(&change.set).or_default().push(&change.key);
                    set.elements.insert(change.key.clone(), element.clone())
                }
                None => set.elements.remove(&change.key),
            };
            undo.push((change, before));
        }
        let apart = put.into_iter().try_for_each(|(name, keys)| match self.sets.get(name) {
            Some(set) => set.apart(name, Some(&keys)),
            None => Ok(()),
        });
        if apart.is_err() {
            for (change, before) in undo.into_iter().rev() {
                let Some(set) = self.sets.get_mut(&change.set) else { continue };
                match before {
                    Some(element) => set.elements.insert(change.key.clone(), element),
                    None => set.elements.remove(&change.key),
                };
            }
        }
        apart
    }
}

impl Set {
    /// The same set without its elements.
    pub fn emptied(&self) -> Set {
        Set { key: self.key.clone(), data: self.data.clone(), interval: self.interval, elements: BTreeMap::new() }
    }

    /// Key, data and flags are the same; elements may differ.
    pub fn same_definition(&self, other: &Set) -> bool {
        self.key == other.key && self.data == other.data && self.interval == other.interval
    }

    fn fits(&self, name: &str, key: &Key, element: &Element) -> Result<(), Errno> {
        let typed = |parts: &[Value], types: &[Type]| {
            parts.len() == types.len() && parts.iter().zip(types).all(|(value, of)| value.of_type() == *of)
        };
        let ranged = key.iter().any(Value::is_range);
        let data = match (&self.data, &element.data) {
            (None, None) | (Some(DataType::Verdict), Some(Data::Verdict(_))) => true,
            (Some(DataType::Parts(types)), Some(Data::Parts(parts))) => {
                typed(parts, types) && !parts.iter().any(Value::is_range)
            }
            _ => false,
        };
        if data && typed(key, &self.key) && (self.interval || !ranged) {
            Ok(())
        } else {
            Err(Errno::Kernel { errno: EINVAL, text: format!("element {key:?} does not fit set {name}") })
        }
    }

    /// No two keys overlap; with `new`, only those are looked at, for the others are known to be apart.
    fn apart(&self, name: &str, new: Option<&[&Key]>) -> Result<(), Errno> {
        if !self.interval {
            return Ok(());
        }
        let clash = match new {
            Some(new) if new.len() <= FEW => new
                .iter()
                .find(|key| self.elements.keys().any(|have| have != **key && overlap(have, key)))
                .map(|key| (*key).clone()),
            _ => self.clash(),
        };
        match clash {
            Some(key) => Err(Errno::Exists(format!("element {key:?} of set {name}, or one that overlaps it,"))),
            None => Ok(()),
        }
    }

    /// A key that overlaps another one.
    fn clash(&self) -> Option<Key> {
        // Where only the last part is a range, sorting brings all that could overlap side by side.
        let (mut flat, mut wide) = (Vec::new(), Vec::new());
        for key in self.elements.keys() {
            let Some((last, first)) = key.split_last() else { continue };
            let named = last.of_type() == Type::IfName;
            if named || first.iter().any(Value::is_range) {
                wide.push(key)
            } else {
                flat.push((first, last.ends(), key))
            }
        }
        flat.sort_unstable_by_key(|(first, ends, _)| (*first, *ends));
        let beside = flat.windows(2).find(|two| two[0].0 == two[1].0 && two[0].1.1 >= two[1].1.0);
        let across =
            || wide.iter().find(|key| self.elements.keys().any(|have| have != **key && overlap(have, key))).copied();
        beside.map(|two| two[1].2).or_else(across).cloned()
    }
}

fn overlap(a: &Key, b: &Key) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            a == b
                || (a.of_type() == b.of_type() && a.of_type() != Type::IfName && {
                    let ((from, to), (other_from, other_to)) = (a.ends(), b.ends());
                    from <= other_to && other_from <= to
                })
        })
}

impl Value {
    /// The type of the part that it can stand in.
    pub fn of_type(&self) -> Type {
        match self {
            Value::IfName(_) => Type::IfName,
            Value::Addr4(_) | Value::Range4(..) => Type::Addr4,
            Value::Addr6(_) | Value::Range6(..) => Type::Addr6,
            Value::Proto(_) => Type::Proto,
            Value::Mac(_) => Type::Mac,
            Value::EtherType(_) => Type::EtherType,
            Value::Port(_) | Value::PortRange(..) => Type::Port,
        }
    }

    /// Stands for more than one value.
    pub fn is_range(&self) -> bool {
        matches!(self, Value::Range4(..) | Value::Range6(..) | Value::PortRange(..))
    }

    /// First and last of the values that it stands for, as numbers; an interface's name has none and gives zeros.
    fn ends(&self) -> (u128, u128) {
        let (from, to) = match self {
            Value::IfName(_) => (0, 0),
            Value::Addr4(a) => (a.to_bits().into(), a.to_bits().into()),
            Value::Range4(a, b) => (a.to_bits().into(), b.to_bits().into()),
            Value::Addr6(a) => (a.to_bits(), a.to_bits()),
            Value::Range6(a, b) => (a.to_bits(), b.to_bits()),
            Value::Proto(p) => (u128::from(*p), u128::from(*p)),
            Value::Mac(mac) => {
                let number = mac.0.iter().fold(0, |number, byte| number << 8 | u128::from(*byte));
                (number, number)
            }
            Value::EtherType(kind) => (u128::from(*kind), u128::from(*kind)),
            Value::Port(p) => (u128::from(*p), u128::from(*p)),
            Value::PortRange(a, b) => (u128::from(*a), u128::from(*b)),
        };
        (from, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::{Owner, Why};

    fn ranges() -> Table {
        let key = vec![Type::Proto, Type::Port];
        let data = Some(DataType::Parts(vec![Type::Addr4]));
        let set = Set { key, data, interval: true, elements: BTreeMap::new() };
        Table { sets: BTreeMap::from([("ranges4".into(), set)]), chains: BTreeMap::new() }
    }

    fn put(from: u16, to: u16) -> ElementChange {
        let port = if from == to { Value::Port(from) } else { Value::PortRange(from, to) };
        let data = Some(Data::Parts(vec![Value::Addr4([10, 1, 0, 2].into())]));
        let element = Element { data, why: Why::new("test", Owner::Engine) };
        let key = vec![Value::Proto(6), port];
        ElementChange { set: "ranges4".into(), key, put: Some(element), owner: Owner::Engine }
    }

    fn take(from: u16, to: u16) -> ElementChange {
        ElementChange { put: None, ..put(from, to) }
    }

    #[test]
    fn overlapping_keys_are_refused_and_nothing_is_changed() {
        let mut table = ranges();
        table.change(&[put(10, 20), put(22, 30), put(21, 21)]).unwrap();
        let before = table.clone();
        for (from, to) in [(5, 10), (20, 22), (12, 13), (1, 99), (21, 21)] {
            if (from, to) != (21, 21) {
                let refused = table.change(&[put(100, 101), put(from, to)]);
                assert!(matches!(refused, Err(Errno::Exists(_))), "{from}-{to}");
            } else {
                table.change(&[put(from, to)]).unwrap();
            }
            assert_eq!(table, before);
        }
        let many: Vec<_> = (0..20).map(|n| put(200 + n * 10, 205 + n * 10)).chain([put(19, 20)]).collect();
        assert!(matches!(table.change(&many), Err(Errno::Exists(_))));
        assert_eq!(table, before);
    }

    #[test]
    fn a_delete_makes_room_in_the_same_transaction() {
        let mut table = ranges();
        table.change(&[put(10, 20)]).unwrap();
        table.change(&[take(10, 20), take(77, 78), put(15, 25)]).unwrap();
        assert_eq!(table.sets["ranges4"].elements.len(), 1);
    }

    #[test]
    fn elements_fit_their_set() {
        let mut table = ranges();
        let mut bad = put(1, 1);
        bad.key.pop();
        assert!(matches!(table.change(&[bad]), Err(Errno::Kernel { errno: EINVAL, .. })));
        let mut bad = put(1, 1);
        bad.set = "nowhere".into();
        assert!(matches!(table.change(&[bad]), Err(Errno::Missing(_))));
        let mut plain = ranges();
        plain.sets.get_mut("ranges4").unwrap().interval = false;
        assert!(matches!(plain.change(&[put(1, 2)]), Err(Errno::Kernel { errno: EINVAL, .. })));
    }

    #[test]
    fn rules_name_what_is_there() {
        let mut table = ranges();
        let rule = |expr| crate::nft::Rule { body: vec![expr], why: Why::new("test", Owner::Engine) };
        let chain = |expr| Chain { base: None, rules: vec![rule(expr)] };
        table.chains.insert("a".into(), chain(Expr::Verdict(Verdict::Jump("b".into()))));
        assert_eq!(table.admissible(), Err(Errno::Missing("chain b".into())));
        table.chains.insert("b".into(), chain(Expr::In { fields: vec![], not: false, set: "x".into() }));
        assert_eq!(table.admissible(), Err(Errno::Missing("set x".into())));
    }
}
