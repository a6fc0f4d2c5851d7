//! Failures: who is stopped by what.

use crate::scenario::{endpoint_id, network_id, sandbox_id, world};
use plan::apply::{Applied, apply};
use plan::desired::desired;
use plan::diff::diff;
use plan::fake::Fake;
use plan::netstate::{Errno, NetState, Ns, Op};
use plan::nft::Owner;

const TWO: &str = "net app 10.1.0.0/24; run a on app publish 80:80 publish 90-99:90-99; run b on app publish 81:80";

fn refusing(have: &str, want: &str, owner: Owner) -> (Applied, NetState) {
    let (have, want) = (desired(&world(have)), desired(&world(want)));
    let mut kernel = Fake::with(have.clone());
    kernel.refuse(owner);
    let applied = apply(&mut kernel, have.clone(), &diff(&have, &want));
    assert_eq!(&applied.now, kernel.state(), "what is told is what is");
    assert!(!applied.drifted);
    (applied, kernel.state().clone())
}

fn owners(applied: &Applied) -> Vec<Owner> {
    applied.failed.keys().copied().collect()
}

#[test]
fn one_endpoints_failure_is_its_own() {
    let bad = Owner::Endpoint(endpoint_id("a", "app").short());
    for have in ["", "net app 10.1.0.0/24"] {
        let (applied, now) = refusing(have, TWO, bad);
        assert_eq!(owners(&applied), [bad]);
        let mut without = desired(&world(TWO));
        let inside = without.spaces.get_mut(&Ns::Of(sandbox_id("a"))).unwrap();
        inside.links.retain(|name, _| name.as_str() == "lo");
        inside.routes.clear();
        let host = without.spaces.get_mut(&Ns::Host).unwrap();
        host.links.retain(|_, link| link.owner != bad);
        let sets = host.tables.values_mut().flat_map(|table| table.sets.values_mut());
        sets.for_each(|set| set.elements.retain(|_, e| e.why.owner != bad));
        assert_eq!(now, without);
    }
}

#[test]
fn a_sandboxs_failure_is_its_endpoints() {
    let bad = Owner::Sandbox(sandbox_id("a").short());
    let (applied, now) = refusing("net app 10.1.0.0/24", TWO, bad);
    assert_eq!(owners(&applied), [Owner::Endpoint(endpoint_id("a", "app").short()), bad]);
    let elements = |set: &str| now.spaces[&Ns::Host].tables.values().next().unwrap().sets[set].elements.len();
    assert_eq!((elements("published4"), elements("ranges4")), (1, 0), "nothing leads to what is not there");
}

#[test]
fn one_bad_element_fails_only_its_owner() {
    // Somebody's element lies in the way of one that is wished for, out of the sight of `have`.
    let (have, want) = (desired(&world("net app 10.1.0.0/24")), desired(&world(TWO)));
    let plan = diff(&have, &want);
    let mut kernel = Fake::with(have.clone());
    let strangers = desired(&world("net app 10.1.0.0/24; run x on app publish 95-105:95-105"));
    let table = &strangers.spaces[&Ns::Host].tables;
    let name = plan::nft::TableName::inet();
    let op = Op::ReplaceTable { ns: Ns::Host, name: name.clone(), table: table[&name].clone() };
    plan::apply::Kernel::perform(&mut kernel, &op).unwrap();
    let applied = apply(&mut kernel, have, &plan);
    assert_eq!(owners(&applied), [Owner::Endpoint(endpoint_id("a", "app").short())]);
    let failed = applied.failed.values().next().unwrap();
    assert!(matches!(failed.errno, Errno::Exists(_)));
    let sets = &kernel.state().spaces[&Ns::Host].tables[&name].sets;
    assert_eq!(sets["published4"].elements.len(), 1, "b's port is there, and none of a's");
}

#[test]
fn without_rules_nothing_is_set_up() {
    let (have, want) = (NetState::default(), desired(&world(TWO)));
    let mut plan = diff(&have, &want);
    // A table that no kernel takes.
    for step in &mut plan {
        if let Op::ReplaceTable { table, .. } = &mut step.op {
            table.sets.remove("bridges");
        }
    }
    let mut kernel = Fake::with(have.clone());
    let applied = apply(&mut kernel, have, &plan);
    let network = Owner::Network(network_id("app").short());
    assert!(applied.failed.contains_key(&Owner::Engine) && applied.failed.contains_key(&network));
    let inner = kernel.state().spaces.values().flat_map(|space| &space.links);
    assert!(inner.filter(|(name, _)| name.as_str() == "eth0").all(|(_, link)| !link.up));
}

#[test]
fn what_is_gone_need_not_be_deleted() {
    let (have, want) = (desired(&world(TWO)), NetState::default());
    let plan = diff(&have, &want);
    let mut kernel = Fake::default();
    let applied = apply(&mut kernel, have, &plan);
    assert!(applied.failed.is_empty(), "{:?}", applied.failed);
    assert_eq!(applied.now.spaces[&Ns::Host].links.len(), 0);
}

#[test]
fn a_step_that_did_what_it_should_not_have_says_so() {
    let (have, want) = (desired(&world("net app 10.1.0.0/24")), desired(&world(TWO)));
    let plan = diff(&have, &want);
    let mut kernel = Fake::with(have);
    let applied = apply(&mut kernel, NetState::default(), &plan);
    assert!(applied.drifted);
}
