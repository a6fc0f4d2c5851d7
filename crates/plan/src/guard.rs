//! The wished-for table of the bridges: no container sends as anybody but itself.
//!
//! It sees frames before br_netfilter does, and before the bridge learns from them. As in `firewall` the rules are constant.

use crate::nft::{
    Base, Chain, ChainType, Element, Expr, Field, Hook, Key, Owner, Rule, Set, Table, Type, Value, Verdict, Why,
};
use crate::world::{Endpoint, World};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Before br_netfilter (`NF_BR_PRI_BRNF`, linux/netfilter_bridge.h), which is at 0.
const EARLY: i32 = -250;
/// `IPPROTO_ICMPV6`
const ICMPV6: u8 = 58;
/// RFC 4861 §4.2: says who is a router.
const ROUTER_ADVERTISEMENT: u8 = 134;
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
        ("addrs4", set(&[Type::IfName, Type::Addr4])),
        ("addrs6", set(&[Type::IfName, Type::Addr6])),
    ];
    let base = Base { kind: ChainType::Filter, hook: Hook::Prerouting, priority: EARLY };
    let chains = [
        ("prerouting", Chain { base: Some(base), rules: prerouting() }),
        ("guard", Chain { base: None, rules: guard() }),
    ];
    let mut table = Table {
        sets: sets.into_iter().map(|(name, set)| (name.to_owned(), set)).collect(),
        chains: chains.into_iter().map(|(name, chain)| (name.to_owned(), chain)).collect(),
    };
    // An endpoint without its network asks for nothing, as in `desired`.
    for endpoint in world.endpoints.values().filter(|e| world.networks.contains_key(&e.network)) {
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

fn prerouting() -> Vec<Rule> {
    let jump = Expr::Verdict(Verdict::Jump("guard".into()));
    vec![rule("frames of containers", vec![among(&[Field::Iif], "ports"), jump])]
}

fn guard() -> Vec<Rule> {
    use Field::{ArpEther, ArpSaddr4, EtherSaddr, Icmp6Type, Iif, L4Proto, NdTarget, Saddr4, Saddr6};
    let own = |field, set: &str| Expr::In { fields: vec![Iif, field], not: true, set: set.into() };
    let is = |field, number| Expr::Is { field, not: false, value: Value::Proto(number) };
    let drop = |conditions: Vec<Expr>| [conditions, vec![Expr::Counter, Expr::Verdict(Verdict::Drop)]].concat();
    let icmp = |kind| vec![is(L4Proto, ICMPV6), is(Icmp6Type, kind)];
    vec![
        rule("with another's Ethernet address", drop(vec![own(EtherSaddr, "ethers")])),
        rule("ARP with another's Ethernet address", drop(vec![own(ArpEther, "ethers")])),
        rule("ARP with another's address", drop(vec![own(ArpSaddr4, "addrs4")])),
        rule("with another's IPv4 address", drop(vec![own(Saddr4, "addrs4")])),
        rule("with another's IPv6 address", drop(vec![own(Saddr6, "addrs6")])),
        rule(
            "a neighbour advertisement of another's address",
            drop([icmp(NEIGHBOUR_ADVERTISEMENT), vec![own(NdTarget, "addrs6")]].concat()),
        ),
        rule("a router, which no container is", drop(icmp(ROUTER_ADVERTISEMENT))),
        rule("a redirect, which is a router's", drop(icmp(REDIRECT))),
    ]
}

fn rule(text: &str, body: Vec<Expr>) -> Rule {
    Rule { body, why: Why::new(text, Owner::Engine) }
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
        all.push(("addrs4", vec![port(), Value::Addr4(addr)], "its address"));
        // Who asks whether an address is free says that it has none (RFC 5227 §1.1).
        all.push(("addrs4", vec![port(), Value::Addr4(Ipv4Addr::UNSPECIFIED)], "no address yet"));
    }
    if let Some(addr) = endpoint.addr6 {
        all.push(("addrs6", vec![port(), Value::Addr6(addr)], "its address"));
        all.push(("addrs6", vec![port(), Value::Addr6(link_local(endpoint.mac.0))], "its link-local address"));
        // RFC 4862 §5.4.2
        all.push(("addrs6", vec![port(), Value::Addr6(Ipv6Addr::UNSPECIFIED)], "no address yet"));
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
