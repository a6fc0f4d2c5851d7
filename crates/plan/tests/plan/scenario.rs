//! A small language for worlds, so that a test reads like the question. Statements end with `;` or a line:
//!
//! ```text
//! net app 10.1.0.0/24 fd01::/64        a network; also: range R, gateway G, hop G, aux NAME=A, mtu N, bridge B,
//!                                      foreign ADDR…, v6, no4, internal, apart, plain,
//!                                      hostip A, unnumbered, mode4 M, mode6 M, source A, trusted IF, prefix P
//! run web on app publish 8080:80       a container; also: ip A, ip6 A, mac M, prio N
//! join web net                         one more network
//! leave web net; stop web; rm web; drop app
//! publish web app 81:81                more ports while it runs; unpublish web app 81
//! promise app A                        some container that does not run has asked for an address
//! tie web db app 3306 53/udp           a link from web to db on app, for these ports; untie web
//! at 100                               the clock; also: busy tcp 80, reserved 80, absent A:80, link eth9, route R, uplink MTU,
//! strangers N on BRIDGE, without rules4, without rules6, resolver A, no6, relay 61000
//! ```

use ipnet::IpNet;
use plan::decide::{self, AttachWish, Facts, NetworkWish, Previous, Refusal, SubnetWish};
use plan::ids::{ContainerId, EndpointId, IfName, NetworkId, SandboxId};
use plan::ports::PortWish;
use plan::world::{Change, GatewayMode, Linked, Proto, World};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What became of a text.
#[derive(Default)]
pub struct Scene {
    pub world: World,
    pub facts: Facts,
    pub refused: Vec<Refusal>,
    /// What was taken over, in order.
    pub changes: Vec<Change>,
    before: BTreeMap<(String, NetworkId), Previous>,
    promised: BTreeMap<NetworkId, BTreeSet<std::net::IpAddr>>,
}

/// 64 digits that depend on nothing but the words.
pub fn id(kind: &str, name: &str) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in kind.bytes().chain(name.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    // The first digits differ most after one more turn.
    hash = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    format!("{hash:016x}").repeat(4)
}

pub fn network_id(name: &str) -> NetworkId {
    id("network", name).parse().unwrap()
}

pub fn sandbox_id(name: &str) -> SandboxId {
    id("sandbox", name).parse().unwrap()
}

pub fn endpoint_id(container: &str, network: &str) -> EndpointId {
    id(container, network).parse().unwrap()
}

/// The world of a text in which nothing is refused.
pub fn world(text: &str) -> World {
    let scene = scene(text);
    assert_eq!(scene.refused, [], "{text}");
    scene.world
}

pub fn scene(text: &str) -> Scene {
    let mut scene = Scene::default();
    scene.play(text);
    scene
}

/// What is refused, one a line.
pub fn refusals(text: &str) -> String {
    scene(text).refused.iter().map(Refusal::to_string).collect::<Vec<_>>().join("\n")
}

/// `HOST:INNER`, `IP:HOST:INNER`, with ranges and a protocol; an empty host port is any.
pub fn port(text: &str) -> PortWish {
    let (text, proto) = match text.split_once('/') {
        None | Some((_, "tcp")) => (text.split('/').next().unwrap(), Proto::Tcp),
        Some((text, "udp")) => (text, Proto::Udp),
        Some((text, "sctp")) => (text, Proto::Sctp),
        Some((_, other)) => panic!("no protocol: {other}"),
    };
    let range = |text: &str| {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        (from.parse::<u16>().unwrap(), to.parse::<u16>().unwrap())
    };
    let (rest, inner) = text.rsplit_once(':').unwrap_or(("", text));
    let (ip, host) = match rest.rsplit_once(':') {
        Some((ip, host)) => (Some(ip.trim_matches(['[', ']']).parse().unwrap()), host),
        None => (None, rest),
    };
    let host_port = if host.is_empty() { None } else { Some(range(host)) };
    let (inner, last) = range(inner);
    PortWish { proto, host_ip: ip, host_port, inner, count: last - inner + 1 }
}

fn mode(text: &str) -> GatewayMode {
    match text {
        "nat" => GatewayMode::Nat,
        "unprotected" => GatewayMode::NatUnprotected,
        "routed" => GatewayMode::Routed,
        "isolated" => GatewayMode::Isolated,
        other => panic!("no gateway mode: {other}"),
    }
}

impl Scene {
    pub fn play(&mut self, text: &str) {
        for line in text.split([';', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            self.statement(&words);
        }
    }

    pub fn take(&mut self, change: Result<Change, Refusal>) -> bool {
        match change {
            Ok(change) => {
                self.world.take(&change);
                let faults = plan::check::check(&self.world);
                assert_eq!(faults, [], "after {change:?}");
                self.changes.push(change);
                true
            }
            Err(refusal) => {
                self.refused.push(refusal);
                false
            }
        }
    }

    fn statement(&mut self, words: &[&str]) {
        match words {
            ["net", name, rest @ ..] => {
                let wish = self.network(name, rest);
                self.take(decide::network(&self.world, &self.facts, &wish));
            }
            ["run", name, "on", network, rest @ ..] => {
                let container: ContainerId = id("container", name).parse().unwrap();
                if self.take(decide::sandbox(&self.world, sandbox_id(name), container)) {
                    self.attach(name, network, rest);
                }
            }
            ["join", name, network, rest @ ..] => self.attach(name, network, rest),
            ["leave", name, network] => {
                let endpoint = endpoint_id(name, network);
                self.take(decide::detach(&self.world, &endpoint, self.facts.now));
            }
            ["publish", name, network, wish] => {
                let endpoint = endpoint_id(name, network);
                self.take(decide::publish(&self.world, &self.facts, &endpoint, &[port(wish)]));
            }
            ["unpublish", name, network, wish] => {
                let wish = port(wish);
                let gone = (0..wish.count).map(|nth| plan::ports::Unpublish {
                    proto: wish.proto,
                    host_ip: wish.host_ip,
                    host_port: wish.host_port,
                    inner: wish.inner + nth,
                });
                let gone: Vec<_> = gone.collect();
                self.take(decide::unpublish(&self.world, &endpoint_id(name, network), &gone));
            }
            ["tie", source, target, network, ports @ ..] => {
                let id = sandbox_id(source);
                let mut linked = self.world.sandboxes.get(&id).map(|of| of.linked.clone()).unwrap_or_default();
                linked.push(Linked {
                    network: network_id(network),
                    target: self::id("container", target).parse().unwrap(),
                    name: (*target).to_owned(),
                    alias: "db".to_owned(),
                    ports: ports.iter().map(|text| port(text)).map(|wish| (wish.proto, wish.inner)).collect(),
                });
                self.take(decide::link(&self.world, &id, linked));
            }
            ["untie", source] => {
                self.take(decide::link(&self.world, &sandbox_id(source), Vec::new()));
            }
            ["stop", name] => {
                let sandbox = sandbox_id(name);
                for endpoint in self.world.endpoints_of(&sandbox) {
                    self.before.insert((name.to_string(), endpoint.network.clone()), Previous::from(endpoint));
                }
                self.take(decide::close(&self.world, &sandbox, self.facts.now));
            }
            ["rm", name] => {
                self.before.retain(|(of, _), _| of != name);
                self.take(decide::close(&self.world, &sandbox_id(name), self.facts.now));
            }
            ["drop", name] => {
                self.take(decide::remove_network(&self.world, &network_id(name)));
            }
            ["promise", network, addr] => {
                self.promised.entry(network_id(network)).or_default().insert(addr.parse().unwrap());
            }
            ["at", now] => {
                self.facts.now = now.parse().unwrap();
                self.take(Ok(decide::wake(&self.world, self.facts.now)));
            }
            ["busy", proto, number] => {
                let (proto, port) = (port(&format!("1/{proto}")).proto, number.parse().unwrap());
                let addr = std::net::SocketAddr::from(([0, 0, 0, 0], port));
                self.facts.busy.insert((proto, addr), plan::ports::Unbound::InUse);
            }
            ["reserved", number] => {
                self.facts.reserved.insert(number.parse().unwrap());
            }
            ["absent", addr] => {
                let key = (Proto::Tcp, addr.parse().unwrap());
                self.facts.busy.insert(key, plan::ports::Unbound::NoAddress);
            }
            ["link", name, "mtu", mtu] => {
                let name: IfName = name.parse().unwrap();
                self.facts.mtus.insert(name.clone(), mtu.parse().unwrap());
                self.facts.links.insert(name);
            }
            ["link", name] => {
                self.facts.links.insert(name.parse().unwrap());
            }
            ["strangers", count, "on", bridge] => {
                self.facts.ports.insert(bridge.parse().unwrap(), count.parse().unwrap());
            }
            ["without", "rules4"] => self.world.means.firewall4 = false,
            ["without", "rules6"] => self.world.means.firewall6 = false,
            ["uplink", mtu] => self.facts.default_mtu = Some(mtu.parse().unwrap()),
            ["route", net, "via"] => self.facts.far_routes.push(net.parse().unwrap()),
            ["route", net] => self.facts.routes.push(net.parse().unwrap()),
            ["resolver", addr] => self.facts.resolvers.push(addr.parse().unwrap()),
            ["no6"] => self.facts.has_ipv6 = false,
            ["relay", port] => {
                let port = port.parse().unwrap();
                self.take(Ok(vec![plan::world::Fact::Relay(Some(port))]));
            }
            ["ephemeral", from, to] => self.facts.ephemeral = (from.parse().unwrap(), to.parse().unwrap()),
            other => panic!("no such statement: {other:?}"),
        }
    }

    fn network(&self, name: &str, words: &[&str]) -> NetworkWish {
        let mut wish = NetworkWish::new(network_id(name), if name == "-" { "" } else { name });
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || *words.next().unwrap_or_else(|| panic!("{word} needs a value"));
            let last = |wish: &mut NetworkWish| {
                if wish.subnets.is_empty() {
                    wish.subnets.push(SubnetWish::default());
                }
                wish.subnets.len() - 1
            };
            match *word {
                "range" => {
                    let at = last(&mut wish);
                    wish.subnets[at].range = Some(value().parse().unwrap());
                }
                "gateway" => {
                    let at = last(&mut wish);
                    wish.subnets[at].gateway = Some(value().parse().unwrap());
                }
                "hop" => {
                    let at = last(&mut wish);
                    wish.subnets[at].default_gateway = Some(value().parse().unwrap());
                }
                "aux" => {
                    let (name, addr) = value().split_once('=').unwrap();
                    let at = last(&mut wish);
                    wish.subnets[at].aux.insert(name.into(), addr.parse().unwrap());
                }
                "mtu" => wish.mtu = Some(value().parse().unwrap()),
                "bridge" => wish.bridge = Some(value().parse::<IfName>().unwrap()),
                "foreign" => wish.foreign = Some(value().split(',').filter_map(|net| net.parse().ok()).collect()),
                "v6" => wish.ipv6 = true,
                "no4" => wish.ipv4 = false,
                "internal" => wish.internal = true,
                "apart" => wish.icc = false,
                "plain" => wish.masquerade = false,
                "hostip" => wish.host_ip = Some(value().parse().unwrap()),
                "unnumbered" => wish.unnumbered = true,
                "mode4" => wish.mode4 = mode(value()),
                "mode6" => wish.mode6 = mode(value()),
                "source" => wish.sources.push(value().parse().unwrap()),
                "trusted" => drop(wish.trusted.insert(value().parse().unwrap())),
                "prefix" => wish.prefix = Some(value().into()),
                "segment" => wish.macvlan.get_or_insert_default().parent = Some(value().into()),
                "nowhere" => drop(wish.macvlan.get_or_insert_default()),
                "private" => wish.macvlan.get_or_insert_default().mode = plan::world::MacvlanMode::Private,
                net => {
                    let net: IpNet = net.parse().unwrap_or_else(|_| panic!("no such word: {net}"));
                    wish.ipv6 |= matches!(net, IpNet::V6(_));
                    wish.subnets.push(SubnetWish { subnet: Some(net), ..SubnetWish::default() });
                }
            }
        }
        wish
    }

    fn attach(&mut self, name: &str, network: &str, words: &[&str]) {
        let network_id = network_id(network);
        let mut wish = AttachWish::new(endpoint_id(name, network), network_id.clone(), sandbox_id(name), name);
        wish.promised = self.promised.get(&network_id).cloned().unwrap_or_default();
        let stopped = |of: &str| of != name && !self.world.sandboxes.contains_key(&sandbox_id(of));
        for ((_, on), previous) in self.before.iter().filter(|((of, _), _)| stopped(of)) {
            let (four, six) = (previous.addr4.map(std::net::IpAddr::V4), previous.addr6.map(std::net::IpAddr::V6));
            let addrs = four.into_iter().chain(six);
            wish.kept.addrs.extend(addrs.filter(|_| *on == network_id));
            wish.kept.ports.extend(previous.ports.iter().cloned());
        }
        wish.previous = self.before.get(&(name.to_owned(), network_id)).cloned().unwrap_or_default();
        let mut pairs = words.chunks_exact(2);
        for pair in &mut pairs {
            match pair {
                ["ip", addr] => wish.ip4 = Some(addr.parse().unwrap()),
                ["ip6", addr] => wish.ip6 = Some(addr.parse().unwrap()),
                ["local", addr] => drop(wish.link_local.insert(addr.parse().unwrap())),
                ["mac", mac] => wish.mac = Some(mac.parse().unwrap()),
                ["prio", number] => wish.priority = number.parse().unwrap(),
                ["publish", spec] => wish.ports.push(port(spec)),
                other => panic!("no such words: {other:?}"),
            }
        }
        assert!(pairs.remainder().is_empty(), "a word too many: {words:?}");
        let attached = decide::attach(&self.world, &self.facts, &wish);
        self.take(attached);
    }

    /// Each endpoint in one line, by the container's name.
    pub fn shown(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for endpoint in self.world.endpoints.values() {
            let network = &self.world.networks[&endpoint.network];
            let mut line = format!("{} {} on {}:", endpoint.container_name, endpoint.inner, network.name);
            for addr in endpoint.addrs() {
                write!(line, " {addr}").unwrap();
            }
            for (leads, word) in [(endpoint.gateway, "out"), (endpoint.gateway4, "out4"), (endpoint.gateway6, "out6")] {
                if leads {
                    write!(line, " {word}").unwrap();
                }
            }
            for binding in &endpoint.ports {
                let six = if binding.host_ip == std::net::Ipv6Addr::UNSPECIFIED { "[::]:" } else { "" };
                write!(line, " -p {six}{binding}").unwrap();
            }
            for opened in &endpoint.opened {
                write!(line, " open{} {opened}", if opened.v6 { 6 } else { 4 }).unwrap();
            }
            lines.push(line);
        }
        lines.sort();
        lines.join("\n")
    }
}
