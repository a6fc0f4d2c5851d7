//! What must hold of the resolver's pure half, whatever bytes come. The fuzz targets feed it, and so does a test of `plan` with
//! the corpus that they found.

use plan::dns::book::{Aliases, Asker, Book, Directory, Verdict};
use plan::dns::cache::Cache;
use plan::dns::wire::{self, Age, HEADER, IN, Query, Rcode, Records, Seen, TCP_LIMIT, Unfit, kind};
use plan::ids::NetworkId;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// A container that is on two networks, has hosts added, and finds more addresses by one name than a datagram holds.
fn shop() -> &'static (Book, Asker) {
    static SHOP: OnceLock<(Book, Asker)> = OnceLock::new();
    SHOP.get_or_init(|| {
        let mut book = Book::default();
        for (digit, names) in [('a', ["db", "d"]), ('b', ["web", "w"]), ('c', ["shop", "barker"])] {
            book.containers.set(&id(digit).parse().unwrap(), names, 0);
        }
        let networks: [NetworkId; 2] = [id('1').parse().unwrap(), id('2').parse().unwrap()];
        let app = book.networks.entry(networks[0].clone()).or_default();
        app.add(
            &id('d').parse().unwrap(),
            ["db.app", "db", "d"],
            &["10.1.0.2".parse().unwrap(), "fd01::2".parse().unwrap()],
        );
        app.add(&id('e').parse().unwrap(), ["t.app", "t", "d"], &["10.1.0.3".parse().unwrap()]);
        let many: Vec<IpAddr> = (0..500u32).map(|n| Ipv4Addr::from(0x0a02_0000 + n).into()).collect();
        book.networks.entry(networks[1].clone()).or_default().add(&id('f').parse().unwrap(), ["m.back", "m"], &many);
        let mut hosts = Directory::borrowed();
        hosts.add(&0, ["h"], &["10.10.10.255".parse().unwrap()]);
        hosts.add(&1, ["h.x"], &[Ipv6Addr::LOCALHOST.into()]);
        let mut itself = Directory::default();
        itself.add(&0, ["barker.example", "barker", "shop", "h"], &["172.17.0.3".parse().unwrap()]);
        let mut aliases = Aliases::default();
        aliases.add("l", &networks[0], "d");
        let asker = Asker {
            hosts,
            aliases,
            itself,
            links: Directory::default(),
            networks: networks.into(),
            subnets: vec!["172.17.0.0/16".parse().unwrap(), "fd01::/64".parse().unwrap()],
            wants_dots: false,
        };
        (book, asker)
    })
}

/// A datagram from a container.
pub fn question(packet: &[u8]) {
    let mut out = Vec::new();
    let query = match wire::query(packet) {
        Ok(query) => query,
        Err(Unfit::Silence) => return,
        Err(Unfit::Rcode(rcode)) => {
            wire::refuse(packet, rcode, &mut out);
            assert!(out.len() == HEADER && out[..2] == packet[..2] && out[2] & 0x80 != 0 && out[3] & 15 == rcode.0);
            return;
        }
    };
    let (book, asker) = shop();
    let dotted = Asker { wants_dots: true, ..Asker::default() };
    for (asker, turn, now) in [(asker, usize::MAX, 0), (&dotted, 1, u64::MAX)] {
        let (verdict, _) = book.answer(asker, &query, turn, now);
        for limit in [query.datagram_limit(), TCP_LIMIT] {
            own_answer(&query, packet, &verdict, limit, &mut out);
        }
        if verdict == Verdict::Forward && query.class == IN && matches!(query.kind, kind::A | kind::AAAA) {
            let label = query.name.labels().last();
            assert_ne!(label, Some(&b"localhost"[..]), "a name of one's own is asked of others");
        }
    }
    let spelt = query.spelt(packet);
    wire::failure(&query, spelt, &mut out);
    assert_eq!(look(&out, &query).rcode, Rcode::SERVER_FAILURE);
    wire::other_version(&query, packet, &mut out);
    look(&out, &query);
    // Whom it is passed on to reads the same, and nothing that was only for us.
    wire::ask(&query, spelt, 5, &mut out);
    let passed_on = wire::query(&out).expect("what is asked of others can be read");
    assert_eq!((passed_on.name, passed_on.kind, passed_on.class), (query.name, query.kind, query.class));
    assert_eq!(passed_on.key().as_ref(), query.key().as_ref());
    assert!(out.len() <= HEADER + spelt.len() + 11);
}

fn look(packet: &[u8], query: &Query) -> Seen {
    wire::look(packet, query).expect("what we write can be read")
}

fn own_answer(query: &Query, packet: &[u8], verdict: &Verdict, limit: usize, out: &mut Vec<u8>) {
    let (rcode, records) = match verdict {
        Verdict::Addrs(addrs) => {
            assert!(
                !addrs.is_empty()
                    && addrs.iter().all(|addr| query.kind == if addr.is_ipv4() { kind::A } else { kind::AAAA })
            );
            (Rcode::NO_ERROR, Records::Addrs(addrs))
        }
        Verdict::Called(name) => (Rcode::NO_ERROR, Records::Name(name)),
        Verdict::Nothing | Verdict::Forward => (Rcode::NO_ERROR, Records::None),
        Verdict::NoSuchName => (Rcode::NO_SUCH_NAME, Records::None),
    };
    wire::answer(query, packet, rcode, records, 1, limit, out);
    assert!(out.len() <= limit, "{} bytes where {limit} may be", out.len());
    assert_eq!(out[..2], packet[..2]);
    let seen = look(out, query);
    assert_eq!((seen.rcode, seen.has_answers || seen.truncated), (rcode, records != Records::None));
}

/// What a server may say to a question: two bytes of a length, a question as long, and what comes back. Where the length is
/// odd the answer repeats the question by itself, else it would be tried for long in vain.
pub fn answer(bytes: &[u8]) {
    let Some((len, rest)) = bytes.split_first_chunk::<2>() else { return };
    let len = u16::from_be_bytes(*len);
    let Some((asked, said)) = rest.split_at_checked(usize::from(len)) else { return };
    let Ok(query) = wire::query(asked) else { return };
    let spelt = query.spelt(asked);
    let repeated =
        said.split_at_checked(HEADER).filter(|_| len % 2 == 1).map(|(head, tail)| [head, spelt, tail].concat());
    let said = repeated.as_deref().unwrap_or(said);
    let Some(seen) = wire::look(said, &query) else { return };
    assert!(seen.ttls.iter().all(|at| usize::from(*at) + 4 <= said.len() && usize::from(*at) >= HEADER + spelt.len()));
    assert!(seen.lifetime.is_none_or(|seconds| (1..=86_400).contains(&seconds) && !seen.truncated));
    let mut out = Vec::new();
    for limit in [query.datagram_limit(), TCP_LIMIT] {
        for age in [Age::Seconds(0), Age::Seconds(u32::MAX), Age::Stale(30)] {
            relayed(&query, spelt, said, &seen.ttls, age, limit, &mut out);
        }
    }
    let mut cache = Cache::new(1 << 16);
    let key = query.key();
    cache.put(key.as_ref(), said, &seen.ttls, seen.lifetime.unwrap_or(1), 7);
    if let Some((kept, ttls, age)) = cache.get(key.as_ref(), 7) {
        assert_eq!(kept, said);
        relayed(&query, spelt, kept, ttls, age, query.datagram_limit(), &mut out);
    }
    if let Some((kept, ttls, age)) = cache.get_stale(key.as_ref(), 50_000) {
        relayed(&query, spelt, kept, ttls, age, TCP_LIMIT, &mut out);
    }
}

fn relayed(query: &Query, spelt: &[u8], said: &[u8], ttls: &[u16], age: Age, limit: usize, out: &mut Vec<u8>) {
    wire::relay(query, spelt, said, ttls, age, limit, out);
    assert!(out.len() <= limit, "{} bytes where {limit} may be", out.len());
    assert_eq!(out[..2], query.id.to_be_bytes());
    assert!(out[2] & 0x80 != 0 && out[HEADER..HEADER + spelt.len()] == *spelt);
    let seen = look(out, query);
    assert_eq!(u16::from(seen.rcode.0), u16::from(said[3] & 15));
}
