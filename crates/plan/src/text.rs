//! A table as text, in the words and the layout of `nft list table`.

use crate::nft::{
    Base, Chain, ChainType, CtState, Data, DataType, Expr, Field, Hook, Key, Rule, Set, Table, TableName, Type, Value,
    Verdict,
};
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use std::fmt::{self, Display};

/// The whole table. `nft -f` takes it.
pub fn table(name: &TableName, table: &Table) -> String {
    let mut blocks: Vec<String> = table.sets.iter().map(|(name, of)| set(name, of)).collect();
    // A chain must be there before a rule jumps to it.
    let (entered, called): (Vec<_>, Vec<_>) = table.chains.iter().partition(|(_, chain)| chain.base.is_some());
    blocks.extend(called.into_iter().chain(entered).map(|(name, of)| chain(name, of)));
    format!("table {name} {{\n{}}}\n", blocks.join("\n"))
}

/// One chain with its rules.
pub fn chain(name: &str, chain: &Chain) -> String {
    let base = chain.base.map(|base| {
        let kind = match base.kind {
            ChainType::Filter => "filter",
            ChainType::Nat => "nat",
        };
        format!("\t\ttype {kind} hook {} priority {}; policy accept;\n", base.hook, priority(base))
    });
    let rules: String = chain.rules.iter().map(|rule| format!("\t\t{rule}\n")).collect();
    format!("\tchain {name} {{\n{}{rules}\t}}\n", base.unwrap_or_default())
}

/// By the name that nft(8) knows for it at that hook, else as a number.
fn priority(base: Base) -> String {
    match (base.hook, base.priority) {
        (_, -300) => "raw".into(),
        (_, 0) => "filter".into(),
        (Hook::Prerouting, -100) => "dstnat".into(),
        (Hook::Postrouting, 100) => "srcnat".into(),
        (_, other) => other.to_string(),
    }
}

/// One set or map with its elements.
pub fn set(name: &str, set: &Set) -> String {
    let word = if set.data.is_some() { "map" } else { "set" };
    let data = match &set.data {
        None => String::new(),
        Some(DataType::Parts(parts)) => format!(" : {}", dotted(parts)),
        Some(DataType::Verdict) => " : verdict".into(),
    };
    let interval = if set.interval { "\t\tflags interval\n" } else { "" };
    let elements = if set.elements.is_empty() {
        String::new()
    } else {
        let lines: Vec<String> = set.elements.iter().map(|(key, e)| element(key, &e.data, &e.why)).collect();
        format!("\t\telements = {{\n\t\t\t{},\n\t\t}}\n", lines.join(",\n\t\t\t"))
    };
    format!("\t{word} {name} {{\n\t\ttype {}{data}\n{interval}{elements}\t}}\n", dotted(&set.key))
}

fn element(key: &Key, data: &Option<Data>, why: &crate::nft::Why) -> String {
    let data = match data {
        None => String::new(),
        Some(Data::Parts(parts)) => format!(" : {}", dotted(parts)),
        Some(Data::Verdict(verdict)) => format!(" : {verdict}"),
    };
    format!("{} comment \"{why}\"{data}", dotted(key))
}

fn dotted<T: Display>(parts: &[T]) -> String {
    parts.iter().map(T::to_string).collect::<Vec<_>>().join(" . ")
}

impl Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for expr in &self.body {
            write!(f, "{expr} ")?;
        }
        write!(f, "comment \"{}\"", self.why)
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unlike = |not: &bool| if *not { "!= " } else { "" };
        match self {
            Expr::Is { field: Field::NfProto, not, value: Value::Proto(family) } => {
                let family = match family {
                    2 => "ipv4".into(),
                    10 => "ipv6".into(),
                    other => other.to_string(),
                };
                write!(f, "meta nfproto {}{family}", unlike(not))
            }
            Expr::Is { field: Field::Icmp6Type, not, value: Value::Proto(kind) } => {
                write!(f, "icmpv6 type {}{kind}", unlike(not))
            }
            Expr::Is { field, not, value } => write!(f, "{field} {}{value}", unlike(not)),
            Expr::In { fields, not, set } => write!(f, "{} {}@{set}", dotted(fields), unlike(not)),
            Expr::Ct(CtState::Invalid) => f.write_str("ct state invalid"),
            Expr::Ct(CtState::Established) => f.write_str("ct state established"),
            Expr::Ct(CtState::Related) => f.write_str("ct state related"),
            Expr::Ct(CtState::New) => f.write_str("ct state new"),
            Expr::Ct(CtState::InvalidNew) => f.write_str("ct state invalid,new"),
            Expr::CtDnat { not: false } => f.write_str("ct status dnat"),
            Expr::CtAssured => f.write_str("ct status assured"),
            Expr::CtTranslated => f.write_str("ct status snat,dnat"),
            Expr::Loopback4(field) => write!(f, "{field} 127.0.0.0/8"),
            Expr::CtDnat { not: true } => f.write_str("ct status ! dnat"),
            Expr::TcpNotFirst => f.write_str("tcp flags != syn / fin,syn,rst,ack"),
            Expr::FibDaddrLocal => f.write_str("fib daddr type local"),
            Expr::Counter => f.write_str("counter"),
            Expr::Dnat { v6, fields, map, .. } => {
                write!(f, "dnat {} to {} map @{map}", if *v6 { "ip6" } else { "ip" }, dotted(fields))
            }
            Expr::DnatPort { fields, map } => write!(f, "dnat to :{} map @{map}", dotted(fields)),
            Expr::Snat { v6, fields, map } => {
                write!(f, "snat {} to {} map @{map}", if *v6 { "ip6" } else { "ip" }, dotted(fields))
            }
            Expr::Masquerade => f.write_str("masquerade"),
            Expr::TcpOpens => f.write_str("tcp flags syn / syn,rst"),
            Expr::ClampMss => f.write_str("tcp option maxseg size set rt mtu"),
            Expr::SetPort { proto, field, port } => {
                let field = if *field == Field::Sport { "sport" } else { "dport" };
                write!(f, "{} {field} set {port}", proto.name())
            }
            Expr::Reset => f.write_str("reject with tcp reset"),
            Expr::Vmap { fields, map } => write!(f, "{} vmap @{map}", dotted(fields)),
            Expr::Verdict(verdict) => write!(f, "{verdict}"),
            Expr::Foreign(text) => write!(f, "({text})"),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Return => f.write_str("return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
        }
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Iif => "iifname",
            Field::Oif => "oifname",
            Field::Saddr4 => "ip saddr",
            Field::Daddr4 => "ip daddr",
            Field::Saddr6 => "ip6 saddr",
            Field::Daddr6 => "ip6 daddr",
            Field::L4Proto => "meta l4proto",
            Field::Sport => "th sport",
            Field::Dport => "th dport",
            Field::NfProto => "meta nfproto",
            Field::CtOriginalDport => "ct original proto-dst",
            Field::EtherSaddr => "ether saddr",
            Field::EtherType => "ether type",
            Field::ArpEther => "arp saddr ether",
            Field::ArpSaddr4 => "arp saddr ip",
            Field::Icmp6Type => "icmpv6 type",
            Field::NdTarget => "icmpv6 taddr",
        })
    }
}

impl Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        })
    }
}

impl Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::IfName => "ifname",
            Type::Addr4 => "ipv4_addr",
            Type::Addr6 => "ipv6_addr",
            Type::Proto => "inet_proto",
            Type::Port => "inet_service",
            Type::Mac => "ether_addr",
            Type::EtherType => "ether_type",
        })
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::IfName(name) => write!(f, "\"{name}\""),
            Value::Addr4(addr) => write!(f, "{addr}"),
            Value::Addr6(addr) => write!(f, "{addr}"),
            // A range that is a block is written as one.
            Value::Range4(from, to) => block(f, Ipv4Subnets::new(*from, *to, 0), from, to),
            Value::Range6(from, to) => block(f, Ipv6Subnets::new(*from, *to, 0), from, to),
            Value::Mac(mac) => write!(f, "{mac}"),
            Value::EtherType(0x0800) => f.write_str("ip"),
            Value::EtherType(0x0806) => f.write_str("arp"),
            Value::EtherType(0x86dd) => f.write_str("ip6"),
            Value::EtherType(other) => write!(f, "0x{other:04x}"),
            Value::Proto(6) => f.write_str("tcp"),
            Value::Proto(17) => f.write_str("udp"),
            Value::Proto(132) => f.write_str("sctp"),
            Value::Proto(other) => write!(f, "{other}"),
            Value::Port(port) => write!(f, "{port}"),
            Value::PortRange(from, to) => write!(f, "{from}-{to}"),
        }
    }
}

fn block<N: Into<IpNet>>(
    f: &mut fmt::Formatter<'_>,
    mut blocks: impl Iterator<Item = N>,
    from: &dyn Display,
    to: &dyn Display,
) -> fmt::Result {
    match (blocks.next(), blocks.next()) {
        (Some(one), None) => {
            let one: IpNet = one.into();
            write!(f, "{one}")
        }
        _ => write!(f, "{from}-{to}"),
    }
}
