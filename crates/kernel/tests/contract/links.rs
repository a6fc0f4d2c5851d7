use crate::{Both, addr, bridge, id, inside, name, no_addr, open, route, same, up, veth};
use plan::apply::Kernel;
use plan::ids::Mac;
use plan::netstate::{BridgePort, IpFamily, LinkKind, Ns, Op};

/// A host with `br0`, up and with addresses, and a sandbox `a` with `eth0`.
fn furnished(both: &mut Both) {
    both.ok(Op::AddSpace(id('a')));
    both.ok(up(inside('a'), "lo", true));
    both.ok(bridge("br0", 1400));
    both.ok(up(Ns::Host, "br0", true));
    both.ok(addr(Ns::Host, "br0", "10.1.0.1/24"));
    both.ok(addr(Ns::Host, "br0", "fd00:1::1/64"));
    both.ok(veth("veth0", "br0", "eth0", 'a'));
    both.ok(addr(inside('a'), "eth0", "10.1.0.2/24"));
    both.ok(addr(inside('a'), "eth0", "fd00:1::2/64"));
    both.ok(up(inside('a'), "eth0", true));
    for (to, via) in [("0.0.0.0/0", "10.1.0.1"), ("::/0", "fd00:1::1")] {
        both.ok(Op::AddRoute { ns: inside('a'), route: route(to, Some(via), "eth0") });
    }
}

#[test]
fn a_sandbox_is_furnished_and_given_up() {
    lab::alone(|lab| {
        let mut both = Both::new(lab);
        furnished(&mut both);
        assert!(lab.here().ping("10.1.0.2"));
        assert!(lab.here().ping("fd00:1::2"));
        both.ok(Op::DelSpace(id('a')));
        both.ok(Op::DelLink { ns: Ns::Host, name: name("br0") });
        assert_eq!(std::fs::read_dir(lab.dir().join("netns")).unwrap().count(), 0);
    })
}

#[test]
fn links_change_as_told() {
    lab::alone(|lab| {
        let mut both = Both::new(lab);
        furnished(&mut both);
        let mac = Mac([2, 3, 4, 5, 6, 7]);
        both.ok(Op::SetMac { ns: inside('a'), name: name("eth0"), mac });
        both.ok(Op::SetMac { ns: Ns::Host, name: name("br0"), mac });
        // The bridge keeps its own MTU, whatever its ports have.
        both.ok(Op::SetMtu { ns: Ns::Host, name: name("veth0"), mtu: 1300 });
        both.ok(Op::SetMtu { ns: inside('a'), name: name("eth0"), mtu: 1300 });
        both.ok(Op::SetMtu { ns: Ns::Host, name: name("br0"), mtu: 1500 });
        both.ok(bridge("br1", 1500));
        both.ok(Op::SetMaster { name: name("veth0"), master: Some(name("br1")) });
        both.ok(Op::SetPort { name: name("veth0"), port: BridgePort { isolated: true, hairpin: true, groups: false } });
        both.ok(Op::SetMaster { name: name("veth0"), master: Some(name("br1")) });
        both.ok(Op::SetMaster { name: name("veth0"), master: Some(name("br0")) });
        both.ok(Op::SetPort { name: name("veth0"), port: BridgePort { isolated: true, hairpin: false, groups: true } });
        both.ok(Op::SetPort { name: name("veth0"), port: BridgePort { isolated: false, hairpin: true, groups: true } });
        both.ok(Op::SetRouteLocalnet { name: name("br0"), on: true });
        both.ok(Op::SetRouteLocalnet { name: name("br0"), on: false });
        both.ok(Op::SetMaster { name: name("veth0"), master: None });
        both.refused(Op::SetPort {
            name: name("veth0"),
            port: BridgePort { isolated: true, hairpin: false, groups: true },
        });
        both.ok(Op::SetMaster { name: name("veth0"), master: Some(name("br0")) });
        both.ok(Op::SetNoIpv6 { ns: inside('a'), name: name("eth0"), off: true });
        let why = both.refused(addr(inside('a'), "eth0", "fd00:1::3/64"));
        assert_eq!(why, "ipv6: IPv6 is disabled on this device (errno 13)");
        both.ok(Op::SetNoIpv6 { ns: inside('a'), name: name("eth0"), off: false });
        both.ok(addr(inside('a'), "eth0", "fd00:1::3/64"));
        both.ok(Op::SetNoIpv6 { ns: Ns::Host, name: name("br0"), off: true });
        both.ok(up(inside('a'), "eth0", false));
        both.ok(up(Ns::Host, "veth0", false));
        both.ok(up(Ns::Host, "br0", false));
    })
}

#[test]
fn a_link_too_small_for_ipv6_can_be_told_to_be_without() {
    lab::alone(|lab| {
        let mut both = Both::new(lab);
        both.ok(bridge("br0", 1200));
        for off in [true, false, true] {
            both.ok(Op::SetNoIpv6 { ns: Ns::Host, name: name("br0"), off });
        }
        for mtu in [1280, 1279, 1400] {
            both.ok(Op::SetMtu { ns: Ns::Host, name: name("br0"), mtu });
        }
        both.ok(Op::SetNoIpv6 { ns: Ns::Host, name: name("br0"), off: false });
    })
}

#[test]
fn whatever_leans_on_a_thing_goes_with_it() {
    lab::alone(|lab| {
        let mut both = Both::new(lab);
        furnished(&mut both);
        both.ok(no_addr(inside('a'), "eth0", "10.1.0.2/24"));
        both.ok(no_addr(inside('a'), "eth0", "fd00:1::2/64"));
        both.ok(addr(inside('a'), "eth0", "10.1.0.2/24"));
        both.ok(addr(inside('a'), "eth0", "10.1.7.2/24"));
        both.ok(Op::AddRoute { ns: inside('a'), route: route("0.0.0.0/0", Some("10.1.0.1"), "eth0") });
        both.ok(no_addr(inside('a'), "eth0", "10.1.7.2/24"));
        // The first of a subnet's addresses does not take the second along.
        both.ok(addr(inside('a'), "eth0", "10.1.0.3/24"));
        both.ok(no_addr(inside('a'), "eth0", "10.1.0.2/24"));
        both.ok(addr(Ns::Host, "br0", "10.1.0.254/24"));
        both.ok(no_addr(Ns::Host, "br0", "10.1.0.1/24"));
        // A deleted bridge frees its ports; one end takes the other along.
        both.ok(Op::SetPort { name: name("veth0"), port: BridgePort { isolated: true, hairpin: true, groups: false } });
        both.ok(Op::DelLink { ns: Ns::Host, name: name("br0") });
        both.ok(bridge("br0", 1400));
        both.ok(Op::SetMaster { name: name("veth0"), master: Some(name("br0")) });
        both.ok(Op::DelLink { ns: inside('a'), name: name("eth0") });
        both.ok(veth("veth0", "br0", "eth0", 'a'));
        both.ok(Op::DelLink { ns: Ns::Host, name: name("veth0") });
    })
}

#[test]
fn refusals_are_the_same_and_readable() {
    lab::alone(|lab| {
        let mut both = Both::new(lab);
        furnished(&mut both);
        let mut refused = |op: Op| both.refused(op);
        assert_eq!(refused(Op::AddSpace(id('a'))), "sandbox aaaaaaaaaaaa exists already");
        assert_eq!(refused(Op::DelSpace(id('b'))), "no such sandbox bbbbbbbbbbbb");
        assert_eq!(refused(bridge("br0", 1500)), "link br0 exists already");
        let twice = refused(veth("veth0", "br0", "eth1", 'a'));
        assert_eq!(twice, "link veth0 or eth1 in sandbox aaaaaaaaaaaa exists already");
        refused(veth("veth1", "br0", "eth0", 'a'));
        assert_eq!(refused(veth("veth1", "br9", "eth1", 'a')), "no such bridge br9");
        assert_eq!(refused(veth("veth1", "veth0", "eth1", 'a')), "no such bridge veth0");
        assert_eq!(refused(veth("veth1", "br0", "eth1", 'b')), "no such sandbox bbbbbbbbbbbb");
        assert_eq!(refused(Op::SetMaster { name: name("veth0"), master: Some(name("br9")) }), "no such bridge br9");
        assert_eq!(refused(up(inside('b'), "eth0", true)), "no such sandbox bbbbbbbbbbbb");
        assert_eq!(refused(up(inside('a'), "eth9", true)), "no such link eth9");
        assert_eq!(refused(addr(inside('a'), "eth0", "10.1.0.2/24")), "address 10.1.0.2/24 on eth0 exists already");
        refused(addr(inside('a'), "eth0", "fd00:1::2/80"));
        let gone = refused(no_addr(inside('a'), "eth0", "10.9.0.2/24"));
        assert_eq!(gone, "no such address 10.9.0.2/24 on eth0");
        refused(no_addr(inside('a'), "eth0", "fd00:9::2/64"));
        let on = |to: &str, via: &str| Op::AddRoute { ns: inside('a'), route: route(to, Some(via), "eth0") };
        assert_eq!(
            refused(on("10.5.0.0/16", "10.2.0.1")),
            "route to 10.5.0.0/16 via 10.2.0.1 dev eth0 is not reachable"
        );
        refused(Op::DelRoute { ns: inside('a'), route: route("10.5.0.0/16", Some("10.1.0.1"), "eth0") });
        refused(Op::DelRoute { ns: inside('a'), route: route("fd05::/16", Some("fd00:1::1"), "eth0") });
        refused(Op::DelLink { ns: inside('a'), name: name("lo") });
        both.ok(up(inside('a'), "eth0", false));
        let mut refused = |op: Op| both.refused(op);
        refused(on("10.5.0.0/16", "10.1.0.1"));
        refused(on("fd05::/16", "fd00:1::1"));
    })
}

#[test]
fn a_route_comes_in_place_of_what_leads_to_the_same() {
    lab::alone(|lab| {
        let mut both = Both::new(lab);
        furnished(&mut both);
        let on = |to: &str, via: &str| Op::AddRoute { ns: inside('a'), route: route(to, Some(via), "eth0") };
        // Ours, the same and another.
        for (to, via) in
            [("0.0.0.0/0", "10.1.0.1"), ("::/0", "fd00:1::1"), ("0.0.0.0/0", "10.1.0.9"), ("::/0", "fd00:1::9")]
        {
            both.ok(on(to, via));
        }
        // Those of whoever rules over the namespace: the same, one by another way, none.
        let sandbox = lab.inside_path(&both.real.pin(&id('a')));
        let ways = [
            (["10.1.0.7/32", "10.1.0.1", "10.1.0.9"], "10.1.0.7"),
            (["fd00:1::7/128", "fd00:1::1", "fd00:1::9"], "fd00:1::7"),
        ];
        for ([to, via, other], shown) in ways {
            for theirs in [&["via", via][..], &["via", other], &["dev", "eth0"], &["blackhole"]] {
                let words = match theirs {
                    ["blackhole"] => vec!["ip", "route", "add", "blackhole", to],
                    way => [&["ip", "route", "add", to], way].concat(),
                };
                sandbox.ok(&words);
                both.ok(on(to, via));
                let now = sandbox.ok(&["ip", "route", "get", shown]);
                assert!(now.contains(&format!("via {via} ")), "{theirs:?}: {now}");
                both.ok(Op::DelRoute { ns: inside('a'), route: route(to, Some(via), "eth0") });
                let family = if via.contains(':') { "-6" } else { "-4" };
                let now = sandbox.ok(&["ip", family, "route", "show", to]);
                assert_eq!(now, "", "{theirs:?}");
            }
        }
    })
}

#[test]
fn forwarding_is_switched_on() {
    lab::alone(|lab| {
        let mut both = Both::new(lab);
        // A sandbox forwards nothing, whatever the host does.
        both.ok(Op::SetForwarding { ns: Ns::Host, family: IpFamily::V4 });
        both.ok(Op::SetForwarding { ns: Ns::Host, family: IpFamily::V6 });
        both.ok(Op::AddSpace(id('a')));
        both.ok(Op::SetForwarding { ns: inside('a'), family: IpFamily::V6 });
        both.ok(Op::SetForwarding { ns: inside('a'), family: IpFamily::V4 });
    })
}

#[test]
fn what_others_delete_is_missed_and_what_others_make_is_not_seen() {
    lab::alone(|lab| {
        let mut both = Both::new(lab);
        furnished(&mut both);
        let pin = both.real.pin(&id('a'));
        let sandbox = lab.inside_path(&pin);
        let before = both.real.observe().unwrap();
        for words in ["link add other type bridge", "link add v0 type veth peer name v1", "link set v0 master other up"]
        {
            lab.here().ok(&[&["ip"], &words.split(' ').collect::<Vec<_>>()[..]].concat());
        }
        lab.here().ok(&["ip", "route", "add", "10.7.0.0/16", "via", "10.1.0.9"]);
        sandbox.ok(&["ip", "link", "add", "mine", "type", "bridge"]);
        same(&both.real.observe().unwrap(), &before, "strangers came");
        for op in [
            Op::DelLink { ns: Ns::Host, name: name("other") },
            up(Ns::Host, "lo", false),
            Op::DelLink { ns: inside('a'), name: name("mine") },
            Op::DelRoute { ns: Ns::Host, route: route("10.7.0.0/16", Some("10.1.0.9"), "br0") },
        ] {
            let refused = both.real.perform(&op).unwrap_err();
            assert!(refused.to_string().starts_with("no such"), "{op}: {refused}");
        }
        lab.here().ok(&["ip", "link", "show", "other"]);

        // A stranger's bridge is shown while one of ours is its port, and is left alone.
        both.real.perform(&Op::SetMaster { name: name("veth0"), master: Some(name("other")) }).unwrap();
        let state = both.real.observe().unwrap();
        assert_eq!(state.spaces[&Ns::Host].links[&name("other")].kind, LinkKind::ForeignBridge);
        assert!(both.real.perform(&up(Ns::Host, "other", true)).is_err());
        both.real.perform(&Op::SetMaster { name: name("veth0"), master: Some(name("br0")) }).unwrap();
        let as_born = BridgePort { groups: true, ..BridgePort::default() };
        both.real.perform(&Op::SetPort { name: name("veth0"), port: as_born }).unwrap();
        same(&both.real.observe().unwrap(), &before, "the stranger's bridge was left");

        sandbox.ok(&["ip", "addr", "del", "10.1.0.2/24", "dev", "eth0"]);
        sandbox.ok(&["ip", "-6", "route", "del", "default"]);
        let state = both.real.observe().unwrap();
        let space = &state.spaces[&inside('a')];
        assert_eq!(space.links[&name("eth0")].addrs.len(), 1);
        assert!(space.routes.is_empty());
        lab.here().ok(&["ip", "link", "del", "veth0"]);
        let state = both.real.observe().unwrap();
        assert!(!state.spaces[&Ns::Host].links.contains_key(&name("veth0")));
        assert!(!state.spaces[&inside('a')].links.contains_key(&name("eth0")));
    })
}

#[test]
fn a_half_made_pair_is_still_recognised() {
    lab::alone(|lab| {
        let mut both = Both::new(lab);
        furnished(&mut both);
        // As after a crash between the making of the pair and the writing of its owner.
        lab.here().ok(&["ip", "link", "set", "veth0", "alias", ""]);
        let state = both.real.observe().unwrap();
        let end = &state.spaces[&Ns::Host].links[&name("veth0")];
        assert_eq!(end.kind, LinkKind::Veth { peer: Some((inside('a'), name("eth0"))) });
        both.real.perform(&Op::DelLink { ns: Ns::Host, name: name("veth0") }).unwrap();
        // And a second pair of hands, as after a restart, sees the same as the first.
        let mut other = open(lab);
        same(&other.observe().unwrap(), &both.real.observe().unwrap(), "opened again");
    })
}
