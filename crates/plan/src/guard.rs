//! The wished-for table of the bridges: no container sends as anybody but itself.
//!
//! It sees frames before br_netfilter does, and before the bridge learns from them; all frames, because every port of ours is
//! told to treat those for reserved groups as any other (`netstate::BridgePort::groups`). As in `firewall` the rules are
//! constant.

use crate::nft::{
    Base, Chain, ChainType, Data, DataType, Element, Expr, Field, Hook, Key, Owner, Rule, Set, Table, Type, Value,
    Verdict, Why,
};
use crate::world::{Endpoint, Network, World};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Before br_netfilter (`NF_BR_PRI_BRNF`, linux/netfilter_bridge.h), which is at 0.
const EARLY: i32 = -250;
/// `ETH_P_IP`, `ETH_P_ARP` and `ETH_P_IPV6` (linux/if_ether.h)
const ETH_IPV4: u16 = 0x0800;
const ETH_ARP: u16 = 0x0806;
const ETH_IPV6: u16 = 0x86dd;
/// `IPPROTO_ICMPV6`
const ICMPV6: u8 = 58;
/// RFC 4861 §4.2: says who is a router.
const ROUTER_ADVERTISEMENT: u8 = 134;
/// RFC 4861 §4.3: asks who has an address, or wants it.
const NEIGHBOUR_SOLICITATION: u8 = 135;
/// RFC 4861 §4.4: says who has an address.
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// RFC 4861 §4.5: says that another one has the better way.
const REDIRECT: u8 = 137;

/// The table for these facts.
pub fn table(world: &World) -> Table {
    let set = |key: &[Type]| Set { key: key.to_vec(), data: None, interval: false, elements: BTreeMap::new() };
    let sets = [
        ("ports", set(&[Type::IfName])),
        ("ethers", set(&[Type::IfName, Type::Mac])),
        ("senders4", set(&[Type::IfName, Type::Mac, Type::Addr4])),
        ("senders6", set(&[Type::IfName, Type::Mac, Type::Addr6])),
        ("addrs4", set(&[Type::IfName, Type::Addr4])),
        ("addrs6", set(&[Type::IfName, Type::Addr6])),
        ("protocols", protocols()),
    ];
    let base = Base { kind: ChainType::Filter, hook: Hook::Prerouting, priority: EARLY };
    let chains = [
        ("prerouting", Some(base), prerouting()),
        ("guard", None, guard()),
        ("arp", None, arp()),
        ("ipv4", None, ipv4()),
        ("ipv6", None, ipv6()),
    ];
    let mut table = Table {
        sets: sets.into_iter().map(|(name, set)| (name.to_owned(), set)).collect(),
        chains: chains.into_iter().map(|(name, base, rules)| (name.to_owned(), Chain { base, rules })).collect(),
    };
    // An endpoint without its network asks for nothing, as in `desired`.
    let bridged = |e: &&Endpoint| world.networks.get(&e.network).is_some_and(Network::has_bridge);
    for endpoint in world.endpoints.values().filter(bridged) {
        add_endpoint(&mut table, endpoint);
    }
    table
}

/// Put an endpoint's elements into a table.
pub fn add_endpoint(table: &mut Table, endpoint: &Endpoint) {
    for (set, key, text) in identity(endpoint) {
        let why = Why::new(format!("{}: {text}", endpoint.container_name), Owner::Endpoint(endpoint.id.short()));
        if let Some(set) = table.sets.get_mut(set) {
            set.elements.insert(key, Element { data: None, why });
        }
    }
}

/// Take an endpoint's elements out of a table.
pub fn remove_endpoint(table: &mut Table, endpoint: &Endpoint) {
    for (set, key, _) in identity(endpoint) {
        if let Some(set) = table.sets.get_mut(set) {
            set.elements.remove(&key);
        }
    }
}

/// What a container may speak, and where its sender is checked.
fn protocols() -> Set {
    let element = |(kind, chain): (u16, &str)| {
        let data = Some(Data::Verdict(Verdict::Jump(chain.into())));
        (vec![Value::EtherType(kind)], Element { data, why: why(&format!("its sender is checked in {chain}")) })
    };
    let elements = [(ETH_IPV4, "ipv4"), (ETH_ARP, "arp"), (ETH_IPV6, "ipv6")].map(element).into();
    Set { key: vec![Type::EtherType], data: Some(DataType::Verdict), interval: false, elements }
}

fn prerouting() -> Vec<Rule> {
    use Field::{EtherSaddr, EtherType, Iif, L4Proto, Saddr4, Saddr6};
    let protocol = |kind| is(EtherType, Value::EtherType(kind));
    let no_icmp = Expr::Is { field: L4Proto, not: true, value: Value::Proto(ICMPV6) };
    vec![
        // One question for nearly every frame.
        rule("IPv4 of its own", vec![protocol(ETH_IPV4), among(&[Iif, EtherSaddr, Saddr4], "senders4"), accept()]),
        rule(
            "IPv6 of its own",
            vec![protocol(ETH_IPV6), no_icmp, among(&[Iif, EtherSaddr, Saddr6], "senders6"), accept()],
        ),
        rule("frames of containers", vec![among(&[Iif], "ports"), jump("guard")]),
    ]
}

fn guard() -> Vec<Rule> {
    let by_protocol = Expr::Vmap { fields: vec![Field::EtherType], map: "protocols".into() };
    vec![
        rule("with another's Ethernet address", drop(vec![strange(Field::EtherSaddr, "ethers")])),
        rule("each protocol names its sender", vec![by_protocol]),
        rule("of another protocol, or tagged: nobody knows its sender", drop(vec![])),
    ]
}

fn arp() -> Vec<Rule> {
    vec![
        rule("ARP with another's Ethernet address", drop(vec![strange(Field::ArpEther, "ethers")])),
        rule("ARP with another's address", drop(vec![strange(Field::ArpSaddr4, "addrs4")])),
        rule("ARP of its own", vec![accept()]),
    ]
}

fn ipv4() -> Vec<Rule> {
    vec![
        rule("with its own IPv4 address", vec![among(&[Field::Iif, Field::Saddr4], "addrs4"), accept()]),
        rule("with another's IPv4 address", drop(vec![])),
    ]
}

fn ipv6() -> Vec<Rule> {
    use Field::{Icmp6Type, L4Proto, NdTarget, Saddr6};
    let icmp = |kind| vec![is(L4Proto, Value::Proto(ICMPV6)), is(Icmp6Type, Value::Proto(kind))];
    let nobody = is(Saddr6, Value::Addr6(Ipv6Addr::UNSPECIFIED));
    let of_others = |kind| [icmp(kind), vec![strange(NdTarget, "addrs6")]].concat();
    let no_icmp = Expr::Is { field: L4Proto, not: true, value: Value::Proto(ICMPV6) };
    vec![
        rule("with another's IPv6 address", drop(vec![strange(Saddr6, "addrs6")])),
        rule("with its own IPv6 address", vec![no_icmp, accept()]),
        rule("a router, which no container is", drop(icmp(ROUTER_ADVERTISEMENT))),
        rule("a redirect, which is a router's", drop(icmp(REDIRECT))),
        rule("a neighbour advertisement of another's address", drop(of_others(NEIGHBOUR_ADVERTISEMENT))),
        rule("wants another's address", drop([vec![nobody], of_others(NEIGHBOUR_SOLICITATION)].concat())),
        rule("ICMPv6 of its own", vec![accept()]),
    ]
}

fn is(field: Field, value: Value) -> Expr {
    Expr::Is { field, not: false, value }
}

/// Not what the set has for this port.
fn strange(field: Field, set: &str) -> Expr {
    Expr::In { fields: vec![Field::Iif, field], not: true, set: set.into() }
}

fn drop(conditions: Vec<Expr>) -> Vec<Expr> {
    [conditions, vec![Expr::Counter, Expr::Verdict(Verdict::Drop)]].concat()
}

fn accept() -> Expr {
    Expr::Verdict(Verdict::Accept)
}

fn jump(chain: &str) -> Expr {
    Expr::Verdict(Verdict::Jump(chain.into()))
}

fn why(text: &str) -> Why {
    Why::new(text, Owner::Engine)
}

fn rule(text: &str, body: Vec<Expr>) -> Rule {
    Rule { body, why: why(text) }
}

fn among(fields: &[Field], set: &str) -> Expr {
    Expr::In { fields: fields.to_vec(), not: false, set: set.into() }
}

/// All that an endpoint may send as: set, key and words.
fn identity(endpoint: &Endpoint) -> Vec<(&'static str, Key, &'static str)> {
    let port = || Value::IfName(endpoint.host.clone());
    let mut all = vec![
        ("ports", vec![port()], "its port"),
        ("ethers", vec![port(), Value::Mac(endpoint.mac)], "its Ethernet address"),
    ];
    if let Some(addr) = endpoint.addr4 {
        all.push(("senders4", vec![port(), Value::Mac(endpoint.mac), Value::Addr4(addr)], "itself"));
        all.push(("addrs4", vec![port(), Value::Addr4(addr)], "its address"));
        // Who asks whether an address is free says that it has none (RFC 5227 §1.1).
        all.push(("addrs4", vec![port(), Value::Addr4(Ipv4Addr::UNSPECIFIED)], "no address yet"));
    }
    if let Some(addr) = endpoint.addr6 {
        all.push(("senders6", vec![port(), Value::Mac(endpoint.mac), Value::Addr6(addr)], "itself"));
        all.push(("addrs6", vec![port(), Value::Addr6(addr)], "its address"));
        all.push(("addrs6", vec![port(), Value::Addr6(link_local(endpoint.mac.0))], "its link-local address"));
        // RFC 4862 §5.4.2
        all.push(("addrs6", vec![port(), Value::Addr6(Ipv6Addr::UNSPECIFIED)], "no address yet"));
    }
    for addr in &endpoint.link_local {
        let (set, addr) = match addr {
            IpAddr::V4(v4) => ("addrs4", Value::Addr4(*v4)),
            IpAddr::V6(v6) => ("addrs6", Value::Addr6(*v6)),
        };
        all.push((set, vec![port(), addr], "its link-local address"));
    }
    all
}

/// The link-local address that an interface makes of its Ethernet address (RFC 4291, appendix A).
fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_link_local_address_is_made_of_the_ethernet_address() {
        // The example of RFC 4291, appendix A, for a universal address.
        let addr = super::link_local([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        assert_eq!(addr.to_string(), "fe80::3656:78ff:fe9a:bcde");
    }
}
