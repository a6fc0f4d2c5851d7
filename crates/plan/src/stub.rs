//! Where containers find the engine's resolver, and how port 53 stays theirs.
//!
//! Containers ask 127.0.0.11, port 53. A socket of ours there would keep them from binding port 53 of every address, so ours
//! listen on another port, and a table in the sandbox puts one number in place of the other: in packets to the resolver the
//! destination, in its answers the source. That is done packet by packet and without connection tracking, which nothing in a
//! sandbox switches on.

use crate::ids::IfName;
use crate::nft::{Base, Chain, ChainType, Expr, Field, Hook, Owner, Rule, Table, TableName, Value, Verdict, Why};
use crate::world::Proto;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Whom containers ask. Only the sandbox's own loopback has it.
pub const ADDR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// The port that they ask.
pub const ASKED: u16 = 53;
/// The port that our sockets listen on, TCP and UDP: above those that the kernel gives out by itself
/// (`net.ipv4.ip_local_port_range` ends at 60999).
pub const PORT: u16 = 65053;

/// `NF_IP_PRI_RAW`
const RAW: i32 = -300;

/// Its name in the sandbox.
pub fn name() -> TableName {
    TableName::inet()
}

/// The table, the same in each sandbox.
pub fn table() -> Table {
    let base = Base { kind: ChainType::Filter, hook: Hook::Output, priority: RAW };
    let rule = |text: &str, body| Rule { body, why: Why::new(text, Owner::Engine) };
    let elsewhere = vec![
        Expr::Is { field: Field::Oif, not: true, value: Value::IfName(IfName::loopback()) },
        Expr::Verdict(Verdict::Accept),
    ];
    let mut rules = vec![rule("not on loopback", elsewhere)];
    for (text, addr, field, from, to) in [
        ("questions for the resolver", Field::Daddr4, Field::Dport, ASKED, PORT),
        ("the resolver's answers", Field::Saddr4, Field::Sport, PORT, ASKED),
    ] {
        for proto in [Proto::Udp, Proto::Tcp] {
            let is = |field, value| Expr::Is { field, not: false, value };
            let body = vec![
                is(addr, Value::Addr4(ADDR)),
                is(Field::L4Proto, Value::Proto(proto.number())),
                is(field, Value::Port(from)),
                Expr::SetPort { proto, field, port: to },
            ];
            rules.push(rule(text, body));
        }
    }
    let chains = BTreeMap::from([("output".into(), Chain { base: Some(base), rules })]);
    Table { sets: BTreeMap::new(), chains }
}
