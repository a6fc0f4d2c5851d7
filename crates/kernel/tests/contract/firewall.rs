use crate::{Both, id, inside, open, same};
use plan::apply::Kernel;
use plan::netstate::{ElementChange, Ns, Op};
use plan::nft::{
    Base, Chain, ChainType, CtState, Data, DataType, Element, Expr, Family, Field, Hook, Key, Owner, Rule, Set, Table,
    TableName, Type, Value, Verdict, Why,
};
use plan::world::{Proto, World};
use plan::{firewall, guard};
use std::collections::BTreeMap;

fn why(text: &str) -> Why {
    Why::new(text, Owner::Engine)
}

fn set(key: &[Type], data: Option<DataType>, interval: bool, elements: &[(&[Value], Option<Data>)]) -> Set {
    let elements = elements
        .iter()
        .enumerate()
        .map(|(n, (key, data))| (key.to_vec(), Element { data: data.clone(), why: why(&format!("element {n}")) }));
    Set { key: key.to_vec(), data, interval, elements: elements.collect() }
}

fn rule(body: Vec<Expr>) -> Rule {
    let text = format!("rule of {} parts", body.len());
    Rule { body, why: why(&text) }
}

fn v4(text: &str) -> Value {
    Value::Addr4(text.parse().unwrap())
}

fn v6(text: &str) -> Value {
    Value::Addr6(text.parse().unwrap())
}

fn range4(from: &str, to: &str) -> Value {
    Value::Range4(from.parse().unwrap(), to.parse().unwrap())
}

fn range6(from: &str, to: &str) -> Value {
    Value::Range6(from.parse().unwrap(), to.parse().unwrap())
}

fn ifname(text: &str) -> Value {
    Value::IfName(text.parse().unwrap())
}

fn is(field: Field, value: Value) -> Expr {
    Expr::Is { field, not: false, value }
}

fn is_not(field: Field, value: Value) -> Expr {
    Expr::Is { field, not: true, value }
}

fn within(fields: &[Field], set: &str) -> Expr {
    Expr::In { fields: fields.to_vec(), not: false, set: set.into() }
}

fn dnat(v6: bool, fields: &[Field], map: &str, port: bool) -> Expr {
    Expr::Dnat { v6, fields: fields.to_vec(), map: map.into(), port }
}

fn vmap(fields: &[Field], map: &str) -> Expr {
    Expr::Vmap { fields: fields.to_vec(), map: map.into() }
}

/// Every form that the types can say.
fn everything() -> Table {
    use Type::{Addr4, Addr6, IfName, Port};
    use Value::{Port as P, PortRange, Proto as L4};
    let parts = |kinds: &[Type]| Some(DataType::Parts(kinds.to_vec()));
    let data = |parts: &[Value]| Some(Data::Parts(parts.to_vec()));
    let verdict = |verdict: Verdict| Some(Data::Verdict(verdict));
    let jump = || Verdict::Jump("away".into());
    let sets = [
        ("names", set(&[IfName], None, false, &[(&[ifname("berth0")], None), (&[ifname("fifteen-bytes-x")], None)])),
        ("pairs", set(&[IfName, IfName], None, false, &[(&[ifname("berth0"), ifname("br-0123456789ab")], None)])),
        (
            "where",
            set(&[IfName, Addr4], None, true, &[(&[ifname("berth0"), range4("10.0.0.0", "10.255.255.255")], None)]),
        ),
        (
            "blocks4",
            set(
                &[Addr4],
                None,
                true,
                &[
                    (&[range4("0.0.0.0", "0.0.0.255")], None),
                    (&[range4("10.1.0.0", "10.1.255.255")], None),
                    (&[range4("10.2.0.0", "10.2.0.9")], None),
                    (&[v4("10.3.0.1")], None),
                    (&[range4("240.0.0.0", "255.255.255.255")], None),
                ],
            ),
        ),
        (
            "blocks6",
            set(
                &[Addr6],
                None,
                true,
                &[
                    (&[range6("fd00::", "fd00::ffff:ffff:ffff:ffff")], None),
                    (&[v6("fd01::1")], None),
                    (&[range6("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")], None),
                ],
            ),
        ),
        (
            "sources4",
            set(
                &[Addr4],
                parts(&[Addr4]),
                true,
                &[
                    (&[range4("10.1.0.0", "10.1.255.255")], data(&[v4("192.0.2.1")])),
                    (&[v4("10.3.0.1")], data(&[v4("192.0.2.2")])),
                ],
            ),
        ),
        (
            "sources6",
            set(
                &[Addr6],
                parts(&[Addr6]),
                true,
                &[(&[range6("fd00::", "fd00::ffff:ffff:ffff:ffff")], data(&[v6("2001:db8::1")]))],
            ),
        ),
        (
            "ports",
            set(
                &[Port],
                None,
                true,
                &[(&[PortRange(0, 5)], None), (&[P(6)], None), (&[PortRange(7, 9)], None), (&[P(65535)], None)],
            ),
        ),
        ("plain4", set(&[Addr4], None, false, &[(&[v4("10.0.0.1")], None)])),
        ("protocols", set(&[Type::Proto], None, false, &[(&[L4(6)], None), (&[L4(17)], None)])),
        (
            "published4",
            set(
                &[Type::Proto, Port],
                parts(&[Addr4, Port]),
                false,
                &[
                    (&[L4(6), P(8080)], data(&[v4("10.1.0.2"), P(80)])),
                    (&[L4(17), P(53)], data(&[v4("10.1.0.3"), P(53)])),
                ],
            ),
        ),
        (
            "published6",
            set(
                &[Type::Proto, Port],
                parts(&[Addr6, Port]),
                false,
                &[(&[L4(6), P(80)], data(&[v6("fd00::2"), P(8080)]))],
            ),
        ),
        (
            "ranges4",
            set(
                &[Addr4, Type::Proto, Port],
                parts(&[Addr4]),
                true,
                &[
                    (&[v4("192.0.2.1"), L4(6), PortRange(1000, 2000)], data(&[v4("10.1.0.2")])),
                    (&[range4("192.0.2.8", "192.0.2.15"), L4(17), P(53)], data(&[v4("10.1.0.3")])),
                ],
            ),
        ),
        (
            "ranges6",
            set(
                &[Type::Proto, Port],
                parts(&[Addr6]),
                true,
                &[(&[L4(132), PortRange(1, 65535)], data(&[v6("fd00::3")]))],
            ),
        ),
        (
            "relayed",
            set(&[Type::Proto, Port], parts(&[Port]), true, &[(&[L4(6), PortRange(80, 89)], data(&[P(7000)]))]),
        ),
        (
            "port_to_port",
            set(&[Port], parts(&[Port]), true, &[(&[PortRange(10, 20)], data(&[P(80)])), (&[P(30)], data(&[P(81)]))]),
        ),
        (
            "verdicts",
            set(
                &[IfName],
                Some(DataType::Verdict),
                false,
                &[
                    (&[ifname("a")], verdict(Verdict::Accept)),
                    (&[ifname("b")], verdict(Verdict::Drop)),
                    (&[ifname("c")], verdict(Verdict::Return)),
                    (&[ifname("d")], verdict(jump())),
                ],
            ),
        ),
        (
            "links",
            set(
                &[Addr4, Addr4, Type::Proto, Port],
                Some(DataType::Verdict),
                true,
                &[(&[v4("10.1.0.2"), v4("10.1.0.3"), L4(6), PortRange(1, 9)], verdict(Verdict::Accept))],
            ),
        ),
    ];
    let base = |kind, hook, priority| Some(Base { kind, hook, priority });
    use Field::{CtOriginalDport, Daddr4, Daddr6, Dport, Iif, L4Proto, NfProto, Oif, Saddr4, Saddr6, Sport};
    let accept = || Expr::Verdict(Verdict::Accept);
    let away = vec![
        rule(vec![is(Saddr4, v4("1.2.3.4")), Expr::Counter, Expr::Verdict(Verdict::Return)]),
        rule(vec![is(NfProto, L4(2)), Expr::Counter]),
        rule(vec![is(NfProto, L4(10)), is_not(NfProto, L4(2)), accept()]),
        // Said and presumed: both must come back.
        rule(vec![is(NfProto, L4(2)), is(Saddr4, v4("1.2.3.4")), is(Daddr4, v4("5.6.7.8")), accept()]),
        rule(vec![is(Saddr4, v4("1.2.3.4")), is(NfProto, L4(2)), is(Daddr4, v4("5.6.7.8")), accept()]),
        rule(vec![is(Daddr6, v6("fe80::1")), is_not(Saddr6, v6("fe80::2")), accept()]),
        rule(vec![is_not(Sport, P(53)), is(Dport, P(54)), is_not(L4Proto, L4(6)), Expr::Verdict(Verdict::Drop)]),
        rule(vec![is(L4Proto, L4(6)), is(CtOriginalDport, P(80)), accept()]),
        rule(vec![is(Iif, ifname("berth0")), is_not(Oif, ifname("fifteen-bytes-x")), Expr::Verdict(jump_to("more"))]),
        rule(vec![]),
        // Written back what was read before, of either protocol.
        rule(vec![
            is(Daddr4, v4("127.0.0.11")),
            is(L4Proto, L4(17)),
            is(Dport, P(53)),
            set_port(Proto::Udp, Dport, 5353),
        ]),
        rule(vec![is(L4Proto, L4(6)), set_port(Proto::Tcp, Sport, 53), Expr::Counter]),
    ];
    let prerouting = vec![
        rule(vec![Expr::FibDaddrLocal, dnat(false, &[L4Proto, Dport], "published4", true)]),
        rule(vec![dnat(false, &[Daddr4, L4Proto, Dport], "ranges4", false)]),
        rule(vec![is(NfProto, L4(10)), dnat(true, &[L4Proto, Dport], "published6", true)]),
        rule(vec![is(L4Proto, L4(6)), Expr::DnatPort { fields: vec![L4Proto, Dport], map: "relayed".into() }]),
        rule(vec![dnat(true, &[L4Proto, Dport], "ranges6", false)]),
    ];
    let forward = vec![
        rule(vec![is(L4Proto, L4(6)), Expr::TcpOpens, within(&[Iif], "names"), Expr::ClampMss]),
        rule(vec![Expr::Ct(CtState::Established), Expr::CtAssured, Expr::CtTranslated, accept()]),
        rule(vec![Expr::Loopback4(Field::Daddr4), Expr::Loopback4(Field::Saddr4), accept()]),
        rule(vec![Expr::Ct(CtState::Established), accept()]),
        rule(vec![Expr::Ct(CtState::Related), accept()]),
        rule(vec![Expr::Ct(CtState::Invalid), Expr::Counter, Expr::Verdict(Verdict::Drop)]),
        rule(vec![Expr::Ct(CtState::New), Expr::CtDnat { not: true }, Expr::Counter]),
        rule(vec![Expr::CtDnat { not: false }, accept()]),
        rule(vec![is(L4Proto, L4(6)), Expr::TcpNotFirst, Expr::Ct(CtState::InvalidNew), Expr::Reset]),
        rule(vec![within(&[Iif, Oif], "pairs"), accept()]),
        rule(vec![within(&[Iif, Saddr4], "where"), accept()]),
        rule(vec![Expr::In { fields: vec![Iif], not: true, set: "names".into() }, accept()]),
        rule(vec![within(&[Saddr4], "blocks4"), within(&[Daddr4], "plain4"), within(&[Dport], "ports")]),
        rule(vec![within(&[Saddr6], "blocks6"), within(&[L4Proto], "protocols"), Expr::Counter]),
        rule(vec![vmap(&[Iif], "verdicts")]),
        rule(vec![vmap(&[Saddr4, Daddr4, L4Proto, Dport], "links")]),
        rule(vec![vmap(&[Saddr4, Daddr4, L4Proto, CtOriginalDport], "links")]),
    ];
    let snat = |v6, field, map: &str| Expr::Snat { v6, fields: vec![field], map: map.into() };
    let postrouting = vec![
        rule(vec![snat(false, Saddr4, "sources4")]),
        rule(vec![is_not(Oif, ifname("berth0")), snat(true, Saddr6, "sources6")]),
        rule(vec![within(&[Saddr4], "blocks4"), Expr::Masquerade]),
    ];
    let chains = [
        ("away", None, away),
        ("more", None, Vec::new()),
        ("prerouting", base(ChainType::Nat, Hook::Prerouting, -100), prerouting),
        ("forward", base(ChainType::Filter, Hook::Forward, 5), forward),
        ("input", base(ChainType::Filter, Hook::Input, 0), Vec::new()),
        ("output", base(ChainType::Nat, Hook::Output, -100), Vec::new()),
        ("postrouting", base(ChainType::Nat, Hook::Postrouting, 100), postrouting),
    ];
    Table {
        sets: sets.into_iter().map(|(name, set)| (name.into(), set)).collect(),
        chains: chains.into_iter().map(|(name, base, rules)| (name.into(), Chain { base, rules })).collect(),
    }
}

fn set_port(proto: Proto, field: Field, port: u16) -> Expr {
    Expr::SetPort { proto, field, port }
}

fn jump_to(chain: &str) -> Verdict {
    Verdict::Jump(chain.into())
}

fn replace(ns: Ns, name: TableName, table: Table) -> Op {
    Op::ReplaceTable { ns, name, table }
}

fn of_the_bridge() -> Table {
    use Field::{Dport, EtherSaddr, EtherType, Iif, L4Proto, Saddr4, Saddr6};
    let station = Value::Mac("02:42:0a:01:00:02".parse().unwrap());
    let rules = vec![
        rule(vec![is(Saddr4, v4("10.0.0.1")), is(Iif, ifname("veth0")), Expr::Verdict(Verdict::Accept)]),
        rule(vec![is(Saddr6, v6("fd00::1")), is(L4Proto, Value::Proto(6)), is(Dport, Value::Port(80)), Expr::Counter]),
        rule(vec![vmap(&[Iif, Saddr4], "vm")]),
        rule(vec![within(&[Iif, EtherSaddr], "stations"), is_not(EtherSaddr, station.clone())]),
        rule(vec![is(EtherType, Value::EtherType(0x88cc)), vmap(&[EtherType], "kinds")]),
    ];
    let kinds = [(0x0806, Verdict::Accept), (0x8100, Verdict::Drop)]
        .map(|(kind, verdict)| ([Value::EtherType(kind)], Some(Data::Verdict(verdict))));
    let kinds: Vec<(&[Value], Option<Data>)> = kinds.iter().map(|(key, data)| (&key[..], data.clone())).collect();
    let kinds = set(&[Type::EtherType], Some(DataType::Verdict), false, &kinds);
    let stations = set(&[Type::IfName, Type::Mac], None, false, &[(&[ifname("veth0"), station], None)]);
    let key = [Type::IfName, Type::Addr4];
    let vm = set(
        &key,
        Some(DataType::Verdict),
        false,
        &[(&[ifname("veth0"), v4("10.0.0.1")], Some(Data::Verdict(Verdict::Drop)))],
    );
    let base = Some(Base { kind: ChainType::Filter, hook: Hook::Forward, priority: -200 });
    Table {
        sets: [("vm", vm), ("kinds", kinds), ("stations", stations)].map(|(name, set)| (name.into(), set)).into(),
        chains: BTreeMap::from([("forward".into(), Chain { base, rules })]),
    }
}

#[test]
fn every_form_goes_there_and_back() {
    lab::alone(|lab| {
        let mut both = Both::new(lab);
        both.ok(Op::AddSpace(id('a')));
        for ns in [Ns::Host, inside('a')] {
            both.ok(replace(ns.clone(), TableName::inet(), everything()));
            both.ok(replace(ns.clone(), TableName::bridge(), of_the_bridge()));
            // In place of itself, and of something else.
            both.ok(replace(ns.clone(), TableName::inet(), everything()));
            both.ok(replace(ns.clone(), TableName::inet(), firewall::skeleton()));
            both.ok(replace(ns.clone(), TableName::bridge(), guard::table(&World::default())));
            both.ok(Op::DelTable { ns: ns.clone(), name: TableName::bridge() });
            assert_eq!(both.refused(Op::DelTable { ns, name: TableName::bridge() }), "no such table bridge berth");
        }
        assert!(lab.here().ok(&["nft", "list", "tables"]).contains("table inet berth"));
    })
}

#[test]
fn nft_shows_natural_words() {
    lab::alone(|lab| {
        let mut host = open(lab);
        host.perform(&replace(Ns::Host, TableName::inet(), everything())).unwrap();
        host.perform(&replace(Ns::Host, TableName::bridge(), of_the_bridge())).unwrap();
        let shown = lab.here().ok(&["nft", "-s", "list", "ruleset"]);
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/everything.nft");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(golden, &shown).unwrap();
        }
        // Elements of hashed sets come in any order.
        let sorted = |text: &str| {
            let mut lines: Vec<String> =
                text.lines().map(|line| line.trim().trim_start_matches("elements = { ").to_owned()).collect();
            for line in &mut lines {
                *line = line.trim_end_matches([',', ' ', '}']).to_owned();
            }
            lines.sort();
            lines.join("\n")
        };
        assert_eq!(sorted(&shown), sorted(&std::fs::read_to_string(golden).unwrap()), "UPDATE=1 writes it anew");
    })
}

#[test]
fn nft_reads_what_it_shows_of_our_own_rules() {
    lab::alone(|lab| {
        let mut host = open(lab);
        host.perform(&replace(Ns::Host, TableName::inet(), firewall::skeleton())).unwrap();
        let before = host.observe().unwrap();
        // The planner's own text, given to nft, makes the same table as our hands do.
        let file = lab.dir().join("table.nft");
        let text = plan::text::table(&TableName::inet(), &firewall::skeleton());
        std::fs::write(&file, format!("flush ruleset\n{text}")).unwrap();
        lab.here().ok(&["nft", "-f", file.to_str().unwrap()]);
        same(&host.observe().unwrap(), &before, "nft -f of the planner's text");
    })
}

fn change(set: &str, key: Key, put: Option<Data>, text: &str) -> ElementChange {
    let put = put.map(|data| Element { data: Some(data), why: why(text) });
    ElementChange { set: set.into(), key, put, owner: Owner::Engine }
}

fn take(set: &str, key: Key) -> ElementChange {
    change(set, key, None, "")
}

fn member(set: &str, key: Key) -> ElementChange {
    let put = Some(Element { data: None, why: why("a member") });
    ElementChange { set: set.into(), key, put, owner: Owner::Engine }
}

fn changes(changes: Vec<ElementChange>) -> Op {
    Op::ChangeElements { ns: Ns::Host, table: TableName::inet(), changes }
}

#[test]
fn elements_come_change_and_go() {
    lab::alone(|lab| {
        let mut both = Both::new(lab);
        assert!(both.refused(changes(vec![take("ports", vec![Value::Port(1)])])).starts_with("no such"));
        both.ok(replace(Ns::Host, TableName::inet(), everything()));
        let tcp = |port| vec![Value::Proto(6), Value::Port(port)];
        let to = |host: &str, port| Some(Data::Parts(vec![v4(host), Value::Port(port)]));
        both.ok(changes(vec![change("published4", tcp(1), to("10.1.0.9", 1), "new")]));
        both.ok(changes(vec![change("published4", tcp(1), to("10.1.0.8", 2), "other data")]));
        both.ok(changes(vec![change("published4", tcp(1), to("10.1.0.8", 2), "another reason")]));
        both.ok(changes(vec![take("published4", tcp(1)), take("published4", tcp(2))]));
        // In order, and the last one counts.
        both.ok(changes(vec![
            change("published4", tcp(3), to("10.1.0.3", 3), "first"),
            take("published4", tcp(3)),
            change("published4", tcp(3), to("10.1.0.4", 4), "last"),
        ]));
        let range = |from, to| vec![v4("192.0.2.1"), Value::Proto(6), Value::PortRange(from, to)];
        let host = |text: &str| Some(Data::Parts(vec![v4(text)]));
        both.ok(changes(vec![change("ranges4", range(3000, 4000), host("10.1.0.4"), "a range")]));
        both.ok(changes(vec![change("ranges4", range(3000, 4000), host("10.1.0.5"), "to another")]));
        let clash = both.refused(changes(vec![
            take("published4", tcp(3)),
            change("ranges4", range(3500, 4500), host("10.1.0.6"), "overlaps"),
        ]));
        assert_eq!(clash, "set ranges4 or an element of it exists already", "and the first change was not done");
        // Only the very same range goes, not one that begins or ends where it does.
        both.ok(changes(vec![
            take("ranges4", range(3000, 3500)),
            take("ranges4", range(3500, 4000)),
            take("ranges4", range(3500, 3600)),
            take("blocks4", vec![v4("10.2.0.0")]),
            take("blocks4", vec![v4("10.2.0.9")]),
            take("blocks4", vec![range4("10.2.0.5", "10.2.0.9")]),
            take("ports", vec![Value::PortRange(5, 6)]),
            take("ports", vec![Value::PortRange(9, 100)]),
        ]));
        both.ok(changes(vec![take("ranges4", range(3000, 4000)), take("ranges4", range(1, 2))]));
        both.ok(changes(vec![
            member("ports", vec![Value::PortRange(0, 5)]),
            take("ports", vec![Value::PortRange(0, 5)]),
            member("ports", vec![Value::PortRange(0, 5)]),
            member("ports", vec![Value::PortRange(6, 9)]),
            take("ports", vec![Value::PortRange(7, 9)]),
            take("ports", vec![Value::Port(6)]),
        ]));
        both.ok(changes(vec![
            member("blocks4", vec![range4("10.2.0.10", "10.2.0.99")]),
            member("blocks4", vec![range4("172.16.0.0", "172.31.255.255")]),
            take("blocks4", vec![range4("240.0.0.0", "255.255.255.255")]),
            take("blocks4", vec![v4("10.3.0.1")]),
            take("blocks4", vec![v4("10.99.0.1")]),
        ]));
        both.refused(changes(vec![member("blocks4", vec![range4("10.1.9.0", "10.1.9.9")])]));
        both.ok(changes(vec![member("names", vec![ifname("br-abcdefabcdef")]), take("names", vec![ifname("berth0")])]));
        let verdict = |verdict| Some(Data::Verdict(verdict));
        both.ok(changes(vec![change("verdicts", vec![ifname("a")], verdict(jump_to("more")), "jumps now")]));
        // The model does not look where an element jumps to.
        let astray = changes(vec![change("verdicts", vec![ifname("x")], verdict(jump_to("nowhere")), "nowhere")]);
        assert!(both.real.perform(&astray).unwrap_err().to_string().starts_with("no such"));
        both.compare("a jump to nowhere");
        let unfit = both.refused(changes(vec![member("names", vec![Value::Port(1)])]));
        assert_eq!(unfit, "element [Port(1)] does not fit set names (errno 22)");
        assert!(
            both.refused(changes(vec![member("nowhere", vec![Value::Port(1)])])).starts_with("no such set nowhere")
        );
        // A second pair of hands knows nothing of the sets yet.
        both.real = open(lab);
        both.ok(changes(vec![take("published4", tcp(3)), take("pairs", vec![ifname("no"), ifname("such")])]));
    })
}

#[test]
fn a_refused_table_leaves_the_old_one() {
    lab::alone(|lab| {
        let mut both = Both::new(lab);
        both.ok(replace(Ns::Host, TableName::inet(), firewall::skeleton()));
        let with = |edit: &dyn Fn(&mut Table)| {
            let mut table = everything();
            edit(&mut table);
            replace(Ns::Host, TableName::inet(), table)
        };
        let body = |expr: Expr| {
            move |table: &mut Table| {
                table.chains.get_mut("away").unwrap().rules.push(rule(vec![expr.clone()]));
            }
        };
        let refused = both.refused(with(&body(within(&[Field::Iif], "nowhere"))));
        assert_eq!(refused, "no such rule 13 of chain away");
        both.refused(with(&body(Expr::Verdict(jump_to("nowhere")))));
        both.refused(with(&|table| {
            let ports = table.sets.get_mut("ports").unwrap();
            ports.elements.insert(vec![Value::PortRange(8, 12)], Element { data: None, why: why("overlaps") });
        }));
        both.refused(with(&|table| {
            let ports = table.sets.get_mut("ports").unwrap();
            ports.elements.insert(vec![Value::Proto(6)], Element { data: None, why: why("a protocol") });
        }));
    })
}

#[test]
fn a_large_table_is_one_transaction() {
    lab::alone(|lab| {
        let mut both = Both::new(lab);
        let mut table = firewall::skeleton();
        let published = table.sets.get_mut("published4").unwrap();
        for port in 1..=20_000u16 {
            let data = Some(Data::Parts(vec![v4("10.1.0.2"), Value::Port(port)]));
            let element = Element { data, why: why(&format!("web: -p {port}:{port}")) };
            published.elements.insert(vec![Value::Proto(6), Value::Port(port)], element);
        }
        both.ok(replace(Ns::Host, TableName::inet(), table.clone()));
        let all = (1..=20_000u16).map(|port| take("published4", vec![Value::Proto(6), Value::Port(port)]));
        both.ok(changes(all.collect()));
    })
}

#[test]
fn a_strangers_hand_is_seen() {
    lab::alone(|lab| {
        let mut host = open(lab);
        host.perform(&replace(Ns::Host, TableName::inet(), everything())).unwrap();
        let good = host.observe().unwrap();
        let nft = |words: &str| lab.here().ok(&[&["nft"], &words.split(' ').collect::<Vec<_>>()[..]].concat());
        // Other tables are nobody's business here.
        nft("add table inet other");
        nft("add table ip berth");
        nft("add chain inet other c { type filter hook forward priority 0; policy drop; }");
        same(&host.observe().unwrap(), &good, "a table of somebody else's");
        for words in [
            "add rule inet berth forward accept",
            "insert rule inet berth forward tcp dport 22 limit rate 1/second accept",
            "add rule inet berth forward ip saddr 10.0.0.0/8 tcp dport { 22, 23 } log drop",
            "add rule inet berth forward iifname \"eth*\" accept",
            "add rule inet berth away meta mark 1 ct mark set 2",
            "add rule inet berth away tcp dport set 54",
            "add rule inet berth away udp sport set 53 udp length set 9",
            "add rule inet berth away ip ttl set 3",
            "add rule inet berth away tcp dport set tcp sport",
            "add rule inet berth postrouting masquerade random",
            "add rule inet berth prerouting meta l4proto tcp dnat ip to 10.0.0.1:80",
            "add rule inet berth away ip saddr 1.2.3.4 comment \"rule of 3 parts [engine]\"",
            "add chain inet berth mine",
            "add chain inet berth mine { type filter hook input priority 3; policy drop; }",
            "add chain inet berth mine { type route hook output priority 3; }",
            "add set inet berth mine { type mark; }",
            "add set inet berth mine { type ipv4_addr; timeout 1h; }",
            "add element inet berth names { \"stranger0\" }",
            "add element inet berth plain4 { 10.0.0.9 comment \"hello\" }",
            "add element inet berth ports { 100-200 }",
            "delete element inet berth ports { 7-9 }",
            "delete element inet berth published4 { tcp . 8080 }",
            "flush chain inet berth forward",
            "flush set inet berth blocks4",
            "delete table inet berth",
            "flush ruleset",
        ] {
            nft(words);
            let seen = host.observe().unwrap();
            assert_ne!(seen.spaces[&Ns::Host].tables, good.spaces[&Ns::Host].tables, "after: nft {words}");
            host.perform(&replace(Ns::Host, TableName::inet(), everything())).unwrap();
            same(&host.observe().unwrap(), &good, &format!("mended after: nft {words}"));
        }
        // A set made anew in another shape: what was known of it is forgotten.
        let name = TableName { family: Family::Inet, name: "berth".into() };
        let mut other = open(lab);
        let mut table = firewall::skeleton();
        table.sets.insert("names".into(), set(&[Type::Port], None, true, &[]));
        other.perform(&replace(Ns::Host, name.clone(), table)).unwrap();
        host.perform(&changes(vec![member("names", vec![Value::PortRange(1, 9)])])).unwrap();
        let seen = host.observe().unwrap();
        assert!(
            seen.spaces[&Ns::Host].tables[&name].sets["names"].elements.contains_key(&vec![Value::PortRange(1, 9)])
        );
    })
}
