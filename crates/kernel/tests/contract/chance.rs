use crate::{open, same};
use kernel::Host;
use plan::apply::{Kernel, apply};
use plan::desired::desired;
use plan::diff::diff;
use plan::ids::{IfName, Mac};
use plan::netstate::NetState;
use plan::world::{Endpoint, GatewayMode, Linked, Network, Opened, PortBinding, Proto, Sandbox, Subnet, World};
use std::collections::BTreeSet;

/// Numbers that look random and are the same in every run (xorshift; Marsaglia 2003).
pub(crate) struct Dice(u64);

impl Dice {
    /// Seeds that are near each other give numbers that are not.
    pub(crate) fn new(seed: u64) -> Dice {
        Dice((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
    pub(crate) fn heads(&mut self) -> bool {
        self.roll(2) == 0
    }
}

pub(crate) fn hex(kind: u64, number: u64) -> String {
    format!("{:064x}", u128::from(kind) << 100 | u128::from(number)).chars().rev().collect()
}

fn mode(dice: &mut Dice) -> GatewayMode {
    use GatewayMode::{Isolated, Nat, NatUnprotected, Routed};
    [Nat, NatUnprotected, Routed, Isolated][dice.roll(4) as usize]
}

fn world(dice: &mut Dice) -> World {
    let mut world = World::default();
    for n in 0..dice.roll(4) {
        let six = dice.heads();
        let id: plan::ids::NetworkId = hex(1, n).parse().unwrap();
        let net = format!("10.{n}.0.0/24").parse().unwrap();
        let v4 = Subnet {
            default_gateway: dice.heads().then(|| format!("10.{n}.0.254").parse().unwrap()),
            mode: mode(dice),
            source: dice.heads().then(|| [192, 0, 2, 1].into()),
            ..Subnet::new(net, format!("10.{n}.0.1").parse().unwrap())
        };
        let net = format!("fd00:{n}::/64").parse().unwrap();
        let v6 = six.then(|| Subnet { mode: mode(dice), ..Subnet::new(net, format!("fd00:{n}::1").parse().unwrap()) });
        let network = Network {
            joint: Default::default(),
            bridge: format!("br{n}").parse().unwrap(),
            name: format!("n{n}"),
            foreign_bridge: false,
            mac: Mac([2, 0x42, 0, 0, 9, n as u8]),
            v4: Some(v4),
            v6,
            mtu: if dice.heads() { 1500 } else { 1400 },
            icc: dice.heads(),
            masquerade: dice.heads(),
            internal: dice.roll(4) == 0,
            host_ip: None,
            unnumbered: dice.roll(4) == 0,
            trusted: if dice.heads() { ["eth9".parse().unwrap()].into() } else { Default::default() },
            prefix: None,
            about: Default::default(),
            id: id.clone(),
        };
        world.networks.insert(id, network);
    }
    for n in 0..dice.roll(5) {
        let id: plan::ids::SandboxId = hex(2, n).parse().unwrap();
        let networks: Vec<Network> = world.networks.values().cloned().collect();
        let before = (0..n).flat_map(|other| networks.iter().map(move |network| (other, network)));
        let linked = before.filter(|_| dice.heads()).map(|(other, network)| Linked {
            network: network.id.clone(),
            target: hex(3, other).parse().unwrap(),
            name: format!("c{other}"),
            alias: "db".into(),
            ports: BTreeSet::from([(Proto::Tcp, 3306), (Proto::Udp, 53)]),
        });
        let linked = linked.collect();
        let container = hex(3, n).parse().unwrap();
        world.sandboxes.insert(id.clone(), Sandbox { linked, ..Sandbox::new(id.clone(), container) });
        for (at, network) in networks.iter().enumerate() {
            if dice.roll(3) == 0 {
                continue;
            }
            let number = n * 8 + at as u64;
            let id_of: plan::ids::EndpointId = hex(4, number).parse().unwrap();
            let host = 10 + n;
            let addr4 = network.v4.as_ref().map(|v4| (u32::from(v4.net.network()) + host as u32).into());
            let addr6 = network.v6.as_ref().map(|v6| (u128::from(v6.net.network()) + u128::from(host)).into());
            let port = PortBinding {
                proto: if dice.heads() { Proto::Tcp } else { Proto::Udp },
                host_ip: if dice.heads() { [0, 0, 0, 0].into() } else { [127, 0, 0, 1].into() },
                host_port: 1000 + (number * 100) as u16,
                inner_port: 1000 + (number * 100) as u16,
                count: if dice.heads() { 1 } else { 10 },
            };
            let opened = Opened { proto: port.proto, v6: dice.heads(), port: 53, count: 1 + dice.roll(9) as u16 };
            let endpoint = Endpoint {
                host: IfName::host_end(&id_of),
                network: network.id.clone(),
                sandbox: id.clone(),
                container_name: format!("c{n}"),
                inner: IfName::inner(at as u16),
                mac: Mac([2, 0x42, 1, at as u8, 0, host as u8]),
                addr4,
                addr6,
                link_local: Default::default(),
                sysctls: Default::default(),
                gateway: at == 0,
                gateway4: false,
                gateway6: false,
                priority: 0,
                names: Vec::new(),
                opened: if dice.heads() { [opened].into() } else { Default::default() },
                ports: if dice.heads() { vec![port] } else { Vec::new() },
                id: id_of.clone(),
            };
            world.endpoints.insert(id_of, endpoint);
        }
    }
    world
}

#[track_caller]
pub(crate) fn converge(host: &mut Host, want: &NetState, what: &str) {
    let have = host.observe().unwrap();
    let plan = diff(&have, want);
    let applied = apply(host, have, &plan);
    assert!(applied.failed.is_empty(), "{what}: {:?}", applied.failed);
    let now = host.observe().unwrap();
    // Forwarding is switched on and never off.
    let mut want = want.clone();
    for (ns, space) in &mut want.spaces {
        space.forwarding = now.spaces.get(ns).map(|seen| seen.forwarding.clone()).unwrap_or_default();
    }
    same(&now, &want, &format!("{what}: what is there"));
    same(&now, &applied.now, &format!("{what}: what the engine believes"));
    assert!(diff(&now, &want).is_empty(), "{what}: a second round has nothing to do");
}

#[test]
fn random_worlds_come_true_one_after_the_other() {
    lab::alone(|lab| {
        let mut host = open(lab);
        let mut dice = Dice(0x5eed);
        for round in 0..25 {
            let want = desired(&world(&mut dice));
            converge(&mut host, &want, &format!("world {round}"));
        }
        converge(&mut host, &NetState::default(), "nothing");
    })
}

#[test]
fn a_crash_at_any_step_is_recovered_from() {
    lab::alone(|lab| {
        let mut dice = Dice(0xc4a5);
        let (mut from, mut to) = (world(&mut dice), world(&mut dice));
        while from.endpoints.len() < 3 || to.endpoints.len() < 3 {
            (from, to) = (world(&mut dice), world(&mut dice));
        }
        let (from, to) = (desired(&from), desired(&to));
        let steps = diff(&from, &to).len();
        assert!(steps > 10, "{steps}");
        let mut host = open(lab);
        for crash in (0..=steps).step_by(3) {
            converge(&mut host, &from, "before");
            let have = host.observe().unwrap();
            for step in diff(&have, &to).iter().take(crash) {
                host.perform(&step.op).unwrap_or_else(|errno| panic!("{}: {errno}", step.op));
            }
            // New hands, which remember nothing.
            host = open(lab);
            recover(&mut host, &to, crash);
        }
    })
}

/// Host's ends may be about to vanish from before the crash, so a step may find them gone; the next round mends it.
fn recover(host: &mut Host, want: &NetState, crash: usize) {
    for _ in 0..50 {
        let have = host.observe().unwrap();
        let plan = diff(&have, want);
        let applied = apply(host, have, &plan);
        if applied.failed.is_empty() {
            return converge(host, want, &format!("after a crash at step {crash}"));
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("no recovery from a crash at step {crash}");
}
