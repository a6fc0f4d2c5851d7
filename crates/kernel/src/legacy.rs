//! The older firewall of `iptables-legacy`, read as its own command does (linux/netfilter_ipv4/ip_tables.h,
//! linux/netfilter_ipv6/ip6_tables.h). It sends no notices, and only that command can change it.

use crate::attr::text;
use crate::sieve::{Chains, Rule, Then};
use plan::around::{Packets, Pattern, Refusing, Tool};
use plan::explain::strangers::{Condition, Side, Stranger, StrangersRule};
use plan::nft::Hook;
use rustix::net::{AddressFamily, SocketType, socket};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`; those of IPv6 have the same numbers.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
/// The length of a table's name (`XT_TABLE_MAXNAMELEN`).
const NAME: usize = 32;
/// struct ipt_getinfo: a name, the valid hooks, five entries, five underflows, a count and a size.
const INFO: usize = NAME + 4 + 20 + 20 + 4 + 4;
/// struct ipt_get_entries before its entries, which are aligned to eight bytes.
const ENTRIES_HEAD: usize = NAME + 8;
/// `NF_INET_FORWARD`
const FORWARD: usize = 2;
/// What a verdict of the standard target stands for (`-NF_ACCEPT - 1`, `-NF_DROP - 1`); from 0 on it is a place to jump to.
const ACCEPT: i32 = -2;
const DROP: i32 = -1;
/// `IPT_INV_VIA_IN`, `IPT_INV_VIA_OUT`
const NOT_IN: u8 = 1;
const NOT_OUT: u8 = 2;

/// Where things are in an entry (struct ipt_entry, struct ip6t_entry).
struct Layout {
    family: AddressFamily,
    level: libc::c_int,
    packets: Packets,
    /// The names of the tables that there are; a table that nobody used is not made by asking for it.
    names: &'static str,
    /// Where the two links' names begin, the masks behind them.
    links: usize,
    /// The protocol's number, two bytes.
    proto: usize,
    flags: usize,
    inverted: usize,
    /// The offsets of the target and of the next entry, two bytes each.
    offsets: usize,
    /// The matches.
    head: usize,
}

const LAYOUTS: [Layout; 2] = [
    Layout {
        family: AddressFamily::INET,
        level: libc::SOL_IP,
        packets: Packets::V4,
        names: "/proc/self/net/ip_tables_names",
        links: 16,
        proto: 80,
        flags: 82,
        inverted: 83,
        offsets: 88,
        head: 112,
    },
    Layout {
        family: AddressFamily::INET6,
        level: libc::SOL_IPV6,
        packets: Packets::V6,
        names: "/proc/self/net/ip6_tables_names",
        links: 64,
        proto: 128,
        flags: 131,
        inverted: 132,
        offsets: 140,
        head: 168,
    },
];

/// The chains FORWARD that refuse what they do not know, in the calling thread's namespace.
///
/// # Errors
/// What the kernel answered.
pub(crate) fn refusing() -> io::Result<Vec<Refusing>> {
    let mut found = Vec::new();
    for layout in &LAYOUTS {
        // Without the file the kernel has none of this.
        let names = std::fs::read_to_string(layout.names).unwrap_or_default();
        if names.lines().any(|name| name == "filter") {
            found.extend(layout.forward()?);
        }
    }
    Ok(found)
}

/// The chains FORWARD with all that can be read of them.
///
/// # Errors
/// As [`refusing`].
pub(crate) fn strangers() -> io::Result<Vec<Stranger>> {
    let mut found = Vec::new();
    for layout in &LAYOUTS {
        let names = std::fs::read_to_string(layout.names).unwrap_or_default();
        if names.lines().any(|name| name == "filter") {
            let (chains, drops) = layout.read()?;
            let chains = chains.0.into_iter().map(|(name, rules)| (name, rules.into_iter().map(stranger).collect()));
            found.push(Stranger {
                tool: Tool::Legacy,
                family: layout.packets,
                table: "filter".into(),
                chain: "FORWARD".into(),
                hook: Hook::Forward,
                // `NF_IP_PRI_FILTER`
                priority: 0,
                nat: false,
                drops,
                chains: chains.collect(),
            });
        }
    }
    Ok(found)
}

fn stranger(rule: Rule) -> StrangersRule {
    let sides = [(Side::From, rule.from), (Side::To, rule.to)];
    let links = sides.into_iter().filter_map(|(side, links)| Some(Condition::Link(side, links?)));
    let other = rule.other.then(|| Condition::Unknown("a condition of iptables-legacy".into()));
    let then = match rule.then {
        Then::Nothing => plan::explain::strangers::Then::Nothing,
        Then::Accept => plan::explain::strangers::Then::Accept,
        Then::Refuse => plan::explain::strangers::Then::Drop,
        Then::Go(chain) => plan::explain::strangers::Then::Jump(chain),
    };
    StrangersRule { conditions: links.chain(other).collect(), then }
}

impl Layout {
    fn forward(&self) -> io::Result<Option<Refusing>> {
        let (chains, drops) = self.read()?;
        let lets = chains.sift("FORWARD", drops);
        Ok(lets.map(|(lets_in, lets_out)| Refusing {
            tool: Tool::Legacy,
            family: self.packets,
            table: "filter".into(),
            chain: "FORWARD".into(),
            lets_in,
            lets_out,
        }))
    }

    /// The chain FORWARD and those that it leads to, and whether it drops what it does not know.
    fn read(&self) -> io::Result<(Chains, bool)> {
        let socket = socket(self.family, SocketType::DGRAM, None)?;
        let mut info = named(INFO);
        ask(socket.as_fd(), self.level, GET_INFO, &mut info)?;
        let hooks = NAME + 4;
        let start = word(&info, hooks + FORWARD * 4).unwrap_or_default() as usize;
        let policy = word(&info, hooks + 20 + FORWARD * 4).unwrap_or_default() as usize;
        let size = word(&info, INFO - 4).unwrap_or_default();
        let mut all = named(ENTRIES_HEAD + size as usize);
        all[NAME..NAME + 4].copy_from_slice(&size.to_ne_bytes());
        ask(socket.as_fd(), self.level, GET_ENTRIES, &mut all)?;
        let entries = &all[ENTRIES_HEAD..];
        let drops = self.entry(entries, policy).is_some_and(|(rule, _)| rule.then == Then::Refuse);
        Ok((self.chains(entries, start, policy), drops))
    }

    /// The chain that begins at `start` and ends before its policy, and the chains that it leads to, named by their place.
    fn chains(&self, entries: &[u8], start: usize, policy: usize) -> Chains {
        let mut chains = Chains::default();
        let mut waiting = vec![("FORWARD".to_owned(), start, policy)];
        while let Some((name, mut at, end)) = waiting.pop() {
            if chains.0.contains_key(&name) {
                continue;
            }
            let mut rules = Vec::new();
            while at < end
                && let Some((rule, next)) = self.entry(entries, at)
            {
                if let Then::Go(place) = &rule.then
                    && let Ok(place_at) = place.parse()
                {
                    // A chain of the user's ends where the next one's head stands, which no packet gets to.
                    waiting.push((place.clone(), place_at, entries.len()));
                }
                let ends = rule.then == Then::Nothing && rule.other && self.is_head(entries, at);
                if ends || next == at {
                    break;
                }
                rules.push(rule);
                at = next;
            }
            chains.0.insert(name, rules);
        }
        chains
    }

    fn entry(&self, entries: &[u8], at: usize) -> Option<(Rule, usize)> {
        let entry = entries.get(at..)?;
        let (target, next) = (half(entry, self.offsets)?, half(entry, self.offsets + 2)?);
        let inverted = *entry.get(self.inverted)?;
        let link = |nth: usize, not: u8| -> Option<Option<Vec<Pattern>>> {
            let name = entry.get(self.links + nth * 16..)?.get(..16)?;
            let mask = entry.get(self.links + (nth + 2) * 16..)?.get(..16)?;
            Some(pattern(name, mask, inverted & not != 0).map(|pattern| vec![pattern]))
        };
        let addresses = entry.get(..self.links)?;
        let masks = &addresses[self.links / 2..];
        let other = masks.iter().any(|byte| *byte != 0)
            || half(entry, self.proto)? != 0
            || entry.get(self.flags)? & FRAGMENTS != 0
            || inverted & !(NOT_IN | NOT_OUT) != 0
            || entry.get(self.head..target)?.len() > comments(entry.get(self.head..target)?);
        let name = text(entry.get(target + 2..target + 31)?).unwrap_or_default();
        let verdict = || word(entry, target + 32).map(|verdict| verdict as i32);
        let (then, other) = match name {
            "" => match verdict()? {
                ACCEPT => (Then::Accept, other),
                DROP => (Then::Refuse, other),
                place if place >= 0 && place as usize != at + next => (Then::Go(place.to_string()), other),
                _ => (Then::Nothing, other),
            },
            "REJECT" => (Then::Refuse, other),
            _ => (Then::Nothing, true),
        };
        Some((Rule { from: link(0, NOT_IN)?, to: link(1, NOT_OUT)?, other, then }, at + next))
    }

    /// The entry that stands before a chain of the user's, or at the end of all.
    fn is_head(&self, entries: &[u8], at: usize) -> bool {
        let target = entries.get(at..).and_then(|entry| Some((entry, half(entry, self.offsets)?)));
        let name = target.and_then(|(entry, target)| text(entry.get(target + 2..target + 31)?));
        name == Some("ERROR")
    }
}

/// `IPT_F_FRAG`; for IPv6 the bit says that a protocol is given, which is seen by its number too.
const FRAGMENTS: u8 = 1;

/// How many of these bytes are comments, which are no condition.
fn comments(matches: &[u8]) -> usize {
    let mut at = 0;
    while let Some(one) = matches.get(at..).filter(|rest| !rest.is_empty()) {
        let name = one.get(2..31).and_then(text).unwrap_or_default();
        match half(one, 0) {
            Some(size) if size > 0 && name == "comment" => at += size,
            _ => break,
        }
    }
    at
}

fn pattern(name: &[u8], mask: &[u8], not: bool) -> Option<Pattern> {
    let compared = mask.iter().take_while(|byte| **byte != 0).count();
    let name = &name[..compared];
    let prefix = !name.contains(&0);
    (compared > 0).then(|| Pattern { name: text(name).unwrap_or_default().to_owned(), prefix, not })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?).into())
}

/// A question about the table `filter`, with room for the answer.
fn named(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bytes[..6].copy_from_slice(b"filter");
    bytes
}

fn ask(socket: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
    let mut len = buffer.len() as libc::socklen_t;
    // Needs `unsafe`: no library has these options.
    // SAFETY: the buffer and its length are live, the length is the buffer's, and the kernel writes no more than that.
    let done = unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, buffer.as_mut_ptr().cast(), &raw mut len) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
