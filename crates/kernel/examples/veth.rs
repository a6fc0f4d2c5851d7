//! What the operations of a container's start and end cost, in µs, beside the floor: the same system calls made by hand
//! without looking at anything. Makes a network namespace of its own; needs root.
//!
//! `cargo run --release -p kernel --example veth [rounds]`

use kernel::Host;
use plan::apply::Kernel;
use plan::firewall;
use plan::ids::{IfName, Mac, SandboxId};
use plan::netstate::{ElementChange, Ns, Op, Route};
use plan::nft::{Data, Element, Owner, TableName, Value, Why};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// What was measured, by name, in the order of the names' first use.
#[derive(Default)]
struct Clock {
    names: Vec<String>,
    times: BTreeMap<String, Vec<Duration>>,
}

impl Clock {
    fn time<T>(&mut self, name: &str, what: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let result = what();
        let took = begin.elapsed();
        if !self.times.contains_key(name) {
            self.names.push(name.into());
        }
        self.times.entry(name.into()).or_default().push(took);
        result
    }

    fn print(&mut self) {
        println!("{:<44} {:>8} {:>8}", "", "min µs", "median");
        for name in &self.names {
            let Some(times) = self.times.get_mut(name) else { continue };
            times.sort_unstable();
            let micros = |time: Duration| time.as_nanos() as f64 / 1000.0;
            println!("{name:<44} {:>8.1} {:>8.1}", micros(times[0]), micros(times[times.len() / 2]));
        }
    }
}

fn main() -> Outcome {
    let rounds: u64 = std::env::args().nth(1).map_or(Ok(200), |text| text.parse())?;
    // SAFETY: network and mount namespace only (with the file system attributes that come with the latter), before any
    // other thread was started.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }?;
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
    )?;
    let dir = std::env::temp_dir().join(format!("berth-bench-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let done = run(&dir.join("netns"), rounds);
    // The mount on it is only in our namespace.
    let _ = rustix::mount::unmount(dir.join("netns"), rustix::mount::UnmountFlags::DETACH);
    std::fs::remove_dir_all(&dir)?;
    done
}

fn run(pins: &std::path::Path, rounds: u64) -> Outcome {
    let mut clock = Clock::default();
    let mut host = Host::open(pins)?;
    let owner: Owner = "ep abcdefabcdef".parse()?;
    let bridge: IfName = "br0".parse()?;
    host.perform(&Op::AddBridge { name: bridge.clone(), mac: Mac([2, 0x42, 0, 0, 0, 1]), mtu: 1500, owner })?;
    host.perform(&Op::SetUp { ns: Ns::Host, name: bridge.clone(), up: true })?;
    host.perform(&Op::ReplaceTable { ns: Ns::Host, name: TableName::inet(), table: firewall::skeleton() })?;
    floor(&mut clock, rounds)?;
    for round in 0..rounds {
        life(&mut host, &mut clock, round, owner, &bridge)?;
    }
    std::thread::sleep(Duration::from_millis(500));
    many(&mut host, &mut clock, owner, &bridge)?;
    elements(&mut host, &mut clock, rounds)?;
    clock.print();
    Ok(())
}

/// Making a namespace and leaving it again, and nothing else.
fn floor(clock: &mut Clock, rounds: u64) -> Outcome {
    let home = File::open("/proc/thread-self/ns/net")?;
    for _ in 0..rounds {
        clock.time("floor: unshare, open, return", || -> Outcome {
            // SAFETY: only the network namespace.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
            File::open("/proc/thread-self/ns/net")?;
            Ok(move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network))?)
        })?;
    }
    Ok(())
}

fn sandbox(number: u64) -> Outcome<SandboxId> {
    Ok(format!("{number:064x}").parse()?)
}

fn veth(number: u64, id: &SandboxId, owner: Owner, bridge: &IfName) -> Outcome<Op> {
    Ok(Op::AddVeth {
        host: format!("veth{number}").parse()?,
        master: bridge.clone(),
        inner: IfName::inner(0),
        into: id.clone(),
        mac: Mac([2, 0x42, 1, 0, (number >> 8) as u8, number as u8]),
        mtu: 1500,
        owner,
    })
}

fn furnish(id: &SandboxId) -> Outcome<Vec<Op>> {
    let (ns, eth0) = (Ns::Of(id.clone()), IfName::inner(0));
    let route = Route { to: "0.0.0.0/0".parse()?, via: Some("10.1.0.1".parse()?), dev: eth0.clone() };
    Ok(vec![
        Op::SetUp { ns: ns.clone(), name: IfName::loopback(), up: true },
        Op::SetNoIpv6 { ns: ns.clone(), name: eth0.clone(), off: true },
        Op::AddAddr { ns: ns.clone(), name: eth0.clone(), addr: "10.1.0.2/24".parse()? },
        Op::SetUp { ns: ns.clone(), name: eth0, up: true },
        Op::AddRoute { ns, route },
    ])
}

fn life(host: &mut Host, clock: &mut Clock, number: u64, owner: Owner, bridge: &IfName) -> Outcome {
    let id = sandbox(number)?;
    let veth = veth(number, &id, owner, bridge)?;
    let ops = furnish(&id)?;
    clock.time("AddSpace", || host.perform(&Op::AddSpace(id.clone())))?;
    clock.time("AddVeth", || host.perform(&veth))?;
    clock.time("container's side: lo, no IPv6, addr, up, route", || ops.iter().try_for_each(|op| host.perform(op)))?;
    clock.time("DelSpace", || host.perform(&Op::DelSpace(id)))?;
    Ok(())
}

fn many(host: &mut Host, clock: &mut Clock, owner: Owner, bridge: &IfName) -> Outcome {
    const COUNT: u64 = 300;
    for number in 0..COUNT {
        let id = sandbox(number)?;
        host.perform(&Op::AddSpace(id.clone()))?;
        host.perform(&veth(number, &id, owner, bridge)?)?;
    }
    host.observe()?;
    for _ in 0..10 {
        clock.time("observe, 300 sandboxes", || host.observe())?;
    }
    for number in 0..COUNT {
        host.perform(&Op::DelSpace(sandbox(number)?))?;
    }
    Ok(())
}

fn elements(host: &mut Host, clock: &mut Clock, rounds: u64) -> Outcome {
    let address = Value::Addr4([10, 1, 0, 2].into());
    let put = |set: &str, port: Value, data: Vec<Value>| ElementChange {
        set: set.into(),
        key: vec![Value::Proto(6), port],
        put: Some(Element { data: Some(Data::Parts(data)), why: Why::new("web: -p 8080:80", Owner::Engine) }),
        owner: Owner::Engine,
    };
    let single = |port: u16| put("published4", Value::Port(port), vec![address.clone(), Value::Port(80)]);
    let range = |port: u16| put("ranges4", Value::PortRange(port, port + 2), vec![address.clone()]);
    let change = |changes: Vec<ElementChange>| Op::ChangeElements { ns: Ns::Host, table: TableName::inet(), changes };
    let gone = |mut change: ElementChange| {
        change.put = None;
        change
    };
    for size in [0, 1_000, 10_000] {
        let fill: Vec<_> = (0..size).map(|n| single(n + 1)).chain((0..size).map(|n| range(4 * n + 1))).collect();
        clock.time(&format!("2 x {size} elements at once"), || host.perform(&change(fill)))?;
        for round in 0..rounds {
            let port = 60_000 + (round % 1000) as u16;
            clock.time(&format!("add one element to {size}"), || host.perform(&change(vec![single(port)])))?;
            clock.time(&format!("take one element from {size}"), || host.perform(&change(vec![gone(single(port))])))?;
            clock.time(&format!("add one range to {size}"), || host.perform(&change(vec![range(port)])))?;
            clock.time(&format!("take one range from {size}"), || host.perform(&change(vec![gone(range(port))])))?;
        }
        clock.time(&format!("read the table with 2 x {size}"), || host.observe())?;
        host.perform(&Op::ReplaceTable { ns: Ns::Host, name: TableName::inet(), table: firewall::skeleton() })?;
    }
    Ok(())
}
