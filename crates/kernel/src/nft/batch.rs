//! A transaction in the making: all of it, or nothing.

use super::numbers::*;
use super::{expression, value};
use crate::attr::Writer;
use crate::socket::{ACK, APPEND, CREATE, Socket};
use plan::nft::{Base, Chain, ChainType, Data, DataType, Element, Family, Hook, Key, Rule, Set, TableName, Type};

/// Elements go into messages of about this size in bytes; their list's length has 16 bits.
const CHUNK: usize = 24 << 10;

/// What an element's wire form depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub key: Vec<Type>,
    pub data: Option<DataType>,
    pub interval: bool,
}

impl Shape {
    pub fn of(set: &Set) -> Shape {
        Shape { key: set.key.clone(), data: set.data.clone(), interval: set.interval }
    }

    /// Ranges in several parts are kept with both ends in one element; in one part, as two elements.
    pub fn two_elements(&self) -> bool {
        self.interval && self.key.len() == 1
    }
}

pub(super) struct Batch<'a> {
    socket: &'a mut Socket,
    table: &'a TableName,
    bytes: Vec<u8>,
    /// For each message its number and what it is about.
    about: Vec<(u32, String)>,
    /// Where the last message starts.
    last: usize,
    sets: u32,
}

impl<'a> Batch<'a> {
    pub fn new(socket: &'a mut Socket, table: &'a TableName) -> Batch<'a> {
        let mut batch = Batch { socket, table, bytes: Vec::new(), about: Vec::new(), last: 0, sets: 0 };
        batch.envelope(BATCH_BEGIN);
        batch
    }

    fn envelope(&mut self, kind: u16) {
        // struct nfgenmsg: no family, version 0, and the subsystem in network byte order.
        let mut body = vec![0, 0];
        body.extend((SUBSYSTEM >> 8).to_be_bytes());
        self.socket.put(&mut self.bytes, kind, 0, &body);
    }

    fn message(&mut self, kind: u8, flags: u16, attrs: &Writer, about: impl Into<String>) {
        let mut body = head(self.table.family);
        body.extend(&attrs.0);
        self.last = self.bytes.len();
        let number = self.socket.put(&mut self.bytes, SUBSYSTEM | u16::from(kind), flags, &body);
        self.about.push((number, about.into()));
    }

    /// Carry it out. A refusal says which message it is about.
    pub fn commit(mut self) -> Result<(), (String, crate::fault::Refused)> {
        let Some((number, _)) = self.about.last() else { return Ok(()) };
        let number = *number;
        // One answer is enough: for the last message, which only comes if all were taken.
        let flags = self.last + 6;
        let asked = u16::from_ne_bytes([self.bytes[flags], self.bytes[flags + 1]]) | ACK;
        self.bytes[flags..flags + 2].copy_from_slice(&asked.to_ne_bytes());
        self.envelope(BATCH_END);
        self.socket.transact(&self.bytes, number).map_err(|(number, refused)| {
            let about = self.about.iter().find(|(n, _)| *n == number).map(|(_, about)| about.clone());
            (about.unwrap_or_else(|| format!("table {}", self.table)), refused)
        })
    }

    pub fn add_table(&mut self) {
        let mut attrs = Writer::default();
        attrs.str(table::NAME, &self.table.name);
        self.message(NEWTABLE, CREATE, &attrs, format!("table {}", self.table));
    }

    pub fn delete_table(&mut self) {
        let mut attrs = Writer::default();
        attrs.str(table::NAME, &self.table.name);
        self.message(DELTABLE, 0, &attrs, format!("table {}", self.table));
    }

    pub fn add_set(&mut self, name: &str, set: &Set) {
        self.sets += 1;
        let shape = Shape::of(set);
        let ranges_in_parts = shape.interval && shape.key.len() > 1;
        let mut flags = 0;
        if shape.interval {
            flags |= set::INTERVAL;
        }
        if ranges_in_parts {
            flags |= set::CONCAT;
        }
        if shape.data.is_some() {
            flags |= set::MAP;
        }
        let mut attrs = Writer::default();
        attrs.str(set::TABLE, &self.table.name).str(set::NAME, name).be32(set::FLAGS, flags);
        attrs.be32(set::KEY_TYPE, value::packed(&shape.key)).be32(set::KEY_LEN, value::length(&shape.key) as u32);
        let mut orders = vec![(notes::KEY_ORDER, value::order(&shape.key))];
        match &shape.data {
            None => {}
            Some(DataType::Verdict) => {
                attrs.be32(set::DATA_TYPE, data::VERDICT_TYPE).be32(set::DATA_LEN, 0);
                orders.push((notes::DATA_ORDER, notes::ORDER_NONE));
            }
            Some(DataType::Parts(kinds)) => {
                attrs.be32(set::DATA_TYPE, value::packed(kinds)).be32(set::DATA_LEN, value::length(kinds) as u32);
                orders.push((notes::DATA_ORDER, value::order(kinds)));
            }
        }
        attrs.be32(set::ID, self.sets);
        if ranges_in_parts {
            attrs.nest(set::DESC, |desc| {
                desc.nest(set::DESC_CONCAT, |parts| {
                    for kind in &shape.key {
                        parts.nest(LIST_ELEMENT, |part| {
                            part.be32(set::FIELD_LEN, value::of(*kind).1 as u32);
                        });
                    }
                });
            });
        }
        let orders = orders.iter().flat_map(|(tag, order)| [&[*tag, 4][..], &order.to_ne_bytes()].concat());
        attrs.bytes(set::USERDATA, &orders.collect::<Vec<u8>>());
        self.message(NEWSET, CREATE, &attrs, format!("set {name}"));
    }

    pub fn add_chain(&mut self, name: &str, chain: &Chain) {
        let mut attrs = Writer::default();
        attrs.str(chain::TABLE, &self.table.name).str(chain::NAME, name);
        if let Some(Base { kind, hook, priority }) = &chain.base {
            attrs.nest(chain::HOOK, |out| {
                out.be32(chain::HOOK_NUMBER, hook_number(*hook)).be32(chain::HOOK_PRIORITY, *priority as u32);
            });
            attrs.be32(chain::POLICY, libc::NF_ACCEPT as u32);
            attrs.str(chain::TYPE, chain_type(*kind));
        }
        self.message(NEWCHAIN, CREATE, &attrs, format!("chain {name}"));
    }

    pub fn add_rule(&mut self, chain: &str, number: usize, rule: &Rule) {
        let mut attrs = Writer::default();
        attrs.str(rule::TABLE, &self.table.name).str(rule::CHAIN, chain);
        let expressions = expression::list(self.table.family, rule);
        attrs.nest(rule::EXPRESSIONS, |out| out.0.extend(&expressions.0));
        attrs.bytes(rule::USERDATA, &value::comment(&rule.why));
        self.message(NEWRULE, CREATE | APPEND, &attrs, format!("rule {} of chain {chain}", number + 1));
    }

    pub fn add_elements<'e>(
        &mut self,
        set: &str,
        shape: &Shape,
        elements: impl IntoIterator<Item = (&'e Key, &'e Element)>,
    ) {
        let mut list = Writer::default();
        for (key, element) in elements {
            put_element(&mut list, shape, key, Some(element));
            if list.0.len() > CHUNK {
                self.elements(NEWSETELEM, CREATE, set, &std::mem::take(&mut list));
            }
        }
        self.elements(NEWSETELEM, CREATE, set, &list);
    }

    /// `kind` tells whether they may be gone already.
    pub fn delete_elements<'e>(&mut self, kind: u8, set: &str, shape: &Shape, keys: impl IntoIterator<Item = &'e Key>) {
        let mut list = Writer::default();
        for key in keys {
            put_element(&mut list, shape, key, None);
            if list.0.len() > CHUNK {
                self.elements(kind, 0, set, &std::mem::take(&mut list));
            }
        }
        self.elements(kind, 0, set, &list);
    }

    fn elements(&mut self, kind: u8, flags: u16, set: &str, list: &Writer) {
        if list.0.is_empty() {
            return;
        }
        let mut attrs = Writer::default();
        attrs.str(element::TABLE, &self.table.name).str(element::SET, set);
        attrs.nest(element::ELEMENTS, |out| out.0.extend(&list.0));
        self.message(kind, flags, &attrs, format!("set {set} or an element of it"));
    }
}

/// struct nfgenmsg: the family, version 0, no resource.
pub(super) fn head(family: Family) -> Vec<u8> {
    vec![family_number(family), 0, 0, 0]
}

pub(super) fn family_number(family: Family) -> u8 {
    match family {
        Family::Inet => FAMILY_INET,
        Family::Bridge => FAMILY_BRIDGE,
    }
}

/// In the families inet and bridge these numbers are the same.
pub(super) const HOOKS: [Hook; 5] = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];

fn hook_number(hook: Hook) -> u32 {
    HOOKS.iter().position(|h| *h == hook).unwrap_or_default() as u32
}

pub(super) fn chain_type(kind: ChainType) -> &'static str {
    match kind {
        ChainType::Filter => "filter",
        ChainType::Nat => "nat",
    }
}

/// As an entry of a list; without `element` only its key.
pub(super) fn put_element(list: &mut Writer, shape: &Shape, key: &Key, element: Option<&Element>) {
    let (first, last) = value::concatenated(key);
    let bytes = |bytes: &[u8]| {
        let bytes = bytes.to_vec();
        move |out: &mut Writer| {
            out.bytes(data::VALUE, &bytes);
        }
    };
    list.nest(LIST_ELEMENT, |out| {
        out.nest(element::KEY, bytes(&first));
        if shape.interval && !shape.two_elements() {
            out.nest(element::KEY_END, bytes(&last));
        }
        let Some(element) = element else { return };
        match &element.data {
            None => {}
            Some(Data::Verdict(verdict)) => {
                out.nest(element::DATA, |out| value::put_verdict(out, verdict));
            }
            Some(Data::Parts(parts)) => {
                out.nest(element::DATA, bytes(&value::concatenated(parts).0));
            }
        }
        out.bytes(element::USERDATA, &value::comment(&element.why));
    });
    // A range up to the last value of its type has no end.
    if shape.two_elements()
        && let Some(end) = value::after(&last)
    {
        list.nest(LIST_ELEMENT, |out| {
            out.nest(element::KEY, bytes(&end)).be32(element::FLAGS, element::INTERVAL_END);
        });
    }
}
