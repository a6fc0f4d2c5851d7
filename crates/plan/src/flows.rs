//! Tracked flows that must not outlive what led them.
//!
//! The kernel translates the first packet of a flow and remembers what it did. So a flow goes on after its port is published
//! no longer; and a datagram that came before its port was published made a flow that leads to the host, for good where a
//! client never pauses. Both are found by the port that the first packet was for.

use crate::merge::merge;
use crate::nft::{Data, Element, Table, Value};
use crate::relay;
use crate::world::{Proto, World};
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

impl Flow {
    /// Do the facts lead it as it goes?
    pub fn is_led_by(&self, world: &World) -> bool {
        let proto = [Proto::Tcp, Proto::Udp, Proto::Sctp].into_iter().find(|proto| proto.number() == self.proto);
        proto.and_then(|proto| relay::answers(world, proto, self.to)) == Some(self.answers)
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
    let (mut went, mut came) = (BTreeMap::new(), BTreeMap::new());
    for (name, have, want) in merge(have, want) {
        let open = OPEN.contains(&name.as_str());
        if !open && !LEADING.contains(&name.as_str()) {
            continue;
        }
        let v6 = name.ends_with('6');
        let (have, want) = (have.map_or(&no_elements, |s| &s.elements), want.map_or(&no_elements, |s| &s.elements));
        for (key, have, want) in merge(have, want) {
            let same = if open { have.is_some() == want.is_some() } else { data(have) == data(want) };
            if same {
                continue;
            }
            // What is open is reached as it is.
            let itself = key.first().filter(|_| open).map(|addr| Data::Parts(vec![addr.clone()]));
            for (element, ways) in [(have, &mut went), (want, &mut came)] {
                let data = itself.as_ref().filter(|_| element.is_some()).or(data(element));
                if let Some((way, ports)) = data.and_then(|data| led(v6, key, data)) {
                    ways.entry(way).or_insert_with(Vec::new).push(ports);
                }
            }
        }
    }
    let of = |way: &Way, ports, answers| Flows { v6: way.v6, proto: way.proto, to: way.to, ports, answers };
    let none = Vec::new();
    let mut all = Vec::new();
    for (way, ports) in &went {
        // A range that grew or shrank still leads most of its ports.
        let gone = without(ports, came.get(way).unwrap_or(&none));
        all.extend(gone.into_iter().map(|ports| of(way, ports, way.answers)));
    }
    // Connections begin anew by themselves; datagrams do not.
    for (way, ports) in came.iter().filter(|(way, _)| way.proto == UDP && !way.is_open()) {
        let new = without(ports, went.get(way).unwrap_or(&none));
        all.extend(new.into_iter().map(|ports| of(way, ports, Answers::Host)));
    }
    all.sort();
    all
}

fn data(element: Option<&Element>) -> Option<&Data> {
    element.and_then(|element| element.data.as_ref())
}

/// How packets are led.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    v6: bool,
    proto: u8,
    to: Option<IpAddr>,
    answers: Answers,
    /// The port inside, less the port of the host.
    shift: i32,
}

impl Way {
    /// The first packet goes where it is led anyway.
    fn is_open(&self) -> bool {
        self.to.is_some_and(|to| self.answers == Answers::Address(to))
    }
}

/// First and last.
type Ports = (u16, u16);

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

/// The sets of ports that are open at a container's own address.
const OPEN: [&str; 2] = ["opened4", "opened6"];

/// How an element of a map leads, and which ports.
fn led(v6: bool, key: &[Value], data: &Data) -> Option<(Way, Ports)> {
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
    let Data::Parts(parts) = data else { return None };
    let (answers, inner) = match parts.as_slice() {
        [Value::Addr4(addr), inner @ ..] => (Answers::Address((*addr).into()), inner),
        [Value::Addr6(addr), inner @ ..] => (Answers::Address((*addr).into()), inner),
        [Value::Port(port)] => (Answers::Relay(*port), &[][..]),
        _ => return None,
    };
    let shift = if let [Value::Port(inner)] = inner { i32::from(*inner) - i32::from(ports.0) } else { 0 };
    Some((Way { v6, proto, to, answers, shift }, ports))
}

/// The ports of `all` that are not among `others`, in as few rows as there are.
fn without(all: &[Ports], others: &[Ports]) -> Vec<Ports> {
    let mut rest: Vec<Ports> = Vec::new();
    let (all, others) = (rows(all), rows(others));
    let mut others = others.iter().peekable();
    for (mut from, to) in all {
        while others.next_if(|other| other.1 < from).is_some() {}
        let mut covered = false;
        for other in others.clone().take_while(|other| other.0 <= to) {
            if from < other.0 {
                rest.push((from, other.0 - 1));
            }
            match other.1.checked_add(1).filter(|next| *next <= to) {
                Some(next) => from = next,
                None => covered = true,
            }
        }
        if !covered {
            rest.push((from, to));
        }
    }
    rest
}

/// Sorted, and those that follow each other as one.
fn rows(ports: &[Ports]) -> Vec<Ports> {
    let mut sorted = ports.to_vec();
    sorted.sort_unstable();
    let mut rows: Vec<Ports> = Vec::new();
    for (from, to) in sorted {
        match rows.last_mut().filter(|last| u32::from(from) <= u32::from(last.1) + 1) {
            Some(last) => last.1 = last.1.max(to),
            None => rows.push((from, to)),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall;
    use crate::world::{Endpoint, Opened, PortBinding};

    fn endpoint(rows: &[(Proto, &str, u16, u16, u16)]) -> Endpoint {
        let digits = |digit: &str| digit.repeat(64);
        let row = |(proto, host_ip, host_port, inner_port, count): &(Proto, &str, u16, u16, u16)| PortBinding {
            proto: *proto,
            host_ip: host_ip.parse().unwrap(),
            host_port: *host_port,
            inner_port: *inner_port,
            count: *count,
        };
        Endpoint {
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
            gateway4: false,
            gateway6: false,
            priority: 0,
            names: Vec::new(),
            opened: Default::default(),
            link_local: Default::default(),
            sysctls: Default::default(),
            ports: rows.iter().map(row).collect(),
        }
    }

    fn table(rows: &[(Proto, &str, u16, u16, u16)], relay: Option<u16>) -> Table {
        let mut table = firewall::skeleton();
        firewall::add_endpoint(&mut table, &endpoint(rows), relay);
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
    fn what_a_range_keeps_is_left_alone() {
        let range = |from, inner, count| table(&[(Proto::Udp, "0.0.0.0", from, inner, count)], None);
        check(&range(10, 10, 10), &range(10, 10, 9), &["0.0.0.0:19-19/udp answered by 10.1.0.2"]);
        check(&range(10, 10, 2), &range(11, 11, 1), &["0.0.0.0:10-10/udp answered by 10.1.0.2"]);
        check(
            &range(10, 10, 2),
            &range(9, 9, 4),
            &["0.0.0.0:9-9/udp answered by the host", "0.0.0.0:12-12/udp answered by the host"],
        );
        // The same ports, and others inside.
        check(
            &range(10, 10, 2),
            &range(10, 11, 2),
            &["0.0.0.0:10-11/udp answered by 10.1.0.2", "0.0.0.0:10-11/udp answered by the host"],
        );
        for (all, others, rest) in [
            (vec![(1, 9)], vec![(1, 9)], vec![]),
            (vec![(1, 9)], vec![(0, 0), (3, 4), (6, 6), (9, 20)], vec![(1, 2), (5, 5), (7, 8)]),
            (vec![(5, 6), (1, 4), (8, 9)], vec![(2, 8)], vec![(1, 1), (9, 9)]),
            (vec![(1, 65535)], vec![(65535, 65535)], vec![(1, 65534)]),
            (vec![(1, 2), (4, 5)], vec![(1, 5)], vec![]),
            (vec![(1, 2), (4, 5)], vec![], vec![(1, 2), (4, 5)]),
        ] {
            assert_eq!(without(&all, &others), rest, "{all:?} without {others:?}");
        }
    }

    #[test]
    fn ports_that_are_closed_at_a_containers_own_address() {
        let opened = |ports: &[(u16, u16)]| {
            let mut table = firewall::skeleton();
            let row = |(port, count): &(u16, u16)| Opened { proto: Proto::Tcp, v6: false, port: *port, count: *count };
            let opened = ports.iter().map(row).collect();
            firewall::add_endpoint(&mut table, &Endpoint { opened, ..endpoint(&[]) }, None);
            table
        };
        check(&opened(&[]), &opened(&[(80, 3)]), &[]);
        check(&opened(&[(80, 3)]), &opened(&[]), &["10.1.0.2:80-82/tcp answered by 10.1.0.2"]);
        check(
            &opened(&[(80, 5)]),
            &opened(&[(82, 1)]),
            &["10.1.0.2:80-81/tcp answered by 10.1.0.2", "10.1.0.2:83-84/tcp answered by 10.1.0.2"],
        );
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
