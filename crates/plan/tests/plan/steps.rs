//! Networks in, steps out.

use crate::scenario::world;
use plan::desired::desired;
use plan::diff::diff;
use plan::ids::IfName;
use plan::netstate::{NetState, Ns, Op};
use plan::step::step;

/// The steps from one text's network to another's, one a line.
fn check(have: &str, want: &str, steps: &str) {
    let plan = diff(&desired(&world(have)), &desired(&world(want)));
    assert_eq!(lines(&plan), steps.lines().map(str::trim).collect::<Vec<_>>().join("\n"));
}

fn lines(plan: &plan::netstate::Plan) -> String {
    plan.iter().map(|step| format!("{} [{}]", step.op, short(step.why.owner))).collect::<Vec<_>>().join("\n")
}

fn short(owner: plan::nft::Owner) -> String {
    owner.to_string().split(' ').next().unwrap_or_default().to_owned()
}

const APP: &str = "net app 10.1.0.0/24 bridge app0";

#[test]
fn the_first_network() {
    check(
        "",
        APP,
        "add bridge app0 [net]
         replace table inet berth in host [engine]
         replace table bridge berth in host [engine]
         switch V4 forwarding on in host [engine]
         switch ipv6 off on app0 in host [net]
         switch route_localnet on on app0 [net]
         set app0 up in host [net]
         add address 10.1.0.1/24 to app0 in host [net]",
    );
}

fn host_end(container: &str) -> String {
    IfName::host_end(&crate::scenario::endpoint_id(container, "app")).to_string()
}

#[test]
fn without_the_firewall_there_is_no_table() {
    let steps = "add bridge app0 [net]
         switch V4 forwarding on in host [engine]
         switch ipv6 off on app0 in host [net]
         set app0 up in host [net]
         add address 10.1.0.1/24 to app0 in host [net]";
    check("", &format!("without rules4; without rules6; {APP}"), steps);
    check(APP, &format!("without rules4; without rules6; {APP}"), {
        "switch route_localnet off on app0 [net]
         delete table inet berth in host [engine]
         delete table bridge berth in host [engine]"
    });
}

#[test]
fn a_container_starts_and_stops() {
    let web = format!("{APP}; run web on app publish 8080:80");
    let (sandbox, host) = (crate::scenario::sandbox_id("web").short(), "veth6b2cd6e");
    let start = format!(
        "add namespace {sandbox} [sb]
         add veth {host} on app0 with eth0 in sandbox {sandbox} [ep]
         change 1 elements of table inet berth in host [engine]
         change 5 elements of table bridge berth in host [engine]
         switch isolation off, hairpin on and groups on of port {host} [ep]
         switch ipv6 off on eth0 in sandbox {sandbox} [ep]
         set eth0 up in sandbox {sandbox} [ep]
         set lo up in sandbox {sandbox} [sb]
         let the resolver listen in sandbox {sandbox} [sb]
         add address 10.1.0.2/24 to eth0 in sandbox {sandbox} [ep]
         add route to 0.0.0.0/0 via 10.1.0.1 dev eth0 in sandbox {sandbox} [ep]"
    );
    check(APP, &web, &start.replace(host, &host_end("web")));
    check(
        &web,
        APP,
        &format!(
            "change 1 elements of table inet berth in host [engine]
             delete namespace {sandbox} [sb]
             change 5 elements of table bridge berth in host [engine]
             forget flows to 0.0.0.0:8080-8080/tcp answered by 10.1.0.2 [engine]"
        ),
    );
}

#[test]
fn flows_do_not_outlive_their_ports() {
    let web = format!("{APP}; relay 61000; run web on app");
    let more = format!("{web} publish 8080:80 publish 192.0.2.1:53:5353/udp publish [::1]:7:7/udp");
    check(
        &web,
        &more,
        &format!(
            "change 4 elements of table inet berth in host [engine]
             switch isolation off, hairpin on and groups on of port {} [ep]
             forget flows to 192.0.2.1:53-53/udp answered by the host, [::1]:7-7/udp answered by the host [engine]",
            host_end("web")
        ),
    );
    check(
        &more,
        &format!("{web} publish 8080:80"),
        "change 2 elements of table inet berth in host [engine]
         forget flows to 192.0.2.1:53-53/udp answered by 10.1.0.2, [::1]:7-7/udp answered by the relay on 61000 [engine]",
    );
}

/// By way of the host a link would open all ports where no rule looks at them.
#[test]
fn without_the_firewall_a_link_opens_nothing() {
    let (web, db) = (crate::scenario::sandbox_id("web").short(), crate::scenario::sandbox_id("db").short());
    let linked = "net app 10.1.0.0/24 fd01::/64 bridge app0 apart; run db on app; run web on app; tie web db app 3306";
    // By number, as namespaces are.
    let routes = |to_web: &str, to_db: &str, via: &str| {
        let mut both = [(db, to_web), (web, to_db)];
        both.sort();
        both.map(|(of, to)| format!("delete route to {to} via {via} dev eth0 in sandbox {of} [ep]")).join("\n")
    };
    let (four, six) =
        (routes("10.1.0.3/32", "10.1.0.2/32", "10.1.0.1"), routes("fd01::3/128", "fd01::2/128", "fd01::1"));
    let without = |what: &str| {
        let plan = diff(&desired(&world(linked)), &desired(&world(&format!("{linked}; {what}"))));
        let routes: Vec<_> = plan.iter().filter(|step| step.op.to_string().contains("route to")).cloned().collect();
        assert_eq!(plan.iter().filter(|step| matches!(step.op, Op::AddRoute { .. })).count(), 0);
        lines(&routes)
    };
    assert_eq!(without("without rules4"), four);
    assert_eq!(without("without rules6"), six);
}

#[test]
fn the_last_network_takes_the_table_with_it() {
    check(
        APP,
        "",
        "delete link app0 in host [net]
         delete table inet berth in host [engine]
         delete table bridge berth in host [engine]",
    );
}

#[test]
fn a_networks_rules_outlive_its_containers() {
    let both = format!("{APP}; net web 10.2.0.0/24 bridge web0; run a on web");
    let sandbox = crate::scenario::sandbox_id("a").short();
    check(
        &both,
        APP,
        &format!(
            "change 2 elements of table inet berth in host [engine]
             delete namespace {sandbox} [sb]
             delete link web0 in host [net]
             change 3 elements of table inet berth in host [engine]
             change 5 elements of table bridge berth in host [engine]"
        ),
    );
}

/// What is done about a damage to `text`'s network.
fn repaired(text: &str, damage: &[Op]) -> String {
    let want = desired(&world(text));
    let mut have = want.clone();
    for op in damage {
        step(&mut have, op).unwrap();
    }
    let plan = diff(&have, &want);
    for done in &plan {
        step(&mut have, &done.op).unwrap();
    }
    assert_eq!(have, want);
    lines(&plan)
}

fn app0() -> IfName {
    "app0".parse().unwrap()
}

#[test]
fn damages_are_repaired_with_little() {
    let web = format!("{APP}; run web on app publish 8080:80");
    let inside = crate::scenario::sandbox_id("web").short();
    let ns = Ns::Of(crate::scenario::sandbox_id("web"));
    let eth0 = IfName::inner(0);
    assert_eq!(
        repaired(&web, &[Op::SetUp { ns: ns.clone(), name: eth0.clone(), up: false }]),
        format!(
            "set eth0 up in sandbox {inside} [ep]\n\
             add route to 0.0.0.0/0 via 10.1.0.1 dev eth0 in sandbox {inside} [ep]"
        )
    );
    let deleted = repaired(&web, &[Op::DelLink { ns, name: eth0 }]);
    assert_eq!(deleted.lines().count(), 6, "{deleted}");
    assert!(deleted.starts_with("add veth "), "{deleted}");
    let table = plan::nft::TableName::inet();
    assert_eq!(
        repaired(&web, &[Op::DelTable { ns: Ns::Host, name: table }]),
        "replace table inet berth in host [engine]"
    );
    let bridge = repaired(&web, &[Op::DelLink { ns: Ns::Host, name: app0() }]);
    assert!(bridge.contains("a port of app0 [ep]"), "the freed port joins again: {bridge}");
}

#[test]
fn half_a_pair_is_made_anew() {
    let web = format!("{APP}; run web on app");
    let want = desired(&world(&web));
    let host_end = want.spaces[&Ns::Host].links.keys().find(|name| name.as_str().starts_with("veth")).unwrap();
    let inside = Ns::Of(crate::scenario::sandbox_id("web"));
    // Each end in turn is out of sight.
    for (ns, name) in [(Ns::Host, host_end.clone()), (inside, IfName::inner(0))] {
        let mut have = want.clone();
        let space = have.spaces.get_mut(&ns).unwrap();
        space.links.remove(&name);
        space.routes.clear();
        for done in diff(&have, &want) {
            step(&mut have, &done.op).unwrap();
        }
        assert_eq!(have, want);
    }
}

#[test]
fn a_strangers_bridge_in_the_way_is_left_alone() {
    let want = desired(&world(&format!("{APP}; run web on app")));
    let mut have = NetState::default();
    let host = have.spaces.get_mut(&Ns::Host).unwrap();
    let kind = plan::netstate::LinkKind::ForeignBridge;
    let strangers = plan::netstate::Link::down(kind, 1500, plan::nft::Owner::Engine);
    host.links.insert(app0(), strangers.clone());
    let plan = diff(&have, &want);
    let mut kernel = plan::fake::Fake::with(have.clone());
    let applied = plan::apply::apply(&mut kernel, have, &plan);
    let failed: Vec<String> = applied.failed.values().map(|e| format!("{e}: {}", e.errno)).collect();
    let (net, web) = (crate::scenario::network_id("app").short(), crate::scenario::endpoint_id("web", "app"));
    let (inside, host_end) = (crate::scenario::sandbox_id("web").short(), IfName::host_end(&web));
    assert_eq!(
        failed,
        [
            format!("add bridge app0 for net {net}: link app0 exists already"),
            format!(
                "add veth {host_end} on app0 with eth0 in sandbox {inside} for ep {}: no such bridge app0",
                web.short()
            ),
        ]
    );
    assert_eq!(kernel.state().spaces[&Ns::Host].links[&app0()], strangers);
    assert_eq!(kernel.state().spaces[&Ns::Host].links.len(), 1, "nothing of ours joined it");
}

#[test]
fn a_bridge_made_by_hand_comes_into_sight_with_its_first_port() {
    let scene = crate::scenario::scene("link br7; net app bridge br7 foreign 10.77.0.1/24; run web on app");
    let want = desired(&scene.world);
    let have = NetState::default();
    let plan = diff(&have, &want);
    let br7: IfName = "br7".parse().unwrap();
    let touches = |op: &Op| matches!(op, Op::AddBridge { .. }) || op.to_string().contains(" br7 in host");
    assert!(!plan.iter().any(|step| touches(&step.op)), "{}", lines(&plan));
    let mut there = have.clone();
    let bridge = want.spaces[&Ns::Host].links[&br7].clone();
    there.spaces.get_mut(&Ns::Host).unwrap().links.insert(br7.clone(), bridge);
    let mut kernel = plan::fake::Fake::with(there);
    let applied = plan::apply::apply(&mut kernel, have, &plan);
    assert!(applied.failed.is_empty() && !applied.drifted);
    assert!(applied.now.spaces[&Ns::Host].links.contains_key(&br7));
    assert_eq!(kernel.state(), &want);
}
