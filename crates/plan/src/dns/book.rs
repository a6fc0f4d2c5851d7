//! Who knows which name, and what of it may be asked elsewhere.
//!
//! An asker's names come from directories in a fixed order, and the first that knows a name answers for it, alone: what
//! `--add-host` says, what its links are called, what the container itself is called, and then each network that it is on. On
//! the default bridge there is nothing of other containers. A link on another network is one more name for what is called
//! otherwise there, and nothing else: where nobody is called so just then, the name is nobody's.

use super::wire::{IN, Name, Query, kind};
use crate::ids::{ContainerId, EndpointId, NetworkId};
use ipnet::IpNet;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// For how long the name of a container that is gone is still not asked of others, in seconds: clients that knew it ask on.
pub const REMEMBERED: u64 = 3600;
/// How many such names are remembered.
const REMEMBERED_MOST: usize = 4096;

type Bytes = Box<[u8]>;

fn bytes(name: &str) -> Option<Bytes> {
    Name::parse(name).map(|name| name.as_bytes().into()).filter(|name: &Bytes| !name.is_empty())
}

/// Names and addresses from one source, each with whom it came.
#[derive(Clone, Debug)]
pub struct Directory<K> {
    by_name: HashMap<Bytes, Vec<(K, IpAddr)>>,
    by_addr: HashMap<IpAddr, Vec<(K, Bytes)>>,
    /// Who added which names and addresses.
    added: HashMap<K, (Vec<Bytes>, Vec<IpAddr>)>,
    /// These names are also others' (`--add-host`): records that nobody here has may be asked elsewhere.
    borrowed: bool,
}

impl<K> Default for Directory<K> {
    fn default() -> Self {
        Directory { by_name: HashMap::new(), by_addr: HashMap::new(), added: HashMap::new(), borrowed: false }
    }
}

impl<K: Clone + Eq + Hash> Directory<K> {
    /// One whose names are also others'.
    pub fn borrowed() -> Self {
        Directory { borrowed: true, ..Directory::default() }
    }

    /// Adds names that all stand for the same addresses, the first of them being what the addresses are called. What cannot be
    /// a name of the DNS is passed over. Whatever `who` added before goes.
    pub fn add<'a>(&mut self, who: &K, names: impl IntoIterator<Item = &'a str>, addrs: &[IpAddr]) {
        self.remove(who);
        let mut known: Vec<Bytes> = Vec::new();
        for name in names.into_iter().filter_map(bytes) {
            if !known.contains(&name) {
                known.push(name);
            }
        }
        for name in &known {
            let list = self.by_name.entry(name.clone()).or_default();
            list.extend(addrs.iter().map(|addr| (who.clone(), *addr)));
        }
        if let Some(first) = known.first() {
            for addr in addrs {
                self.by_addr.entry(*addr).or_default().push((who.clone(), first.clone()));
            }
        }
        self.added.insert(who.clone(), (known, addrs.to_vec()));
    }

    /// Removes what came with `who`.
    pub fn remove(&mut self, who: &K) {
        fn take_out<K: Eq, T, Q: Eq + Hash>(map: &mut HashMap<Q, Vec<(K, T)>>, key: Q, who: &K) {
            if let Entry::Occupied(mut list) = map.entry(key) {
                list.get_mut().retain(|(of, _)| of != who);
                if list.get().is_empty() {
                    list.remove();
                }
            }
        }
        let Some((names, addrs)) = self.added.remove(who) else { return };
        for name in names {
            take_out(&mut self.by_name, name, who);
        }
        for addr in addrs {
            take_out(&mut self.by_addr, addr, who);
        }
    }

    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty()
    }
}

/// What directories are asked, whoever filled them.
trait Source {
    fn addrs(&self, name: &[u8], each: &mut dyn FnMut(IpAddr)) -> bool;
    fn name(&self, addr: &IpAddr) -> Option<&[u8]>;
    fn is_borrowed(&self) -> bool;
}

impl<K> Source for Directory<K> {
    fn addrs(&self, name: &[u8], each: &mut dyn FnMut(IpAddr)) -> bool {
        let Some(list) = self.by_name.get(name) else { return false };
        list.iter().for_each(|(_, addr)| each(*addr));
        true
    }

    fn name(&self, addr: &IpAddr) -> Option<&[u8]> {
        self.by_addr.get(addr)?.first().map(|(_, name)| name.as_ref())
    }

    fn is_borrowed(&self) -> bool {
        self.borrowed
    }
}

/// Other names for members of networks, for one asker alone (`--link TARGET:ALIAS` on a network of the user's).
#[derive(Clone, Debug, Default)]
pub struct Aliases(HashMap<Bytes, Vec<(NetworkId, Bytes)>>);

impl Aliases {
    /// Whoever is called `target` on this network is called `alias` too. Of several with the same alias on one network only the
    /// first counts; of those on several the first that is there is meant. What cannot be a name of the DNS is passed over.
    pub fn add(&mut self, alias: &str, network: &NetworkId, target: &str) {
        let Some((alias, target)) = bytes(alias).zip(bytes(target)) else { return };
        let targets = self.0.entry(alias).or_default();
        if targets.iter().all(|(other, _)| other != network) {
            targets.push((network.clone(), target));
        }
    }

    /// Who is meant, in the directory of a network and by that one's name for it, if anybody is called so just now; `None` if
    /// this is no alias.
    fn meant<'a>(&'a self, networks: &'a Members, name: &[u8]) -> Option<Option<(&'a dyn Source, &'a [u8])>> {
        let known = |(network, target): &'a (NetworkId, Bytes)| {
            let directory = networks.get(network)?;
            directory.by_name.contains_key(target).then_some((directory as &dyn Source, &target[..]))
        };
        Some(self.0.get(name)?.iter().find_map(known))
    }
}

/// What one asker knows beyond what everybody does, in order of precedence.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    /// What `--add-host` says.
    pub hosts: Directory<usize>,
    /// What links on the default network say.
    pub links: Directory<usize>,
    /// What links on other networks say.
    pub aliases: Aliases,
    /// What it is called itself.
    pub itself: Directory<usize>,
    /// The networks whose members it may know by name, in order of precedence.
    pub networks: Vec<NetworkId>,
    /// Its networks' addresses: what they are called is nobody else's business.
    pub subnets: Vec<IpNet>,
    /// The user asked for `ndots` of 1 or more, which is to say that a single label is never a whole name.
    pub wants_dots: bool,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// These addresses.
    Addrs(Vec<IpAddr>),
    /// This name, as [`Name::as_bytes`] has it.
    Called(&'a [u8]),
    /// The name is known, and has no such record.
    Nothing,
    /// There is no such name.
    NoSuchName,
    /// Others are to be asked.
    Forward,
}

/// The members of networks with names.
type Members = HashMap<NetworkId, Directory<EndpointId>>;

/// Who knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By<'a> {
    /// `--add-host`.
    AddedHost,
    /// A link.
    Link,
    /// The asker's own name.
    Itself,
    /// A member of this network.
    Member(&'a NetworkId),
    /// Nobody: a name or an address that is nobody else's business.
    Rule,
}

/// All that is known of names.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// The members of networks with names.
    pub networks: Members,
    /// What containers are called, whether they run or not.
    pub containers: Called,
}

const LOCALHOST: &[u8] = b"\x09localhost";

impl Book {
    /// What `asker` is answered, and by whom unless others are to be asked. `turn` is a number that changes from question to
    /// question, and with it the order of addresses; `now` is in seconds.
    pub fn answer<'a>(&'a self, asker: &'a Asker, query: &Query, turn: usize, now: u64) -> (Verdict<'a>, By<'a>) {
        if query.class != IN {
            return (Verdict::Forward, By::Rule);
        }
        let networks = asker.networks.iter().filter_map(|id| Some((id, self.networks.get(id)?)));
        let networks = networks.map(|(id, directory)| (By::Member(id), directory as &dyn Source));
        let told: [(By, &dyn Source); 2] = [(By::AddedHost, &asker.hosts), (By::Link, &asker.links)];
        let itself: (By, &dyn Source) = (By::Itself, &asker.itself);
        if query.kind == kind::PTR
            && let Some(addr) = query.name.reversed_address()
        {
            // All members of a network call an address the same.
            return called(asker, networks.chain(told).chain([itself]), addr);
        }
        let name = query.name.as_bytes();
        let meant = asker.aliases.meant(&self.networks, name);
        // An alias stands for its target, there or not, and for nobody else who is called so.
        let others = std::iter::once(itself).chain(networks).filter(|_| meant.is_none());
        let others = others.map(|(by, source)| (by, source, name));
        let told = told.map(|(by, source)| (by, source, name));
        let linked = meant.flatten().map(|(source, target)| (By::Link, source, target));
        for (by, source, name) in told.into_iter().chain(linked).chain(others) {
            let mut addrs = Vec::new();
            let fits = |addr: &IpAddr| query.kind == if addr.is_ipv4() { kind::A } else { kind::AAAA };
            if !source.addrs(name, &mut |addr| {
                if fits(&addr) && !addrs.contains(&addr) {
                    addrs.push(addr);
                }
            }) {
                continue;
            }
            if !addrs.is_empty() {
                let first = turn % addrs.len();
                addrs.rotate_left(first);
                return (Verdict::Addrs(addrs), by);
            }
            // These could say something else of where the name is.
            let decided = matches!(query.kind, kind::A | kind::AAAA | kind::MX | kind::SVCB | kind::HTTPS | kind::ANY);
            let elsewhere = source.is_borrowed() && !query.name.is_single() && !decided;
            return (if elsewhere { Verdict::Forward } else { Verdict::Nothing }, by);
        }
        if meant.is_some() {
            return (Verdict::NoSuchName, By::Link);
        }
        // RFC 6761 §6.3: of everybody's own.
        if query.name.labels().last() == Some(&LOCALHOST[1..]) {
            let verdict = match query.kind {
                kind::A => Verdict::Addrs(vec![Ipv4Addr::LOCALHOST.into()]),
                kind::AAAA => Verdict::Addrs(vec![Ipv6Addr::LOCALHOST.into()]),
                _ => Verdict::Nothing,
            };
            return (verdict, By::Rule);
        }
        let addresses = matches!(query.kind, kind::A | kind::AAAA);
        if query.name.is_single() && (self.containers.knows(name, now) || asker.wants_dots && addresses) {
            return (Verdict::NoSuchName, By::Rule);
        }
        (Verdict::Forward, By::Rule)
    }
}

/// What an address is called.
fn called<'a>(
    asker: &Asker,
    mut sources: impl Iterator<Item = (By<'a>, &'a dyn Source)>,
    addr: IpAddr,
) -> (Verdict<'a>, By<'a>) {
    if addr.is_loopback() {
        return (Verdict::Called(LOCALHOST), By::Rule);
    }
    match sources.find_map(|(by, source)| Some((source.name(&addr)?, by))) {
        Some((name, by)) => (Verdict::Called(name), by),
        None if asker.subnets.iter().any(|net| net.contains(&addr)) => (Verdict::NoSuchName, By::Rule),
        None => (Verdict::Forward, By::Rule),
    }
}

/// What containers are and were lately called: names that no other server is asked for as long as they are single labels.
#[derive(Clone, Debug, Default)]
pub struct Called {
    names: HashMap<ContainerId, Vec<Bytes>>,
    /// How many containers are called so.
    count: HashMap<Bytes, usize>,
    /// When the last that was called so went, in seconds.
    went: HashMap<Bytes, u64>,
}

impl Called {
    /// A container is called this from now on, and no longer what it was called before.
    pub fn set<'a>(&mut self, id: &ContainerId, names: impl IntoIterator<Item = &'a str>, now: u64) {
        self.remove(id, now);
        let single = |name: &Bytes| usize::from(name[0]) + 1 == name.len();
        let names: Vec<Bytes> = names.into_iter().filter_map(bytes).filter(single).collect();
        for name in &names {
            self.went.remove(name);
            *self.count.entry(name.clone()).or_default() += 1;
        }
        self.names.insert(id.clone(), names);
    }

    /// A container is no more.
    pub fn remove(&mut self, id: &ContainerId, now: u64) {
        for name in self.names.remove(id).unwrap_or_default() {
            if let Entry::Occupied(mut count) = self.count.entry(name.clone()) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                    self.went.insert(name, now);
                }
            }
        }
        if self.went.len() > REMEMBERED_MOST {
            self.went.retain(|_, went| now.saturating_sub(*went) < REMEMBERED);
        }
        // So many in so little time: rather forget than grow.
        if self.went.len() > REMEMBERED_MOST {
            self.went.clear();
        }
    }

    fn knows(&self, name: &[u8], now: u64) -> bool {
        self.count.contains_key(name) || self.went.get(name).is_some_and(|went| now.saturating_sub(*went) < REMEMBERED)
    }
}
