//! Who reaches whom: for every pair of the four kinds of containers, the host and a host outside, by every way there is,
//! what the table below says is what a probe meets.

use lab::{Ask, Engine, Host, Lab, Server};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Row: who asks. Column: who is asked. `y` yes, `n` no, `P` only published ports, `lo` over loopback.
const TABLE: &str = "
from \\ to | closed       | bridged       | apart          | other         | joined          | open      | outside
closed     | lo self      | n             | n              | n             | lo              | n         | n
bridged    | n            | y             | –              | P             | –               | y         | y
apart      | n            | –             | n (P via host) | P             | –               | y         | y
other      | n            | P             | P              | y             | –               | y         | y
joined     | lo if joined | as its target | as its target  | as its target | lo all          | as target | as target
open       | n            | y             | y              | y             | y (via address) | lo        | y
outside    | n            | P             | P              | P             | P of target     | y         | –
";

/// The kinds of the table. `Bridged` and `Apart` are on the default bridge, with and without `--icc=false`; `Other` is on
/// a bridge of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Closed,
    Bridged,
    Apart,
    Other,
    Joined,
    Open,
    Outside,
}

const KINDS: [(&str, Kind); 7] = [
    ("closed", Kind::Closed),
    ("bridged", Kind::Bridged),
    ("apart", Kind::Apart),
    ("other", Kind::Other),
    ("joined", Kind::Joined),
    ("open", Kind::Open),
    ("outside", Kind::Outside),
];

/// What a cell of the table says.
fn cell(from: Kind, to: Kind) -> &'static str {
    let name = |kind| KINDS.iter().find(|(_, known)| *known == kind).map_or("", |(name, _)| name);
    let row = |line: &'static str| line.split('|').map(str::trim).collect::<Vec<_>>();
    let mut lines = TABLE.trim().lines().map(row);
    let head = lines.next().expect("the table has a head");
    let column = head.iter().position(|word| *word == name(to)).expect("a column");
    lines.find(|line| line[0] == name(from)).expect("a row")[column]
}

/// Somebody who asks and is asked.
struct Place {
    name: &'static str,
    kind: Kind,
    host: Host,
    /// Whose network it is in: its own name, or that of whom it joined.
    space: &'static str,
    /// Its addresses; none for a closed one.
    addrs: Vec<IpAddr>,
    /// The port that it serves, on all of its addresses; nobody else serves it.
    port: u16,
    /// Where the host publishes that port, for all addresses, and for 127.0.0.1 only.
    published: Option<(u16, u16)>,
}

/// One way to ask somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By an address of its own.
    Address,
    /// By an address of the host, at the published port.
    Published,
    /// The same, at the port inside.
    Unpublished,
    /// The same, at the port that is published on 127.0.0.1 only.
    Elsewhere,
    /// By 127.0.0.1 or ::1, at the port inside.
    Loopback,
    /// By 127.0.0.1 or ::1, at the published ports.
    PublishedLoopback,
}

/// What the table says of two, where it sends us on to those whose network they are in.
fn word(from: &Place, to: &Place, places: &[Place]) -> &'static str {
    let home = |place: &Place| places.iter().find(|other| other.name == place.space).expect("somebody is there").kind;
    match cell(from.kind, to.kind) {
        // A partner's loopback is not that of all others.
        "as its target" | "as target" | "–" | "lo" | "lo if joined" | "lo all" if from.name != to.name => {
            cell(home(from), home(to))
        }
        said => said,
    }
}

/// What that means for one way. `frames`: br_netfilter looks at frames.
fn expected(from: &Place, to: &Place, way: Way, places: &[Place], frames: bool) -> bool {
    let (same, published) = (from.space == to.space, to.published.is_some());
    match (word(from, to, places), way) {
        // What is in one network meets there, whatever else holds; and nobody else meets there.
        (_, Way::Loopback) => same,
        (_, Way::Address) if same => true,
        // The host's loopback is the host's, and with it what is published there.
        (_, Way::PublishedLoopback) => from.kind == Kind::Open && published,
        ("y" | "y (via address)", Way::Address) => true,
        ("y" | "y (via address)" | "P" | "P of target", Way::Published) => published,
        // The one gap: a frame that br_netfilter translates stays within the bridge, where isolation holds.
        ("n (P via host)", Way::Published) => published && !frames,
        _ => false,
    }
}

struct World {
    engine: Engine,
    places: Vec<Place>,
    /// Addresses of the host: of its uplink, and of its bridge.
    host: Vec<IpAddr>,
}

fn inspect(engine: &Engine, name: &str, what: &str) -> String {
    engine.ok(&["inspect", "-f", what, name]).trim().to_owned()
}

/// The engine with a container of each kind, and the bridges that it can make.
fn world(lab: &Lab, outside: &Host, icc: bool) -> World {
    let engine = lab.engine(if icc { &["--ipv6"] } else { &["--ipv6", "--icc=false"] });
    engine.load_busybox();
    let bridged = if icc { Kind::Bridged } else { Kind::Apart };
    let mut places: Vec<Place> = Vec::new();
    let mut add = |name: &'static str, kind: Kind, flags: &[&str], space: &'static str| {
        let nth = places.len() as u16;
        let (port, everywhere, local) = (7000 + nth, 8000 + nth, 9000 + nth);
        let specs = [format!("{everywhere}:{port}"), format!("127.0.0.1:{local}:{port}")];
        // Who joins publishes by whom he joined, whose ports these are.
        let publishes = kind != Kind::Joined && name != "quiet" && name != "open";
        let specs =
            specs.iter().flat_map(|spec| [spec.clone(), format!("{spec}/udp")]).flat_map(|spec| ["-p".into(), spec]);
        let specs: Vec<String> = if publishes { specs.collect() } else { Vec::new() };
        let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
        engine.ok(&[&["run", "-d", "--name", name], flags, &specs, &["busybox", "sleep", "1000"]].concat());
        let host = lab.inside_pid(inspect(&engine, name, "{{.State.Pid}}").parse().expect("a pid is a number"));
        let of = |field| {
            let all =
                inspect(&engine, name, &format!("{{{{range .NetworkSettings.Networks}}}}{{{{.{field}}}}}{{{{end}}}}"));
            all.parse::<IpAddr>().ok()
        };
        let mut addrs: Vec<IpAddr> = ["IPAddress", "GlobalIPv6Address"].into_iter().filter_map(of).collect();
        if let Some(home) = places.iter().find(|home| kind == Kind::Joined && home.name == space) {
            addrs.clone_from(&home.addrs);
        }
        let published = (publishes && kind != Kind::Closed).then_some((everywhere, local));
        places.push(Place { name, kind, host, space, addrs, port, published });
    };
    add("closed", Kind::Closed, &["--net", "none"], "closed");
    add("web", bridged, &[], "web");
    add("two", bridged, &[], "two");
    add("quiet", bridged, &[], "quiet");
    engine.ok(&["network", "create", "--ipv6", "second"]);
    add("three", Kind::Other, &["--net", "second"], "three");
    add("four", Kind::Other, &["--net", "second"], "four");
    add("guest", Kind::Joined, &["--net", "container:web"], "web");
    add("inmate", Kind::Joined, &["--net", "container:closed"], "closed");
    add("open", Kind::Open, &["--net", "host"], "open");
    let said = lab.here().ok(&["ip", "-6", "-o", "addr", "show", "berth0", "scope", "global"]);
    let gate = said.split_whitespace().skip_while(|word| *word != "inet6").nth(1).expect("the bridge's address");
    let gate: IpAddr = gate.split('/').next().unwrap_or_default().parse().expect("an address");
    let host: Vec<IpAddr> = ["192.0.2.1", "2001:db8::1", "172.17.0.1"]
        .map(|addr| addr.parse().expect("an address"))
        .into_iter()
        .chain([gate])
        .collect();
    let last = places.last_mut().expect("the open one");
    last.addrs.clone_from(&host);
    let addrs = ["192.0.2.2", "2001:db8::2"].map(|addr| addr.parse().expect("an address")).into();
    let (name, kind, space) = ("outside", Kind::Outside, "outside");
    places.push(Place { name, kind, host: outside.clone(), space, addrs, port: 7100, published: None });
    // Nobody is kept out for want of a way there.
    for addr in places.iter().filter(|place| place.kind != Kind::Outside).flat_map(|place| &place.addrs) {
        let (via, length) = if addr.is_ipv4() { ("192.0.2.1", 32) } else { ("2001:db8::1", 128) };
        if !["192.0.2.1", "2001:db8::1"].contains(&addr.to_string().as_str()) {
            outside.ok(&["ip", "route", "replace", &format!("{addr}/{length}"), "via", via]);
        }
    }
    World { engine, places, host }
}

/// Every place answers with its name, by TCP and UDP, on all of its addresses and on loopback.
fn serve(places: &[Place]) -> Vec<Server> {
    let mut servers = Vec::new();
    for place in places {
        let local = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        for addr in place.addrs.iter().copied().chain(local) {
            let at = SocketAddr::new(addr, place.port).to_string();
            servers.push(place.host.serve_tcp(&at, place.name));
            servers.push(place.host.serve_udp(&at, place.name));
        }
    }
    servers
}

/// All ways to ask one place, with the addresses and ports that belong to them.
fn ways(to: &Place, host: &[IpAddr]) -> Vec<(Way, Ask)> {
    let local = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let mut ways = Vec::new();
    let mut at = |way: Way, addr: IpAddr, port: u16| {
        let addr = SocketAddr::new(addr, port);
        ways.extend([(way, Ask::Tcp(addr)), (way, Ask::Udp(addr))]);
    };
    for addr in &to.addrs {
        at(Way::Address, *addr, to.port);
    }
    for addr in local {
        at(Way::Loopback, addr, to.port);
    }
    for addr in host.iter().filter(|_| !matches!(to.kind, Kind::Open | Kind::Outside)) {
        at(Way::Unpublished, *addr, to.port);
        if let Some((everywhere, local)) = to.published {
            at(Way::Published, *addr, everywhere);
            at(Way::Elsewhere, *addr, local);
        }
    }
    if let Some((everywhere, only)) = to.published {
        for addr in local {
            at(Way::PublishedLoopback, addr, everywhere);
        }
        at(Way::PublishedLoopback, Ipv4Addr::LOCALHOST.into(), only);
    }
    ways.extend(to.addrs.iter().map(|addr| (Way::Address, Ask::Echo(*addr))));
    ways
}

/// Asks everybody from everywhere; the pairs where the answer is not as the table has it.
fn mismatches(world: &World, frames: bool) -> (usize, Vec<String>) {
    let World { places, host, .. } = world;
    let ask = |from: &Place| {
        let all: Vec<(&Place, Way, Ask)> =
            places.iter().flat_map(|to| ways(to, host).into_iter().map(move |(way, ask)| (to, way, ask))).collect();
        let wanted = |(to, way, _): &(&Place, Way, Ask)| expected(from, to, *way, places, frames);
        let asks: Vec<Ask> = all.iter().map(|(_, _, ask)| *ask).collect();
        let reached = |to: &Place, answer: &Option<String>| match answer {
            Some(text) => text.is_empty() || text.split(' ').next() == Some(to.name),
            None => false,
        };
        let mut answers = from.host.sweep(&asks, Duration::from_millis(900));
        // A busy machine may have kept an answer back; nobody can have made one up.
        let late = (0..all.len()).filter(|nth| wanted(&all[*nth]) && !reached(all[*nth].0, &answers[*nth]));
        let late: Vec<usize> = late.collect();
        let again: Vec<Ask> = late.iter().map(|nth| asks[*nth]).collect();
        for (nth, answer) in late.into_iter().zip(from.host.sweep(&again, Duration::from_secs(3))) {
            answers[nth] = answer;
        }
        let wrong = all.iter().zip(&answers).filter(|(probe, answer)| reached(probe.0, answer) != wanted(probe));
        let text = |((to, way, ask), answer): (&(&Place, Way, Ask), &Option<String>)| {
            let word = if answer.is_some() { "reaches" } else { "does not reach" };
            format!("{} {word} {} by {way:?}: {ask:?} {answer:?}", from.name, to.name)
        };
        (all.len(), wrong.map(text).collect::<Vec<_>>())
    };
    let found = std::thread::scope(|scope| {
        let asking: Vec<_> = places.iter().map(|from| scope.spawn(move || ask(from))).collect();
        asking.into_iter().map(|one| one.join().expect("who asks comes back")).collect::<Vec<_>>()
    });
    found.into_iter().fold((0, Vec::new()), |(count, mut all), (more, wrong)| {
        all.extend(wrong);
        (count + more, all)
    })
}

/// Whether frames within a bridge are looked at by the firewall, as other software of a host may have it.
fn look_at_frames(on: bool) {
    for family in ["iptables", "ip6tables"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
        if std::path::Path::new(&path).exists() {
            std::fs::write(&path, if on { "1" } else { "0" }).unwrap_or_else(|err| panic!("{path}: {err}"));
        }
    }
}

#[test]
fn who_reaches_whom_is_as_the_table_says() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24 2001:db8::1/64");
        let outside = lab.host("outside", "192.0.2.2/24 2001:db8::2/64");
        let mut wrong = Vec::new();
        for icc in [true, false] {
            let world = world(lab, &outside, icc);
            let servers = serve(&world.places);
            for frames in [false, true] {
                look_at_frames(frames);
                let started = std::time::Instant::now();
                let (count, all) = mismatches(&world, frames);
                println!("icc {icc}, br_netfilter {frames}: {count} probes in {:?}", started.elapsed());
                wrong.extend(all.into_iter().map(|text| format!("icc {icc}, br_netfilter {frames}: {text}")));
            }
            drop(servers);
            let names: Vec<&str> =
                world.places.iter().map(|place| place.name).filter(|name| *name != "outside").collect();
            world.engine.ok(&[&["rm", "-f"][..], &names].concat());
            world.engine.ok(&["network", "rm", "second"]);
            world.engine.stop();
        }
        assert!(wrong.is_empty(), "{} mismatches:\n{}", wrong.len(), wrong.join("\n"));
    });
}
