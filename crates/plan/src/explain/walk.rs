//! A packet's way through namespaces, links, bridges and rules, hop by hop, as Linux takes it.

use super::course::{Course, course};
use super::foreign::{self, Passing};
use super::packet::{Ct, Packet, Part, State, Tracker};
use super::refusal::Refusal;
use super::rules::{Cause, Frame, Kind, Met, Ruling};
use super::sight::{Nic, Sight, Site};
use super::{At, Hop, Leg};
use crate::ids::{IfName, Mac};
use crate::netstate::{IpFamily, Ns};
use crate::nft::{ChainType, Family, Field, Hook};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Why a packet goes no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Refused(Box<Refusal>),
    /// It cannot be told.
    Unknown(String),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(Box::new(refusal))
    }
}

type Step<T> = Result<T, Stop>;

/// Where a message of neighbour discovery meets rules: the namespace, the hook, the links in and out, the kind of message.
type Crossing<'a> = (&'a Ns, Hook, Option<&'a IfName>, Option<&'a IfName>, u8);

/// Where a packet came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// A namespace takes it for itself.
    Local { ns: Ns, packet: Packet },
    /// It left by a link behind which nothing is seen.
    Outside { link: IfName, packet: Packet },
}

/// Where a conversation begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// A program in a namespace.
    In(Ns),
    /// Somebody behind a link of the host's.
    Behind(IfName),
}

/// `NF_IP_PRI_CONNTRACK` (linux/netfilter_ipv4.h)
const CONNTRACK: i32 = -200;
/// `NF_IP_PRI_NAT_DST` and `NF_IP_PRI_NAT_SRC`
const TO: i32 = -100;
const FROM: i32 = 100;
/// More hops than this are a circle: a packet lives for 64 of them.
const MOST: usize = 32;
/// RFC 4861 §4.3, §4.4
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// RFC 4861 §4.5
const REDIRECT: u8 = 137;
/// `NF_CT_STATE_BIT`s
const STATES: [(State, u32); 3] = [(State::Invalid, 1), (State::Established, 2), (State::New, 8)];
/// `NF_CT_STATE_UNTRACKED_BIT`: what neighbour discovery says is tracked by nobody.
const UNTRACKED: u32 = 1 << 6;

pub(super) struct Walk<'a> {
    pub sight: &'a Sight,
    /// What people call a namespace.
    pub called: &'a BTreeMap<Ns, String>,
    pub flows: BTreeMap<Ns, Tracker>,
    pub hops: Vec<Hop>,
    pub leg: Leg,
    /// Whom the one who is asked sees.
    pub client: Option<IpAddr>,
    /// Hops are not written down.
    pub quiet: bool,
    left: usize,
}

/// A packet on its way through one hook.
struct Through<'p> {
    packet: &'p mut Packet,
    ct: &'p mut Ct,
    iif: Option<&'p IfName>,
    oif: Option<&'p IfName>,
}

impl<'a> Walk<'a> {
    pub fn new(sight: &'a Sight, called: &'a BTreeMap<Ns, String>) -> Walk<'a> {
        let (flows, hops) = (BTreeMap::new(), Vec::new());
        Walk { sight, called, flows, hops, leg: Leg::There, client: None, quiet: false, left: MOST }
    }

    pub fn name(&self, ns: &Ns) -> String {
        self.called.get(ns).cloned().unwrap_or_else(|| ns.to_string())
    }

    pub fn say(&mut self, at: At, ns: &Ns, text: impl Into<String>) {
        if !self.quiet {
            let place = self.name(ns);
            self.hops.push(Hop { leg: self.leg, at, place, text: text.into(), cause: None });
        }
    }

    fn say_rule(&mut self, at: At, ns: &Ns, text: impl Into<String>, cause: Cause) {
        if !self.quiet {
            let place = self.name(ns);
            self.hops.push(Hop { leg: self.leg, at, place, text: text.into(), cause: Some(cause) });
        }
    }

    fn site(&self, ns: &Ns) -> Step<&'a Site> {
        let missing = || Stop::Unknown(format!("{} was not looked at", self.name(ns)));
        self.sight.site(ns).ok_or_else(missing)
    }

    fn nic(&self, ns: &Ns, link: &IfName) -> Step<&'a Nic> {
        let missing = || Refusal::LinkDown { at: self.name(ns), link: link.clone() };
        Ok(self.site(ns)?.links.get(link).ok_or_else(missing)?)
    }

    /// The link, if it is up and lets the packet's family pass.
    fn up(&self, ns: &Ns, link: &IfName, packet: &Packet) -> Step<&'a Nic> {
        let nic = self.nic(ns, link)?;
        let (at, link) = (self.name(ns), link.clone());
        if !nic.up {
            return Err(Refusal::LinkDown { at, link }.into());
        }
        if packet.v6() && nic.no_ipv6 {
            return Err(Refusal::NoIpv6 { at, link }.into());
        }
        Ok(nic)
    }

    pub fn course(&self, ns: &Ns, to: IpAddr) -> Step<Course> {
        course(self.site(ns)?, &self.name(ns), to)
    }

    /// From where a program in a namespace would send there.
    pub fn source(&self, ns: &Ns, to: IpAddr) -> Step<IpAddr> {
        let source = self.course(ns, to)?.source(self.site(ns)?, to);
        Ok(source.ok_or_else(|| Refusal::NoSource { at: self.name(ns), to })?)
    }

    /// A packet sets out.
    pub fn set_out(&mut self, from: &Start, packet: Packet) -> Step<Arrival> {
        self.left = MOST;
        match from {
            Start::In(ns) => self.send(ns, packet),
            Start::Behind(link) => self.receive(&Ns::Host, link, packet, None),
        }
    }

    /// A program sends it.
    fn send(&mut self, ns: &Ns, mut packet: Packet) -> Step<Arrival> {
        let way = self.course(ns, packet.dst)?;
        if !way.local {
            self.say(At::Route, ns, way.text.clone());
        }
        let before = packet.dst;
        let mut ct = Ct::NONE;
        self.hook(ns, Hook::Output, Through { packet: &mut packet, ct: &mut ct, iif: None, oif: Some(&way.dev) })?;
        let way = if packet.dst == before { way } else { self.course(ns, packet.dst)? };
        if let IpAddr::V4(src) = packet.src
            && src.is_loopback()
            && !way.local
            && !self.nic(ns, &way.dev)?.route_localnet
        {
            return Err(Refusal::Martian { at: self.name(ns), link: way.dev, addr: src.into() }.into());
        }
        self.leave(ns, way, packet, ct, None)
    }

    /// After the routing decision.
    fn leave(&mut self, ns: &Ns, way: Course, mut packet: Packet, mut ct: Ct, iif: Option<&IfName>) -> Step<Arrival> {
        self.left = self.left.checked_sub(1).ok_or(Refusal::Circle)?;
        if let Some(iif) = iif {
            let through = Through { packet: &mut packet, ct: &mut ct, iif: Some(iif), oif: Some(&way.dev) };
            self.hook(ns, Hook::Forward, through)?;
            if packet.v6() && *iif == way.dev {
                self.redirects(ns, &way, &packet)?;
            }
        }
        let through = Through { packet: &mut packet, ct: &mut ct, iif: None, oif: Some(&way.dev) };
        self.hook(ns, Hook::Postrouting, through)?;
        if way.local {
            return self.receive(ns, &way.dev, packet, Some(ct));
        }
        let nic = self.up(ns, &way.dev, &packet)?;
        if nic.bridge {
            let port = self.neighbour(ns, &way.dev, way.next, &packet, None)?;
            let Some(port) = port else { return Ok(Arrival::Outside { link: way.dev, packet }) };
            let peer = self.nic(ns, &port)?.peer.as_ref();
            self.discover((ns, &way.dev), peer.map(|(ns, link)| (ns, link)), None, &packet)?;
            return self.deliver(ns, &port, packet);
        }
        let Some((far, far_end)) = &nic.peer else {
            if *ns == Ns::Host {
                self.discover((ns, &way.dev), None, None, &packet)?;
                self.say(At::Outside, ns, format!("leaves by {} for {}", way.dev, way.next));
                return Ok(Arrival::Outside { link: way.dev, packet });
            }
            let at = self.name(ns);
            return Err(Stop::Unknown(format!(
                "{} of {at} is no pair of berth's (a macvlan is none): its packets pass the host by, and are not followed",
                way.dev
            )));
        };
        let far_nic = self.up_any(far, far_end)?;
        self.say(At::Link, ns, format!("{} to {far_end} of {}", way.dev, self.name(far)));
        let Some(bridge) = &far_nic.master else {
            return self.beside(far, far_end, way.next, packet);
        };
        let mac = nic.mac;
        self.switch((far, far_end, bridge), (ns, &way.dev), way.next, mac, packet)
    }

    /// Whoever sends by way of the host to a neighbour on the same bridge is told that there is a shorter way, unless a rule keeps
    /// that from him. IPv6 believes it, and where the bridge keeps its ports apart the shorter way is none.
    fn redirects(&self, ns: &Ns, way: &Course, packet: &Packet) -> Step<()> {
        let site = self.site(ns)?;
        let apart = site.links.values().any(|nic| nic.master.as_ref() == Some(&way.dev) && nic.isolated);
        let IpAddr::V6(target) = way.next else { return Ok(()) };
        if !apart {
            return Ok(());
        }
        let none = Tracker::default();
        let frame = Some(Frame { mac: Mac([0; 6]), kind: Kind::Neighbour(REDIRECT, target) });
        let met = Met { packet, iif: None, oif: Some(&way.dev), ct: Ct::NONE, flows: &none, local: false, frame };
        for (name, table) in site.tables.iter().filter(|(name, _)| name.family == Family::Inet) {
            let at_output = table.chains.iter().filter(|(_, chain)| {
                chain.base.is_some_and(|base| base.hook == Hook::Output && base.kind == ChainType::Filter)
            });
            for (chain, _) in at_output {
                if let Ruling::Drop(_) = met.ask(name, table, chain) {
                    return Ok(());
                }
            }
        }
        Err(Stop::Unknown(format!(
            "the host tells who sends to {target} that there is a shorter way, which {} does not let pass: it works until then",
            way.dev
        )))
    }

    fn up_any(&self, ns: &Ns, link: &IfName) -> Step<&'a Nic> {
        let nic = self.nic(ns, link)?;
        let down = || Refusal::LinkDown { at: self.name(ns), link: link.clone() };
        Ok(Some(nic).filter(|nic| nic.up).ok_or_else(down)?)
    }

    /// Out of a pair's end that is no port of a bridge: only whoever is at the other end can answer.
    fn beside(&mut self, ns: &Ns, link: &IfName, next: IpAddr, packet: Packet) -> Step<Arrival> {
        if !self.answers(ns, link, next)? {
            return Err(Refusal::NoNeighbour { link: link.clone(), addr: next }.into());
        }
        self.receive(ns, link, packet, None)
    }

    /// Does a namespace say on a link that it has an address? IPv4 does for every address that it has, whatever the link
    /// (`arp_ignore` 0), IPv6 for those of the link.
    fn answers(&self, ns: &Ns, link: &IfName, addr: IpAddr) -> Step<bool> {
        let site = self.site(ns)?;
        let Some(nic) = site.links.get(link).filter(|nic| nic.up) else { return Ok(false) };
        Ok(match addr {
            IpAddr::V4(v4) => !v4.is_loopback() && site.is_local(addr),
            IpAddr::V6(_) => !nic.no_ipv6 && nic.addrs.iter().any(|own| own.addr() == addr),
        })
    }

    /// Who on a bridge has an address: one of its ports, or, with `None`, somebody behind a port of others'. `from` is the port
    /// that asks; without it the bridge's own host does.
    fn neighbour(
        &mut self,
        ns: &Ns,
        bridge: &IfName,
        addr: IpAddr,
        packet: &Packet,
        from: Option<&IfName>,
    ) -> Step<Option<IfName>> {
        let site = self.site(ns)?;
        let asks = from.and_then(|from| site.links.get(from));
        let mut behind = false;
        let mut stopped = None;
        for (name, port) in site.links.iter().filter(|(_, nic)| nic.master.as_ref() == Some(bridge)) {
            if from == Some(name) {
                continue;
            }
            let Some((far, far_end)) = &port.peer else {
                behind |= !port.ours && port.up;
                continue;
            };
            if !port.up || self.sight.site(far).is_none() || !self.answers(far, far_end, addr)? {
                continue;
            }
            let to = self.name(far);
            if asks.is_some_and(|asks| asks.isolated) && port.isolated {
                stopped = Some(Stop::from(Refusal::Apart { bridge: bridge.clone(), to }));
                continue;
            }
            // Its answer is a frame like any other.
            let kind = match addr {
                IpAddr::V4(_) => Kind::Arp,
                IpAddr::V6(target) => Kind::Neighbour(ADVERTISEMENT, target),
            };
            let mac = self.nic(far, far_end)?.mac.unwrap_or(Mac([0; 6]));
            let says = Packet { src: addr, dst: packet.src, ..*packet };
            match self.guard(ns, name, &says, Frame { mac, kind }) {
                Ok(()) => return Ok(Some(name.clone())),
                Err(stop) => stopped = Some(stop),
            }
        }
        match stopped {
            Some(stop) => Err(stop),
            None if behind => Ok(None),
            None => Err(Refusal::NoNeighbour { link: bridge.clone(), addr }.into()),
        }
    }

    /// IPv6 looks for its neighbours by packets of its own, which others' firewalls see: the question leaves one namespace and
    /// comes to another, the answer likewise, and under br_netfilter a bridge between the two looks on.
    fn discover(
        &self,
        asks: (&Ns, &IfName),
        answers: Option<(&Ns, &IfName)>,
        bridge: Option<(&Ns, &IfName)>,
        packet: &Packet,
    ) -> Step<()> {
        if !packet.v6() {
            return Ok(());
        }
        let mut at: Vec<Crossing> = vec![
            (asks.0, Hook::Output, None, Some(asks.1), SOLICITATION),
            (asks.0, Hook::Input, Some(asks.1), None, ADVERTISEMENT),
        ];
        if let Some((ns, link)) = answers {
            at.push((ns, Hook::Input, Some(link), None, SOLICITATION));
            at.push((ns, Hook::Output, None, Some(link), ADVERTISEMENT));
        }
        if let Some((ns, bridge)) = bridge.filter(|_| self.sight.bridged.contains(&IpFamily::V6)) {
            for kind in [SOLICITATION, ADVERTISEMENT] {
                at.push((ns, Hook::Forward, Some(bridge), Some(bridge), kind));
            }
        }
        for (ns, hook, iif, oif, kind) in at {
            for stranger in self.site(ns)?.strangers.iter().filter(|s| s.hook == hook && !s.nat) {
                let asked = foreign::ask(stranger, Passing { packet, iif, oif, ct: UNTRACKED, neighbour: Some(kind) });
                // Who was heard of before, or asks first himself, is known all the same.
                asked.map_err(|stop| match stop {
                    Stop::Refused(refusal) => Stop::Unknown(format!(
                        "IPv6 finds neighbours only while they remember each other, for their questions and answers are {refusal}"
                    )),
                    stop => stop,
                })?;
            }
        }
        Ok(())
    }

    /// What the rules of the bridges say of a frame that comes in by a port.
    fn guard(&self, ns: &Ns, port: &IfName, packet: &Packet, frame: Frame) -> Step<()> {
        let none = Tracker::default();
        let met =
            Met { packet, iif: Some(port), oif: None, ct: Ct::NONE, flows: &none, local: false, frame: Some(frame) };
        for (name, table) in self.site(ns)?.tables.iter().filter(|(name, _)| name.family == Family::Bridge) {
            for (chain, at) in &table.chains {
                if at.base.is_none_or(|base| base.hook != Hook::Prerouting) {
                    continue;
                }
                match met.ask(name, table, chain) {
                    Ruling::Drop(cause) => return Err(Refusal::Rule(cause).into()),
                    Ruling::Unsure(cause, why) => return Err(unsure(&cause, &why)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// A frame comes to a bridge by one of its ports, for whoever has the address `next`.
    fn switch(
        &mut self,
        (ns, port, bridge): (&Ns, &IfName, &IfName),
        asker: (&Ns, &IfName),
        next: IpAddr,
        mac: Option<Mac>,
        mut packet: Packet,
    ) -> Step<Arrival> {
        self.up_any(ns, bridge)?;
        let mac = mac.unwrap_or(Mac([0; 6]));
        let asks = match next {
            IpAddr::V4(_) => Kind::Arp,
            IpAddr::V6(target) => Kind::Neighbour(SOLICITATION, target),
        };
        self.guard(ns, port, &packet, Frame { mac, kind: asks })?;
        let to_host = self.answers(ns, bridge, next)?;
        let to = if to_host { None } else { self.neighbour(ns, bridge, next, &packet, Some(port))? };
        match &to {
            Some(to) => {
                let peer = self.nic(ns, to)?.peer.as_ref();
                self.discover(asker, peer.map(|(ns, link)| (ns, link)), Some((ns, bridge)), &packet)?;
            }
            None => self.discover(asker, to_host.then_some((ns, bridge)), None, &packet)?,
        }
        self.guard(ns, port, &packet, Frame { mac, kind: Kind::Ip })?;
        let family = IpFamily::of(packet.dst);
        if !self.sight.bridged.contains(&family) {
            return match to {
                Some(to) => {
                    self.say(At::Bridge, ns, format!("{bridge} passes it on from {port} to {to}"));
                    self.deliver(ns, &to, packet)
                }
                None if to_host => {
                    self.say(At::Bridge, ns, format!("{bridge} has it for its own host, from {port}"));
                    self.receive(ns, bridge, packet, None)
                }
                None => Ok(Arrival::Outside { link: bridge.clone(), packet }),
            };
        }
        // br_netfilter asks the inet rules about frames, with the bridge as the link.
        let (mut ct, before) = (Ct::NONE, packet.dst);
        self.hook(ns, Hook::Prerouting, Through { packet: &mut packet, ct: &mut ct, iif: Some(bridge), oif: None })?;
        let to = if packet.dst == before {
            to
        } else {
            // What was translated goes where it is for now: to the host, or around in the bridge.
            let way = self.course(ns, packet.dst)?;
            if !way.local && !packet.v6() && !self.site(ns)?.forwarding.contains(&family) {
                return Err(Stop::Unknown(
                    "versions of Linux differ in whether a bridge passes on what was translated while forwarding is off".into(),
                ));
            }
            if way.local || way.dev != *bridge { None } else { self.turned(ns, bridge, port, way.next, &packet)? }
        };
        let Some(to) = to else {
            self.say(At::Bridge, ns, format!("{bridge} has it for its own host, from {port}"));
            return self.receive(ns, bridge, packet, Some(ct));
        };
        let forward = Through { packet: &mut packet, ct: &mut ct, iif: Some(bridge), oif: Some(bridge) };
        self.hook(ns, Hook::Forward, forward)?;
        let after = Through { packet: &mut packet, ct: &mut ct, iif: None, oif: Some(bridge) };
        self.hook(ns, Hook::Postrouting, after)?;
        self.say(At::Bridge, ns, format!("{bridge} passes it on from {port} to {to}"));
        self.deliver(ns, &to, packet)
    }

    /// The port by which a frame leaves that was translated within a bridge.
    fn turned(
        &mut self,
        ns: &Ns,
        bridge: &IfName,
        from: &IfName,
        next: IpAddr,
        packet: &Packet,
    ) -> Step<Option<IfName>> {
        let to = self.neighbour(ns, bridge, next, packet, None)?;
        let Some(to) = to else { return Ok(None) };
        let (asks, answers) = (self.nic(ns, from)?, self.nic(ns, &to)?);
        if to == *from && !answers.hairpin {
            return Err(Refusal::NoHairpin { bridge: bridge.clone() }.into());
        }
        if asks.isolated && answers.isolated {
            let to = answers.peer.as_ref().map(|(ns, _)| self.name(ns)).unwrap_or_default();
            return Err(Refusal::Apart { bridge: bridge.clone(), to }.into());
        }
        Ok(Some(to))
    }

    /// Out of a bridge by one of its ports.
    fn deliver(&mut self, ns: &Ns, port: &IfName, packet: Packet) -> Step<Arrival> {
        let nic = self.up_any(ns, port)?;
        let Some((far, far_end)) = &nic.peer else {
            return Err(Stop::Unknown(format!("{port} leads to where nobody looked")));
        };
        let text = format!("{port} to {far_end} of {}", self.name(far));
        self.say(At::Link, ns, text);
        self.receive(far, far_end, packet, None)
    }

    /// A namespace gets it by a link; `met` if the rules before routing were asked already.
    fn receive(&mut self, ns: &Ns, link: &IfName, mut packet: Packet, met: Option<Ct>) -> Step<Arrival> {
        self.left = self.left.checked_sub(1).ok_or(Refusal::Circle)?;
        let nic = self.up(ns, link, &packet)?;
        let lo = nic.loopback;
        let mut ct = met.unwrap_or(Ct::NONE);
        // What comes over loopback is tracked since it was sent, and still asked about.
        if met.is_none() || lo {
            let through = Through { packet: &mut packet, ct: &mut ct, iif: Some(link), oif: None };
            self.hook(ns, Hook::Prerouting, through)?;
        }
        let at = self.name(ns);
        for addr in [packet.src, packet.dst] {
            let stays = match addr {
                IpAddr::V4(v4) => v4.is_loopback() && !nic.route_localnet,
                IpAddr::V6(v6) => v6.is_loopback(),
            };
            if stays && !lo {
                return Err(Refusal::Martian { at, link: link.clone(), addr }.into());
            }
        }
        let site = self.site(ns)?;
        if !lo && packet.src.is_ipv4() {
            if site.is_local(packet.src) {
                return Err(Refusal::Martian { at, link: link.clone(), addr: packet.src }.into());
            }
            self.check_way_back(ns, link, nic, packet.src)?;
        }
        if site.is_local(packet.dst) {
            let through = Through { packet: &mut packet, ct: &mut ct, iif: Some(link), oif: None };
            self.hook(ns, Hook::Input, through)?;
            return Ok(Arrival::Local { ns: ns.clone(), packet });
        }
        let family = IpFamily::of(packet.dst);
        if !site.forwarding.contains(&family) {
            return Err(Refusal::NotForwarding { at, family }.into());
        }
        let way = self.course(ns, packet.dst)?;
        self.say(At::Route, ns, way.text.clone());
        self.leave(ns, way, packet, ct, Some(link))
    }

    fn check_way_back(&self, ns: &Ns, link: &IfName, nic: &Nic, from: IpAddr) -> Step<()> {
        let way = match nic.rp_filter {
            0 => return Ok(()),
            _ => self.course(ns, from),
        };
        match way {
            Ok(way) if nic.rp_filter == 2 || way.dev == *link => Ok(()),
            Err(Stop::Unknown(why)) => Err(Stop::Unknown(why)),
            _ => Err(Refusal::WayBack { at: self.name(ns), link: link.clone(), from }.into()),
        }
    }

    /// All that is asked at a hook, in the kernel's order.
    fn hook(&mut self, ns: &Ns, hook: Hook, at: Through<'_>) -> Step<()> {
        let site = self.site(ns)?;
        let tracks = matches!(hook, Hook::Prerouting | Hook::Output);
        let translates = match hook {
            Hook::Prerouting | Hook::Output => Some(TO),
            Hook::Postrouting | Hook::Input => Some(FROM),
            Hook::Forward => None,
        };
        let ours = site.tables.iter().filter(|(name, _)| name.family == Family::Inet);
        let chains =
            ours.flat_map(|(name, table)| table.chains.iter().map(move |(chain, it)| (name, table, chain, it)));
        let mut stages: Vec<(i32, Stage<'_>)> = Vec::new();
        for (name, table, chain, it) in chains {
            let Some(base) = it.base.filter(|base| base.hook == hook) else {
                if it.base.is_none() && it.rules.iter().any(|rule| rule.why.text == "foreign") {
                    return Err(Stop::Unknown(format!("the chain {chain} of table {name} is not as berth made it")));
                }
                continue;
            };
            stages.push((base.priority, Stage::Ours(name, table, chain, base.kind)));
        }
        stages.extend(site.strangers.iter().filter(|s| s.hook == hook).map(|s| (s.priority, Stage::Theirs(s))));
        if tracks {
            stages.push((CONNTRACK, Stage::Track));
        }
        // Translation comes after the chains that choose it.
        stages.extend(translates.map(|priority| (priority, Stage::Translate)));
        stages.sort_by_key(|(priority, stage)| (*priority, matches!(stage, Stage::Translate)));
        let asks = self.asks(ns, hook, at.ct, &stages);
        let mut asks = asks;
        for (_, stage) in &stages {
            match stage {
                Stage::Track => {
                    if at.ct.state == State::Untracked {
                        *at.ct = self.flows.entry(ns.clone()).or_default().look(at.packet);
                    }
                    asks = self.asks(ns, hook, at.ct, &stages);
                }
                Stage::Translate => self.translate(ns, hook, at.packet, *at.ct),
                // Ours were asked first or are asked next: who chooses first wins, and what they choose is not read.
                Stage::Theirs(stranger) if stranger.nat && at.ct.state != State::New => {}
                Stage::Theirs(stranger) => {
                    let bits = STATES.iter().find(|(state, _)| *state == at.ct.state).map_or(0, |(_, bit)| *bit);
                    let (iif, oif) = (at.iif, at.oif);
                    foreign::ask(stranger, Passing { packet: at.packet, iif, oif, ct: bits, neighbour: None })?;
                }
                Stage::Ours(_, _, _, ChainType::Nat) if !asks => {}
                Stage::Ours(name, table, chain, kind) => {
                    let flows = self.flows.entry(ns.clone()).or_default();
                    let met = Met {
                        packet: at.packet,
                        iif: at.iif,
                        oif: at.oif,
                        ct: *at.ct,
                        flows,
                        local: site.is_local(at.packet.dst),
                        frame: None,
                    };
                    let ruling = met.ask(name, table, chain);
                    // That a container sends as itself is said of every packet, and decides nothing.
                    let plain = matches!(ruling, Ruling::Accept(_)) && (hook == Hook::Prerouting || *ns != Ns::Host);
                    if plain {
                        continue;
                    }
                    if self.obey(ns, ruling, at.packet, *at.ct, at.oif)? && *kind == ChainType::Nat {
                        asks = false;
                    }
                }
            }
        }
        Ok(())
    }

    fn asks(&mut self, ns: &Ns, hook: Hook, ct: &Ct, stages: &[(i32, Stage<'_>)]) -> bool {
        if !stages.iter().any(|(_, stage)| matches!(stage, Stage::Ours(_, _, _, ChainType::Nat))) {
            return false;
        }
        let flows = self.flows.entry(ns.clone()).or_default();
        match hook {
            Hook::Prerouting | Hook::Output => flows.asks_destination(*ct),
            Hook::Postrouting | Hook::Input => flows.asks_source(*ct),
            Hook::Forward => false,
        }
    }

    fn translate(&mut self, ns: &Ns, hook: Hook, packet: &mut Packet, ct: Ct) {
        let flows = self.flows.entry(ns.clone()).or_default();
        let before = *packet;
        let towards = matches!(hook, Hook::Prerouting | Hook::Output);
        *packet = if towards { flows.towards(*packet, ct) } else { flows.from(*packet, ct) };
        if self.leg == Leg::Back && *packet != before {
            let text = if towards {
                format!("translated back: to {}", shown(packet.dst, packet.dport))
            } else {
                format!("translated back: from {}", shown(packet.src, packet.sport))
            };
            self.say(At::Nat, ns, text);
        }
    }

    /// Do as a chain says. True if it chose a translation.
    fn obey(&mut self, ns: &Ns, ruling: Ruling, packet: &mut Packet, ct: Ct, oif: Option<&IfName>) -> Step<bool> {
        match ruling {
            Ruling::Through | Ruling::Returned => {}
            Ruling::Accept(cause) => self.say_rule(At::Rule, ns, "let through", cause),
            Ruling::Drop(cause) => return Err(Refusal::Rule(cause).into()),
            Ruling::Reset(cause) => return Err(Refusal::Reset(cause).into()),
            Ruling::Unsure(cause, why) => return Err(unsure(&cause, &why)),
            Ruling::Port { field, port, .. } => match field {
                Field::Sport => packet.sport = port,
                _ => packet.dport = port,
            },
            Ruling::Dnat { addr, port, cause } => {
                self.flows.entry(ns.clone()).or_default().dnat(ct, addr, port);
                let to = shown(addr.unwrap_or(packet.dst), port.unwrap_or(packet.dport));
                self.say_rule(At::Nat, ns, format!("to {to} instead"), cause);
                return Ok(true);
            }
            Ruling::Snat { addr, cause } => {
                self.flows.entry(ns.clone()).or_default().snat(ct, addr);
                self.say_rule(At::Nat, ns, format!("from {addr} instead"), cause);
                return Ok(true);
            }
            Ruling::Masquerade(cause) => {
                let mut way = self.course(ns, packet.dst)?;
                if let Some(oif) = oif {
                    way.dev = oif.clone();
                }
                // What stays here is masqueraded as well, with some address of the host.
                way.local = false;
                let site = self.site(ns)?;
                let source = way.source(site, packet.dst);
                let Some(addr) = source else {
                    return Err(Refusal::NoSource { at: self.name(ns), to: packet.dst }.into());
                };
                self.flows.entry(ns.clone()).or_default().snat(ct, addr);
                self.say_rule(At::Nat, ns, format!("from {addr} instead"), cause);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All of a conversation: there, back, and there again, for what is let through in the middle of a flow may differ from
    /// what may begin one.
    pub fn talk(
        &mut self,
        from: &Start,
        first: Packet,
        hears: &mut dyn FnMut(&mut Walk<'a>, &Ns, &Packet) -> Step<()>,
    ) -> Step<Arrival> {
        self.leg = Leg::There;
        let arrival = self.set_out(from, first)?;
        let (back_from, seen) = match &arrival {
            Arrival::Local { ns, packet } => {
                hears(self, ns, packet)?;
                (Start::In(ns.clone()), *packet)
            }
            Arrival::Outside { link, packet } => (Start::Behind(link.clone()), *packet),
        };
        self.leg = Leg::Back;
        let back = self.set_out(&back_from, seen.answer())?;
        let came = match (&back, from) {
            (Arrival::Local { ns, packet }, Start::In(from)) if ns == from => packet,
            (Arrival::Outside { packet, .. }, Start::Behind(_)) => packet,
            (Arrival::Local { packet, .. } | Arrival::Outside { packet, .. }, _) => {
                return Err(astray(packet, &first));
            }
        };
        if *came != first.answer() {
            return Err(astray(came, &first));
        }
        let (leg, quiet) = (self.leg, std::mem::replace(&mut self.quiet, true));
        let again = self.set_out(from, Packet { part: Part::Next, ..first });
        (self.leg, self.quiet) = (leg, quiet);
        again.map(|_| arrival)
    }
}

fn astray(came: &Packet, first: &Packet) -> Stop {
    Refusal::AnswerAstray { from: (came.src, came.sport), asked: (first.dst, first.dport) }.into()
}

fn unsure(cause: &Cause, why: &str) -> Stop {
    Stop::Unknown(format!("it depends on {why}, which is not read, in table {} chain {}", cause.table, cause.chain))
}

pub(super) fn shown(addr: IpAddr, port: u16) -> String {
    match (addr, port) {
        (addr, 0) => addr.to_string(),
        (IpAddr::V4(addr), port) => format!("{addr}:{port}"),
        (IpAddr::V6(addr), port) => format!("[{addr}]:{port}"),
    }
}

enum Stage<'a> {
    Ours(&'a crate::nft::TableName, &'a crate::nft::Table, &'a str, ChainType),
    Theirs(&'a super::strangers::Stranger),
    Track,
    Translate,
}
