//! Tracked flows that must not outlive what led them.
//!
//! The kernel translates the first packet of a flow and remembers what it did. So a flow goes on after its port is published
//! no longer; and a datagram that came before its port was published made a flow that leads to the host, for good where a
//! client never pauses. Both are found by the port that the first packet was for.

use crate::merge::merge;
use crate::nft::{Data, Table, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// `IPPROTO_UDP`
const UDP: u8 = 17;

/// A flow, as its first packet was and as its answers are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// The transport protocol's number.
    pub proto: u8,
    /// Who began it.
    pub from: SocketAddr,
    /// Whom the first packet was for, before translation.
    pub to: SocketAddr,
    /// Who answers: `to` after translation.
    pub answers: SocketAddr,
}

/// Flows that are to be forgotten.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flows {
    /// Of IPv6.
    pub v6: bool,
    /// The transport protocol's number.
    pub proto: u8,
    /// Whom their first packets were for; `None` is every address.
    pub to: Option<IpAddr>,
    /// First and last port that their first packets were for.
    pub ports: (u16, u16),
    /// Who answers.
    pub answers: Answers,
}

/// Who answers a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answers {
    /// This address: a container's.
    Address(IpAddr),
    /// The engine's relay on this port.
    Relay(u16),
    /// Whom it was for, and that is the host itself.
    Host,
}

impl Flows {
    /// Is it one of these? `local` says whether an address is the host's own.
    pub fn hold(&self, flow: &Flow, local: impl FnOnce(IpAddr) -> bool) -> bool {
        let meant = self.proto == flow.proto
            && self.v6 == flow.to.is_ipv6()
            && self.to.is_none_or(|to| to == flow.to.ip())
            && (self.ports.0..=self.ports.1).contains(&flow.to.port());
        meant
            && match self.answers {
                Answers::Address(addr) => flow.answers.ip() == addr,
                Answers::Relay(port) => flow.answers == SocketAddr::new(flow.to.ip(), port),
                Answers::Host => flow.answers == flow.to && local(flow.to.ip()),
            }
    }
}

impl fmt::Display for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let any = if self.v6 { "[::]" } else { "0.0.0.0" };
        match self.to {
            None => f.write_str(any)?,
            Some(IpAddr::V4(ip)) => write!(f, "{ip}")?,
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]")?,
        }
        write!(f, ":{}-{}/{} answered by ", self.ports.0, self.ports.1, Value::Proto(self.proto))?;
        match self.answers {
            Answers::Address(addr) => write!(f, "{addr}"),
            Answers::Relay(port) => write!(f, "the relay on {port}"),
            Answers::Host => f.write_str("the host"),
        }
    }
}

/// The flows that no longer lead where a table leads them, once it has become another one.
pub(crate) fn outlived(have: Option<&Table>, want: Option<&Table>) -> Vec<Flows> {
    let (no_sets, no_elements) = (BTreeMap::new(), BTreeMap::new());
    let (have, want) = (have.map_or(&no_sets, |t| &t.sets), want.map_or(&no_sets, |t| &t.sets));
    let mut all = Vec::new();
    for (name, have, want) in merge(have, want).filter(|(name, ..)| LEADING.contains(&name.as_str())) {
        let v6 = name.ends_with('6');
        let (have, want) = (have.map_or(&no_elements, |s| &s.elements), want.map_or(&no_elements, |s| &s.elements));
        for (key, have, want) in merge(have, want) {
            let (have, want) = (have.and_then(|e| e.data.as_ref()), want.and_then(|e| e.data.as_ref()));
            if have == want {
                continue;
            }
            all.extend(have.and_then(|data| led(v6, key, answers(data)?)));
            // Connections begin anew by themselves; datagrams do not.
            let came = want.and_then(|_| led(v6, key, Answers::Host));
            all.extend(came.filter(|flows| flows.proto == UDP));
        }
    }
    all.sort_by_key(|flows| (flows.v6, flows.proto, flows.to, flows.answers, flows.ports));
    joined(all)
}

/// The maps that lead to published ports.
const LEADING: [&str; 12] = [
    "published4",
    "published6",
    "published_at4",
    "published_at6",
    "ranges4",
    "ranges6",
    "ranges_at4",
    "ranges_at6",
    "relayed6",
    "relayed_at6",
    "relayed_ranges6",
    "relayed_ranges_at6",
];

fn answers(data: &Data) -> Option<Answers> {
    let Data::Parts(parts) = data else { return None };
    match parts.first()? {
        Value::Addr4(addr) => Some(Answers::Address((*addr).into())),
        Value::Addr6(addr) => Some(Answers::Address((*addr).into())),
        Value::Port(port) => Some(Answers::Relay(*port)),
        _ => None,
    }
}

/// The flows that an element of a map leads.
fn led(v6: bool, key: &[Value], answers: Answers) -> Option<Flows> {
    let (to, rest) = match key {
        [Value::Addr4(addr), rest @ ..] => (Some(IpAddr::V4(*addr)), rest),
        [Value::Addr6(addr), rest @ ..] => (Some(IpAddr::V6(*addr)), rest),
        rest => (None, rest),
    };
    let (proto, ports) = match rest {
        [Value::Proto(proto), Value::Port(port)] => (*proto, (*port, *port)),
        [Value::Proto(proto), Value::PortRange(from, to)] => (*proto, (*from, *to)),
        _ => return None,
    };
    Some(Flows { v6, proto, to, ports, answers })
}

/// Ports that follow each other, and are the same otherwise, as one.
fn joined(sorted: Vec<Flows>) -> Vec<Flows> {
    let mut all: Vec<Flows> = Vec::new();
    for flows in sorted {
        let same = |last: &Flows| Flows { ports: flows.ports, ..last.clone() } == flows;
        match all.last_mut().filter(|last| same(last) && last.ports.1.checked_add(1) == Some(flows.ports.0)) {
            Some(last) => last.ports.1 = flows.ports.1,
            None => all.push(flows),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall;
    use crate::world::{Endpoint, PortBinding, Proto};

    fn table(rows: &[(Proto, &str, u16, u16, u16)], relay: Option<u16>) -> Table {
        let digits = |digit: &str| digit.repeat(64);
        let row = |(proto, host_ip, host_port, inner_port, count): &(Proto, &str, u16, u16, u16)| PortBinding {
            proto: *proto,
            host_ip: host_ip.parse().unwrap(),
            host_port: *host_port,
            inner_port: *inner_port,
            count: *count,
        };
        let endpoint = Endpoint {
            id: digits("a").parse().unwrap(),
            network: digits("b").parse().unwrap(),
            sandbox: digits("c").parse().unwrap(),
            container_name: "web".into(),
            inner: "eth0".parse().unwrap(),
            host: "vetha".parse().unwrap(),
            mac: crate::ids::Mac([2, 0, 0, 0, 0, 1]),
            addr4: Some("10.1.0.2".parse().unwrap()),
            addr6: None,
            gateway: true,
            gateway6: false,
            priority: 0,
            names: Vec::new(),
            ports: rows.iter().map(row).collect(),
        };
        let mut table = firewall::skeleton();
        firewall::add_endpoint(&mut table, &endpoint, relay);
        table
    }

    #[track_caller]
    fn check(have: &Table, want: &Table, lines: &[&str]) {
        let shown: Vec<String> = outlived(Some(have), Some(want)).iter().map(Flows::to_string).collect();
        assert_eq!(shown, lines);
    }

    #[test]
    fn what_came_and_what_went() {
        let none = table(&[], None);
        let some = table(&[(Proto::Tcp, "0.0.0.0", 8080, 80, 1), (Proto::Udp, "192.0.2.1", 5000, 53, 3)], None);
        check(&none, &none, &[]);
        check(&some, &some, &[]);
        // A range whose numbers differ is many elements, and one row of ports all the same.
        check(&none, &some, &["192.0.2.1:5000-5002/udp answered by the host"]);
        check(
            &some,
            &none,
            &["0.0.0.0:8080-8080/tcp answered by 10.1.0.2", "192.0.2.1:5000-5002/udp answered by 10.1.0.2"],
        );
        let range = table(&[(Proto::Udp, "0.0.0.0", 20_000, 20_000, 1000)], None);
        check(&none, &range, &["0.0.0.0:20000-20999/udp answered by the host"]);
        // The whole table went, or is put there anew.
        assert_eq!(outlived(None, Some(&range)).len(), 1);
        assert_eq!(outlived(Some(&range), None).len(), 1);
    }

    #[test]
    fn relayed_ports_too() {
        let rows = [(Proto::Udp, "::", 53, 53, 1), (Proto::Tcp, "::1", 80, 80, 1)];
        let (none, before, now) = (table(&rows, None), table(&rows, Some(61_000)), table(&rows, Some(61_001)));
        check(
            &before,
            &none,
            &["[::1]:80-80/tcp answered by the relay on 61000", "[::]:53-53/udp answered by the relay on 61000"],
        );
        // An engine that could not have its port again.
        check(
            &before,
            &now,
            &[
                "[::1]:80-80/tcp answered by the relay on 61000",
                "[::]:53-53/udp answered by the relay on 61000",
                "[::]:53-53/udp answered by the host",
            ],
        );
    }

    #[test]
    fn a_flow_is_known_by_its_first_packet_and_its_answers() {
        let flow = |to: &str, answers: &str| Flow {
            proto: UDP,
            from: "192.0.2.9:4000".parse().unwrap(),
            to: to.parse().unwrap(),
            answers: answers.parse().unwrap(),
        };
        let flows = |to: Option<&str>, answers| Flows {
            v6: false,
            proto: UDP,
            to: to.map(|to| to.parse().unwrap()),
            ports: (50, 59),
            answers,
        };
        let inside = Answers::Address("10.1.0.2".parse().unwrap());
        let hold = |flows: Flows, flow: Flow| flows.hold(&flow, |ip| ip.to_string().starts_with("192.0.2."));
        assert!(hold(flows(None, inside), flow("192.0.2.1:53", "10.1.0.2:80")));
        assert!(hold(flows(Some("192.0.2.1"), inside), flow("192.0.2.1:53", "10.1.0.2:80")));
        assert!(!hold(flows(Some("192.0.2.2"), inside), flow("192.0.2.1:53", "10.1.0.2:80")));
        assert!(!hold(flows(None, inside), flow("192.0.2.1:60", "10.1.0.2:80")));
        assert!(!hold(flows(None, inside), flow("192.0.2.1:53", "10.1.0.3:80")));
        assert!(!hold(flows(None, inside), Flow { proto: 6, ..flow("192.0.2.1:53", "10.1.0.2:80") }));
        assert!(hold(flows(None, Answers::Host), flow("192.0.2.1:53", "192.0.2.1:53")));
        // On its way to somebody else, from a container, say.
        assert!(!hold(flows(None, Answers::Host), flow("198.51.100.1:53", "198.51.100.1:53")));
        assert!(!hold(flows(None, Answers::Host), flow("192.0.2.1:53", "10.1.0.2:53")));
        let relayed = Flow { from: "[fd00::9]:1".parse().unwrap(), ..flow("[fd00::1]:53", "[fd00::1]:61000") };
        assert!(hold(Flows { v6: true, ..flows(None, Answers::Relay(61_000)) }, relayed.clone()));
        assert!(!hold(Flows { v6: true, ..flows(None, Answers::Relay(61_001)) }, relayed));
    }
}
