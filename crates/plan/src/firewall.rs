//! The wished-for firewall: rules that never change, and sets and maps that follow the facts.
//!
//! The number of rules does not depend on the number of networks, endpoints or ports. Every chain's policy is accept:
//! what is not about a bridge of ours passes untouched.

use crate::ids::IfName;
use crate::ipam::{Block, Number};
use crate::links::{Opening, openings};
use crate::nft::{
    Base, Chain, ChainType, CtState, Data, DataType, Element, Expr, Field, Hook, Key, Owner, Rule, Set, Table, Type,
    Value, Verdict, Why,
};
use crate::relay::{Relayed, relayed};
use crate::world::{Endpoint, GatewayMode, Means, Network, Opened, PortBinding, Subnet, World};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// `NF_IP_PRI_RAW` (linux/netfilter_ipv4.h): before connection tracking.
const RAW: i32 = -300;
/// `NF_IP_PRI_NAT_DST`
const DSTNAT: i32 = -100;
/// `NF_IP_PRI_FILTER`
const FILTER: i32 = 0;
/// `NF_IP_PRI_NAT_SRC`
const SRCNAT: i32 = 100;
/// `IPPROTO_ICMPV6`
const ICMPV6: u8 = 58;
/// RFC 4861 §4.5
const REDIRECT: u8 = 137;
/// `NFPROTO_IPV4`
const IPV4: u8 = 2;
/// `NFPROTO_IPV6`
const IPV6: u8 = 10;
/// `IPPROTO_TCP`
const TCP: u8 = 6;
/// `IPPROTO_UDP`
const UDP: u8 = 17;
/// `IPPROTO_ICMP`
const ICMP: u8 = 1;
/// The protocols that are relayed.
const RELAYED: [u8; 2] = [TCP, UDP];

/// The table for these facts.
pub fn table(world: &World) -> Table {
    let mut table = Table { sets: definitions(), chains: chains() };
    for network in world.networks.values().filter(|network| network.has_bridge()) {
        add_network(&mut table, network);
    }
    for endpoint in world.endpoints.values() {
        add_endpoint(&mut table, endpoint, world.relay);
    }
    if let Some(port) = world.relay {
        for proto in RELAYED {
            put(&mut table, "relay", vec![Value::Proto(proto), Value::Port(port)], None, why("the engine's relay"));
        }
    }
    for opening in world.sandboxes.values().flat_map(|sandbox| openings(world, sandbox)) {
        add_opening(&mut table, &opening);
    }
    let ours = [(world.means.firewall4, IPV4, "IPv4"), (world.means.firewall6, IPV6, "IPv6")];
    if let Some(forward) = table.chains.get_mut("forward") {
        for (_, family, name) in ours.iter().filter(|(ours, ..)| !ours) {
            let body = vec![is(Field::NfProto, Value::Proto(*family)), Expr::Verdict(Verdict::Accept)];
            forward.rules.insert(0, rule(&format!("{name} is not for this table, as berth was told"), body));
        }
    }
    leave_alone(&mut table, &world.means);
    table
}

/// Take out what is about a family that the engine was told to leave alone: the sets whose names end in its number.
pub fn leave_alone(table: &mut Table, means: &Means) {
    for (_, number) in [(means.firewall4, '4'), (means.firewall6, '6')].iter().filter(|(ours, _)| !ours) {
        for (_, set) in table.sets.iter_mut().filter(|(name, _)| name.ends_with(*number)) {
            set.elements.clear();
        }
    }
}

/// Put what a link opens into a table.
pub(crate) fn add_opening(table: &mut Table, opening: &Opening) {
    let why = opening.why();
    for (set, key) in opening.elements() {
        put(table, set, key, None, why.clone());
    }
}

/// Take what a link opens out of a table.
pub(crate) fn remove_opening(table: &mut Table, opening: &Opening) {
    for (set, key) in opening.elements() {
        if let Some(set) = table.sets.get_mut(set) {
            set.elements.remove(&key);
        }
    }
}

/// Put an endpoint's elements into a table; `relay` is the port of the engine's relay.
pub fn add_endpoint(table: &mut Table, endpoint: &Endpoint, relay: Option<u16>) {
    let why = |binding: &PortBinding| {
        Why::new(format!("{}: -p {binding}", endpoint.container_name), Owner::Endpoint(endpoint.id.short()))
    };
    for binding in &endpoint.ports {
        let why = why(binding);
        for (set, key, data) in published_as(endpoint, binding) {
            put(table, set, key, Some(data), why.clone());
        }
    }
    if let Some(port) = relay {
        for one in relayed(endpoint) {
            let (set, key) = relayed_as(&one);
            put(table, set, key, Some(Data::Parts(vec![Value::Port(port)])), why(one.binding));
        }
    }
    for opened in &endpoint.opened {
        let why = format!("{}: -p {opened}", endpoint.container_name);
        if let Some((set, key)) = opened_as(endpoint, opened) {
            put(table, set, key, None, Why::new(why, Owner::Endpoint(endpoint.id.short())));
        }
    }
}

/// Take an endpoint's elements out of a table.
pub fn remove_endpoint(table: &mut Table, endpoint: &Endpoint) {
    let published = endpoint.ports.iter().flat_map(|binding| published_as(endpoint, binding));
    let published = published.map(|(set, key, _)| (set, key));
    let relayed = relayed(endpoint);
    let opened = endpoint.opened.iter().filter_map(|opened| opened_as(endpoint, opened));
    for (set, key) in published.chain(relayed.iter().map(relayed_as)).chain(opened) {
        if let Some(set) = table.sets.get_mut(set) {
            set.elements.remove(&key);
        }
    }
}

/// The rules and the empty sets.
pub fn skeleton() -> Table {
    table(&World::default())
}

fn why(text: &str) -> Why {
    Why::new(text, Owner::Engine)
}

fn put(table: &mut Table, set: &str, key: Key, data: Option<Data>, why: Why) {
    if let Some(set) = table.sets.get_mut(set) {
        set.elements.insert(key, Element { data, why });
    }
}

/// A block of addresses as a key: nftables knows no range of one.
fn block<N: Block>(net: N) -> Value {
    match (net.first().into(), net.last().into()) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first == last => Value::Addr4(first),
        (IpAddr::V4(first), IpAddr::V4(last)) => Value::Range4(first, last),
        (first, last) if first == last => Value::Addr6(std::net::Ipv6Addr::of(net.first().number())),
        _ => Value::Range6(std::net::Ipv6Addr::of(net.first().number()), std::net::Ipv6Addr::of(net.last().number())),
    }
}

fn definitions() -> BTreeMap<String, Set> {
    use Type::{Addr4, Addr6, IfName, Port, Proto};
    let set = |key: &[Type]| Set { key: key.to_vec(), data: None, interval: false, elements: BTreeMap::new() };
    let blocks = |of: Type| Set { interval: true, ..set(&[of]) };
    let blocks_behind = |of: Type| Set { interval: true, ..set(&[IfName, of]) };
    let map = |key: &[Type], data: &[Type]| Set { data: Some(DataType::Parts(data.to_vec())), ..set(key) };
    let ports_of = |of: Type| Set { interval: true, ..set(&[of, Proto, Port]) };
    let ranges = |key: &[Type], data: Type| Set { interval: true, ..map(key, &[data]) };
    let named = [
        ("bridges", set(&[IfName])),
        ("internal", set(&[IfName])),
        ("siblings", set(&[IfName, IfName])),
        ("containers4", blocks(Addr4)),
        ("containers6", blocks(Addr6)),
        ("apart", set(&[IfName, IfName])),
        ("links4", set(&[IfName, Addr4, Addr4, Proto, Port])),
        ("links6", set(&[IfName, Addr6, Addr6, Proto, Port])),
        ("hairpin4", blocks_behind(Addr4)),
        ("hairpin6", blocks_behind(Addr6)),
        ("masquerade4", blocks(Addr4)),
        ("masquerade6", blocks(Addr6)),
        ("source4", ranges(&[Addr4], Addr4)),
        ("source6", ranges(&[Addr6], Addr6)),
        ("trusted", set(&[IfName, IfName])),
        ("unprotected4", blocks_behind(Addr4)),
        ("unprotected6", blocks_behind(Addr6)),
        ("routed4", blocks_behind(Addr4)),
        ("routed6", blocks_behind(Addr6)),
        ("opened4", ports_of(Addr4)),
        ("opened6", ports_of(Addr6)),
        ("isolated4", set(&[IfName])),
        ("published4", map(&[Proto, Port], &[Addr4, Port])),
        ("published6", map(&[Proto, Port], &[Addr6, Port])),
        ("published_at4", map(&[Addr4, Proto, Port], &[Addr4, Port])),
        ("published_at6", map(&[Addr6, Proto, Port], &[Addr6, Port])),
        ("ranges4", ranges(&[Proto, Port], Addr4)),
        ("ranges6", ranges(&[Proto, Port], Addr6)),
        ("ranges_at4", ranges(&[Addr4, Proto, Port], Addr4)),
        ("ranges_at6", ranges(&[Addr6, Proto, Port], Addr6)),
        ("relay", set(&[Proto, Port])),
        ("relayed6", map(&[Proto, Port], &[Port])),
        ("relayed_at6", map(&[Addr6, Proto, Port], &[Port])),
        ("relayed_ranges6", ranges(&[Proto, Port], Port)),
        ("relayed_ranges_at6", ranges(&[Addr6, Proto, Port], Port)),
    ];
    named.into_iter().map(|(name, set)| (name.to_owned(), set)).collect()
}

fn rule(text: &str, body: Vec<Expr>) -> Rule {
    Rule { body, why: why(text) }
}

fn within(fields: &[Field], set: &str) -> Expr {
    Expr::In { fields: fields.to_vec(), not: false, set: set.into() }
}

fn outside(field: Field, set: &str) -> Expr {
    Expr::In { fields: vec![field], not: true, set: set.into() }
}

fn jump(chain: &str) -> Expr {
    Expr::Verdict(Verdict::Jump(chain.into()))
}

fn is(field: Field, value: Value) -> Expr {
    Expr::Is { field, not: false, value }
}

fn chains() -> BTreeMap<String, Chain> {
    let base = |kind, hook, priority| Some(Base { kind, hook, priority });
    let named = [
        ("early", base(ChainType::Filter, Hook::Prerouting, RAW), early()),
        ("prerouting", base(ChainType::Nat, Hook::Prerouting, DSTNAT), to_published("packets from elsewhere")),
        ("output", base(ChainType::Nat, Hook::Output, DSTNAT), to_published("packets of the host itself")),
        ("published", None, published()),
        ("opening", None, opening()),
        ("relayed", None, relayed_rules()),
        ("forward", base(ChainType::Filter, Hook::Forward, FILTER), forward()),
        ("links", None, links()),
        ("redirects", base(ChainType::Filter, Hook::Output, FILTER), redirects()),
        ("direct", None, direct()),
        ("input", base(ChainType::Filter, Hook::Input, FILTER), input()),
        ("postrouting", base(ChainType::Nat, Hook::Postrouting, SRCNAT), postrouting()),
    ];
    named.into_iter().map(|(name, base, rules)| (name.to_owned(), Chain { base, rules })).collect()
}

/// It sees every packet before connection tracking, so it is written to cost little: what fails for most is asked first.
fn early() -> Vec<Rule> {
    let lo = || Expr::Is { field: Field::Iif, not: true, value: Value::IfName(IfName::loopback()) };
    let drop = || [lo(), Expr::Counter, Expr::Verdict(Verdict::Drop)];
    // Translation comes before the kernel's own check for such packets and would let them past it.
    let loopback = |addr| [vec![Expr::Loopback4(addr)], drop().to_vec()].concat();
    // The kernel's own check for this (rp_filter) is off or loose on most hosts, and IPv6 has none.
    let containers = |addr, set| [vec![within(&[addr], set)], drop().to_vec()].concat();
    // Bridges of ours let packets of 127.0.0.0/8 pass, so the kernel's own check for their source is off there.
    vec![
        rule("nobody outside reaches what is published on 127.0.0.1", loopback(Field::Daddr4)),
        rule("nobody outside speaks as the host's own 127.0.0.1", loopback(Field::Saddr4)),
        rule("containers speak as themselves", vec![within(&[Field::Iif], "bridges"), Expr::Verdict(Verdict::Accept)]),
        rule("nobody outside speaks as a container", containers(Field::Saddr4, "containers4")),
        rule("nobody outside speaks as a container", containers(Field::Saddr6, "containers6")),
    ]
}

fn to_published(text: &str) -> Vec<Rule> {
    vec![rule(&format!("{text} to an address of the host"), vec![Expr::FibDaddrLocal, jump("published")])]
}

fn published() -> Vec<Rule> {
    use Field::{Daddr4, Daddr6, Dport, L4Proto, NfProto};
    let dnat = |v6, fields: &[Field], map: &str, port| {
        let map = Expr::Dnat { v6, fields: fields.to_vec(), map: map.into(), port };
        if fields.len() == 3 { vec![map] } else { vec![is(NfProto, Value::Proto(if v6 { IPV6 } else { IPV4 })), map] }
    };
    vec![
        rule("ports of one address", dnat(false, &[Daddr4, L4Proto, Dport], "published_at4", true)),
        rule("port ranges of one address", dnat(false, &[Daddr4, L4Proto, Dport], "ranges_at4", false)),
        rule("ports of every address", dnat(false, &[L4Proto, Dport], "published4", true)),
        rule("port ranges of every address", dnat(false, &[L4Proto, Dport], "ranges4", false)),
        rule(
            "IPv6 that the kernel cannot forward to the container",
            vec![is(NfProto, Value::Proto(IPV6)), Expr::Verdict(Verdict::Jump("relayed".into()))],
        ),
        rule("ports of one address", dnat(true, &[Daddr6, L4Proto, Dport], "published_at6", true)),
        rule("port ranges of one address", dnat(true, &[Daddr6, L4Proto, Dport], "ranges_at6", false)),
        rule("ports of every address", dnat(true, &[L4Proto, Dport], "published6", true)),
        rule("port ranges of every address", dnat(true, &[L4Proto, Dport], "ranges6", false)),
    ]
}

/// Where the word of a narrow link on the way does not come back (ICMP is blocked), a connection would hang.
fn opening() -> Vec<Rule> {
    let clamp = |field| vec![within(&[field], "bridges"), Expr::ClampMss];
    vec![
        rule("of containers: no larger segments than the way takes", clamp(Field::Iif)),
        rule("to containers: no larger segments than the way takes", clamp(Field::Oif)),
    ]
}

fn relayed_rules() -> Vec<Rule> {
    use Field::{Daddr6, Dport, L4Proto};
    let maps: [(&str, &[Field], &str); 4] = [
        ("ports of one address", &[Daddr6, L4Proto, Dport], "relayed_at6"),
        ("port ranges of one address", &[Daddr6, L4Proto, Dport], "relayed_ranges_at6"),
        ("ports of every address", &[L4Proto, Dport], "relayed6"),
        ("port ranges of every address", &[L4Proto, Dport], "relayed_ranges6"),
    ];
    let mut rules: Vec<Rule> = Vec::new();
    for (text, fields, map) in maps {
        for proto in RELAYED {
            let dnat = Expr::DnatPort { fields: fields.to_vec(), map: map.into() };
            rules.push(rule(text, vec![is(L4Proto, Value::Proto(proto)), dnat]));
        }
    }
    let drop = vec![within(&[L4Proto, Dport], "relay"), Expr::Counter, Expr::Verdict(Verdict::Drop)];
    rules.push(rule("the relay is reached by published ports only", drop));
    rules
}

fn forward() -> Vec<Rule> {
    use Field::{Iif, L4Proto, Oif};
    let accept = || Expr::Verdict(Verdict::Accept);
    let drop = || [Expr::Counter, Expr::Verdict(Verdict::Drop)];
    let cut = |field| [vec![within(&[field], "internal")], drop().to_vec()].concat();
    let tcp = is(L4Proto, Value::Proto(TCP));
    // Conntrack would take it for the first packet of a flow and masquerade it, and the client of a port that is published
    // no longer would take it for an answer; or find it invalid and let it out as it is. The sender is told, for it may be a
    // socket that lasts only until its end is heard.
    let reset = vec![Expr::Counter, Expr::Reset];
    let middle = vec![
        within(&[Iif], "bridges"),
        is(L4Proto, Value::Proto(TCP)),
        Expr::TcpNotFirst,
        Expr::Ct(CtState::InvalidNew),
    ];
    vec![
        // Nearly every packet to or from a published port, and to other places, is one of these. A link's is not: it is not
        // translated.
        rule(
            "a translated flow under way",
            vec![Expr::Ct(CtState::Established), Expr::CtAssured, Expr::CtTranslated, accept()],
        ),
        rule("openings of TCP connections", vec![tcp, Expr::TcpOpens, jump("opening")]),
        rule("containers that are kept apart", vec![within(&[Iif, Oif], "apart"), jump("links")]),
        rule("both ways of a flow", vec![Expr::Ct(CtState::Established), accept()]),
        rule("containers of one network", vec![within(&[Iif, Oif], "siblings"), accept()]),
        // A container could make up an error about a neighbour's flow; what it may send, later rules let through.
        rule(
            "errors about a flow, from elsewhere",
            vec![outside(Iif, "bridges"), Expr::Ct(CtState::Related), accept()],
        ),
        rule("no way out of an internal network", cut(Iif)),
        rule("no way into an internal network", cut(Oif)),
        rule("to a published port", vec![within(&[Oif], "bridges"), Expr::CtDnat { not: false }, accept()]),
        rule(
            "by a container's own address",
            vec![within(&[Oif], "bridges"), Expr::Verdict(Verdict::Jump("direct".into()))],
        ),
        rule("nothing else reaches a container", [vec![within(&[Oif], "bridges")], drop().to_vec()].concat()),
        rule("a connection that was cut does not begin anew in its middle", [middle, reset].concat()),
        rule("containers reach other places", vec![within(&[Iif], "bridges"), accept()]),
    ]
}

/// Between two containers of one bridge that keeps them apart. It is asked for each packet, also of flows that are under way,
/// so that a link which is gone carries nothing any more.
fn links() -> Vec<Rule> {
    use Field::{Daddr4, Daddr6, Dport, Iif, L4Proto, Saddr4, Saddr6, Sport};
    let accept = || Expr::Verdict(Verdict::Accept);
    let flow = || Expr::Ct(CtState::Established);
    let there = "from a container to what it is linked to";
    let back = "answers of what a container is linked to";
    vec![
        rule(there, vec![within(&[Iif, Saddr4, Daddr4, L4Proto, Dport], "links4"), accept()]),
        rule(there, vec![within(&[Iif, Saddr6, Daddr6, L4Proto, Dport], "links6"), accept()]),
        rule(back, vec![flow(), within(&[Iif, Daddr4, Saddr4, L4Proto, Sport], "links4"), accept()]),
        rule(back, vec![flow(), within(&[Iif, Daddr6, Saddr6, L4Proto, Sport], "links6"), accept()]),
        rule("to a published port, by the host's address", vec![Expr::CtDnat { not: false }, accept()]),
        rule("nothing else between them", vec![Expr::Counter, Expr::Verdict(Verdict::Drop)]),
    ]
}

/// The kernel tells who sends a packet by way of the host to a neighbour that there is a shorter way, which is none where
/// containers are kept apart. IPv4 does not believe it without having heard the neighbour; IPv6 does.
fn redirects() -> Vec<Rule> {
    let redirect = vec![is(Field::L4Proto, Value::Proto(ICMPV6)), is(Field::Icmp6Type, Value::Proto(REDIRECT))];
    let to = vec![within(&[Field::Oif], "bridges")];
    vec![rule("no container is sent another way", [redirect, to, vec![Expr::Verdict(Verdict::Drop)]].concat())]
}

/// Who has a route to containers' own addresses, and may use it.
fn direct() -> Vec<Rule> {
    use Field::{Daddr4, Daddr6, Dport, Iif, L4Proto, Oif};
    let accept = || Expr::Verdict(Verdict::Accept);
    let open = |addr, set| vec![within(&[addr, L4Proto, Dport], set), accept()];
    let outside = || outside(Iif, "bridges");
    let all = |addr, set| vec![outside(), within(&[Oif, addr], set), accept()];
    // A container of another network could make up errors about a neighbour's flows.
    let icmp =
        |proto, addr, set| vec![outside(), is(L4Proto, Value::Proto(proto)), within(&[Oif, addr], set), accept()];
    let published = "to a published port of a container that is routed";
    let unprotected = "to any port of a container that is not protected, from elsewhere";
    let errors = "ICMP to containers that are routed, from elsewhere";
    vec![
        rule(published, open(Daddr4, "opened4")),
        rule(published, open(Daddr6, "opened6")),
        rule(unprotected, all(Daddr4, "unprotected4")),
        rule(unprotected, all(Daddr6, "unprotected6")),
        rule(errors, icmp(ICMP, Daddr4, "routed4")),
        rule(errors, icmp(ICMPV6, Daddr6, "routed6")),
        rule("to any port, from an interface that is trusted", vec![within(&[Iif, Oif], "trusted"), accept()]),
    ]
}

/// The host answers for each of its addresses on every interface, so one without an address is not yet apart from it. IPv6
/// is off on such a bridge.
fn input() -> Vec<Rule> {
    let from = vec![is(Field::NfProto, Value::Proto(IPV4)), within(&[Field::Iif], "isolated4")];
    vec![rule(
        "no way from an isolated network to the host",
        [from, vec![Expr::Counter, Expr::Verdict(Verdict::Drop)]].concat(),
    )]
}

fn postrouting() -> Vec<Rule> {
    use Field::{Oif, Saddr4, Saddr6};
    // By the address and not by `iifname`, which is empty where br_netfilter calls this for a frame.
    let back = |addr, set| vec![within(&[Oif, addr], set), Expr::CtDnat { not: false }, Expr::Masquerade];
    let hairpin = "a published port of the same network answers by way of the host";
    let from = |field, set| vec![within(&[field], set), outside(Oif, "bridges"), Expr::Masquerade];
    let as_told =
        |v6, field, map: &str| vec![outside(Oif, "bridges"), Expr::Snat { v6, fields: vec![field], map: map.into() }];
    vec![
        rule("containers leave with the address that their network was told", as_told(false, Saddr4, "source4")),
        rule("containers leave with the address that their network was told", as_told(true, Saddr6, "source6")),
        rule("containers leave with the host's address", from(Saddr4, "masquerade4")),
        rule("containers leave with the host's address", from(Saddr6, "masquerade6")),
        rule(hairpin, back(Saddr4, "hairpin4")),
        rule(hairpin, back(Saddr6, "hairpin6")),
        rule(
            "the host reaches containers by way of its 127.0.0.1",
            vec![Expr::Loopback4(Saddr4), within(&[Oif], "bridges"), Expr::Masquerade],
        ),
    ]
}

fn add_network(table: &mut Table, network: &Network) {
    let owner = Owner::Network(network.id.short());
    let why = |text: &str| Why::new(format!("{}: {text}", network.name), owner);
    let bridge = || Value::IfName(network.bridge.clone());
    put(table, "bridges", vec![bridge()], None, why("its bridge"));
    // On a bridge made by hand there may be others, and ways to them that its owner knows.
    if !network.foreign_bridge {
        if let Some(v4) = &network.v4 {
            put(table, "containers4", vec![block(v4.net)], None, why("its addresses"));
        }
        if let Some(v6) = &network.v6 {
            put(table, "containers6", vec![block(v6.net)], None, why("its addresses"));
        }
    }
    if network.icc {
        put(table, "siblings", vec![bridge(), bridge()], None, why("its containers reach each other"));
    } else {
        put(table, "apart", vec![bridge(), bridge()], None, why("its containers are kept apart"));
    }
    for interface in &network.trusted {
        let from = Value::IfName(interface.clone());
        put(table, "trusted", vec![from, bridge()], None, why(&format!("{interface} is trusted")));
    }
    if network.internal {
        put(table, "internal", vec![bridge()], None, why("internal"));
    }
    let masquerade = network.masquerade;
    if let Some(v4) = &network.v4 {
        let sets = FamilySets {
            hairpin: "hairpin4",
            masquerade: "masquerade4",
            source: "source4",
            unprotected: "unprotected4",
            routed: "routed4",
        };
        sets.add(table, network, v4, masquerade, &why);
        if v4.mode == GatewayMode::Isolated {
            put(table, "isolated4", vec![bridge()], None, why("isolated from the host"));
        }
    }
    if let Some(v6) = &network.v6 {
        let sets = FamilySets {
            hairpin: "hairpin6",
            masquerade: "masquerade6",
            source: "source6",
            unprotected: "unprotected6",
            routed: "routed6",
        };
        sets.add(table, network, v6, masquerade, &why);
    }
}

/// The names of one family's sets.
struct FamilySets {
    hairpin: &'static str,
    masquerade: &'static str,
    source: &'static str,
    unprotected: &'static str,
    routed: &'static str,
}

impl FamilySets {
    fn add<N: Block + std::fmt::Display>(
        &self,
        table: &mut Table,
        network: &Network,
        subnet: &Subnet<N, N::Addr>,
        masquerade: bool,
        why: &dyn Fn(&str) -> Why,
    ) {
        // Nobody from elsewhere comes to an internal network, whatever its mode.
        if network.internal {
            return;
        }
        let all = || block(subnet.net);
        let behind = || vec![Value::IfName(network.bridge.clone()), all()];
        if subnet.mode.translates() {
            put(table, self.hairpin, behind(), None, why("its published ports from inside"));
            let outwards = format!("{} outwards", subnet.net);
            match subnet.source.filter(|_| masquerade) {
                Some(addr) => {
                    put(table, self.source, vec![all()], Some(Data::Parts(vec![address(addr)])), why(&outwards))
                }
                None if masquerade => put(table, self.masquerade, vec![all()], None, why(&outwards)),
                None => {}
            }
        }
        match subnet.mode {
            GatewayMode::NatUnprotected => put(table, self.unprotected, behind(), None, why("nat-unprotected")),
            GatewayMode::Routed => put(table, self.routed, behind(), None, why("routed")),
            GatewayMode::Nat | GatewayMode::Isolated | GatewayMode::Segment => {}
        }
    }
}

fn address<A: Number>(addr: A) -> Value {
    match addr.into() {
        IpAddr::V4(addr) => Value::Addr4(addr),
        IpAddr::V6(addr) => Value::Addr6(addr),
    }
}

/// The element of a port that is open at the container's own address: set and key. None for a family that it does not have.
fn opened_as(endpoint: &Endpoint, opened: &Opened) -> Option<(&'static str, Key)> {
    let (set, addr) = if opened.v6 {
        ("opened6", endpoint.addr6.map(Value::Addr6)?)
    } else {
        ("opened4", endpoint.addr4.map(Value::Addr4)?)
    };
    let (first, last) = opened.ports().into_inner();
    let ports = if first == last { Value::Port(first) } else { Value::PortRange(first, last) };
    Some((set, vec![addr, Value::Proto(opened.proto.number()), ports]))
}

/// The elements of one binding: set, key and data. None for a family that the endpoint does not have.
fn published_as(endpoint: &Endpoint, binding: &PortBinding) -> Vec<(&'static str, Key, Data)> {
    let inner = match binding.host_ip {
        IpAddr::V4(_) => endpoint.addr4.map(Value::Addr4),
        IpAddr::V6(_) => endpoint.addr6.map(Value::Addr6),
    };
    let Some(inner) = inner else { return Vec::new() };
    let (single, range, at) = match binding.host_ip {
        // The relay has it: packets of ::1 do not leave the host.
        IpAddr::V6(ip) if ip.is_loopback() => return Vec::new(),
        IpAddr::V4(ip) if ip.is_unspecified() => ("published4", "ranges4", None),
        IpAddr::V4(ip) => ("published_at4", "ranges_at4", Some(Value::Addr4(ip))),
        IpAddr::V6(ip) if ip.is_unspecified() => ("published6", "ranges6", None),
        IpAddr::V6(ip) => ("published_at6", "ranges_at6", Some(Value::Addr6(ip))),
    };
    let key = |port| at.iter().cloned().chain([Value::Proto(binding.proto.number()), port]).collect::<Key>();
    if binding.count > 1 && binding.host_port == binding.inner_port {
        let ports = binding.host_ports();
        return vec![(range, key(Value::PortRange(*ports.start(), *ports.end())), Data::Parts(vec![inner]))];
    }
    // A map's data cannot count along, so a range whose numbers differ inside is spelled out.
    let pairs = binding.host_ports().zip(binding.inner_ports());
    pairs
        .map(|(host, to)| (single, key(Value::Port(host)), Data::Parts(vec![inner.clone(), Value::Port(to)])))
        .collect()
}

/// The element of ports that are relayed: map and key.
fn relayed_as(one: &Relayed<'_>) -> (&'static str, Key) {
    let (single, range) = match one.at {
        None => ("relayed6", "relayed_ranges6"),
        Some(_) => ("relayed_at6", "relayed_ranges_at6"),
    };
    let (from, to) = one.ports;
    let (map, port) = if from == to { (single, Value::Port(from)) } else { (range, Value::PortRange(from, to)) };
    (map, one.at.map(Value::Addr6).into_iter().chain([Value::Proto(one.proto.number()), port]).collect())
}
