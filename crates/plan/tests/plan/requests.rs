//! Requests in, facts or refusals out.

use crate::scenario::{endpoint_id, network_id, refusals, sandbox_id, scene, world};
use plan::decide::{self, Kind, SubnetWish};
use plan::world::{Proto, World};

/// The endpoints that a text leaves, one a line.
fn check(text: &str, shown: &str) {
    let scene = scene(text);
    assert_eq!(scene.refused, [], "{text}");
    assert_eq!(scene.shown(), shown, "{text}");
}

fn refused(text: &str, words: &str) {
    assert_eq!(refusals(text), words, "{text}");
}

#[test]
fn addresses_are_the_first_that_are_free() {
    check(
        "net app 10.1.0.0/24; run a on app; run b on app",
        "a eth0 on app: 10.1.0.2 out\nb eth0 on app: 10.1.0.3 out",
    );
    check("net app 10.1.0.0/24 fd01::/64; run a on app", "a eth0 on app: 10.1.0.2 fd01::2 out");
    check("net app fd01::/64 no4; run a on app", "a eth0 on app: fd01::2 out");
    check("net app 10.1.0.0/24 gateway 10.1.0.9 aux router=10.1.0.1; run a on app", "a eth0 on app: 10.1.0.2 out");
    check("net bridge 192.168.0.128/25 range 192.168.0.192/26; run a on bridge", "a eth0 on bridge: 192.168.0.192 out");
}

#[test]
fn a_container_keeps_its_address_and_others_wait_for_it() {
    let head = "net app 10.1.0.0/24; at 100; run a on app; run b on app; rm a";
    check(&format!("{head}; run c on app"), "b eth0 on app: 10.1.0.3 out\nc eth0 on app: 10.1.0.4 out");
    check(&format!("{head}; run a on app"), "a eth0 on app: 10.1.0.2 out\nb eth0 on app: 10.1.0.3 out");
    check(&format!("{head}; at 160; run c on app"), "b eth0 on app: 10.1.0.3 out\nc eth0 on app: 10.1.0.2 out");
    // Kept over a long stop, as long as it is free.
    let stopped = "net app 10.1.0.0/24; run z on app; run a on app publish :80; stop a";
    check(
        &format!("{stopped}; at 500; rm z; at 900; run a on app publish :80"),
        "a eth0 on app: 10.1.0.3 out -p 49153:80",
    );
    check("net app 10.1.0.0/30; run a on app; rm a; run b on app", "b eth0 on app: 10.1.0.2 out");
}

#[test]
fn one_network_leads_out() {
    let both =
        "net in 10.1.0.0/24 internal; net app 10.2.0.0/24; net web 10.3.0.0/24; run a on in; join a web; join a app";
    check(both, "a eth0 on in: 10.1.0.2\na eth1 on web: 10.3.0.2\na eth2 on app: 10.2.0.2 out");
    check(&format!("{both}; leave a app"), "a eth0 on in: 10.1.0.2\na eth1 on web: 10.3.0.2 out");
    // Interface names are by order of joining; the first that is free is taken.
    check(
        &format!("{both}; leave a web; join a web prio 1"),
        "a eth0 on in: 10.1.0.2\na eth1 on web: 10.3.0.2 out\na eth2 on app: 10.2.0.2",
    );
    check("net in 10.1.0.0/24 internal; run a on in prio 9", "a eth0 on in: 10.1.0.2");
}

#[test]
fn both_families_come_before_one() {
    let nets = "net a 10.1.0.0/24; net b 10.2.0.0/24 fd02::/64; net c fd03::/64 no4";
    check(&format!("{nets}; run x on a; join x b"), "x eth0 on a: 10.1.0.2\nx eth1 on b: 10.2.0.2 fd02::2 out");
    check(&format!("{nets}; run x on a; join x c"), "x eth0 on a: 10.1.0.2 out\nx eth1 on c: fd03::2 out6");
    check(
        &format!("{nets}; run x on a prio 1; join x b; join x c"),
        "x eth0 on a: 10.1.0.2 out\nx eth1 on b: 10.2.0.2 fd02::2 out6\nx eth2 on c: fd03::2",
    );
    check(&format!("{nets}; run x on a; join x c; leave x a"), "x eth1 on c: fd03::2 out");
}

#[test]
fn published_ports_go_with_the_way_out() {
    let nets = "net in 10.1.0.0/24 internal; net web 10.2.0.0/24; net app 10.3.0.0/24; run x on web publish 8080:80";
    check(&format!("{nets}; join x in"), "x eth0 on web: 10.2.0.2 out -p 8080:80\nx eth1 on in: 10.1.0.2");
    check(
        &format!("{nets}; join x app publish 81:81"),
        "x eth0 on web: 10.2.0.2\nx eth1 on app: 10.3.0.2 out -p 81:81 -p 8080:80",
    );
    check(&format!("{nets}; join x app; leave x app"), "x eth0 on web: 10.2.0.2 out -p 8080:80");
    check(&format!("{nets}; join x in; leave x web"), "x eth1 on in: 10.1.0.2");
    check(
        "net in 10.1.0.0/24 internal; net web 10.2.0.0/24; run x on in publish 8080:80; join x web publish 81:81",
        "x eth0 on in: 10.1.0.2\nx eth1 on web: 10.2.0.2 out -p 81:81",
    );
    // Ports of a family that the new way out does not have stay where that family leaves.
    let both = "net b 10.1.0.0/24 fd01::/64; net a 10.2.0.0/24; run x on b publish 80:80; join x a prio 1";
    check(both, "x eth0 on b: 10.1.0.2 fd01::2 out6 -p [::]:80:80\nx eth1 on a: 10.2.0.2 out -p 80:80");
    let together = "x eth0 on b: 10.1.0.2 fd01::2 out -p 80:80 -p [::]:80:80";
    check(&format!("{both}; leave x a"), together);
    check(&format!("{both}; publish x a 81:81; leave x a; unpublish x b 81:81"), together);
    check(
        "net four 10.1.0.0/24; net six fd01::/64 no4; run x on four; join x six prio 1 publish 80:80",
        "x eth0 on four: 10.1.0.2 out4 -p 80:80\nx eth1 on six: fd01::2 out -p [::]:80:80",
    );
    let moved = scene(&format!("{nets}; join x app"));
    let mut before = scene(nets).world;
    let (web, app) = (endpoint_id("x", "web"), endpoint_id("x", "app"));
    let last = moved.changes.last().unwrap();
    let binding = before.endpoints[&web].ports[0].clone();
    assert_eq!(decide::handovers(&before, last), [decide::Handover { from: web, to: app, binding }]);
    before.take(last);
    assert_eq!(decide::handovers(&before, last), []);
}

#[test]
fn ports_of_a_routed_network_are_open_at_the_containers_own_address() {
    let nets = "net app 10.1.0.0/24 fd01::/64 mode4 routed";
    let wishes = "publish 8080:80 publish 8081:80 publish 443 publish 9000-9009:75-84 publish 53:53/udp";
    check(
        &format!("{nets}; run a on app {wishes}"),
        "a eth0 on app: 10.1.0.2 fd01::2 out -p [::]:8080:80 -p [::]:8081:80 -p [::]:9000-9009:75-84 -p [::]:49153:443 \
         -p [::]:53:53/udp open4 75-84 open4 443 open4 53/udp",
    );
    let both = "net app 10.1.0.0/24 fd01::/64 mode4 routed mode6 routed";
    // The same port of two containers, for it is none of the host's.
    check(
        &format!("{both}; run a on app publish 80:80; run b on app publish 80:80 publish 192.0.2.1:90:90"),
        "a eth0 on app: 10.1.0.2 fd01::2 out open4 80 open6 80\nb eth0 on app: 10.1.0.3 fd01::3 out open4 80 open4 90 open6 80",
    );
    let live = format!("{both}; run a on app publish 80-82:80-82; publish a app 90:90");
    check(
        &format!("{live}; unpublish a app 81"),
        "a eth0 on app: 10.1.0.2 fd01::2 out open4 80 open4 82 open4 90 open6 80 open6 82 open6 90",
    );
    refused(&format!("{live}; unpublish a app 83"), "no public port '83/tcp' published for a");
    refused(
        &format!("{both}; run a on app publish 127.0.0.1:80:80"),
        "cannot publish 127.0.0.1:80:80: network app is routed, so that ports are open at the container's own address and not \
         at one of the host: publish it without an address of the host, or not at all, for the host reaches it anyway",
    );
    refused(&format!("{both}; run a on app publish 80:0"), "invalid port specification: \"0/tcp\"");
    // From a network that translates to one that does not, and back; ports of the host are then to be asked for anew.
    let moved =
        format!("{both}; net web 10.2.0.0/24; run a on web publish 8080:80 publish 127.0.0.1:81:81; join a app");
    check(&moved, "a eth0 on web: 10.2.0.2\na eth1 on app: 10.1.0.2 fd01::2 out open4 80");
    check(&format!("{moved}; leave a app"), "a eth0 on web: 10.2.0.2 out");
}

#[test]
fn gateway_modes_that_cannot_be() {
    let isolated = "gateway mode 'isolated' can only be used for an internal network";
    refused("net app 10.1.0.0/24 mode4 isolated", isolated);
    refused("net app 10.1.0.0/24 mode6 isolated", isolated);
    check("net app 10.1.0.0/24 mode4 isolated internal; run a on app", "a eth0 on app: 10.1.0.2");
    check("net app 10.1.0.0/24 prefix lan; run a on app", "a lan0 on app: 10.1.0.2 out");
    refused(
        "net app 10.1.0.0/24 prefix much-too-long",
        "invalid interface name prefix \"much-too-long\": with a number behind it, it must be an interface name of at most 15 \
         bytes",
    );
}

#[test]
fn a_networks_own_host_address_is_where_its_ports_go() {
    check(
        "net app 10.1.0.0/24 hostip 127.0.0.1; run a on app publish 80:80",
        "a eth0 on app: 10.1.0.2 out -p 127.0.0.1:80:80",
    );
    check(
        "net app 10.1.0.0/24 hostip 127.0.0.1; run a on app publish 0.0.0.0:80:80; publish a app 81:81",
        "a eth0 on app: 10.1.0.2 out -p 80:80 -p 127.0.0.1:81:81",
    );
}

#[test]
fn what_others_were_promised_is_not_chosen() {
    let nets = "net app 10.1.0.0/29; promise app 10.1.0.2";
    check(&format!("{nets}; run a on app"), "a eth0 on app: 10.1.0.3 out");
    check(&format!("{nets}; run a on app ip 10.1.0.2"), "a eth0 on app: 10.1.0.2 out");
    check(
        "net app 10.1.0.0/29; run a on app; stop a; promise app 10.1.0.2; run a on app",
        "a eth0 on app: 10.1.0.3 out",
    );
}

#[test]
fn subnets_are_chosen_clear_of_networks_routes_and_resolvers() {
    let scene = scene("route 172.18.4.0/22; resolver 172.19.0.53; net a; net b; net c v6; no6");
    let nets: Vec<String> = ["a", "b", "c"]
        .iter()
        .map(|name| scene.world.networks[&network_id(name)].v4.as_ref().unwrap().net.to_string())
        .collect();
    assert_eq!(nets, ["172.17.0.0/16", "172.20.0.0/16", "172.21.0.0/16"]);
    let c = scene.world.networks[&network_id("c")].v6.as_ref().unwrap();
    assert_eq!((c.net.to_string(), c.gateway.to_string()), ("fd00::/64".into(), "fd00::1".into()));
    let all = (0..32).map(|n| format!("net n{n}")).collect::<Vec<_>>().join(";");
    refused(&all, "all predefined address pools have been fully subnetted");
    // What lies behind a router would be cut off, unless nothing else is left.
    let first =
        |text: &str| world(&format!("{text}; net a")).networks[&network_id("a")].v4.as_ref().unwrap().net.to_string();
    assert_eq!(first("route 172.17.0.0/16 via; route 172.18.0.0/15 via"), "172.20.0.0/16");
    assert_eq!(first("route 0.0.0.0/0 via; route 128.0.0.0/1 via"), "172.17.0.0/16");
    assert_eq!(first("route 172.16.0.0/12 via; route 192.168.0.0/16 via; route 172.17.0.0/16"), "172.18.0.0/16");
}

#[test]
fn networks_that_cannot_be() {
    let config = "invalid network config:\n";
    refused("net -", "invalid name: name is empty");
    refused("net a; net a", "network with name a already exists");
    refused("net a no4", "IPv4 or IPv6 must be enabled");
    refused(
        "no6; net a v6",
        "IPv6 is not available on this host: network a cannot have it (is the kernel started with ipv6.disable=1?)",
    );
    refused("net a 10.1.0.0/24 10.2.0.0/24", "bridge driver doesn't support multiple subnets");
    refused("net a 10.1.0.5/16", &format!("{config}invalid subnet 10.1.0.5/16: it should be 10.1.0.0/16"));
    refused(
        "net a 10.1.0.0/24 range 10.2.0.0/25",
        &format!("{config}invalid ip-range 10.2.0.0/25: parent subnet 10.1.0.0/24 doesn't contain ip-range"),
    );
    refused(
        "net a 10.1.0.0/24 range 10.1.0.0/16",
        &format!("{config}invalid ip-range 10.1.0.0/16: CIDR block is bigger than its parent subnet 10.1.0.0/24"),
    );
    refused(
        "net a 10.1.0.0/24 range 10.1.0.7/25",
        &format!("{config}invalid ip-range 10.1.0.7/25: it should be 10.1.0.0/25"),
    );
    refused(
        "net a 10.1.0.0/24 gateway 10.2.0.1",
        &format!("{config}invalid gateway 10.2.0.1: parent subnet 10.1.0.0/24 doesn't contain this address"),
    );
    refused(
        "net a 10.1.0.0/24 gateway fd00::1",
        &format!("{config}invalid gateway fd00::1: parent subnet is an IPv4 block"),
    );
    refused("net a gateway 10.1.0.1", &format!("{config}invalid gateway 10.1.0.1: it needs a subnet"));
    refused(
        "net a 10.1.0.3/24 gateway 10.2.0.1 aux r=10.3.0.1",
        &format!(
            "{config}* invalid subnet 10.1.0.3/24: it should be 10.1.0.0/24\n\
             * invalid gateway 10.2.0.1: parent subnet 10.1.0.0/24 doesn't contain this address\n\
             * invalid auxiliary address r: 10.3.0.1: parent subnet 10.1.0.0/24 doesn't contain this address"
        ),
    );
    refused(
        "net a 10.1.0.0/24 gateway 10.1.0.0",
        "failed to allocate gateway (10.1.0.0): Address already in use: it is the subnet's own or its broadcast address",
    );
    refused(
        "net a 10.1.0.0/24; net b 10.1.0.128/25",
        "invalid pool request: Pool overlaps with other one on this address space (10.1.0.128/25 overlaps 10.1.0.0/24 of network a)",
    );
    refused("net a 10.1.0.0/24 mtu 40", "invalid MTU 40 for network a: it must be from 68 to 65535 bytes");
    refused("net a v6 mtu 1200", "invalid MTU 1200 for network a: it must be from 1280 to 65535 bytes");
    refused(
        "net a 10.1.0.0/24 hop 10.2.0.1",
        "default gateway ip must be part of the network (10.2.0.1 is not in 10.1.0.0/24)",
    );
    let id = network_id("a");
    refused(
        "net a bridge br7; net b bridge br7",
        &format!("conflicts with network {id} (br7): networks have same bridge name"),
    );
    refused(
        "link eth9; net a bridge eth9",
        "interface eth9 exists already and is not berth's: choose another bridge name, or give it to the daemon with --bridge",
    );
}

#[test]
fn a_bridge_made_by_hand_gives_its_addresses() {
    check("link br7; net a bridge br7 foreign 10.77.0.1/24; run c on a", "c eth0 on a: 10.77.0.2 out");
    check(
        "link br7; net a bridge br7 foreign fe80::1/64,10.77.0.1/24,fd77::5/64 v6; run c on a",
        "c eth0 on a: 10.77.0.2 fd77::1 out",
    );
    refused(
        "net a bridge br7 foreign 10.77.0.1/24",
        "bridge device with non default name br7 must be created manually",
    );
    refused(
        "link br7; net a bridge br7 foreign none",
        "bridge br7 has no IPv4 address: give it one with `ip addr add`, for it is the containers' gateway",
    );
}

#[test]
fn without_rules_ports_are_relayed_and_nothing_is_kept_apart() {
    let app = "net app 10.1.0.0/24 fd01::/64; net four 10.2.0.0/24";
    let published = |text: &str, container: &str, network: &str| {
        let world = world(text);
        let ports = &world.endpoints[&endpoint_id(container, network)].ports;
        ports.iter().map(|binding| format!("{}>{binding}", binding.host_ip)).collect::<Vec<_>>().join(" ")
    };
    let none = format!("without rules4; without rules6; {app}");
    assert_eq!(published(&format!("{none}; run a on app publish 80:80"), "a", "app"), "0.0.0.0>80:80 ::>80:80");
    assert_eq!(
        published(&format!("{none}; run a on four publish 80:80/udp"), "a", "four"),
        "0.0.0.0>80:80/udp ::>80:80/udp"
    );
    let sctp = |flag: &str| {
        format!(
            "the engine was started with --{flag}=false, and without firewall rules it has to relay what comes, which it does \
             for TCP and UDP only"
        )
    };
    let refusal = format!("cannot publish 80:80/sctp: {}", sctp("iptables"));
    refused(&format!("{none}; run a on app publish 80:80/sctp"), &refusal);
    // Of the family that has rules it is published.
    let half = format!("without rules6; {app}; run a on app publish 80:80/sctp");
    assert_eq!(published(&half, "a", "app"), "0.0.0.0>80:80/sctp");
    let refusal = format!("cannot publish [fd09::1]:80:80/sctp: {}", sctp("ip6tables"));
    refused(&format!("without rules6; {app}; run a on app publish fd09::1:80:80/sctp"), &refusal);
    let only = "the engine was started with --iptables=false, and only its firewall rules can do that";
    refused("without rules4; net a internal", &format!("network a cannot be internal: {only}"));
    refused("without rules4; net a apart", &format!("network a cannot keep its containers apart: {only}"));
    assert_eq!(refusals("without rules4; net a fd01::/64 no4 internal"), "");
}

#[test]
fn what_a_stopped_container_had_is_given_away_last() {
    let app = "net app 10.1.0.0/29 fd01::/64; ephemeral 40000 40002; run a on app publish :80; stop a; at 500";
    check(
        &format!("{app}; run b on app publish :80"),
        "b eth0 on app: 10.1.0.3 fd01::3 out -p 40001:80 -p [::]:40001:80",
    );
    check(
        &format!("{app}; run b on app publish :80; run a on app publish :80"),
        "a eth0 on app: 10.1.0.2 fd01::2 out -p 40000:80 -p [::]:40000:80\n\
         b eth0 on app: 10.1.0.3 fd01::3 out -p 40001:80 -p [::]:40001:80",
    );
    // Nothing else is left.
    let full = format!("{app}; run b on app publish :80; run c on app; run d on app; run e on app publish :80");
    let scene = scene(&format!("{full}; run f on app publish :80"));
    assert_eq!(scene.refused, []);
    let last = &scene.world.endpoints[&endpoint_id("f", "app")];
    assert_eq!((last.addr4.unwrap().to_string(), last.ports[0].host_port), ("10.1.0.2".into(), 40000));
}

#[test]
fn a_full_bridge_takes_no_more() {
    let full = "bridge app0 of network app has all of the 1023 ports that a Linux bridge can have: stop a container of it, or \
                use another network";
    let many = "net app 10.1.0.0/16 bridge app0; net other 10.2.0.0/16; strangers 1020 on app0; run a on app; run b on app; \
                run c on app; run more on other";
    assert_eq!(refusals(many), "");
    refused(&format!("{many}; run last on app"), full);
    assert_eq!(refusals(&format!("{many}; stop b; run last on app")), "");
    refused("net app 10.1.0.0/16 bridge app0; strangers 1023 on app0; run a on app", full);
}

#[test]
fn packets_are_as_large_as_the_way_out_takes() {
    let mtu = |text: &str| world(&format!("{text}; net app 10.1.0.0/24")).networks[&network_id("app")].mtu;
    assert_eq!(mtu(""), 1500);
    assert_eq!(mtu("uplink 1400"), 1400);
    assert_eq!(mtu("uplink 9000"), 9000);
    // `lo` has more than a packet can be.
    assert_eq!(mtu("uplink 65536"), 65535);
    let mtu = |text: &str| world(text).networks[&network_id("app")].mtu;
    assert_eq!(mtu("uplink 1400; net app 10.1.0.0/24 mtu 1200"), 1200);
    assert_eq!(mtu("uplink 1200; net app 10.1.0.0/24 fd01::/64"), 1280, "the least that IPv6 can do with");
}

#[test]
fn the_daemons_flags_become_one_subnet() {
    let net = |text: &str| Some(text.parse().unwrap());
    let wish = SubnetWish::of_bip(net("192.168.0.129/25"), net("192.168.0.192/26"), None).unwrap();
    assert_eq!(wish.subnet, net("192.168.0.128/25"));
    assert_eq!(wish.gateway, Some("192.168.0.129".parse().unwrap()));
    let outside = SubnetWish::of_bip(net("192.168.0.129/25"), net("10.0.0.0/26"), None).unwrap_err();
    assert_eq!(outside.to_string(), "add-any, range '10.0.0.0/26' is not in subnet '192.168.0.128/25'");
}

#[test]
fn networks_in_use_stay() {
    let id = endpoint_id("web", "app");
    refused(
        "net app 10.1.0.0/24; run web on app; drop app",
        &format!("error while removing network: network app has active endpoints (name:\"web\" id:\"{}\")", id.short()),
    );
    check("net app 10.1.0.0/24; run web on app; rm web; drop app", "");
    refused("drop app", &format!("network {} not found", network_id("app")));
}

#[test]
fn addresses_that_are_asked_for() {
    check("net app 10.1.0.0/24 range 10.1.0.128/25; run a on app ip 10.1.0.7", "a eth0 on app: 10.1.0.7 out");
    let head = "invalid config for network app: invalid endpoint settings:\n";
    refused(
        "net app 10.1.0.0/24; run a on app ip 10.2.0.7 ip6 fd00::7",
        &format!(
            "{head}* no configured subnet contains IP address 10.2.0.7\n\
             * no configured subnet contains IP address fd00::7"
        ),
    );
    refused(
        "net bridge 10.1.0.0/24; run a on bridge ip 10.1.0.7",
        "invalid config for network bridge: invalid endpoint settings:\n\
         user-specified IP address is supported on user-defined networks only",
    );
    refused(
        "net app 10.1.0.0/24; run a on app; run b on app ip 10.1.0.2",
        "Address already in use (10.1.0.2 on network app belongs to `a`)",
    );
    for fixed in ["10.1.0.0", "10.1.0.1", "10.1.0.255", "10.1.0.9"] {
        refused(
            &format!("net app 10.1.0.0/24 aux r=10.1.0.9; run a on app ip {fixed}"),
            &format!("Address already in use ({fixed} on network app is a gateway's, reserved, or the subnet's own)"),
        );
    }
    let id = network_id("app");
    refused(
        "net app 10.1.0.0/30; run a on app; run b on app",
        &format!("no available IPv4 addresses on this network's address pools: app ({id})"),
    );
}

#[test]
fn one_station_has_one_mac() {
    check("net app 10.1.0.0/24; run a on app mac 02:00:00:00:00:07", "a eth0 on app: 10.1.0.2 out");
    refused(
        "net app 10.1.0.0/24; run a on app mac 02:00:00:00:00:07; run b on app mac 02:00:00:00:00:07",
        "MAC address 02:00:00:00:00:07 is already in use on network app by `a`",
    );
    // Somebody who took a MAC that would have been another's does not lock that one out.
    check(
        "net app 10.1.0.0/24; run a on app mac 02:42:0a:01:00:03; run b on app",
        "a eth0 on app: 10.1.0.2 out\nb eth0 on app: 10.1.0.3 out",
    );
}

#[test]
fn places_are_taken_once() {
    refused("net app 10.1.0.0/24; run a on app; join a app", "endpoint with name a already exists in network app");
    refused("net app 10.1.0.0/24; join a app", &format!("sandbox {} not found", sandbox_id("a").short()));
    refused("net app; run a on app; run a on app", &format!("sandbox {} exists already", sandbox_id("a").short()));
    refused("leave a app", &format!("endpoint {} not found", endpoint_id("a", "app")));
}

#[test]
fn ports_are_what_was_asked_for() {
    let app = "net app 10.1.0.0/24; ephemeral 32768 32799";
    check(&format!("{app}; run a on app publish 8080:80"), "a eth0 on app: 10.1.0.2 out -p 8080:80");
    check(
        &format!("{app}; run a on app publish :53/udp publish :80 publish :70 publish 32768:1"),
        "a eth0 on app: 10.1.0.2 out -p 32768:1 -p 32769:70 -p 32770:80 -p 32768:53/udp",
    );
    check(&format!("{app}; run a on app publish :8000-8003"), "a eth0 on app: 10.1.0.2 out -p 32768-32771:8000-8003");
    check(
        &format!("{app}; run b on app publish 9001:1; run a on app publish 9000-9009:80 publish 9000-9009:81"),
        "a eth0 on app: 10.1.0.3 out -p 9000:80 -p 9002:81\nb eth0 on app: 10.1.0.2 out -p 9001:1",
    );
    check(&format!("{app}; busy tcp 32768; run a on app publish :80"), "a eth0 on app: 10.1.0.2 out -p 32769:80");
    check(
        "net app 10.1.0.0/24 fd01::/64; run a on app publish 8080:80 publish [::1]:81:81",
        "a eth0 on app: 10.1.0.2 fd01::2 out -p 8080:80 -p [::]:8080:80 -p [::1]:81:81",
    );
    check("net in 10.1.0.0/24 internal; run a on in publish 8080:80", "a eth0 on in: 10.1.0.2");
}

#[test]
fn a_port_is_published_once() {
    let app = "net app 10.1.0.0/24";
    let id = endpoint_id("b", "app");
    let taken = |text: &str, addr: &str| {
        refused(
            &format!("{app}; {text}"),
            &format!(
                "driver failed programming external connectivity on endpoint b ({id}): Bind for {addr} failed: \
                 port is already allocated (by `a`)"
            ),
        );
    };
    taken("run a on app publish 8080:80; run b on app publish 8080:80", "0.0.0.0:8080");
    taken("run a on app publish 8080:80; run b on app publish 127.0.0.1:8080:80", "0.0.0.0:8080");
    taken("run a on app publish 127.0.0.1:8080:80; run b on app publish 8080:80", "0.0.0.0:8080");
    taken("run a on app publish 8000-8099:1-100; run b on app publish 8090-8110:8090-8110", "0.0.0.0:8090");
    check(
        &format!("{app}; run a on app publish 127.0.0.1:80:80; run b on app publish 127.0.0.2:80:80"),
        "a eth0 on app: 10.1.0.2 out -p 127.0.0.1:80:80\nb eth0 on app: 10.1.0.3 out -p 127.0.0.2:80:80",
    );
    check(
        &format!("{app}; run a on app publish 80:80; run b on app publish 80:80/udp"),
        "a eth0 on app: 10.1.0.2 out -p 80:80\nb eth0 on app: 10.1.0.3 out -p 80:80/udp",
    );
    check(
        &format!("{app}; run a on app publish 80:80 publish 127.0.0.1:80:81"),
        "a eth0 on app: 10.1.0.2 out -p 80:80 -p 127.0.0.1:80:81",
    );
    let id = endpoint_id("a", "app");
    refused(
        &format!("{app}; busy udp 53; run a on app publish 53:53/udp"),
        &format!(
            "driver failed programming external connectivity on endpoint a ({id}): failed to bind host port \
             0.0.0.0:53/udp: address already in use"
        ),
    );
    for publish in ["10.9.9.9:80:80", "10.9.9.9:80-90:80"] {
        refused(
            &format!("{app}; absent 10.9.9.9:80; run a on app publish {publish}"),
            &format!(
                "driver failed programming external connectivity on endpoint a ({id}): failed to bind host port \
                 10.9.9.9:80/tcp: cannot assign requested address"
            ),
        );
    }
    // Reserved ports are given to those who name them.
    let reserved = format!("{app}; reserved 8001; reserved 49153");
    check(&format!("{reserved}; run a on app publish 8001:80"), "a eth0 on app: 10.1.0.2 out -p 8001:80");
    check(&format!("{reserved}; run a on app publish :80"), "a eth0 on app: 10.1.0.2 out -p 49154:80");
    refused(&format!("{app}; ephemeral 9 9; run a on app publish :1-2"), "all ports are allocated (from 9 to 9/tcp)");
    refused(
        &format!("{app}; run a on app publish 80-82:90-93"),
        "invalid ranges specified for container and host Ports: 90-93 and 80-82",
    );
    refused(&format!("{app}; run a on app publish 80:0"), "invalid port specification: \"0/tcp\"");
    refused(
        &format!("{app}; run a on app publish [::1]:80:80"),
        "cannot publish [::1]:80:80: the container has no IPv6 address on network app",
    );
}

#[test]
fn a_refusal_says_of_what_kind_it_is() {
    let kind = |text: &str| scene(text).refused[0].kind();
    assert_eq!(kind("net a; net a"), Kind::Conflict);
    assert_eq!(kind("drop a"), Kind::NotFound);
    assert_eq!(kind("net a no4"), Kind::Invalid);
    assert_eq!(kind("net a 10.1.0.0/24; net b 10.1.0.0/24"), Kind::Forbidden);
    assert_eq!(kind("net a 10.1.0.0/31; run c on a; run d on a"), Kind::Exhausted);
    assert_eq!(kind("net a bridge a0; strangers 1023 on a0; run c on a"), Kind::Exhausted);
}

#[test]
fn a_closed_sandbox_leaves_nothing_and_its_addresses_rest() {
    let scene = scene("net a 10.1.0.0/24; net b 10.2.0.0/24; at 5; run c on a; join c b; stop c");
    assert!(scene.world.endpoints.is_empty() && scene.world.sandboxes.is_empty());
    assert_eq!(scene.world.resting.values().map(|resting| resting.len()).sum::<usize>(), 2);
    assert_eq!(decide::wake(&scene.world, 64), []);
    assert_eq!(decide::wake(&scene.world, 65).len(), 2);
    assert_eq!(decide::wake(&World::default(), 65), []);
}

#[test]
fn host_ends_have_names_of_their_own() {
    let id = endpoint_id("a", "app");
    let first = format!("veth{}", &id.as_str()[..7]);
    let scene = scene(&format!("link {first}; net app 10.1.0.0/24; run a on app"));
    assert_eq!(scene.world.endpoints[&id].host.as_str(), format!("veth{}", &id.as_str()[1..8]));
}

#[test]
fn ports_change_while_a_container_runs() {
    let app = "net app 10.1.0.0/24; run a on app publish 80:80; run b on app publish 90:90";
    let b = "b eth0 on app: 10.1.0.3 out -p 90:90";
    check(
        &format!("{app}; publish a app 127.0.0.1:1-3:1-3; publish a app :7"),
        &format!("a eth0 on app: 10.1.0.2 out -p 80:80 -p 49153:7 -p 127.0.0.1:1-3:1-3\n{b}"),
    );
    check(
        &format!("{app}; publish a app 1-3:1-3/udp; unpublish a app 2/udp; unpublish a app 80:80"),
        &format!("a eth0 on app: 10.1.0.2 out -p 1:1/udp -p 3:3/udp\n{b}"),
    );
    // The firewall has what the facts say, as if it had been so from the beginning.
    let changed = scene(&format!("{app}; publish a app 7:7; unpublish a app 80"));
    let from_start = scene("net app 10.1.0.0/24; run a on app publish 7:7; run b on app publish 90:90");
    assert_eq!(plan::desired::desired(&changed.world), plan::desired::desired(&from_start.world));
    let bind = |name: &str, addr: &str, holder: &str| {
        let id = endpoint_id(name, "app");
        format!(
            "driver failed programming external connectivity on endpoint {name} ({id}): Bind for {addr} failed: port \
             is already allocated (by `{holder}`)"
        )
    };
    refused(&format!("{app}; publish a app 127.0.0.1:90:1"), &bind("a", "0.0.0.0:90", "b"));
    refused(&format!("{app}; publish a app 80:81"), &bind("a", "0.0.0.0:80", "a"));
    refused(&format!("{app}; unpublish a app 81"), "no public port '81/tcp' published for a");
    refused(&format!("{app}; unpublish a app 81:80"), "no public port '80/tcp' published for a");
    refused(
        "net in 10.1.0.0/24 internal; run a on in; publish a in 80:80",
        "network in is internal: ports of its containers cannot be published",
    );
}

#[test]
fn ports_of_ipv6_lead_to_ipv4_by_the_relay() {
    let app = "relay 61000; net app 10.1.0.0/24";
    check(
        &format!("{app}; run a on app publish 8080:80 publish [2001:db8::1]:81:81/udp publish :7"),
        "a eth0 on app: 10.1.0.2 out -p 8080:80 -p 49153:7 -p [::]:8080:80 -p [::]:49153:7 -p [2001:db8::1]:81:81/udp",
    );
    // On one IPv4 address, where the kernel has no IPv6, or of a protocol that is not relayed: as without a relay.
    check(
        &format!("{app}; run a on app publish 127.0.0.1:80:80 publish 80:80/sctp"),
        "a eth0 on app: 10.1.0.2 out -p 127.0.0.1:80:80 -p 80:80/sctp",
    );
    check(&format!("no6; {app}; run a on app publish 80:80"), "a eth0 on app: 10.1.0.2 out -p 80:80");
    let relayed = "from that address the engine would have to relay it, which it does for TCP and UDP only; publish it on \
                   an address of a family that the container has";
    refused(
        &format!("{app}; run a on app publish [2001:db8::1]:80:80/sctp"),
        &format!("cannot publish [2001:db8::1]:80:80/sctp: {relayed}"),
    );
    refused(
        "relay 61000; net app 10.1.0.0/24 fd01::/64; run a on app publish [::1]:80:80/sctp",
        &format!("cannot publish [::1]:80:80/sctp: {relayed}"),
    );
    // The same number on one address of IPv4 and on every one of IPv6, of two containers.
    let (a, name) = (endpoint_id("b", "app"), "b");
    refused(
        &format!("{app}; run a on app publish 80:80; run b on app publish [::1]:80:80"),
        &format!(
            "driver failed programming external connectivity on endpoint {name} ({a}): Bind for [::]:80 failed: port is \
             already allocated (by `a`)"
        ),
    );
}

#[test]
fn the_relay_finds_who_is_meant() {
    let world = scene(
        "relay 61000; net app 10.1.0.0/24; net six 10.2.0.0/24 fd02::/64; run a on app publish 8000-8009:80-89 publish \
         [::1]:8005:7; run b on six publish 9000:90/udp publish 127.0.0.1:9001:91",
    )
    .world;
    let target = |proto: &str, to: &str| {
        let proto = if proto == "tcp" { Proto::Tcp } else { Proto::Udp };
        plan::relay::target(&world, proto, to.parse().unwrap()).map_or("nobody".into(), |to| to.to_string())
    };
    for (proto, to, who) in [
        ("tcp", "[2001:db8::1]:8000", "10.1.0.2:80"),
        ("tcp", "[2001:db8::1]:8009", "10.1.0.2:89"),
        ("tcp", "[2001:db8::1]:8010", "nobody"),
        ("udp", "[2001:db8::1]:8000", "nobody"),
        ("tcp", "192.0.2.1:8003", "10.1.0.2:83"),
        // The exact address wins.
        ("tcp", "[::1]:8005", "10.1.0.2:7"),
        ("tcp", "[::2]:8005", "10.1.0.2:85"),
        // The same family, where the container has it.
        ("udp", "[::1]:9000", "[fd02::2]:90"),
        ("udp", "127.0.0.1:9000", "10.2.0.2:90"),
        ("tcp", "127.0.0.1:9001", "10.2.0.2:91"),
        ("tcp", "127.0.0.2:9001", "nobody"),
        ("tcp", "[::1]:61000", "nobody"),
    ] {
        assert_eq!(target(proto, to), who, "{proto} {to}");
    }
    // As the kernel sees it, who answers is the container or the relay.
    let led = |to: &str, answers: &str| {
        let (from, to, answers) = ("[::9]:1".parse().unwrap(), to.parse().unwrap(), answers.parse().unwrap());
        [6, 17].map(|proto| plan::flows::Flow { proto, from, to, answers }.is_led_by(&world))
    };
    assert_eq!(led("192.0.2.1:8003", "10.1.0.2:83"), [true, false]);
    assert_eq!(led("192.0.2.1:8003", "10.1.0.2:84"), [false, false]);
    assert_eq!(led("192.0.2.1:8010", "192.0.2.1:8010"), [false, false]);
    assert_eq!(led("[::2]:8005", "[::2]:61000"), [true, false]);
    assert_eq!(led("[::1]:9000", "[::1]:61000"), [false, true]);
    assert_eq!(led("[::2]:9000", "[fd02::2]:90"), [false, true]);
    assert_eq!(led("[::2]:9000", "[::2]:61000"), [false, false]);
}

#[test]
fn ranges_that_meet_on_the_loopback_address_are_relayed_once() {
    let both = "relay 61000; net app 10.1.0.0/24 fd01::/64; run a on app publish 80-89:80-89 publish [::1]:85-94:5-14";
    let world = scene(both).world;
    let keys = |set: &str| {
        let table = plan::firewall::table(&world);
        table.sets[set].elements.keys().map(|key| format!("{:?}", key.last().unwrap())).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(keys("relayed_ranges_at6"), "PortRange(80, 89) PortRange(90, 94)");
    assert_eq!(keys("relayed_ranges6"), "");
    assert_eq!(keys("ranges6"), "PortRange(80, 89)");
    // What goes leaves nothing of it.
    let gone = scene(&format!("{both}; unpublish a app 5"));
    let never = scene(&both.replace("85-94:5-14", "86-94:6-14"));
    assert_eq!(plan::desired::desired(&gone.world), plan::desired::desired(&never.world));
}
