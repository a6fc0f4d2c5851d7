//! What would change an answer: a sentence or a command each, and none where nothing is wrong.

use super::answer::{Try, Verdict};
use super::question::{Place, Question};
use super::{Cause, End, Refusal, Service};
use crate::ids::SandboxId;
use crate::netstate::{IpFamily, Ns};
use crate::world::{Endpoint, Network, World};
use std::collections::BTreeMap;
use std::net::IpAddr;

struct Scene<'a> {
    world: &'a World,
    names: &'a BTreeMap<Ns, String>,
    question: &'a Question,
    one: &'a Try,
}

pub(super) fn remedies(world: &World, names: &BTreeMap<Ns, String>, question: &Question, one: &Try) -> Vec<String> {
    let scene = Scene { world, names, question, one };
    match one.verdict {
        Verdict::Reachable | Verdict::Unknown => Vec::new(),
        Verdict::Leaks | Verdict::Broken => {
            vec!["nothing: the engine looks at each change, and every ten seconds; ask again".to_owned()]
        }
        _ => match (&one.seen.end, &one.wished.end) {
            (_, End::Refused(refusal)) | (End::Refused(refusal), _) => scene.of(refusal),
            _ => Vec::new(),
        },
    }
}

impl Scene<'_> {
    fn of(&self, refusal: &Refusal) -> Vec<String> {
        match refusal {
            Refusal::Rule(cause) | Refusal::Reset(cause) => self.of_rule(cause),
            Refusal::Apart { .. } => self.apart(),
            Refusal::NoRoute { at, to } => self.no_route(at, *to),
            Refusal::NobodyListens { at, service, elsewhere, .. } => {
                let mut all = Vec::new();
                if elsewhere.iter().any(|one| one.addr.is_loopback()) {
                    all.push(format!("let the program in {at} listen on 0.0.0.0 or ::, not on 127.0.0.1 alone"));
                } else if elsewhere.iter().any(|one| one.only_v6) {
                    all.push(format!("let the program in {at} listen on IPv4 as well"));
                } else if !elsewhere.is_empty() {
                    all.push(format!("let the program in {at} listen on 0.0.0.0 or ::"));
                } else if at == "host" {
                    all.push(format!(
                        "publish a container's port there: berth port add CONTAINER {}",
                        mapping(service)
                    ));
                } else {
                    all.push(format!("start a program in {at} that listens on {service}"));
                }
                all
            }
            Refusal::Stranger { chain, legacy: false, .. } => {
                let links = self.bridges().join("\", \"");
                let words = if chain.ends_with("input") || chain.ends_with("INPUT") { "iifname" } else { "oifname" };
                vec![
                    format!("look at it: nft list chain {chain}"),
                    format!("let it pass: nft insert rule {chain} {words} {{ \"{links}\" }} accept"),
                ]
            }
            Refusal::Stranger { .. } => {
                let links = self.bridges();
                let each = links.iter().map(|link| format!("iptables-legacy -I FORWARD -o {link} -j ACCEPT"));
                each.collect()
            }
            Refusal::NotForwarding { at, family } if at == "host" => {
                let setting = match family {
                    IpFamily::V4 => "net.ipv4.ip_forward",
                    IpFamily::V6 => "net.ipv6.conf.all.forwarding",
                };
                vec![format!("sysctl -w {setting}=1 (the engine does it unless it runs with --ip-forward=false)")]
            }
            Refusal::NotForwarding { at, .. } => vec![format!("{at} is no router: ask for an address that it has")],
            Refusal::WayBack { link, .. } => vec![format!("sysctl -w net.ipv4.conf.{link}.rp_filter=2")],
            Refusal::NoNeighbour { addr, .. } => {
                vec![format!("nobody has {addr} now: is the container running? berth ps -a")]
            }
            Refusal::NoSource { at, .. } | Refusal::NoIpv6 { at, .. } if to_v6(refusal) => {
                vec![format!("{at} has no IPv6: connect it to a network that has (berth network create --ipv6 …)")]
            }
            _ => Vec::new(),
        }
    }

    fn of_rule(&self, cause: &Cause) -> Vec<String> {
        let internal = "connect it to a network that is not internal";
        match (cause.chain.as_str(), cause.rule.as_str()) {
            ("links", _) => self.apart(),
            ("forward", "nothing else reaches a container") => self.unreached(),
            ("forward", "no way out of an internal network") => match self.from() {
                Some(name) => vec![format!("{internal}: berth network connect NETWORK {name}")],
                None => Vec::new(),
            },
            ("forward", "no way into an internal network") => match self.to() {
                Some(name) => vec![format!("{internal}: berth network connect NETWORK {name}")],
                None => Vec::new(),
            },
            ("early", rule) if rule.contains("127.0.0.1") => {
                vec!["the port is published on the host's 127.0.0.1 alone: publish it on another address".to_owned()]
            }
            ("early", _) => {
                vec!["a container's address does not come from outside: ask with the host's own".to_owned()]
            }
            ("input", _) => vec!["the network's gateway mode is `isolated`: connect to one that is not".to_owned()],
            _ if cause.table.starts_with("bridge") => {
                vec!["a container sends only as itself: take back the address that was given to it by hand, or restart it".into()]
            }
            _ => Vec::new(),
        }
    }

    /// Both are on a network that keeps its containers apart.
    fn apart(&self) -> Vec<String> {
        let (Some(from), Some(to)) = (self.from(), self.to()) else { return Vec::new() };
        let mut all = vec![format!(
            "put both on a network whose containers reach each other: berth network create NEW; \
             berth network connect NEW {from}; berth network connect NEW {to}"
        )];
        let shared = self.networks(&self.question.from);
        if shared.iter().any(|network| network.name == crate::decide::DEFAULT_BRIDGE) {
            all.push(format!("or make {from} with --link {to}, which opens the ports that {to} exposes"));
        }
        if let Service::Port(..) = self.question.service {
            all.push(format!(
                "or publish the port, and ask for it at the host's address: berth port add {to} {}",
                mapping(&self.question.service)
            ));
        }
        all
    }

    /// Nobody from elsewhere gets in.
    fn unreached(&self) -> Vec<String> {
        let Some(to) = self.to() else { return Vec::new() };
        let publish = format!("berth port add {to} {}", mapping(&self.question.service));
        match self.from() {
            Some(from) => {
                let mut all: Vec<String> = Vec::new();
                let networks =
                    self.target().map(|sandbox| self.networks(&Place::Container(sandbox))).unwrap_or_default();
                if let Some(network) = networks.first() {
                    all.push(format!("put both on one network: berth network connect {} {from}", network.name));
                }
                if let Service::Port(..) = self.question.service {
                    all.push(format!("or publish the port, and ask for it at the host's address: {publish}"));
                }
                all
            }
            None => match self.question.service {
                Service::Port(..) => vec![format!("publish the port: {publish} (or -p when it is made)")],
                Service::Echo => {
                    vec!["a network in gateway mode `routed` or `nat-unprotected` answers pings".to_owned()]
                }
            },
        }
    }

    fn no_route(&self, at: &str, to: IpAddr) -> Vec<String> {
        let Some(from) = self.from().filter(|from| from == at) else { return Vec::new() };
        let endpoints: Vec<&Endpoint> = match &self.question.from {
            Place::Container(id) => self.world.endpoints_of(id).collect(),
            _ => Vec::new(),
        };
        if endpoints.is_empty() {
            return vec![format!("{from} is on no network: run it on one (--network)")];
        }
        if !endpoints.iter().any(|e| e.has(to.is_ipv6())) {
            return vec![format!("{from} has no {} address: connect it to a network that has", IpFamily::of(to))];
        }
        let mut all = Vec::new();
        let target = self.target().map(|id| self.networks(&Place::Container(id))).unwrap_or_default();
        if let Some(network) = target.first() {
            all.push(format!("put both on one network: berth network connect {} {from}", network.name));
        }
        let networks = self.networks(&self.question.from);
        if networks.iter().all(|network| network.internal) {
            let other = crate::decide::DEFAULT_BRIDGE;
            all.push(format!("its networks are internal; another one leads out: berth network connect {other} {from}"));
        }
        all
    }

    fn from(&self) -> Option<String> {
        match &self.question.from {
            Place::Container(id) => self.names.get(&Ns::Of(id.clone())).cloned(),
            _ => None,
        }
    }

    /// The sandbox that is asked.
    fn target(&self) -> Option<SandboxId> {
        if let Place::Container(id) = &self.question.to {
            return Some(id.clone());
        }
        let has = |e: &&Endpoint| e.addrs().any(|addr| addr == self.one.ask.to);
        self.world.endpoints.values().find(has).map(|e| e.sandbox.clone())
    }

    fn to(&self) -> Option<String> {
        self.names.get(&Ns::Of(self.target()?)).cloned()
    }

    fn networks(&self, place: &Place) -> Vec<&Network> {
        match place {
            Place::Container(id) => {
                self.world.endpoints_of(id).filter_map(|e| self.world.networks.get(&e.network)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The bridges that the question is about.
    fn bridges(&self) -> Vec<String> {
        let target = self.target().map(Place::Container);
        let places = [Some(&self.question.from), target.as_ref()];
        let networks = places.into_iter().flatten().flat_map(|place| self.networks(place));
        let mut all: Vec<String> = networks.map(|network| network.bridge.to_string()).collect();
        all.sort();
        all.dedup();
        all
    }
}

fn to_v6(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::NoSource { to, .. } => to.is_ipv6(),
        Refusal::NoIpv6 { .. } => true,
        _ => false,
    }
}

/// `8080/udp` as `-p` has it, the same number outside.
fn mapping(service: &Service) -> String {
    match service {
        Service::Port(proto, port) if *proto == crate::world::Proto::Tcp => format!("{port}:{port}"),
        Service::Port(proto, port) => format!("{port}:{port}/{}", proto.name()),
        Service::Echo => "PORT".to_owned(),
    }
}
