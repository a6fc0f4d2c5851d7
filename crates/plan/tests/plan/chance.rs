//! Random worlds, and networks that somebody has damaged.

use crate::scenario::Scene;
use plan::ids::{IfName, Mac};
use plan::netstate::{BridgePort, ElementChange, IpFamily, Link, LinkKind, NetState, Ns, Op, Route};
use plan::nft::{Element, Expr, Owner, Rule, TableName, Why};
use plan::step::step;
use proptest::prelude::*;
use std::fmt::Write;

/// One statement of the scenario language; many will be refused, and then they change nothing.
fn statement() -> impl Strategy<Value = String> {
    let container = 0..6u8;
    let network = 0..4u8;
    let subnet = (0..5u8, any::<bool>())
        .prop_map(|(n, six)| if six { format!("10.{n}.0.0/24 fd00:{n}::/64") } else { format!("10.{n}.0.0/24") });
    let subnet = prop_oneof![4 => subnet, 1 => (0..5u8).prop_map(|n| format!("fd00:{n}::/64 no4"))];
    let words = prop_oneof![
        4 => Just(""), 1 => Just("internal"), 2 => Just("apart"), 1 => Just("plain"), 1 => Just("mtu 1400"),
        1 => Just("bridge same0"), 2 => Just("hand"), 2 => Just("mode4 routed"), 1 => Just("mode6 routed"),
        1 => Just("mode4 unprotected source 192.0.2.9"), 1 => Just("internal mode4 isolated"), 1 => Just("trusted eth9"),
    ];
    let net = (network.clone(), subnet, words).prop_map(|(n, subnet, words)| match words {
        "hand" => format!("net n{n} bridge hand{n} foreign 10.{}.0.1/24", 20 + n),
        words => format!("net n{n} {subnet} {words}"),
    });
    let port = prop_oneof![
        (1..20u16).prop_map(|n| format!("{n}:80")),
        (1..20u16).prop_map(|n| format!("{n}-{}:{n}-{}/udp", n + 9, n + 9)),
        (1..20u16).prop_map(|n| format!("127.0.0.1:{n}-{}:{n}-{}", n + 4, n + 4)),
        (1..20u16).prop_map(|n| format!("127.0.0.2:{n}-{}:{}-{}", n + 4, n + 50, n + 54)),
        (1..20u16).prop_map(|n| format!(":{n}-{}", n + 3)),
        (1..20u16).prop_map(|n| format!("[::1]:{n}-{}:{n}-{}", n + 6, n + 6)),
    ];
    let ports = prop::collection::vec(port, 0..3).prop_map(|ports| {
        ports.iter().fold(String::new(), |mut text, port| {
            write!(text, " publish {port}").unwrap();
            text
        })
    });
    let run = (container.clone(), network.clone(), ports.clone())
        .prop_map(|(c, n, ports)| format!("run c{c} on n{n}{ports}"));
    let join = (container.clone(), network.clone(), ports, 0..3u8)
        .prop_map(|(c, n, ports, prio)| format!("join c{c} n{n}{ports} prio {prio}"));
    let leave = (container.clone(), network.clone()).prop_map(|(c, n)| format!("leave c{c} n{n}"));
    let tie = (container.clone(), container.clone(), network.clone(), prop_oneof![Just("80"), Just("81 53/udp")])
        .prop_map(|(c, to, n, ports)| format!("tie c{c} c{to} n{n} {ports}"));
    prop_oneof![
        4 => net,
        8 => run,
        4 => tie,
        1 => container.clone().prop_map(|c| format!("untie c{c}")),
        3 => join,
        2 => leave,
        2 => container.clone().prop_map(|c| format!("stop c{c}")),
        1 => container.prop_map(|c| format!("rm c{c}")),
        1 => network.prop_map(|n| format!("drop n{n}")),
    ]
}

/// A script: time passes between its statements, now and then for long.
pub fn script(statements: usize) -> impl Strategy<Value = String> {
    let pause = prop_oneof![9 => 0..10u64, 1 => 60..200u64];
    prop::collection::vec((pause, statement()), 0..statements).prop_map(|lines| {
        let mut now = 0;
        lines.into_iter().fold(String::new(), |mut text, (pause, statement)| {
            now += pause;
            writeln!(text, "at {now}\n{statement}").unwrap();
            text
        })
    })
}

/// What the engine was told to leave alone, as the beginning of a script.
pub fn means() -> impl Strategy<Value = &'static str> {
    let both = "without rules4\nwithout rules6\n";
    prop_oneof![4 => Just(""), 1 => Just("without rules4\n"), 1 => Just("without rules6\n"), 1 => Just(both)]
}

/// Two scripts: they have nothing to do with each other, or the second goes on where the first ends.
pub fn two_scripts(statements: usize) -> impl Strategy<Value = (String, String)> {
    (script(statements), script(statements), any::<bool>()).prop_map(|(one, two, goes_on)| {
        let two = if goes_on { format!("{one}{two}") } else { two };
        (one, two)
    })
}

/// A script played where four bridges were made by hand.
pub fn play(script: &str) -> Scene {
    let mut scene = Scene::default();
    scene.play("link hand0; link hand1; link hand2; link hand3; relay 61000");
    scene.play(script);
    scene
}

/// Where something breaks and how; the numbers choose.
#[derive(Clone, Debug)]
pub struct Damage {
    kind: u8,
    which: usize,
    how: u8,
}

pub fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let damage = (0..22u8, any::<usize>(), any::<u8>()).prop_map(|(kind, which, how)| Damage { kind, which, how });
    prop::collection::vec(damage, 0..8)
}

/// The bridges that somebody made by hand are there, as he made them.
pub fn with_strangers(mut state: NetState) -> NetState {
    let host = state.spaces.get_mut(&Ns::Host).unwrap();
    for n in 0..4 {
        let name: IfName = format!("hand{n}").parse().unwrap();
        let link = Link { up: true, ..Link::down(LinkKind::ForeignBridge, 9000, Owner::Engine) };
        host.links.insert(name, link);
    }
    state
}

/// Break a network; what cannot be broken that way stays whole.
pub fn damage(state: &mut NetState, damages: &[Damage]) {
    for damage in damages {
        if let Some(op) = damage.op(state) {
            let _ = step(state, &op);
        } else {
            damage.by_hand(state);
        }
    }
}

impl Damage {
    fn link(&self, state: &NetState) -> Option<(Ns, IfName, Link)> {
        let all: Vec<_> = state
            .spaces
            .iter()
            .flat_map(|(ns, space)| space.links.iter().map(move |(name, link)| (ns, name, link)))
            .filter(|(_, _, link)| link.kind != LinkKind::ForeignBridge)
            .collect();
        let (ns, name, link) = all.get(self.which.checked_rem(all.len())?)?;
        Some(((*ns).clone(), (*name).clone(), (*link).clone()))
    }

    fn op(&self, state: &NetState) -> Option<Op> {
        let how = self.how;
        let stray: plan::ids::SandboxId = crate::scenario::sandbox_id(&format!("stray{}", how % 2));
        let host = Ns::Host;
        let inet = TableName::inet();
        let link = self.link(state);
        let (ns, name) = link.as_ref().map(|(ns, name, _)| (ns.clone(), name.clone()))?;
        let set_up = |up| Op::SetUp { ns: ns.clone(), name: name.clone(), up };
        Some(match self.kind {
            0 | 1 => Op::DelLink { ns, name },
            2 => set_up(false),
            3 => Op::SetMtu { ns, name, mtu: 1300 + u32::from(how) },
            4 => Op::SetMaster { name, master: None },
            5 => {
                let master = format!("hand{}", how % 4).parse().unwrap();
                Op::SetMaster { name, master: Some(master) }
            }
            6 => {
                // Only where the address is part of what is wished for.
                link?.2.mac?;
                Op::SetMac { ns, name, mac: Mac([2, 9, 9, 9, 9, how]) }
            }
            7 => Op::SetNoIpv6 { ns, name, off: how.is_multiple_of(2) },
            8 => Op::DelAddr { ns, name, addr: *link?.2.addrs.first()? },
            9 => Op::AddAddr { ns, name, addr: format!("10.{}.0.{how}/16", how % 5).parse().unwrap() },
            10 => Op::AddAddr { ns, name, addr: format!("fd00:{}::{how}/80", how % 5).parse().unwrap() },
            11 => {
                let route = state.spaces[&ns].routes.first()?.clone();
                Op::DelRoute { ns, route }
            }
            12 => {
                let to = format!("10.9{}.0.0/16", how % 5).parse().unwrap();
                Op::AddRoute { ns, route: Route { to, via: None, dev: name } }
            }
            13 => Op::DelTable { ns: host, name: inet },
            14 => Op::AddSpace(stray),
            15 => {
                let name = format!("stray{}", how % 3).parse().unwrap();
                Op::AddBridge { name, mac: Mac([2, 0, 0, 0, 0, how]), mtu: 1500, owner: Owner::Engine }
            }
            16 => {
                let master = state.spaces[&host].links.iter().find(|(_, link)| link.kind == LinkKind::Bridge)?.0;
                Op::AddVeth {
                    host: format!("stray{}", how % 3).parse().unwrap(),
                    master: master.clone(),
                    inner: IfName::inner(u16::from(how % 3)),
                    into: match ns {
                        Ns::Of(id) => id,
                        Ns::Host => stray,
                    },
                    mac: Mac([2, 0, 0, 0, 1, how]),
                    mtu: 1500,
                    owner: Owner::Engine,
                }
            }
            17 => {
                let table = &state.spaces[&host].tables.get(&inet)?;
                let all: Vec<_> = table
                    .sets
                    .iter()
                    .flat_map(|(set, has)| has.elements.iter().map(move |(key, element)| (set, key, element)))
                    .collect();
                let (set, key, element) = all[self.which % all.len()];
                let put = how
                    .is_multiple_of(2)
                    .then(|| Element { why: Why::new("damage", Owner::Engine), ..element.clone() });
                let change = ElementChange { set: set.clone(), key: key.clone(), put, owner: Owner::Engine };
                Op::ChangeElements { ns: host, table: inet, changes: vec![change] }
            }
            20 => Op::SetPort {
                name: link?.2.master.map(|_| name)?,
                port: BridgePort { isolated: how & 1 == 0, hairpin: how & 2 == 0, groups: how & 4 == 0 },
            },
            21 if ns == host && link?.2.kind == LinkKind::Bridge => Op::SetRouteLocalnet { name, on: how & 1 == 0 },
            _ => return None,
        })
    }

    /// What no operation of ours does.
    fn by_hand(&self, state: &mut NetState) {
        let Some((ns, name, link)) = self.link(state) else { return };
        match self.kind {
            18 => {
                let tables = &mut state.spaces.get_mut(&Ns::Host).unwrap().tables;
                let Some(table) = tables.get_mut(&TableName::inet()) else { return };
                let foreign = Rule { body: vec![Expr::Foreign("log".into())], why: Why::new("", Owner::Engine) };
                table.chains.values_mut().next().unwrap().rules.push(foreign);
            }
            19 if link.kind != LinkKind::Loopback => {
                let space = state.spaces.get_mut(&ns).unwrap();
                space.links.get_mut(&name).unwrap().owner = Owner::Engine;
                space.forwarding.insert(IpFamily::V6);
            }
            _ => {}
        }
    }
}
