//! The DNS: messages in and messages out, who is answered what, and bytes of every sort.

use plan::dns::book::{Asker, Book, Directory, REMEMBERED, Verdict};
use plan::dns::wire::{self, Age, Name, Query, Rcode, Records, Unfit, kind};
use plan::ids::{ContainerId, EndpointId, NetworkId};
use proptest::prelude::*;
use std::net::IpAddr;

fn labels(name: &str) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).chain([0]).collect()
}

/// A message with this number, these flags and counts, and a body.
fn message(id: u16, flags: u16, counts: [u16; 4], body: &[&[u8]]) -> Vec<u8> {
    let head = [id, flags].into_iter().chain(counts).flat_map(u16::to_be_bytes);
    head.chain(body.concat()).collect()
}

fn question(name: &str, kind: u16) -> Vec<u8> {
    [labels(name), kind.to_be_bytes().to_vec(), vec![0, 1]].concat()
}

fn ask(name: &str, kind: u16) -> Vec<u8> {
    message(7, 0x0100, [1, 0, 0, 0], &[&question(name, kind)])
}

fn edns(size: u16, version: u8, flags: u16) -> Vec<u8> {
    [&[0, 0, 41][..], &size.to_be_bytes(), &[0, version], &flags.to_be_bytes(), &[0, 0]].concat()
}

fn record(name: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let len = data.len() as u16;
    [name, &kind.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &len.to_be_bytes(), data].concat()
}

const POINTER: &[u8] = &[0xc0, 12];

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn questions_are_read() {
    let packet = ask("Docker.COM", kind::A);
    let query = wire::query(&packet).unwrap();
    assert_eq!((query.id, query.name, query.kind, query.class, query.edns), (7, name("docker.com"), 1, 1, None));
    assert_eq!(query.spelt(&packet), &packet[12..]);
    assert_eq!(query.datagram_limit(), 512);
    let with = |edns: Vec<u8>| message(7, 0x0100, [1, 0, 0, 1], &[&question("a", kind::AAAA), &edns]);
    let query = wire::query(&with(edns(4096, 0, 0x8000))).unwrap();
    let edns_of = query.edns.unwrap();
    assert_eq!((edns_of.size, edns_of.version, edns_of.dnssec_ok, query.datagram_limit()), (4096, 0, true, 4096));
    assert_eq!(wire::query(&with(edns(0, 1, 0))).unwrap().edns.unwrap().version, 1);
    assert_eq!(wire::query(&with(edns(0, 1, 0))).unwrap().datagram_limit(), 512);
    // The root has a name too.
    assert_eq!(wire::query(&ask("", 2)).unwrap().name.as_bytes(), b"");
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

#[test]
fn what_is_no_question_is_told_or_passed_over() {
    let format = Unfit::Rcode(Rcode::FORMAT);
    let good = question("a.example", 1);
    for (packet, want) in [
        (vec![], Unfit::Silence),
        (vec![0; 11], Unfit::Silence),
        (message(7, 0x8100, [1, 0, 0, 0], &[&good]), Unfit::Silence),
        (message(7, 0x2800, [1, 0, 0, 0], &[&good]), Unfit::Rcode(Rcode::NOT_IMPLEMENTED)),
        (message(7, 0, [0; 4], &[]), format),
        (message(7, 0, [2, 0, 0, 0], &[&good, &good]), format),
        (message(7, 0, [1, 0, 0, 0], &[&good[..8]]), format),
        (message(7, 0, [1, 0, 0, 0], &[POINTER, &[0, 1, 0, 1]]), format),
        (message(7, 0, [1, 0, 0, 0], &[&[0x40], &good]), format),
        (message(7, 0, [1, 0, 0, 0], &[&question(&vec!["x".repeat(63); 4].join("."), 1)]), format),
        (message(7, 0, [1, 0, 0, 1], &[&good]), format),
        (message(7, 0, [1, 0, 0, 1], &[&good, &edns(512, 0, 0)[..9]]), format),
        (message(7, 0, [1, 0, 0, 2], &[&good, &edns(512, 0, 0), &edns(512, 0, 0)]), format),
    ] {
        assert_eq!(wire::query(&packet), Err(want), "{packet:?}");
    }
    let mut out = Vec::new();
    wire::refuse(&message(7, 0x2900, [1, 0, 0, 0], &[]), Rcode::NOT_IMPLEMENTED, &mut out);
    assert_eq!(out, message(7, 0xa904, [0; 4], &[]));
}

/// The answer to `packet`, limited as a datagram.
fn answer(packet: &[u8], rcode: Rcode, records: Records) -> Vec<u8> {
    let query = wire::query(packet).unwrap();
    let mut out = vec![1, 2, 3];
    wire::answer(&query, packet, rcode, records, 1, query.datagram_limit(), &mut out);
    out
}

#[test]
fn answers_of_our_own() {
    let packet = ask("BARKER", kind::A);
    let asked = question("BARKER", kind::A);
    let one = record(POINTER, kind::A, 1, &[172, 17, 0, 2]);
    let two = record(POINTER, kind::A, 1, &[172, 17, 0, 3]);
    assert_eq!(
        answer(&packet, Rcode::NO_ERROR, Records::Addrs(&[addr("172.17.0.2"), addr("172.17.0.3")])),
        message(7, 0x8180, [1, 2, 0, 0], &[&asked, &one, &two])
    );
    assert_eq!(answer(&packet, Rcode::NO_SUCH_NAME, Records::None), message(7, 0x8183, [1, 0, 0, 0], &[&asked]));
    let packet = message(7, 0x0110, [1, 0, 0, 1], &[&question("a", 28), &edns(1300, 0, 0x8000)]);
    assert_eq!(
        answer(&packet, Rcode::NO_ERROR, Records::Addrs(&[addr("fd00::2")])),
        message(
            7,
            0x8190,
            [1, 1, 0, 1],
            &[
                &question("a", 28),
                &record(POINTER, 28, 1, &[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]),
                &edns(1232, 0, 0x8000)
            ]
        )
    );
    let reverse = ask("2.0.17.172.in-addr.arpa", kind::PTR);
    let called = record(POINTER, kind::PTR, 1, &labels("web.app"));
    assert_eq!(
        answer(&reverse, Rcode::NO_ERROR, Records::Name(name("web.app").as_bytes())),
        message(7, 0x8180, [1, 1, 0, 0], &[&question("2.0.17.172.in-addr.arpa", kind::PTR), &called])
    );
    // Not all of them fit, so none is given and TCP is to be tried.
    let many: Vec<IpAddr> = (0..31u8).map(|n| IpAddr::from([10, 0, 0, n])).collect();
    let packet = ask("a", kind::A);
    assert_eq!(
        answer(&packet, Rcode::NO_ERROR, Records::Addrs(&many)),
        message(7, 0x8380, [1, 0, 0, 0], &[&question("a", 1)])
    );
    assert_eq!(answer(&packet, Rcode::NO_ERROR, Records::Addrs(&many[..30]))[7], 30);
    let mut out = Vec::new();
    let packet = message(7, 0, [1, 0, 0, 1], &[&question("a", 1), &edns(512, 3, 0)]);
    wire::other_version(&wire::query(&packet).unwrap(), &packet, &mut out);
    assert_eq!(out[out.len() - 11..], [0, 0, 41, 4, 208, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn what_is_asked_of_others_is_the_question_and_nothing_else() {
    let cookie = [&[0, 0, 41, 16, 0, 0, 0, 0x80, 0, 0, 12][..], &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]].concat();
    let packet = message(7, 0x0130, [1, 0, 0, 1], &[&question("Web.Example", 1), &cookie]);
    let query = wire::query(&packet).unwrap();
    let mut out = Vec::new();
    wire::ask(&query, query.spelt(&packet), 0xbeef, &mut out);
    assert_eq!(out, message(0xbeef, 0x0130, [1, 0, 0, 1], &[&question("Web.Example", 1), &edns(1232, 0, 0x8000)]));
}

fn soa(ttl: u32, minimum: u32) -> Vec<u8> {
    let numbers = [1, 2, 3, 4, minimum].map(u32::to_be_bytes).concat();
    record(&[0], kind::SOA, ttl, &[&[0, 0][..], &numbers].concat())
}

#[test]
fn answers_of_others_are_looked_through() {
    let packet = ask("web.example", kind::A);
    let query = wire::query(&packet).unwrap();
    let asked = question("WEB.example", kind::A);
    let a = |ttl| record(POINTER, kind::A, ttl, &[192, 0, 2, 1]);
    let seen = |packet: Vec<u8>| wire::look(&packet, &query);
    let lifetime = |packet: Vec<u8>| seen(packet).unwrap().lifetime;
    let both = message(9, 0x8180, [1, 2, 0, 1], &[&asked, &a(300), &a(60), &edns(1232, 0, 0)]);
    let found = seen(both).unwrap();
    assert_eq!(
        (found.rcode, found.has_answers, found.truncated, found.lifetime),
        (Rcode::NO_ERROR, true, false, Some(60))
    );
    // Of the two records, and not of EDNS, which keeps other things there.
    assert_eq!(found.ttls, [12 + 17 + 6, 12 + 17 + 16 + 6]);
    // Not kept: no time at all, an endless one (RFC 2181 §8), failures, nothing without an authority.
    for ttl in [0, 1 << 31] {
        assert_eq!(lifetime(message(9, 0x8180, [1, 1, 0, 0], &[&asked, &a(ttl)])), None);
    }
    assert_eq!(lifetime(message(9, 0x8182, [1, 0, 0, 0], &[&asked])), None);
    assert_eq!(lifetime(message(9, 0x8183, [1, 0, 0, 0], &[&asked])), None);
    assert_eq!(lifetime(message(9, 0x8183, [1, 0, 1, 0], &[&asked, &soa(900, 30)])), Some(30));
    assert_eq!(lifetime(message(9, 0x8180, [1, 0, 1, 0], &[&asked, &soa(20, 30)])), Some(20));
    assert_eq!(lifetime(message(9, 0x8183, [1, 0, 1, 0], &[&asked, &soa(u32::MAX >> 1, 1 << 30)])), Some(3600));
    assert_eq!(lifetime(message(9, 0x8180, [1, 1, 0, 0], &[&asked, &a(1 << 30)])), Some(86_400));
    let cut = seen(message(9, 0x8380, [1, 5, 0, 0], &[&asked])).unwrap();
    assert!(cut.truncated && cut.lifetime.is_none());
    // A server that keeps nothing of what it does not understand.
    assert_eq!(seen(message(9, 0x8181, [0; 4], &[])).unwrap().rcode, Rcode::FORMAT);
    // No answer to that question, or none that can be read.
    for packet in [
        vec![],
        packet.clone(),
        message(9, 0x8180, [0; 4], &[]),
        message(9, 0x8180, [1, 0, 0, 0], &[&question("web.example.org", 1)]),
        message(9, 0x8180, [1, 0, 0, 0], &[&question("web.example", 28)]),
        message(9, 0x8180, [1, 2, 0, 0], &[&asked, &a(1)]),
        message(9, 0x8180, [1, 1, 0, 0], &[&asked, &a(1)[..15]]),
        message(9, 0x8183, [1, 0, 1, 0], &[&asked, &record(&[0], kind::SOA, 5, &[0, 0, 9])]),
    ] {
        assert_eq!(seen(packet.clone()), None, "{packet:?}");
    }
}

#[test]
fn answers_of_others_are_passed_on_as_they_are() {
    let first = ask("web.example", kind::A);
    let asked = question("web.example", kind::A);
    let a = |ttl| record(POINTER, kind::A, ttl, &[192, 0, 2, 1]);
    let kept = message(9, 0x8580, [1, 1, 0, 0], &[&asked, &a(300)]);
    let ttls = wire::look(&kept, &wire::query(&first).unwrap()).unwrap().ttls;
    // Another asks the same, spelt otherwise and without wishing for recursion.
    let packet = message(77, 0x0010, [1, 0, 0, 0], &[&question("wEb.eXaMpLe", kind::A)]);
    let query = wire::query(&packet).unwrap();
    let relay = |age, limit| {
        let mut out = Vec::new();
        wire::relay(&query, query.spelt(&packet), &kept, &ttls, age, limit, &mut out);
        out
    };
    let spelt = question("wEb.eXaMpLe", kind::A);
    assert_eq!(relay(Age::Seconds(100), 512), message(77, 0x8490, [1, 1, 0, 0], &[&spelt, &a(200)]));
    assert_eq!(relay(Age::Seconds(1000), 512), message(77, 0x8490, [1, 1, 0, 0], &[&spelt, &a(0)]));
    assert_eq!(relay(Age::Stale(30), 512), message(77, 0x8490, [1, 1, 0, 0], &[&spelt, &a(30)]));
    assert_eq!(relay(Age::Seconds(0), 40), message(77, 0x8690, [1, 0, 0, 0], &[&spelt]));
}

#[test]
fn names_of_addresses() {
    let reversed = |text: &str| name(text).reversed_address();
    assert_eq!(reversed("2.0.17.172.IN-ADDR.arpa"), Some(addr("172.17.0.2")));
    let six = format!("{}0.0.d.f.ip6.arpa", "2.".to_owned() + &"0.".repeat(27));
    assert_eq!(reversed(&six), Some(addr("fd00::2")));
    for text in
        ["0.17.172.in-addr.arpa", "1.2.3.256.in-addr.arpa", "1.2.3.+4.in-addr.arpa", "2.0.17.172.example", "ip6.arpa"]
    {
        assert_eq!(reversed(text), None, "{text}");
    }
    assert_eq!(reversed(&six.replacen('2', "g", 1)), None);
    assert!(Name::parse("a..b").is_none() && Name::parse(&"x".repeat(64)).is_none());
    assert!(Name::parse(&["x".repeat(63), "y".repeat(63), "z".repeat(63), "w".repeat(63)].join(".")).is_none());
    assert_eq!(name("Web.Example.").to_string(), "web.example");
}

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// A book with the containers `db` (on network `app` too), `web` and the asker `shop`, and what `shop` knows.
fn shop() -> (Book, Asker) {
    let mut book = Book::default();
    let network: NetworkId = id('1').parse().unwrap();
    for (digit, names) in [('a', ["db", "aaaaaaaaaaaa"]), ('b', ["web", "WWW"]), ('c', ["shop", "barker"])] {
        book.containers.set(&id(digit).parse().unwrap(), names, 0);
    }
    let app = book.networks.entry(network.clone()).or_default();
    let endpoint = |digit: char| -> EndpointId { id(digit).parse().unwrap() };
    app.add(&endpoint('d'), ["db.app", "db", "store"], &[addr("10.1.0.2"), addr("fd01::2")]);
    app.add(&endpoint('e'), ["two.app", "two", "store"], &[addr("10.1.0.3")]);
    let mut hosts = Directory::borrowed();
    hosts.add(&0, ["test"], &[addr("10.10.10.255")]);
    hosts.add(&1, ["docker.com"], &[addr("127.0.0.1")]);
    hosts.add(&2, ["docker.com"], &[addr("::1")]);
    let mut itself = Directory::default();
    itself.add(&0, ["barker.example", "barker", "shop", "test"], &[addr("172.17.0.3")]);
    let asker = Asker {
        hosts,
        itself,
        networks: vec![network],
        subnets: vec!["172.17.0.0/16".parse().unwrap()],
        ..Asker::default()
    };
    (book, asker)
}

fn said(book: &Book, asker: &Asker, what: &str, turn: usize, now: u64) -> String {
    let (asked, kind) = what.split_once(' ').unwrap_or((what, "A"));
    let kinds = [("A", kind::A), ("AAAA", kind::AAAA), ("PTR", kind::PTR), ("MX", kind::MX), ("TXT", kind::TXT)];
    let number = kinds.iter().find(|(word, _)| *word == kind).map_or(kind::HTTPS, |(_, number)| *number);
    let packet = ask(asked, number);
    match book.answer(asker, &wire::query(&packet).unwrap(), turn, now).0 {
        Verdict::Addrs(addrs) => addrs.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" "),
        Verdict::Called(called) => {
            wire::query(&[&message(0, 0, [1, 0, 0, 0], &[])[..], called, &[0, 0, 1, 0, 1]].concat())
                .unwrap()
                .name
                .to_string()
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn an_alias_is_another_name_on_its_network() {
    let (mut book, mut asker) = shop();
    let (app, other): (NetworkId, NetworkId) = (id('1').parse().unwrap(), id('2').parse().unwrap());
    for (alias, network, target) in [
        ("sql", &app, "DB"),
        ("sql.app", &app, "db"),
        ("test", &app, "two"),
        ("barker", &app, "two"),
        ("db", &app, "two"),
        ("later", &app, "nobody"),
        ("my.store", &app, "store"),
        ("twice", &app, "nobody"),
        ("twice", &app, "two"),
        ("both", &other, "two"),
        ("both", &app, "two"),
        // Only where the two are on one network.
        ("far", &other, "db"),
        ("no name", &app, "db"),
    ] {
        asker.aliases.add(alias, network, target);
    }
    let check = |book: &Book, what: &str, want: &str| assert_eq!(said(book, &asker, what, 0, 0), want, "{what}");
    check(&book, "SQL", "10.1.0.2");
    check(&book, "sql.app AAAA", "fd01::2");
    check(&book, "my.store", "10.1.0.2 10.1.0.3");
    check(&book, "both", "10.1.0.3");
    check(&book, "sql MX", "Nothing");
    check(&book, "barker AAAA", "Nothing");
    // Before what the container and others are called, and after what the user says of a name.
    check(&book, "barker", "10.1.0.3");
    check(&book, "db", "10.1.0.3");
    check(&book, "test", "10.10.10.255");
    // Who is not there is not asked for elsewhere.
    for what in ["later", "twice", "far", "later AAAA", "later TXT"] {
        check(&book, what, "NoSuchName");
    }
    // What an address is called is not the asker's to say.
    check(&book, "2.0.1.10.in-addr.arpa PTR", "db.app");
    let members = book.networks.entry(app).or_default();
    members.add(&id('f').parse().unwrap(), ["nobody"], &[addr("10.1.0.9")]);
    members.remove(&id('d').parse().unwrap());
    check(&book, "later", "10.1.0.9");
    check(&book, "twice", "10.1.0.9");
    check(&book, "sql", "NoSuchName");
    check(&book, "sql.app", "NoSuchName");
    let (book, bare) = shop();
    assert_eq!(said(&book, &bare, "sql", 0, 0), "Forward", "an alias is one container's alone");
}

#[test]
fn who_knows_what() {
    let (book, asker) = shop();
    let check = |what: &str, want: &str| assert_eq!(said(&book, &asker, what, 0, 0), want, "{what}");
    // The host's words go before the container's own, and both before all others.
    check("test", "10.10.10.255");
    check("docker.com", "127.0.0.1");
    check("DOCKER.com AAAA", "::1");
    for what in ["docker.com MX", "docker.com HTTPS", "test TXT", "barker AAAA", "barker TXT", "db MX"] {
        check(what, "Nothing");
    }
    check("docker.com TXT", "Forward");
    for what in ["barker", "Barker", "barker.example", "shop"] {
        check(what, "172.17.0.3");
    }
    // Of the network that it is on.
    check("db", "10.1.0.2");
    check("db AAAA", "fd01::2");
    check("db.app", "10.1.0.2");
    check("two AAAA", "Nothing");
    check("store", "10.1.0.2 10.1.0.3");
    assert_eq!(said(&book, &asker, "store", 1, 0), "10.1.0.3 10.1.0.2");
    // A container that it does not know is nobody else's business either, whatever is asked of it.
    for what in ["web", "www", "web AAAA", "web TXT"] {
        check(what, "NoSuchName");
    }
    for what in ["web.example", "example", "www.docker.com", "registry.hub", "store.example"] {
        check(what, "Forward");
    }
    check("localhost", "127.0.0.1");
    check("my.localhost AAAA", "::1");
    check("localhost TXT", "Nothing");
    check("3.0.17.172.in-addr.arpa PTR", "barker.example");
    check("2.0.1.10.in-addr.arpa PTR", "db.app");
    check("1.0.0.127.in-addr.arpa PTR", "localhost");
    check("9.0.17.172.in-addr.arpa PTR", "NoSuchName");
    check("9.2.0.192.in-addr.arpa PTR", "Forward");
    // On the default bridge nothing of others.
    let alone = Asker { networks: Vec::new(), ..asker.clone() };
    assert_eq!(said(&book, &alone, "db", 0, 0), "NoSuchName");
    assert_eq!(said(&book, &alone, "store", 0, 0), "Forward");
    let dotted = Asker { wants_dots: true, ..alone };
    assert_eq!(said(&book, &dotted, "store", 0, 0), "NoSuchName");
    assert_eq!(said(&book, &dotted, "com TXT", 0, 0), "Forward");
}

#[test]
fn names_come_and_go() {
    let (mut book, asker) = shop();
    let web: ContainerId = id('b').parse().unwrap();
    book.containers.set(&web, ["api"], 100);
    for (what, now, want) in [
        ("api", 100, "NoSuchName"),
        ("web", 100, "NoSuchName"),
        ("web", 99 + REMEMBERED, "NoSuchName"),
        ("web", 100 + REMEMBERED, "Forward"),
    ] {
        assert_eq!(said(&book, &asker, what, 0, now), want, "{what} at {now}");
    }
    book.containers.remove(&web, 200);
    assert_eq!(said(&book, &asker, "api", 0, 200 + REMEMBERED), "Forward");
    // Two of one name: it stays until both are gone.
    let twin: ContainerId = id('f').parse().unwrap();
    book.containers.set(&twin, ["db"], 0);
    book.containers.remove(&twin, 0);
    assert_eq!(said(&book, &Asker::default(), "db", 0, 10 * REMEMBERED), "NoSuchName");
    for n in 0..20_000u32 {
        let id: ContainerId = format!("{n:064x}").parse().unwrap();
        book.containers.set(&id, [format!("n{n}").as_str()], 0);
        book.containers.remove(&id, 0);
    }
    assert_eq!(said(&book, &Asker::default(), "n19999", 0, 0), "NoSuchName");
    let app = book.networks.values_mut().next().unwrap();
    app.remove(&id('d').parse().unwrap());
    assert_eq!(said(&book, &asker, "store", 0, 0), "10.1.0.3");
    assert_eq!(said(&book, &asker, "db.app", 0, 0), "Forward");
}

fn any_name() -> impl Strategy<Value = String> {
    let label = "[a-zA-Z0-9_-]{1,63}";
    prop::collection::vec(label, 0..5).prop_map(|labels| labels.join(".")).prop_filter("too long", |n| n.len() < 250)
}

/// A good message that somebody has spoilt.
fn spoilt() -> impl Strategy<Value = Vec<u8>> {
    let good = prop_oneof![
        Just(ask("web.example", 1)),
        Just(message(
            9,
            0x8180,
            [1, 1, 1, 1],
            &[&question("web.example", 1), &record(POINTER, 1, 60, &[1, 2, 3, 4]), &soa(1, 2), &edns(512, 0, 0)]
        )),
        Just(message(7, 0x0100, [1, 0, 0, 1], &[&question("a", 28), &edns(512, 0, 0x8000)])),
    ];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (good, edits, any::<prop::sample::Index>(), any::<bool>()).prop_map(|(mut packet, edits, end, cut)| {
        for (at, byte) in edits {
            let at = at.index(packet.len());
            packet[at] = byte;
        }
        if cut {
            packet.truncate(end.index(packet.len() + 1));
        }
        packet
    })
}

fn limits() -> impl Strategy<Value = usize> {
    prop_oneof![Just(512usize), Just(1232), Just(65535), 12..600usize]
}

/// Everything that is done with a message from outside, whatever it is.
fn handle(packet: &[u8], limit: usize) {
    let (book, asker) = shop();
    let mut out = Vec::new();
    match wire::query(packet) {
        Err(Unfit::Silence) => {}
        Err(Unfit::Rcode(rcode)) => {
            wire::refuse(packet, rcode, &mut out);
            assert!(out.len() == 12 && out[..2] == packet[..2]);
        }
        Ok(query) => {
            let spelt = query.spelt(packet);
            let again = wire::query(&[&packet[..4], &[0, 1, 0, 0, 0, 0, 0, 0], spelt].concat()).unwrap();
            assert_eq!((again.name, again.kind, again.class), (query.name, query.kind, query.class));
            let limit = limit.max(query.datagram_limit());
            let (records, _) = book.answer(&asker, &query, 3, 5);
            let records = match &records {
                Verdict::Addrs(addrs) => Records::Addrs(addrs),
                Verdict::Called(called) => Records::Name(called),
                _ => Records::None,
            };
            wire::answer(&query, packet, Rcode::NO_ERROR, records, 1, limit, &mut out);
            assert!(out.len() <= limit);
            assert_eq!(wire::look(&out, &query).map(|seen| seen.rcode), Some(Rcode::NO_ERROR));
            wire::failure(&query, spelt, &mut out);
            assert_eq!(wire::look(&out, &query).map(|seen| seen.rcode), Some(Rcode::SERVER_FAILURE));
            wire::ask(&query, spelt, 5, &mut out);
            let passed_on = wire::query(&out).unwrap();
            assert!(passed_on.name == query.name && passed_on.key().as_ref() == query.key().as_ref());
        }
    }
    let asked: Query = wire::query(&ask("web.example", 1)).unwrap();
    if let Some(seen) = wire::look(packet, &asked) {
        let spelt = question("WEB.EXAMPLE", 1);
        wire::relay(&asked, &spelt, packet, &seen.ttls, Age::Seconds(7), limit, &mut out);
        assert!(out.len() <= limit.max(12 + spelt.len()));
        assert_eq!(out[..2], [0, 7]);
        assert_eq!(out[12..12 + spelt.len()], spelt);
        assert!(wire::look(&out, &asked).is_some(), "{out:?}");
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(20_000))]

    #[test]
    fn bytes_of_every_sort_are_survived(packet in prop::collection::vec(any::<u8>(), 0..600), limit in limits()) {
        handle(&packet, limit);
    }

    #[test]
    fn spoilt_messages_are_survived(packet in spoilt(), limit in limits()) {
        handle(&packet, limit);
    }
}

proptest! {
    #![proptest_config(config(2_000))]

    #[test]
    fn every_name_comes_back(text in any_name(), kind in any::<u16>()) {
        let packet = ask(&text, kind);
        let query = wire::query(&packet).unwrap();
        prop_assert_eq!(query.name, Name::parse(&text).unwrap());
        prop_assert_eq!(query.name.to_string(), text.to_lowercase());
        prop_assert_eq!(query.name.is_single(), !text.is_empty() && !text.contains('.'));
        // What is asked of others differs in nothing but its number.
        let mut out = Vec::new();
        wire::ask(&query, query.spelt(&packet), query.id, &mut out);
        prop_assert_eq!(out, packet);
    }

    /// Keys tell questions apart that may have different answers.
    #[test]
    fn keys_are_as_different_as_questions(a in any_name(), b in any_name(), kinds in any::<(u16, u16)>()) {
        let key = |name: &str, kind| wire::query(&ask(name, kind)).unwrap().key().as_ref().to_vec();
        let same = a.to_lowercase() == b.to_lowercase() && kinds.0 == kinds.1;
        prop_assert_eq!(key(&a, kinds.0) == key(&b, kinds.1), same);
    }
}
