//! Others' chains that refuse forwarded packets which none of their rules let through.
//!
//! Only as much of a rule is understood as says which links it names and what becomes of the packet; any other condition
//! is one that the rule's author knows the reason of.

use super::numbers::*;
use super::socket::{Nft, body};
use super::value;
use crate::attr::{Attrs, Writer, text};
use crate::fault::Refused;
use crate::sieve::{Chains, Rule, Then};
use plan::around::{Packets, Pattern, Refusing, Tool};
use plan::ids::IfName;
use plan::nft::{TableName, Verdict};
use std::collections::{BTreeSet, HashMap};

/// The families of tables that see forwarded packets (`NFPROTO_INET`, `NFPROTO_IPV4`, `NFPROTO_IPV6`).
pub(super) const FAMILIES: [(u8, Packets); 3] = [(FAMILY_INET, Packets::Both), (2, Packets::V4), (10, Packets::V6)];
/// `NF_INET_FORWARD`
const FORWARD: u32 = 2;
/// `NFTA_TABLE_FLAGS`, and its bit for a table that is switched off (`NFT_TABLE_F_DORMANT`).
const TABLE_FLAGS: u16 = 2;
const DORMANT: u32 = 1;

impl Nft {
    /// The chains; `links` tells the names of rules that name a link by its index.
    pub fn refusing(&mut self, links: &HashMap<u32, IfName>) -> Result<Vec<Refusing>, Refused> {
        let mut found = Vec::new();
        for (number, family) in FAMILIES {
            let own = TableName::inet();
            let chains = self.list_of(GETCHAIN, number, &Writer::default())?;
            let hooked = chains.iter().map(body).filter(|attrs| enters_forwarded(*attrs));
            for attrs in hooked {
                let (Some(table), Some(chain)) = (attrs.str(chain::TABLE), attrs.str(chain::NAME)) else { continue };
                let ours = number == FAMILY_INET && table == own.name;
                if ours || self.is_dormant(number, table)? {
                    continue;
                }
                let drops = attrs.be32(chain::POLICY) == Some(libc::NF_DROP as u32);
                let chains = self.chains(number, table, links)?;
                if let Some(lets) = chains.sift(chain, drops) {
                    let (table, chain) = (table.to_owned(), chain.to_owned());
                    found.push(Refusing { tool: Tool::Nft, family, table, chain, lets_in: lets.0, lets_out: lets.1 });
                }
            }
        }
        Ok(found)
    }

    pub(super) fn is_dormant(&mut self, family: u8, table: &str) -> Result<bool, Refused> {
        let tables = self.list_of(GETTABLE, family, &Writer::default())?;
        let this = tables.iter().map(body).find(|attrs| attrs.str(table::NAME) == Some(table));
        Ok(this.and_then(|attrs| attrs.be32(TABLE_FLAGS)).unwrap_or_default() & DORMANT != 0)
    }

    fn chains(&mut self, family: u8, table: &str, links: &HashMap<u32, IfName>) -> Result<Chains, Refused> {
        let mut chains = Chains::default();
        for message in self.list_of(GETRULE, family, Writer::default().str(rule::TABLE, table))? {
            let attrs = body(&message);
            let (Some(of), Some(chain)) = (attrs.str(rule::TABLE), attrs.str(rule::CHAIN)) else { continue };
            if of != table {
                continue;
            }
            let mut reader = Reader { nft: self, family, table, links, last: None, rule: Rule::default() };
            for (_, expression) in attrs.nest(rule::EXPRESSIONS).into_iter().flatten() {
                let expression = Attrs(expression);
                let name = expression.str(rule::EXPR_NAME).unwrap_or_default();
                reader.take(name, Attrs(expression.get(rule::EXPR_DATA).unwrap_or_default()))?;
            }
            let rule = reader.rule;
            chains.0.entry(chain.to_owned()).or_default().push(rule);
        }
        Ok(chains)
    }

    /// The names in a set of links.
    pub(super) fn names(&mut self, family: u8, table: &str, set: &str) -> Result<BTreeSet<String>, Refused> {
        let mut attrs = Writer::default();
        attrs.str(element::TABLE, table).str(element::SET, set);
        let messages = self.list_of(GETSETELEM, family, &attrs)?;
        let elements = messages.iter().filter_map(|message| body(message).nest(element::ELEMENTS)).flatten();
        let keys = elements.filter_map(|(_, element)| Attrs(element).nest(element::KEY)?.get(data::VALUE));
        Ok(keys.filter_map(text).map(str::to_owned).collect())
    }
}

/// A chain for filtering that the kernel enters for forwarded packets?
fn enters_forwarded(attrs: Attrs<'_>) -> bool {
    let hook = attrs.nest(chain::HOOK).and_then(|hook| hook.be32(chain::HOOK_NUMBER));
    hook == Some(FORWARD) && attrs.str(chain::TYPE) == Some("filter")
}

/// What the first register holds.
#[derive(Clone, Copy)]
enum Held {
    /// The name of the link that a packet came in from, or goes out of.
    Name(Side),
    /// Its index.
    Index(Side),
}

#[derive(Clone, Copy)]
enum Side {
    In,
    Out,
}

struct Reader<'a> {
    nft: &'a mut Nft,
    family: u8,
    table: &'a str,
    links: &'a HashMap<u32, IfName>,
    last: Option<Held>,
    rule: Rule,
}

impl Reader<'_> {
    fn take(&mut self, name: &str, attrs: Attrs<'_>) -> Result<(), Refused> {
        let held = self.last.take();
        match name {
            "counter" | "log" => {}
            // The text of a rule of iptables.
            "match" if attrs.str(1) == Some("comment") => {}
            "meta" => {
                self.last = match attrs.be32(2).map(|key| key as i32) {
                    Some(libc::NFT_META_IIFNAME) => Some(Held::Name(Side::In)),
                    Some(libc::NFT_META_OIFNAME) => Some(Held::Name(Side::Out)),
                    Some(libc::NFT_META_IIF) => Some(Held::Index(Side::In)),
                    Some(libc::NFT_META_OIF) => Some(Held::Index(Side::Out)),
                    _ => None,
                };
                self.rule.other |= self.last.is_none();
            }
            "cmp" => {
                let not = attrs.be32(2) == Some(libc::NFT_CMP_NEQ as u32);
                let plain = not || attrs.be32(2) == Some(libc::NFT_CMP_EQ as u32);
                let with = attrs.nest(3).and_then(|with| with.get(data::VALUE)).unwrap_or_default();
                match held.filter(|_| plain) {
                    Some(Held::Name(side)) => self.names(side, [named(with, not)]),
                    Some(Held::Index(side)) => {
                        let index = with.try_into().ok().map(u32::from_ne_bytes);
                        let name = index.and_then(|index| self.links.get(&index)).map(ToString::to_string);
                        self.names(side, name.map(|name| Pattern { name, prefix: false, not }));
                    }
                    None => self.rule.other = true,
                }
            }
            "lookup" => {
                let not = attrs.be32(5).unwrap_or_default() & libc::NFT_LOOKUP_F_INV as u32 != 0;
                match (held, attrs.str(1), attrs.get(3)) {
                    (Some(Held::Name(side)), Some(set), None) => {
                        let names = self.nft.names(self.family, self.table, set)?;
                        // Not one of several is each of them excluded, which one pattern cannot say: another condition.
                        self.rule.other |= not;
                        let named = names.into_iter().filter(|_| !not);
                        self.names(side, named.map(|name| Pattern { name, prefix: false, not: false }));
                    }
                    _ => self.rule.other = true,
                }
            }
            "immediate" if attrs.be32(1) == Some(libc::NFT_REG_VERDICT as u32) => {
                self.rule.then = match attrs.nest(2).and_then(value::read_verdict) {
                    Some(Verdict::Accept) => Then::Accept,
                    Some(Verdict::Drop) => Then::Refuse,
                    Some(Verdict::Jump(chain)) => Then::Go(chain),
                    Some(Verdict::Return) | None => Then::goes(attrs).unwrap_or(Then::Nothing),
                };
            }
            "reject" => self.rule.then = Then::Refuse,
            "target" if attrs.str(1) == Some("REJECT") => self.rule.then = Then::Refuse,
            _ => self.rule.other = true,
        }
        Ok(())
    }

    fn names(&mut self, side: Side, patterns: impl IntoIterator<Item = Pattern>) {
        let list = match side {
            Side::In => &mut self.rule.from,
            Side::Out => &mut self.rule.to,
        };
        list.get_or_insert_default().extend(patterns);
    }
}

/// A comparison with fewer bytes than a name has, and no zero among them, is for the beginning of names.
pub(super) fn named(bytes: &[u8], not: bool) -> Pattern {
    let prefix = !bytes.contains(&0);
    Pattern { name: text(bytes).unwrap_or_default().to_owned(), prefix, not }
}

impl Then {
    /// `goto`, which `read_verdict` does not know, for berth has none.
    fn goes(attrs: Attrs<'_>) -> Option<Then> {
        let verdict = attrs.nest(2)?.nest(data::VERDICT)?;
        let goto = verdict.be32(data::CODE)? as i32 == libc::NFT_GOTO;
        goto.then(|| verdict.str(data::CHAIN).map(|chain| Then::Go(chain.to_owned())))?
    }
}

impl Nft {
    pub(super) fn list_of(
        &mut self,
        kind: u8,
        family: u8,
        attrs: &Writer,
    ) -> Result<Vec<crate::socket::Message>, Refused> {
        let mut request = vec![family, 0, 0, 0];
        request.extend(&attrs.0);
        let mut messages = match self.socket.dump(SUBSYSTEM | u16::from(kind), &request) {
            // It went away while it was being read.
            Err(refused) if refused.errno == libc::ENOENT => Vec::new(),
            messages => messages?,
        };
        messages.retain(|message| message.body.first() == Some(&family));
        Ok(messages)
    }
}
