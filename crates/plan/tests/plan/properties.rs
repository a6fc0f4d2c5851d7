//! What holds for every world.

use crate::chance::{damage, damages, means, play, script, two_scripts, with_strangers};
use crate::scenario::Scene;
use plan::apply::{Kernel, apply};
use plan::desired::{desired, follow};
use plan::diff::diff;
use plan::fake::Fake;
use plan::firewall;
use plan::netstate::{LinkKind, NetState, Ns, Op, Plan};
use plan::nft::{Owner, Value};
use plan::step::step;
use plan::world::World;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// The same network, apart from what the engine never touches: other people's bridges, and forwarding that was on.
fn comparable(mut state: NetState, want: &NetState) -> NetState {
    for (ns, space) in &mut state.spaces {
        space.links.retain(|_, link| link.kind != LinkKind::ForeignBridge);
        let wished = want.spaces.get(ns).map(|space| space.forwarding.clone()).unwrap_or_default();
        if space.forwarding.is_superset(&wished) {
            space.forwarding = wished;
        }
    }
    state
}

fn assert_arrived(now: &NetState, want: &NetState, when: &str) {
    let rest = diff(now, want);
    assert!(
        rest.is_empty(),
        "{when}: a second round would still {}",
        rest.iter().map(|s| s.op.to_string()).collect::<Vec<_>>().join(", ")
    );
    assert!(comparable(now.clone(), want) == comparable(want.clone(), want), "{when}: {now:?} is not {want:?}");
}

fn wish(script: &str) -> (World, NetState) {
    let world = play(script).world;
    let want = desired(&world);
    (world, want)
}

fn config() -> ProptestConfig {
    // What fails is printed in full and becomes a test with a name; no seeds are kept.
    ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// Whatever is there becomes what is wished for, in one round, and each step is one that the kernel takes.
    #[test]
    fn every_network_becomes_every_other(
        (a, b) in two_scripts(25), broken in damages(), one in means(), other in means(),
    ) {
        let (a, b) = (format!("{one}{a}"), format!("{other}{b}"));
        let mut have = with_strangers(wish(&a).1);
        damage(&mut have, &broken);
        let (_, want) = wish(&b);
        let plan = diff(&have, &want);
        let mut kernel = Fake::with(have.clone());
        let applied = apply(&mut kernel, have, &plan);
        prop_assert!(applied.failed.is_empty(), "{:?}", applied.failed);
        prop_assert!(!applied.drifted);
        prop_assert_eq!(kernel.performed().len(), plan.len());
        prop_assert_eq!(&applied.now, kernel.state());
        assert_arrived(kernel.state(), &want, "after one round");
    }

    /// The engine or the machine dies after any step; the next round arrives all the same.
    #[test]
    fn a_crash_at_any_step_is_recovered_from((a, b) in two_scripts(12), broken in damages()) {
        let mut have = with_strangers(wish(&a).1);
        damage(&mut have, &broken);
        let (_, want) = wish(&b);
        let plan = diff(&have, &want);
        let mut at = have;
        for crash in 0..=plan.len() {
            let mut kernel = Fake::with(at.clone());
            let rest = diff(&kernel.observe().unwrap(), &want);
            let applied = apply(&mut kernel, at.clone(), &rest);
            prop_assert!(applied.failed.is_empty(), "{:?}", applied.failed);
            assert_arrived(kernel.state(), &want, &format!("crash after step {crash}"));
            if let Some(next) = plan.get(crash) {
                step(&mut at, &next.op).unwrap();
            }
        }
    }

    /// The same through the fake's own death, which fails every later step instead of never trying it.
    #[test]
    fn a_dead_kernel_is_told_of_and_recovered_from((a, b) in two_scripts(12), crash in 0..40usize) {
        let have = with_strangers(wish(&a).1);
        let (_, want) = wish(&b);
        let plan = diff(&have, &want);
        let mut kernel = Fake::crashing_after(have.clone(), crash);
        let applied = apply(&mut kernel, have, &plan);
        prop_assert!(crash >= plan.len() || !applied.failed.is_empty());
        prop_assert!(crash >= plan.len() || kernel.observe().is_err());
        let mut kernel = kernel.healed();
        prop_assert_eq!(&applied.now, &kernel.observe().unwrap());
        let rest = diff(&applied.now, &want);
        apply(&mut kernel, applied.now, &rest);
        assert_arrived(kernel.state(), &want, "after the second round");
    }

    /// What one owner cannot have, others still get; and the round after the owner is served brings the rest. Only the two
    /// ends of a link have to do with each other.
    #[test]
    fn one_owners_failure_is_not_anothers(b in script(25), pick in any::<prop::sample::Index>()) {
        let (mut world, _) = wish(&b);
        world.sandboxes.values_mut().for_each(|sandbox| sandbox.linked.clear());
        let want = desired(&world);
        let owners: Vec<Owner> = world.endpoints.keys().map(|id| Owner::Endpoint(id.short())).collect();
        prop_assume!(!owners.is_empty());
        let bad = *pick.get(&owners);
        let have = with_strangers(NetState::default());
        let mut kernel = Fake::with(have.clone());
        kernel.refuse(bad);
        let applied = apply(&mut kernel, have, &diff(&with_strangers(NetState::default()), &want));
        prop_assert_eq!(applied.failed.keys().copied().collect::<Vec<_>>(), vec![bad]);
        let mut lesser = world;
        lesser.endpoints.retain(|id, _| Owner::Endpoint(id.short()) != bad);
        let mut lesser = desired(&lesser);
        for (ns, space) in &mut lesser.spaces {
            // The sandbox's and not the endpoint's, it stands already.
            space.resolver = want.spaces[ns].resolver;
        }
        assert_arrived(&applied.now, &lesser, "all but the refused");
        let mut kernel = kernel.healed();
        let rest = diff(&applied.now, &want);
        prop_assert!(apply(&mut kernel, applied.now, &rest).failed.is_empty());
        assert_arrived(kernel.state(), &want, "and then that too");
    }

    /// At no moment does a bridge of ours carry traffic without its rules, and no port leads to nowhere for longer than
    /// it takes to remove what it led to.
    #[test]
    fn nothing_carries_traffic_before_its_rules_exist((a, b) in two_scripts(25)) {
        let mut now = with_strangers(wish(&a).1);
        let (_, want) = wish(&b);
        for done in diff(&now, &want) {
            step(&mut now, &done.op).unwrap();
            let host = &now.spaces[&Ns::Host];
            let guarded: BTreeSet<&Value> = host
                .tables
                .values()
                .flat_map(|table| table.sets.get("bridges").or(table.sets.get("ports")))
                .flat_map(|set| set.elements.keys())
                .flatten()
                .collect();
            for (ns, space) in now.spaces.iter().filter(|(ns, _)| **ns != Ns::Host) {
                for (name, link) in space.links.iter().filter(|(_, link)| link.up) {
                    let LinkKind::Veth { peer: Some((_, outside)) } = &link.kind else { continue };
                    let Some(bridge) = &host.links[outside].master else { continue };
                    prop_assert!(
                        [bridge, outside].into_iter().all(|name| guarded.contains(&Value::IfName(name.clone()))),
                        "{} in {} is up on {} after: {}", name, ns, bridge, done.op
                    );
                }
            }
        }
    }

    /// `Scene` runs `check` after every change: this only has to play much.
    #[test]
    fn no_request_breaks_the_facts(a in script(80)) {
        let scene = play(&a);
        prop_assert_eq!(plan::check::check(&scene.world), vec![]);
    }

    /// A freed address goes to another container only after its rest, unless no other is left.
    #[test]
    fn addresses_rest(freed in 0..200u64, asked in 0..200u64) {
        let mut scene = Scene::default();
        scene.play(&format!("net app 10.1.0.0/24; at {freed}; run a on app; rm a"));
        scene.facts.now = freed + asked;
        scene.play("run b on app");
        let got = scene.world.endpoints.values().next().unwrap().addr4.unwrap();
        prop_assert_eq!(got.octets()[3] == 2, asked >= plan::ipam::REST_SECS);
    }

    /// Rules never change; only elements do.
    #[test]
    fn the_rules_do_not_depend_on_the_facts(a in script(40)) {
        let (table, bare) = (firewall::table(&play(&a).world), firewall::skeleton());
        prop_assert_eq!(&table.chains, &bare.chains);
        prop_assert!(table.same_rules(&bare));
        prop_assert_eq!(table.admissible(), Ok(()));
    }

    /// Following one request after another leads where computing all anew does.
    #[test]
    fn following_the_facts_is_as_good_as_starting_anew(a in script(40), means in means()) {
        let mut scene = Scene::default();
        scene.play("link hand0; link hand1; link hand2; link hand3");
        scene.play(means);
        let mut state = desired(&scene.world);
        for line in a.lines() {
            let mut world = scene.world.clone();
            scene.changes.clear();
            scene.play(line);
            let change: Vec<_> = scene.changes.concat();
            follow(&mut state, &mut world, &change);
            prop_assert_eq!(&world, &scene.world);
            prop_assert!(state == desired(&scene.world), "after {}: {:?}", line, diff(&state, &desired(&scene.world)));
        }
    }

    /// Taking a change over twice is the same as once.
    #[test]
    fn a_change_may_be_taken_twice(a in script(30), pick in any::<prop::sample::Index>()) {
        let scene = play(&a);
        let ids: Vec<_> = scene.world.sandboxes.keys().cloned().collect();
        prop_assume!(!ids.is_empty());
        let change = plan::decide::close(&scene.world, pick.get(&ids), 7).unwrap();
        let (mut once, mut twice) = (scene.world.clone(), scene.world.clone());
        once.take(&change);
        twice.take(&change);
        twice.take(&change);
        prop_assert_eq!(once, twice);
    }

    /// In which order unrelated containers come makes no difference to what is wished for; and what is done for one
    /// does not depend on the other being there.
    #[test]
    fn unrelated_containers_do_not_see_each_other(order in Just([0, 1, 2, 3, 4]).prop_shuffle(), with in 0..5usize) {
        let nets = "net app 10.1.0.0/24 fd01::/64; net web 10.2.0.0/24;";
        let run = |n: usize| {
            let (on, six) = if n.is_multiple_of(2) { ("app", format!("ip6 fd01::1{n}")) } else { ("web", String::new()) };
            format!("run c{n} on {on} ip 10.{}.0.1{n} {six} publish {}:80;", 1 + n % 2, 8000 + n)
        };
        let in_order: String = (0..5).map(run).collect();
        let shuffled: String = order.into_iter().map(run).collect();
        let together = desired(&play(&format!("{nets}{in_order}")).world);
        let otherwise = desired(&play(&format!("{nets}{shuffled}")).world);
        prop_assert!(together == otherwise, "{:?} and {:?}", together, otherwise);
        let bare = desired(&play(nets).world);
        let alone = desired(&play(&format!("{nets}{}", run(with))).world);
        let ns: Vec<&Ns> = alone.spaces.keys().filter(|ns| **ns != Ns::Host).collect();
        let of_it = |plan: &Plan| -> Vec<Op> {
            plan.iter().map(|step| step.op.clone()).filter(|op| op.ns() == *ns[0]).collect()
        };
        prop_assert_eq!(of_it(&diff(&bare, &alone)), of_it(&diff(&bare, &together)));
    }
}
