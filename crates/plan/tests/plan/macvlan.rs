//! Networks whose containers are stations on the segment of an interface.

use crate::scenario::{refusals, scene, world};
use plan::apply::{Kernel, apply};
use plan::desired::desired;
use plan::diff::diff;
use plan::fake::Fake;
use plan::netstate::{NetState, Ns, Op};

const ETH: &str = "link eth0 mtu 1400";
const SEGMENT: &str = "link eth0 mtu 1400; net lan 192.0.2.0/24 gateway 192.0.2.254 segment eth0";
const VLAN: &str = "link eth0 mtu 1400; net lan 192.0.2.0/24 segment eth0.10";

/// The steps from one text's network to another's, one a line.
fn steps(have: &str, want: &str) -> String {
    let plan = diff(&desired(&world(have)), &desired(&world(want)));
    plan.iter().map(|step| step.op.to_string()).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn check(have: &str, want: &str, wanted: &str) {
    let shown = steps(have, want);
    let shown = shown.lines().map(|line| match line.split_once(" in sandbox ") {
        Some((before, _)) => before.to_owned() + " inside",
        None => line.to_owned(),
    });
    assert_eq!(shown.collect::<Vec<_>>().join("\n"), wanted.lines().map(str::trim).collect::<Vec<_>>().join("\n"));
}

#[test]
fn the_hosts_own_interface_is_left_alone() {
    check("", SEGMENT, "");
    let container = &format!("{SEGMENT}; run a on lan");
    let id = crate::scenario::sandbox_id("a");
    check(
        SEGMENT,
        container,
        &format!(
            "add namespace {}
             add macvlan eth0 on eth0 inside
             switch ipv6 off on eth0 inside
             set eth0 up inside
             set lo up inside
             let the resolver listen inside
             add address 192.0.2.1/24 to eth0 inside
             add route to 0.0.0.0/0 via 192.0.2.254 dev eth0 inside",
            id.short()
        ),
    );
    check(container, SEGMENT, &format!("delete namespace {}", id.short()));
    let state = desired(&world(container));
    let host = &state.spaces[&Ns::Host];
    assert!(host.links.is_empty() && host.tables.is_empty() && host.forwarding.is_empty(), "{host:?}");
    assert_eq!(state.spaces[&Ns::Of(id)].links["eth0".parse::<plan::ids::IfName>().as_ref().unwrap()].mtu, 1400);
}

#[test]
fn what_was_made_for_a_network_goes_with_it() {
    check(ETH, VLAN, "add vlan interface eth0.10\nswitch ipv6 off on eth0.10 in host\nset eth0.10 up in host");
    check(VLAN, ETH, "delete link eth0.10 in host");
    // Without one they have a bridge that leads nobody anywhere, and not even the host is there.
    let nowhere = "net lan 192.0.2.0/24 nowhere";
    let own = format!("dm-{}", crate::scenario::network_id("lan").short());
    let made = steps("", nowhere);
    assert!(made.starts_with(&format!("add bridge {own}\n")) && !made.contains("add address"), "{made}");
    let run = format!("{nowhere}; run a on lan publish 80:80");
    assert_eq!(scene(&run).shown(), "a eth0 on lan: 192.0.2.2");
    let started = steps(nowhere, &run);
    assert!(started.contains("add veth") && !started.contains("route"), "{started}");
    let shy = desired(&world("net lan 192.0.2.0/24 nowhere private; run a on lan"));
    assert!(shy.spaces[&Ns::Host].links.values().any(|link| link.port.isolated));
    assert!(refusals("without rules4; net lan 192.0.2.0/24 nowhere").contains("cannot be internal"));
}

#[test]
fn nothing_is_published_on_a_segment() {
    let two = "net app 10.1.0.0/24; run a on app publish 80:80";
    assert_eq!(
        scene(&format!("{SEGMENT}; run a on lan publish 80:80 publish 127.0.0.1:81:81")).shown(),
        "a eth0 on lan: 192.0.2.1 out"
    );
    // Ports go with the way out, and that may be a bridge's.
    assert_eq!(
        scene(&format!("{SEGMENT}; {two}; join a lan")).shown(),
        "a eth0 on app: 10.1.0.2 out -p 80:80\na eth1 on lan: 192.0.2.1"
    );
    assert_eq!(
        scene(&format!("{SEGMENT}; {two}; join a lan prio 1")).shown(),
        "a eth0 on app: 10.1.0.2\na eth1 on lan: 192.0.2.1 out"
    );
    let live = refusals(&format!("{SEGMENT}; run a on lan; publish a lan 80:80"));
    assert!(live.starts_with("network lan has no bridge of this host's"), "{live}");
    assert!(
        scene(&format!("{SEGMENT}; without rules4; net in 198.51.100.0/24 internal segment eth0")).refused.is_empty()
    );
}

#[test]
fn parents_are_interfaces() {
    let refused = |text: &str| refusals(&format!("{ETH}; {text}"));
    assert_eq!(refused("net a 10.1.0.0/24 segment lo"), "loopback interface is not a valid macvlan parent link");
    let nope = "invalid subinterface vlan name nope, example formatting is eth0.10";
    assert!(refused("net a 10.1.0.0/24 segment nope").starts_with(nope));
    assert!(refused("net a 10.1.0.0/24 segment eth0.1.2").contains("vlan name eth0.1.2,"));
    assert!(
        refused("net a 10.1.0.0/24 segment eth9.10").starts_with("failed to find master interface eth9 on the host")
    );
    for number in ["0", "4095", "x", ""] {
        let says = format!("vlan id must be between 1-4094, received: {number}");
        assert_eq!(refused(&format!("net a 10.1.0.0/24 segment eth0.{number}")), says);
    }
    assert!(
        refused("net a 10.1.0.0/24 segment eth0.10; net b 10.2.0.0/24 segment eth0.10")
            .starts_with("network a has made")
    );
    assert_eq!(
        refused("net a 10.1.0.0/24 segment eth0; net b 10.2.0.0/24 segment eth0; net c 10.3.0.0/24 bridge c0"),
        ""
    );
    assert!(
        refused("net c 10.3.0.0/24 bridge c0; net a 10.1.0.0/24 segment c0")
            .starts_with("network c has made interface c0")
    );
    assert_eq!(
        refused("link eth0.10; net a 10.1.0.0/24 segment eth0.10; net b 10.2.0.0/24 segment eth0.10"),
        "",
        "it is the host's"
    );
    assert_eq!(
        refused("net a 10.1.0.0/24 segment eth0 mtu 1500"),
        "invalid MTU 1500 for network a: its parent eth0 takes at most 1400 bytes"
    );
    let many = refused("net a 10.1.0.0/24 10.2.0.0/24 segment eth0");
    assert_eq!(many, "macvlan network a: more than one subnet of a family is not there");
    let same = refused(
        "net app 10.1.0.0/24; run a on app local 169.254.1.1; run b on app local 169.254.1.1; run c on app local fe80::1",
    );
    assert!(same.starts_with("Address already in use (169.254.1.1 on network app belongs to `a`)"), "{same}");
    assert!(same.ends_with("invalid link-local IP address: fe80::1: the network has no IPv6"), "{same}");
}

#[test]
fn whatever_is_missing_is_made_again() {
    let want = desired(&world(&format!("{VLAN}; run a on lan; run b on lan; net app 10.1.0.0/24; join a app")));
    let converges = |have: NetState, why: &str| {
        let mut kernel = Fake::with(have.clone());
        let applied = apply(&mut kernel, have.clone(), &diff(&have, &want));
        assert!(applied.failed.is_empty() && !applied.drifted, "{why}: {:?}", applied.failed);
        assert_eq!(kernel.observe().unwrap(), want, "{why}");
    };
    converges(NetState::default(), "from nothing");
    // Somebody deletes the interface, and all stations with it.
    let mut damaged = want.clone();
    plan::step::step(&mut damaged, &Op::DelLink { ns: Ns::Host, name: "eth0.10".parse().unwrap() }).unwrap();
    assert_eq!(damaged.spaces[&Ns::Of(crate::scenario::sandbox_id("b"))].links.len(), 1, "lo alone");
    converges(damaged, "without the interface");
    // Another VLAN of that name: it is made anew, and takes the stations along.
    let mut other = want.clone();
    let link = other.spaces.get_mut(&Ns::Host).unwrap().links.get_mut(&"eth0.10".parse().unwrap()).unwrap();
    link.kind = plan::netstate::LinkKind::Vlan { of: Some("eth0".parse().unwrap()), id: 11 };
    converges(other, "another VLAN");
    let mut one = want.clone();
    let ns = Ns::Of(crate::scenario::sandbox_id("b"));
    plan::step::step(&mut one, &Op::DelLink { ns, name: "eth0".parse().unwrap() }).unwrap();
    converges(one, "without one station");
    // An interface whose packets became smaller gives no station larger ones: nothing is tried in vain.
    let mut small = want.clone();
    for space in small.spaces.values_mut() {
        for link in space.links.values_mut().filter(|link| link.mtu == 1400) {
            link.mtu = 1300;
        }
    }
    assert!(diff(&small, &want).is_empty());
    // A crash at each step is made good.
    let have = NetState::default();
    let plan = diff(&have, &want);
    for crash in 0..=plan.len() {
        let mut kernel = Fake::crashing_after(have.clone(), crash);
        let _ = apply(&mut kernel, have.clone(), &plan);
        let mut kernel = kernel.healed();
        let now = kernel.observe().unwrap();
        let applied = apply(&mut kernel, now.clone(), &diff(&now, &want));
        assert!(applied.failed.is_empty(), "crash after step {crash}");
        assert_eq!(kernel.observe().unwrap(), want, "crash after step {crash}");
    }
}
