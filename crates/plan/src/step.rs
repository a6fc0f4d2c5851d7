//! What each operation does to a host's network, cascades and refusals included.
//!
//! This is the only description of it: `diff` plays its own plan on it, `fake` is nothing but it, and one contract suite
//! compares it with the kernel.

use crate::flows::Flows;
use crate::ids::{IfName, SandboxId};
use crate::netstate::{BridgePort, Errno, Link, LinkKind, NetState, Ns, Op, Resolver, Route, Space};
use crate::nft::Owner;
use crate::stub;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// The MTU that `lo` is born with (drivers/net/loopback.c).
pub const LOOPBACK_MTU: u32 = 65536;
/// `EACCES`
const EACCES: i32 = 13;
/// `EINVAL`
const EINVAL: i32 = 22;
/// `EOPNOTSUPP`
const EOPNOTSUPP: i32 = 95;

/// Do one operation to a network.
///
/// # Errors
/// What the kernel would answer; `state` is as it was then.
pub fn step(state: &mut NetState, op: &Op) -> Result<(), Errno> {
    match op {
        Op::AddSpace(id) => add_space(state, id),
        Op::DelSpace(id) => del_space(state, id),
        Op::AddBridge { name, mac, mtu, owner } => {
            let kind = LinkKind::Bridge;
            let bridge = Link { mac: Some(*mac), ..Link::down(kind, *mtu, *owner) };
            add_link(space(state, &Ns::Host)?, name, bridge)
        }
        Op::AddVeth { .. } => add_veth(state, op),
        Op::AddVlan { name, of, id, mtu, owner } => {
            let kind = LinkKind::Vlan { of: Some(of.clone()), id: *id };
            add_link(space(state, &Ns::Host)?, name, Link::down(kind, *mtu, *owner))
        }
        // The parent may be somebody else's, and so out of sight.
        Op::AddMacvlan { parent, mode, inner, into, mac, mtu, owner } => {
            let kind = LinkKind::Macvlan { parent: Some(parent.clone()), mode: Some(*mode) };
            let station = Link { mac: Some(*mac), ..Link::down(kind, *mtu, *owner) };
            add_link(space(state, &Ns::Of(into.clone()))?, inner, station)
        }
        Op::DelLink { ns, name } => del_link(state, ns, name),
        Op::SetMaster { name, master } => {
            let host = space(state, &Ns::Host)?;
            if let Some(master) = master {
                bridge(host, master)?;
            }
            let port = link(host, name)?;
            // A port of the same bridge stays what it is.
            if port.master != *master {
                (port.master, port.port) = (master.clone(), BridgePort::default());
            }
            Ok(())
        }
        Op::SetPort { name, port } => {
            let link = link(space(state, &Ns::Host)?, name)?;
            if link.master.is_none() {
                return Err(Errno::Kernel { errno: EINVAL, text: format!("{name} is a port of nothing") });
            }
            link.port = *port;
            Ok(())
        }
        Op::SetRouteLocalnet { name, on } => {
            link(space(state, &Ns::Host)?, name)?.route_localnet = *on;
            Ok(())
        }
        Op::SetMtu { ns, name, mtu } => {
            link(space(state, ns)?, name)?.mtu = *mtu;
            Ok(())
        }
        Op::SetMac { ns, name, mac } => {
            link(space(state, ns)?, name)?.mac = Some(*mac);
            Ok(())
        }
        Op::SetNoIpv6 { ns, name, off } => {
            let space = space(state, ns)?;
            link(space, name)?.no_ipv6 = *off;
            if *off {
                lose_ipv6(space, name);
            }
            Ok(())
        }
        Op::SetSysctls { ns, name, sysctls } => {
            link(space(state, ns)?, name)?.sysctls = sysctls.clone();
            Ok(())
        }
        Op::SetUp { ns, name, up } => {
            let space = space(state, ns)?;
            link(space, name)?.up = *up;
            if !up {
                // IPv4 addresses outlive a link that goes down, IPv6 ones do not (`keep_addr_on_down` is 0).
                lose_ipv6(space, name);
                space.routes.retain(|route| &route.dev != name);
            }
            Ok(())
        }
        Op::AddAddr { ns, name, addr } => add_addr(link(space(state, ns)?, name)?, name, *addr),
        Op::DelAddr { ns, name, addr } => {
            let space = space(state, ns)?;
            let link = link(space, name)?;
            if !link.addrs.remove(addr) {
                return Err(Errno::Missing(format!("address {addr} on {name}")));
            }
            // The last IPv4 address takes the link's IPv4 routes with it (`fib_disable_ip`); IPv6 routes stay.
            if is_v4(addr) && !link.addrs.iter().any(is_v4) {
                space.routes.retain(|route| &route.dev != name || !is_v4(&route.to));
            }
            Ok(())
        }
        Op::AddRoute { ns, route } => add_route(space(state, ns)?, route),
        Op::DelRoute { ns, route } => {
            if space(state, ns)?.routes.remove(route) {
                Ok(())
            } else {
                Err(Errno::Missing(format!("{route}")))
            }
        }
        Op::SetForwarding { ns, family } => {
            space(state, ns)?.forwarding.insert(*family);
            Ok(())
        }
        Op::ReplaceTable { ns, name, table } => {
            let space = space(state, ns)?;
            table.admissible()?;
            space.tables.insert(name.clone(), table.clone());
            Ok(())
        }
        Op::SetResolver { id, on } => {
            let space = space(state, &Ns::Of(id.clone()))?;
            space.tables.remove(&stub::name());
            space.resolver = if *on { Resolver::Ready } else { Resolver::Absent };
            Ok(())
        }
        Op::DelTable { ns, name } => match space(state, ns)?.tables.remove(name) {
            Some(_) => Ok(()),
            None => Err(Errno::Missing(format!("table {name}"))),
        },
        Op::ChangeElements { ns, table, changes } => match space(state, ns)?.tables.get_mut(table) {
            Some(table) => table.change(changes),
            None => Err(Errno::Missing(format!("table {table}"))),
        },
        Op::ForgetFlows(_) => Ok(()),
    }
}

fn is_v4(net: &IpNet) -> bool {
    matches!(net, IpNet::V4(_))
}

fn space<'a>(state: &'a mut NetState, ns: &Ns) -> Result<&'a mut Space, Errno> {
    state.spaces.get_mut(ns).ok_or_else(|| Errno::Missing(ns.to_string()))
}

fn link<'a>(space: &'a mut Space, name: &IfName) -> Result<&'a mut Link, Errno> {
    space.links.get_mut(name).ok_or_else(|| Errno::Missing(format!("link {name}")))
}

fn bridge<'a>(space: &'a Space, name: &IfName) -> Result<&'a Link, Errno> {
    let found = space.links.get(name).filter(|l| matches!(l.kind, LinkKind::Bridge | LinkKind::ForeignBridge));
    found.ok_or_else(|| Errno::Missing(format!("bridge {name}")))
}

fn add_link(space: &mut Space, name: &IfName, link: Link) -> Result<(), Errno> {
    if space.links.contains_key(name) {
        return Err(Errno::Exists(format!("link {name}")));
    }
    space.links.insert(name.clone(), link);
    Ok(())
}

fn lose_ipv6(space: &mut Space, name: &IfName) {
    if let Some(link) = space.links.get_mut(name) {
        link.addrs.retain(is_v4);
    }
    space.routes.retain(|route| &route.dev != name || is_v4(&route.to));
}

fn add_space(state: &mut NetState, id: &SandboxId) -> Result<(), Errno> {
    let ns = Ns::Of(id.clone());
    if state.spaces.contains_key(&ns) {
        return Err(Errno::Exists(ns.to_string()));
    }
    // The kernel gives `lo` its two addresses by itself when it goes up; like link-local ones they are not listed.
    let lo = Link::down(LinkKind::Loopback, LOOPBACK_MTU, Owner::Sandbox(id.short()));
    let mut space = Space::default();
    space.links.insert(IfName::loopback(), lo);
    state.spaces.insert(ns, space);
    Ok(())
}

fn del_space(state: &mut NetState, id: &SandboxId) -> Result<(), Errno> {
    let ns = Ns::Of(id.clone());
    let gone = state.spaces.remove(&ns).ok_or_else(|| Errno::Missing(ns.to_string()))?;
    for link in gone.links.into_values() {
        drop_peer(state, &link);
    }
    Ok(())
}

fn add_veth(state: &mut NetState, op: &Op) -> Result<(), Errno> {
    let Op::AddVeth { host, master, inner, into, mac, mtu, owner } = op else { return Ok(()) };
    let into = Ns::Of(into.clone());
    if space(state, &into)?.links.contains_key(inner) {
        return Err(Errno::Exists(format!("link {inner}")));
    }
    let outside = space(state, &Ns::Host)?;
    bridge(outside, master)?;
    let host_kind = LinkKind::Veth { peer: Some((into.clone(), inner.clone())) };
    let port = BridgePort { groups: true, ..BridgePort::default() };
    let host_end = Link { up: true, master: Some(master.clone()), port, ..Link::down(host_kind, *mtu, *owner) };
    add_link(outside, host, host_end)?;
    let inner_kind = LinkKind::Veth { peer: Some((Ns::Host, host.clone())) };
    let inner_end = Link { mac: Some(*mac), ..Link::down(inner_kind, *mtu, *owner) };
    add_link(space(state, &into)?, inner, inner_end)
}

fn del_link(state: &mut NetState, ns: &Ns, name: &IfName) -> Result<(), Errno> {
    let space = space(state, ns)?;
    if link(space, name)?.kind == LinkKind::Loopback {
        return Err(Errno::Kernel { errno: EOPNOTSUPP, text: "Operation not supported".into() });
    }
    if let Some(gone) = remove_link(space, name) {
        drop_peer(state, &gone);
        if *ns == Ns::Host {
            drop_stations(state, name);
        }
    }
    Ok(())
}

/// An interface takes the stations on its segment along, wherever they are.
fn drop_stations(state: &mut NetState, parent: &IfName) {
    for space in state.spaces.values_mut() {
        let on = |link: &Link| matches!(&link.kind, LinkKind::Macvlan { parent: Some(of), .. } if of == parent);
        let gone: Vec<IfName> = space.links.iter().filter(|(_, link)| on(link)).map(|(name, _)| name.clone()).collect();
        for name in gone {
            remove_link(space, &name);
        }
    }
}

fn drop_peer(state: &mut NetState, link: &Link) {
    let LinkKind::Veth { peer: Some((ns, name)) } = &link.kind else { return };
    if let Some(space) = state.spaces.get_mut(ns) {
        remove_link(space, name);
    }
}

fn remove_link(space: &mut Space, name: &IfName) -> Option<Link> {
    let gone = space.links.remove(name)?;
    space.routes.retain(|route| &route.dev != name);
    if matches!(gone.kind, LinkKind::Bridge | LinkKind::ForeignBridge) {
        for port in space.links.values_mut().filter(|l| l.master.as_ref() == Some(name)) {
            (port.master, port.port) = (None, BridgePort::default());
        }
    }
    Some(gone)
}

fn add_addr(link: &mut Link, name: &IfName, addr: IpNet) -> Result<(), Errno> {
    if link.no_ipv6 && !is_v4(&addr) {
        return Err(Errno::Kernel { errno: EACCES, text: "ipv6: IPv6 is disabled on this device.".into() });
    }
    // An IPv4 address may stand twice with different prefix lengths, an IPv6 one may not.
    let same = |have: &IpNet| *have == addr || (!is_v4(&addr) && have.addr() == addr.addr());
    if link.addrs.iter().any(same) {
        return Err(Errno::Exists(format!("address {addr} on {name}")));
    }
    link.addrs.insert(addr);
    Ok(())
}

fn add_route(space: &mut Space, route: &Route) -> Result<(), Errno> {
    let dev = space.links.get(&route.dev).ok_or_else(|| Errno::Missing(format!("link {}", route.dev)))?;
    let family = dev.up && (is_v4(&route.to) || !dev.no_ipv6);
    if !family || !route.via.is_none_or(|via| on_link(&dev.addrs, via)) {
        return Err(Errno::Unreachable(format!("{route}")));
    }
    space.routes.retain(|have| have.to != route.to);
    space.routes.insert(route.clone());
    Ok(())
}

fn on_link(addrs: &BTreeSet<IpNet>, via: IpAddr) -> bool {
    let local = matches!(via, IpAddr::V6(v6) if v6.is_unicast_link_local());
    local || addrs.iter().any(|net| net.contains(&via))
}

impl Link {
    /// A new link as the kernel makes it: down, alone and without addresses.
    pub fn down(kind: LinkKind, mtu: u32, owner: Owner) -> Link {
        let addrs = BTreeSet::new();
        let (port, route_localnet, sysctls) = (BridgePort::default(), false, BTreeMap::new());
        Link {
            kind,
            mac: None,
            mtu,
            up: false,
            master: None,
            port,
            addrs,
            no_ipv6: false,
            sysctls,
            route_localnet,
            owner,
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route to {}", self.to)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        write!(f, " dev {}", self.dev)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::AddSpace(id) => write!(f, "add namespace {}", id.short()),
            Op::DelSpace(id) => write!(f, "delete namespace {}", id.short()),
            Op::AddBridge { name, .. } => write!(f, "add bridge {name}"),
            Op::AddVeth { host, master, inner, into, .. } => {
                write!(f, "add veth {host} on {master} with {inner} in sandbox {}", into.short())
            }
            Op::AddVlan { name, .. } => write!(f, "add vlan interface {name}"),
            Op::AddMacvlan { parent, inner, into, .. } => {
                write!(f, "add macvlan {inner} on {parent} in sandbox {}", into.short())
            }
            Op::DelLink { ns, name } => write!(f, "delete link {name} in {ns}"),
            Op::SetMaster { name, master: Some(master) } => write!(f, "make {name} a port of {master}"),
            Op::SetMaster { name, master: None } => write!(f, "make {name} a port of nothing"),
            Op::SetPort { name, port: BridgePort { isolated, hairpin, groups } } => {
                let (isolated, hairpin, groups) = (on(*isolated), on(*hairpin), on(*groups));
                write!(f, "switch isolation {isolated}, hairpin {hairpin} and groups {groups} of port {name}")
            }
            Op::SetRouteLocalnet { name, on: yes } => write!(f, "switch route_localnet {} on {name}", on(*yes)),
            Op::SetMtu { ns, name, mtu } => write!(f, "set mtu {mtu} on {name} in {ns}"),
            Op::SetMac { ns, name, mac } => write!(f, "set mac {mac} on {name} in {ns}"),
            Op::SetNoIpv6 { ns, name, off } => write!(f, "switch ipv6 {} on {name} in {ns}", on(!*off)),
            Op::SetSysctls { ns, name, sysctls } => write!(f, "set {} sysctls of {name} in {ns}", sysctls.len()),
            Op::SetUp { ns, name, up } => write!(f, "set {name} {} in {ns}", if *up { "up" } else { "down" }),
            Op::AddAddr { ns, name, addr } => write!(f, "add address {addr} to {name} in {ns}"),
            Op::DelAddr { ns, name, addr } => write!(f, "delete address {addr} from {name} in {ns}"),
            Op::AddRoute { ns, route } => write!(f, "add {route} in {ns}"),
            Op::DelRoute { ns, route } => write!(f, "delete {route} in {ns}"),
            Op::SetForwarding { ns, family } => write!(f, "switch {family:?} forwarding on in {ns}"),
            Op::ReplaceTable { ns, name, .. } => write!(f, "replace table {name} in {ns}"),
            Op::SetResolver { id, on: true } => write!(f, "let the resolver listen in sandbox {}", id.short()),
            Op::SetResolver { id, on: false } => write!(f, "let the resolver listen no more in sandbox {}", id.short()),
            Op::DelTable { ns, name } => write!(f, "delete table {name} in {ns}"),
            Op::ChangeElements { ns, table, changes } => {
                write!(f, "change {} elements of table {table} in {ns}", changes.len())
            }
            Op::ForgetFlows(flows) => {
                let flows: Vec<String> = flows.iter().map(Flows::to_string).collect();
                write!(f, "forget flows to {}", flows.join(", "))
            }
        }
    }
}

fn on(yes: bool) -> &'static str {
    if yes { "on" } else { "off" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Mac;

    const OWNER: Owner = Owner::Engine;

    fn id(digit: &str) -> SandboxId {
        digit.repeat(64).parse().unwrap()
    }

    fn name(text: &str) -> IfName {
        text.parse().unwrap()
    }

    fn inside() -> Ns {
        Ns::Of(id("a"))
    }

    fn bridge(text: &str) -> Op {
        Op::AddBridge { name: name(text), mac: Mac([2, 0, 0, 0, 0, 1]), mtu: 1500, owner: OWNER }
    }

    fn veth(host: &str, inner: &str) -> Op {
        let (host, master, inner) = (name(host), name("br0"), name(inner));
        Op::AddVeth { host, master, inner, into: id("a"), mac: Mac([2, 0, 0, 0, 0, 2]), mtu: 1500, owner: OWNER }
    }

    fn up(ns: Ns, link: &str, up: bool) -> Op {
        Op::SetUp { ns, name: name(link), up }
    }

    fn addr(text: &str) -> Op {
        Op::AddAddr { ns: inside(), name: name("eth0"), addr: text.parse().unwrap() }
    }

    fn route(to: &str, via: &str) -> Op {
        let route = Route { to: to.parse().unwrap(), via: Some(via.parse().unwrap()), dev: name("eth0") };
        Op::AddRoute { ns: inside(), route }
    }

    /// A host with `br0`, a sandbox and a pair between, up, with addresses and routes of both families.
    fn ready() -> NetState {
        let mut state = NetState::default();
        let ops = [
            Op::AddSpace(id("a")),
            bridge("br0"),
            veth("veth0", "eth0"),
            up(inside(), "eth0", true),
            addr("10.1.0.2/24"),
            addr("fd00::2/64"),
            route("0.0.0.0/0", "10.1.0.1"),
            route("::/0", "fd00::1"),
        ];
        for op in ops {
            step(&mut state, &op).unwrap();
        }
        state
    }

    fn refused(op: &Op) -> String {
        let mut state = ready();
        let before = state.clone();
        let errno = step(&mut state, op).unwrap_err();
        assert_eq!(state, before, "a refusal changes nothing: {op}");
        errno.to_string()
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        assert_eq!(refused(&Op::AddSpace(id("a"))), "sandbox aaaaaaaaaaaa exists already");
        assert_eq!(refused(&Op::DelSpace(id("b"))), "no such sandbox bbbbbbbbbbbb");
        assert_eq!(refused(&bridge("br0")), "link br0 exists already");
        assert_eq!(refused(&veth("veth0", "eth1")), "link veth0 exists already");
        assert_eq!(refused(&veth("veth1", "eth0")), "link eth0 exists already");
        assert_eq!(refused(&Op::SetMaster { name: name("veth0"), master: Some(name("br1")) }), "no such bridge br1");
        assert_eq!(refused(&addr("10.1.0.2/24")), "address 10.1.0.2/24 on eth0 exists already");
        assert_eq!(refused(&addr("fd00::2/80")), "address fd00::2/80 on eth0 exists already");
        assert_eq!(
            refused(&route("10.5.0.0/16", "10.2.0.1")),
            "route to 10.5.0.0/16 via 10.2.0.1 dev eth0 is not reachable"
        );
        assert_eq!(
            refused(&Op::DelLink { ns: inside(), name: IfName::loopback() }),
            "Operation not supported (errno 95)"
        );
    }

    #[test]
    fn a_link_that_is_down_carries_no_route() {
        let mut state = ready();
        step(&mut state, &up(inside(), "eth0", false)).unwrap();
        let space = &state.spaces[&inside()];
        assert!(space.routes.is_empty());
        assert_eq!(space.links[&name("eth0")].addrs, BTreeSet::from(["10.1.0.2/24".parse().unwrap()]));
        assert!(matches!(step(&mut state, &route("0.0.0.0/0", "10.1.0.1")), Err(Errno::Unreachable(_))));
    }

    #[test]
    fn a_deleted_bridge_frees_its_ports() {
        let mut state = ready();
        step(&mut state, &Op::DelLink { ns: Ns::Host, name: name("br0") }).unwrap();
        assert_eq!(state.spaces[&Ns::Host].links[&name("veth0")].master, None);
    }

    #[test]
    fn an_end_takes_the_other_and_a_namespace_takes_both() {
        let mut state = ready();
        step(&mut state, &Op::DelLink { ns: Ns::Host, name: name("veth0") }).unwrap();
        assert!(!state.spaces[&inside()].links.contains_key(&name("eth0")));
        assert!(state.spaces[&inside()].routes.is_empty());
        let mut state = ready();
        step(&mut state, &Op::DelSpace(id("a"))).unwrap();
        assert_eq!(state.spaces[&Ns::Host].links.keys().collect::<Vec<_>>(), [&name("br0")]);
    }

    #[test]
    fn the_last_ipv4_address_takes_its_routes() {
        let mut state = ready();
        let del = |text: &str| Op::DelAddr { ns: inside(), name: name("eth0"), addr: text.parse().unwrap() };
        step(&mut state, &del("10.1.0.2/24")).unwrap();
        step(&mut state, &del("fd00::2/64")).unwrap();
        assert_eq!(state.spaces[&inside()].routes.len(), 1, "IPv6 routes stay");
        assert!(matches!(step(&mut state, &del("fd00::2/64")), Err(Errno::Missing(_))));
    }

    #[test]
    fn without_ipv6_there_are_no_ipv6_addresses() {
        let mut state = ready();
        step(&mut state, &Op::SetNoIpv6 { ns: inside(), name: name("eth0"), off: true }).unwrap();
        assert_eq!(state.spaces[&inside()].links[&name("eth0")].addrs.len(), 1);
        assert_eq!(state.spaces[&inside()].routes.len(), 1);
        assert!(matches!(step(&mut state, &addr("fd00::3/64")), Err(Errno::Kernel { errno: EACCES, .. })));
    }
}
