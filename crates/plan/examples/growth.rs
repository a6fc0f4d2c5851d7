//! What a round costs with 1, 100, 1,000 and 5,000 endpoints: `cargo run --release -p plan --example growth`.
//!
//! Each endpoint is a container of its own on one network, with one published port and one published range.

use plan::apply::apply;
use plan::decide::{self, AttachWish, Facts, NetworkWish, Refusal, SubnetWish};
use plan::desired::{desired, follow};
use plan::diff::diff;
use plan::fake::Fake;
use plan::ids::{BadName, NetworkId};
use plan::ports::PortWish;
use plan::world::{Proto, World};
use std::hint::black_box;
use std::time::{Duration, Instant};

const TURNS: u32 = 15;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "{:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "endpoints", "attach", "desired", "follow", "same", "one more", "apply", "all new"
    );
    for count in [1, 100, 1000, 5000] {
        let before = world(count)?;
        let facts = Facts::default();
        let wish = wish(count)?;
        let mut after = before.clone();
        after.take(&decide::sandbox(&after, wish.sandbox.clone(), id(4, count).parse()?)?);
        let attach = least(|| decide::attach(&after, &facts, &wish));
        let change = decide::attach(&after, &facts, &wish)?;
        let before_attach = after.clone();
        after.take(&change);
        let (have, want) = (desired(&before), desired(&after));
        let step = diff(&have, &want);
        let columns = [
            attach,
            least(|| desired(&after)),
            followed(&have, &before_attach, &change),
            least(|| diff(&want, &want)),
            least(|| diff(&have, &want)),
            applied(&have, &step),
            least(|| diff(&desired(&World::default()), &want)),
        ];
        print!("{count:>9}");
        columns.iter().for_each(|took| print!(" {:>6.0} µs", took.as_secs_f64() * 1e6));
        println!();
    }
    Ok(())
}

/// The least of several turns: the others were disturbed.
fn least<T>(mut turn: impl FnMut() -> T) -> Duration {
    let one = |_| {
        let started = Instant::now();
        let result = black_box(turn());
        let took = started.elapsed();
        drop(result);
        took
    };
    (0..TURNS).map(one).min().unwrap_or_default()
}

fn followed(have: &plan::netstate::NetState, before: &World, change: &plan::world::Change) -> Duration {
    let one = |_| {
        let (mut state, mut world) = (have.clone(), before.clone());
        let started = Instant::now();
        follow(&mut state, &mut world, change);
        let took = started.elapsed();
        drop(black_box((state, world)));
        took
    };
    (0..TURNS).map(one).min().unwrap_or_default()
}

fn applied(have: &plan::netstate::NetState, steps: &plan::netstate::Plan) -> Duration {
    let one = |_| {
        let (mut kernel, now) = (Fake::with(have.clone()), have.clone());
        let started = Instant::now();
        let applied = black_box(apply(&mut kernel, now, steps));
        let took = started.elapsed();
        drop(applied);
        took
    };
    (0..TURNS).map(one).min().unwrap_or_default()
}

fn id(kind: u64, n: u64) -> String {
    // Ids are random in life: neighbours must not share their first digits.
    let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ kind.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    format!("{mixed:016x}").repeat(4)
}

fn network() -> Result<NetworkId, BadName> {
    id(1, 0).parse()
}

fn wish(n: u64) -> Result<AttachWish, BadName> {
    let port = |first: u16, count| PortWish {
        proto: if count == 1 { Proto::Tcp } else { Proto::Udp },
        host_ip: None,
        host_port: Some((first, first + count - 1)),
        inner: if count == 1 { 80 } else { first },
        count,
    };
    let n16 = n as u16;
    let ports = vec![port(1000 + n16, 1), port(1000 + n16 * 10, 10)];
    let name = format!("container-{n}");
    Ok(AttachWish { ports, ..AttachWish::new(id(2, n).parse()?, network()?, id(3, n).parse()?, name) })
}

fn world(count: u64) -> Result<World, Box<dyn std::error::Error>> {
    let (mut world, facts) = (World::default(), Facts::default());
    let subnet = SubnetWish { subnet: Some("10.0.0.0/16".parse()?), ..SubnetWish::default() };
    let wish_network = NetworkWish { subnets: vec![subnet], ..NetworkWish::new(network()?, "app") };
    let change = decide::network(&world, &facts, &wish_network)?;
    world.take(&change);
    for n in 0..count {
        let wish = wish(n)?;
        let change = decide::sandbox(&world, wish.sandbox.clone(), id(4, n).parse()?)?;
        world.take(&change);
        let change: Result<_, Refusal> = decide::attach(&world, &facts, &wish);
        world.take(&change?);
    }
    Ok(world)
}
