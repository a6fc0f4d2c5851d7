//! The socket: replaces tables, changes elements, reads tables.

use super::batch::{Batch, Shape, family_number, head, put_element};
use super::numbers::*;
use super::{read_rule, read_set};
use crate::attr::{Attrs, Writer};
use crate::fault::Refused;
use crate::marks;
use crate::socket::{Message, Socket};
use plan::netstate::{ElementChange, Errno};
use plan::nft::{Data, DataType, Element, Family, Key, Set, Table, TableName};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

/// How often a table is read again when it changed meanwhile.
const ATTEMPTS: usize = 32;
/// struct nfgenmsg
const HEAD: usize = 4;

/// A conversation about one namespace's tables.
pub(crate) struct Nft {
    pub socket: Socket,
    /// What the sets look like that were written or read here.
    shapes: HashMap<(TableName, String), Shape>,
    /// The tables as they were in a generation of the ruleset.
    seen: Option<(u32, BTreeMap<TableName, Table>)>,
    /// Does the kernel know how to delete what need not be there (Linux 6.3)? Unknown until it refused once.
    destroys: bool,
}

impl Nft {
    /// In the caller's namespace.
    pub fn open() -> io::Result<Nft> {
        Ok(Nft { socket: Socket::netfilter()?, shapes: HashMap::new(), seen: None, destroys: true })
    }

    /// Put a whole table in place of what is there.
    pub fn replace(&mut self, name: &TableName, table: &Table) -> Result<(), Errno> {
        for (set_name, set) in &table.sets {
            for (key, element) in &set.elements {
                fits(set_name, &Shape::of(set), key, Some(element))?;
            }
        }
        let mut batch = Batch::new(&mut self.socket, name);
        // Deleting what is not there would fail, so it is added first; it may be there already.
        batch.add_table();
        batch.delete_table();
        batch.add_table();
        for (name, set) in &table.sets {
            batch.add_set(name, set);
        }
        for (name, chain) in &table.chains {
            batch.add_chain(name, chain);
        }
        // Elements come after the chains that they jump to, and rules after the sets that they look into.
        for (name, set) in &table.sets {
            batch.add_elements(name, &Shape::of(set), &set.elements);
        }
        for (name, chain) in &table.chains {
            for (number, rule) in chain.rules.iter().enumerate() {
                batch.add_rule(name, number, rule);
            }
        }
        batch.commit().map_err(|(about, refused)| refused.about(about))?;
        self.forget(name);
        for (set_name, set) in &table.sets {
            self.shapes.insert((name.clone(), set_name.clone()), Shape::of(set));
        }
        Ok(())
    }

    /// Remove a table.
    pub fn delete(&mut self, name: &TableName) -> Result<(), Errno> {
        let mut batch = Batch::new(&mut self.socket, name);
        batch.delete_table();
        let done = batch.commit().map_err(|(about, refused)| refused.about(about));
        self.forget(name);
        done
    }

    fn forget(&mut self, name: &TableName) {
        self.shapes.retain(|(table, _), _| table != name);
    }

    /// Change elements, all or nothing.
    pub fn change(&mut self, table: &TableName, changes: &[ElementChange]) -> Result<(), Errno> {
        match self.try_change(table, changes) {
            Ok(()) => Ok(()),
            // Perhaps somebody else made the sets anew in another shape, or the kernel is older than thought.
            Err(Errno::Kernel { .. } | Errno::Missing(_)) => {
                self.forget(table);
                self.destroys = self.destroys && self.can_destroy();
                self.try_change(table, changes)
            }
            Err(errno) => Err(errno),
        }
    }

    fn try_change(&mut self, table: &TableName, changes: &[ElementChange]) -> Result<(), Errno> {
        let mut shapes: BTreeMap<&str, Shape> = BTreeMap::new();
        for change in changes {
            if !shapes.contains_key(change.set.as_str()) {
                shapes.insert(&change.set, self.shape(table, &change.set)?);
            }
            fits(&change.set, &shapes[change.set.as_str()], &change.key, change.put.as_ref())?;
        }
        // Only what an element is in the end counts, and a transaction that adds and deletes one several times confuses
        // the kernel's trees. An element with other data is not overwritten by adding it, so it goes first in any case.
        let last: BTreeMap<(&str, &Key), Option<&Element>> =
            changes.iter().map(|change| ((change.set.as_str(), &change.key), change.put.as_ref())).collect();
        let mut go: BTreeMap<&str, Vec<&Key>> = BTreeMap::new();
        let mut whole = HashMap::new();
        for (set, key) in last.keys() {
            let shape = &shapes[set];
            let sure = self.destroys && !shape.interval;
            let about = |refused: Refused| refused.about(format!("set {set}"));
            if sure || self.has(table, set, shape, key, &mut whole).map_err(about)? {
                go.entry(set).or_default().push(key);
            }
        }
        let mut come: BTreeMap<&str, Vec<(&Key, &Element)>> = BTreeMap::new();
        for ((set, key), put) in last {
            come.entry(set).or_default().extend(put.map(|element| (key, element)));
        }
        let destroys = self.destroys;
        let mut batch = Batch::new(&mut self.socket, table);
        for (set, keys) in go {
            let shape = &shapes[set];
            let kind = if destroys && !shape.interval { DESTROYSETELEM } else { DELSETELEM };
            batch.delete_elements(kind, set, shape, keys);
        }
        for (set, elements) in come {
            batch.add_elements(set, &shapes[set], elements);
        }
        batch.commit().map_err(|(about, refused)| refused.about(about))
    }

    /// Is this very element there? The kernel deletes a range by its first value (pipapo), and one of a single part by
    /// its first value and the value after its last (rbtree), whoever's these are; so ranges are only deleted once they
    /// have been seen.
    fn has<'a>(
        &mut self,
        table: &TableName,
        set: &'a str,
        shape: &Shape,
        key: &Key,
        whole: &mut HashMap<&'a str, BTreeSet<Key>>,
    ) -> Result<bool, Refused> {
        if shape.two_elements() {
            if !whole.contains_key(set) {
                let elements = self.set(table, set, shape.clone())?.elements;
                whole.insert(set, elements.into_keys().collect());
            }
            return Ok(whole[set].contains(key));
        }
        let mut attrs = Writer::default();
        attrs.str(element::TABLE, &table.name).str(element::SET, set);
        attrs.nest(element::ELEMENTS, |list| put_element(list, shape, key, None));
        match self.get(GETSETELEM, table.family, &attrs) {
            Ok(answer) => Ok(read_set::filled(shape.clone(), [body(&answer)].into_iter()).elements.contains_key(key)),
            Err(refused) if refused.errno == libc::ENOENT => Ok(false),
            Err(refused) => Err(refused),
        }
    }

    /// Asks for it in a table that does not exist: an old kernel does not understand the question (`EINVAL`).
    fn can_destroy(&mut self) -> bool {
        let nowhere = TableName { family: Family::Inet, name: "berth-probe".into() };
        let mut batch = Batch::new(&mut self.socket, &nowhere);
        let shape = Shape { key: vec![plan::nft::Type::Port], data: None, interval: false };
        batch.delete_elements(DESTROYSETELEM, "probe", &shape, [&vec![plan::nft::Value::Port(1)]]);
        !batch.commit().is_err_and(|(_, refused)| refused.errno == libc::EINVAL)
    }

    fn shape(&mut self, table: &TableName, set: &str) -> Result<Shape, Errno> {
        let id = (table.clone(), set.to_owned());
        if let Some(shape) = self.shapes.get(&id) {
            return Ok(shape.clone());
        }
        let mut attrs = Writer::default();
        attrs.str(set::TABLE, &table.name).str(set::NAME, set);
        let answer = self.get(GETSET, table.family, &attrs);
        let answer = answer.map_err(|refused| refused.about(format!("set {set} in table {table}")))?;
        let shape = read_set::set(body(&answer)).map(|(_, shape)| shape).filter(|shape| !shape.key.is_empty());
        let shape = shape.ok_or_else(|| Errno::Missing(format!("set {set} of ours in table {table}")))?;
        self.shapes.insert(id, shape.clone());
        Ok(shape)
    }

    /// Our tables in this namespace. Read again only if anything in the ruleset changed since the last time.
    pub fn tables(&mut self) -> Result<&BTreeMap<TableName, Table>, Refused> {
        self.see()?;
        static NONE: BTreeMap<TableName, Table> = BTreeMap::new();
        Ok(self.seen.as_ref().map_or(&NONE, |(_, tables)| tables))
    }

    fn see(&mut self) -> Result<(), Refused> {
        for _ in 0..ATTEMPTS {
            let generation = self.generation()?;
            if self.seen.as_ref().is_some_and(|(seen, _)| *seen == generation) {
                return Ok(());
            }
            let tables = match self.read() {
                // It went away while it was being read.
                Err(refused) if refused.errno == libc::ENOENT => continue,
                tables => tables?,
            };
            if self.generation()? == generation {
                let sets = |(name, table): (&TableName, &Table)| {
                    let shapes = table.sets.iter().filter(|(_, set)| !set.key.is_empty());
                    shapes.map(|(set, it)| ((name.clone(), set.clone()), Shape::of(it))).collect::<Vec<_>>()
                };
                self.shapes = tables.iter().flat_map(sets).collect();
                self.seen = Some((generation, tables));
                return Ok(());
            }
        }
        let text = format!("the ruleset changed {ATTEMPTS} times while it was being read");
        Err(Refused { errno: libc::EINTR, text })
    }

    fn generation(&mut self) -> Result<u32, Refused> {
        let answer = self.get(GETGEN, Family::Inet, &Writer::default())?;
        body(&answer).be32(generation::ID).ok_or_else(|| Refused::plain(libc::EPROTO))
    }

    fn read(&mut self) -> Result<BTreeMap<TableName, Table>, Refused> {
        let mut tables = BTreeMap::new();
        for family in [Family::Inet, Family::Bridge] {
            for message in self.list(GETTABLE, family, &Writer::default())? {
                let Some(name) = body(&message).str(table::NAME) else { continue };
                let name = TableName { family, name: name.into() };
                if marks::table(&name) {
                    let table = self.table(&name)?;
                    tables.insert(name, table);
                }
            }
        }
        Ok(tables)
    }

    fn table(&mut self, name: &TableName) -> Result<Table, Refused> {
        let mut sets = BTreeMap::new();
        for message in self.list(GETSET, name.family, Writer::default().str(set::TABLE, &name.name))? {
            if body(&message).str(set::TABLE) != Some(&name.name) {
                continue;
            }
            if let Some((set_name, shape)) = read_set::set(body(&message)) {
                let set = self.set(name, &set_name, shape)?;
                sets.insert(set_name, set);
            }
        }
        let mut chains = BTreeMap::new();
        for message in self.list(GETCHAIN, name.family, Writer::default().str(chain::TABLE, &name.name))? {
            if body(&message).str(chain::TABLE) == Some(&name.name) {
                chains.extend(read_rule::chain(body(&message)));
            }
        }
        for message in self.list(GETRULE, name.family, Writer::default().str(rule::TABLE, &name.name))? {
            if body(&message).str(rule::TABLE) != Some(&name.name) {
                continue;
            }
            if let Some((chain, rule)) = read_rule::rule(name.family, body(&message))
                && let Some(chain) = chains.get_mut(&chain)
            {
                chain.rules.push(rule);
            }
        }
        Ok(Table { sets, chains })
    }

    fn set(&mut self, table: &TableName, name: &str, shape: Shape) -> Result<Set, Refused> {
        let mut attrs = Writer::default();
        attrs.str(element::TABLE, &table.name).str(element::SET, name);
        let messages = self.list(GETSETELEM, table.family, &attrs)?;
        Ok(read_set::filled(shape, messages.iter().map(body)))
    }

    fn list(&mut self, kind: u8, family: Family, attrs: &Writer) -> Result<Vec<Message>, Refused> {
        let mut request = head(family);
        request.extend(&attrs.0);
        let mut messages = self.socket.dump(SUBSYSTEM | u16::from(kind), &request)?;
        messages.retain(|message| message.body.first() == Some(&family_number(family)));
        Ok(messages)
    }

    fn get(&mut self, kind: u8, family: Family, attrs: &Writer) -> Result<Message, Refused> {
        let mut request = head(family);
        request.extend(&attrs.0);
        self.socket.get(SUBSYSTEM | u16::from(kind), &request)
    }
}

pub(super) fn body(message: &Message) -> Attrs<'_> {
    Attrs(message.body.get(HEAD..).unwrap_or_default())
}

/// The kernel only compares lengths; a port where a protocol belongs must not get that far.
fn fits(name: &str, shape: &Shape, key: &Key, element: Option<&Element>) -> Result<(), Errno> {
    let typed = |parts: &[plan::nft::Value], kinds: &[plan::nft::Type]| {
        parts.len() == kinds.len() && parts.iter().zip(kinds).all(|(part, kind)| part.of_type() == *kind)
    };
    let ranges = key.iter().any(plan::nft::Value::is_range);
    let data = element.is_none_or(|element| match (&shape.data, &element.data) {
        (None, None) | (Some(DataType::Verdict), Some(Data::Verdict(_))) => true,
        (Some(DataType::Parts(kinds)), Some(Data::Parts(parts))) => {
            typed(parts, kinds) && !parts.iter().any(plan::nft::Value::is_range)
        }
        _ => false,
    });
    if data && typed(key, &shape.key) && (shape.interval || !ranges) {
        Ok(())
    } else {
        Err(Errno::Kernel { errno: libc::EINVAL, text: format!("element {key:?} does not fit set {name}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plan::nft::{Owner, Type, Value, Why};

    #[test]
    fn kernels_that_cannot_destroy_elements_are_asked_first() {
        lab::alone(|_| {
            let mut nft = Nft::open().unwrap();
            let name = TableName::inet();
            let set = Set { key: vec![Type::Port], data: None, interval: false, elements: BTreeMap::new() };
            let table = Table { sets: BTreeMap::from([("ports".into(), set)]), chains: BTreeMap::new() };
            nft.replace(&name, &table).unwrap();
            nft.destroys = false;
            let change = |port: u16, text: Option<&str>| ElementChange {
                set: "ports".into(),
                key: vec![Value::Port(port)],
                put: text.map(|text| Element { data: None, why: Why::new(text, Owner::Engine) }),
                owner: Owner::Engine,
            };
            for changes in [
                vec![change(1, Some("first")), change(2, Some("second"))],
                vec![change(1, None), change(2, Some("another reason")), change(3, None)],
            ] {
                nft.change(&name, &changes).unwrap();
            }
            let tables = nft.tables().unwrap();
            let elements: Vec<_> = tables[&name].sets["ports"].elements.iter().collect();
            assert_eq!(elements.len(), 1);
            assert_eq!((elements[0].0, elements[0].1.why.text.as_str()), (&vec![Value::Port(2)], "another reason"));
        })
    }
}
