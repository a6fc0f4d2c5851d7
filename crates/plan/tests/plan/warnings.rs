//! What is warned of, in which words, and when it is news.

use crate::scenario::world;
use plan::around::{Around, Packets, Pattern, Refusing, StrangersRoute, Tool};
use plan::netstate::IpFamily;
use plan::warnings::{Warnings, warnings};
use plan::world::World;

fn around() -> Around {
    Around { pools: plan::ipam::default_pools(), ..Around::default() }
}

/// All that is warned of, one a line.
fn told(world: &World, around: &Around) -> String {
    let all = warnings(world, around, &Warnings::new());
    all.values().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn chain(tool: Tool, family: Packets, lets_in: &[&str], lets_out: &[&str]) -> Around {
    let patterns = |names: &[&str]| {
        let pattern = |name: &&str| {
            let (name, not) = name.strip_prefix('!').map_or((*name, false), |name| (name, true));
            let (name, prefix) = name.strip_suffix('*').map_or((name, false), |name| (name, true));
            Pattern { name: name.into(), prefix, not }
        };
        names.iter().map(pattern).collect()
    };
    let (table, chain) = ("filter".into(), "FORWARD".into());
    let refusing = Refusing { tool, family, table, chain, lets_in: patterns(lets_in), lets_out: patterns(lets_out) };
    Around { refusing: [refusing].into(), ..around() }
}

const TWO: &str = "net bridge 10.1.0.0/24 bridge berth0; net app 10.2.0.0/24 fd01::/64 bridge br-app; \
                   net vault 10.3.0.0/24 bridge br-vault internal";

#[test]
fn a_strangers_chain_is_named_with_the_command_that_helps() {
    let world = world(TWO);
    assert_eq!(
        told(&world, &chain(Tool::Nft, Packets::V4, &[], &[])),
        "table ip filter, chain FORWARD, refuses what its own rules do not know, so it drops packets from and to berth0, \
         br-app, which berth's rules let through; what helps: nft 'insert rule ip filter FORWARD iifname \"berth0\" counter \
         accept; insert rule ip filter FORWARD iifname \"br-app\" counter accept; insert rule ip filter FORWARD oifname \
         \"berth0\" counter accept; insert rule ip filter FORWARD oifname \"br-app\" counter accept'"
    );
    assert_eq!(
        told(&world, &chain(Tool::Legacy, Packets::V6, &[], &[])),
        "table ip6 filter, chain FORWARD of iptables-legacy, refuses what its own rules do not know, so it drops packets from \
         and to br-app, which berth's rules let through; what helps: ip6tables-legacy -I FORWARD -i br-app -j ACCEPT && \
         ip6tables-legacy -I FORWARD -o br-app -j ACCEPT"
    );
    let part = told(&world, &chain(Tool::Nft, Packets::Both, &["br-*"], &["!eth0"]));
    assert!(part.contains("drops packets from berth0, which"), "{part}");
    assert!(part.ends_with("nft 'insert rule inet filter FORWARD iifname \"berth0\" counter accept'"), "{part}");
    for (lets_in, lets_out) in [(&["berth0", "br-app"][..], &["b*"][..]), (&["*"], &["!up0"])] {
        assert_eq!(told(&world, &chain(Tool::Nft, Packets::Both, lets_in, lets_out)), "");
    }
    assert_eq!(told(&World::default(), &chain(Tool::Nft, Packets::Both, &[], &[])), "", "nobody to be dropped");
}

#[test]
fn it_is_news_again_when_another_network_is_dropped() {
    let around = chain(Tool::Nft, Packets::V4, &[], &[]);
    let first = warnings(&world("net bridge 10.1.0.0/24 bridge berth0"), &around, &Warnings::new());
    let second = warnings(&world(TWO), &around, &first);
    assert!(second.keys().all(|about| !first.contains_key(about)), "{second:?}");
}

fn with_routes(routes: &[(&str, Option<&str>)], addrs: &[(&str, &str)]) -> Around {
    let routes = routes
        .iter()
        .map(|(to, dev)| StrangersRoute { to: to.parse().unwrap(), dev: dev.map(|dev| dev.parse().unwrap()) });
    let addrs = addrs.iter().map(|(dev, addr)| (dev.parse().unwrap(), addr.parse().unwrap()));
    Around { routes: routes.collect(), addrs: addrs.collect(), ..around() }
}

#[test]
fn an_overlap_is_named_with_a_way_out() {
    let of_bridge = world("net bridge 172.17.0.0/16 bridge berth0");
    assert_eq!(
        told(&of_bridge, &with_routes(&[("172.17.5.0/24", Some("tun0"))], &[])),
        "route 172.17.5.0/24 of tun0 overlaps 172.17.0.0/16 of network bridge: packets for those of its addresses do not reach \
         berth0; what helps: start the engine with --bip 172.18.0.1/16 once no container is on that network, or remove what \
         overlaps"
    );
    let wide = told(&of_bridge, &with_routes(&[("172.16.0.0/12", Some("tun0"))], &[]));
    assert!(wide.contains("what is behind it within that subnet is out of this host's reach"), "{wide}");
    assert!(wide.contains("--bip 192.168.0.1/20"), "{wide}");
    // The kernel's route for an address is the same thing.
    let addr = told(&of_bridge, &with_routes(&[("172.17.5.0/24", Some("eth1"))], &[("eth1", "172.17.5.9/24")]));
    assert!(
        addr.starts_with("address 172.17.5.9/24 of eth1 overlaps 172.17.0.0/16") && addr.lines().count() == 1,
        "{addr}"
    );
    let nowhere = told(&of_bridge, &with_routes(&[("172.17.5.0/24", None)], &[]));
    assert!(nowhere.starts_with("route 172.17.5.0/24 that leads nowhere overlaps"), "{nowhere}");
    let of_app = told(&world("net app 10.1.0.0/24 fd01::/64"), &with_routes(&[("fd01::/48", Some("tun0"))], &[]));
    assert!(of_app.contains("overlaps fd01::/64 of network app"), "{of_app}");
    assert!(of_app.ends_with("make the network anew with --subnet SUBNET, or remove what overlaps"), "{of_app}");
    for (routes, addrs) in [
        (&[("0.0.0.0/1", Some("tun0")), ("128.0.0.0/1", Some("tun0")), ("10.0.0.0/8", Some("tun0"))][..], &[][..]),
        // A bridge made by hand has the subnet itself.
        (&[("172.17.0.0/16", Some("berth0"))], &[("berth0", "172.17.0.1/16")]),
    ] {
        assert_eq!(told(&of_bridge, &with_routes(routes, addrs)), "");
    }
}

#[test]
fn limits_are_told_of_once() {
    let members = |count: usize| {
        let runs: String = (0..count).map(|n| format!("; run c{n} on app")).collect();
        world(&format!("net app 10.1.0.0/16 bridge app0{runs}"))
    };
    let mut strangers = around();
    assert_eq!(told(&members(20), &strangers), "");
    strangers.ports.insert("app0".parse().unwrap(), 800);
    let few = warnings(&members(18), &strangers, &Warnings::new());
    assert!(few.is_empty(), "{few:?}");
    let near = warnings(&members(19), &strangers, &few);
    assert_eq!(
        near.values().next().unwrap().to_string(),
        "bridge app0 of network app has 819 of the 1023 ports that a bridge can have; what helps: put further containers on \
         another network"
    );
    let fewer = warnings(&members(5), &strangers, &near);
    assert!(near.keys().eq(fewer.keys()), "it stays until there is some room again");
    strangers.ports.insert("app0".parse().unwrap(), 700);
    assert!(warnings(&members(5), &strangers, &fewer).is_empty());
    let small = |count: usize| {
        let runs: String = (0..count).map(|n| format!("; run c{n} on app")).collect();
        told(&world(&format!("net app 10.1.0.0/28 fd01::/64 bridge app0{runs}")), &around())
    };
    // 13 of 16: not the subnet's own, the broadcast and the gateway's.
    assert_eq!(small(10), "");
    assert!(small(11).starts_with("network app has given out 11 of the 13 addresses of 10.1.0.0/28"), "{}", small(11));
}

#[test]
fn forwarding_that_is_left_alone_is_told_of_where_it_is_off() {
    let mut world = world(TWO);
    assert_eq!(told(&world, &around()), "");
    world.means.forward = false;
    let off = told(&world, &around());
    assert_eq!(off.lines().count(), 2);
    assert!(
        off.starts_with("IPv4 forwarding is off, and berth was told to leave it alone (--ip-forward=false)"),
        "{off}"
    );
    assert!(off.ends_with("what helps: sysctl -w net.ipv6.conf.all.forwarding=1"), "{off}");
    let on = Around { forwarding: [IpFamily::V4, IpFamily::V6].into(), ..around() };
    assert_eq!(told(&world, &on), "");
}

#[test]
fn what_only_rules_keep_apart_is_told_of_where_there_are_none() {
    let mut world = world("net a 10.1.0.0/24 internal; net b 10.2.0.0/24 apart; net c 10.3.0.0/24");
    assert_eq!(told(&world, &around()), "");
    world.means.firewall4 = false;
    assert_eq!(
        told(&world, &around()),
        "network a is internal, which only rules can do, and --iptables=false left none; what helps: start the engine without \
         --iptables=false\n\
         network b is one whose containers are kept apart, which only rules can do, and --iptables=false left none; what helps: \
         start the engine without --iptables=false"
    );
}
