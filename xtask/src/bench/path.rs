//! What a packet's way through the engine's bridge and rules costs, beside a bare veth pair and bridge without a rule.

use super::Bench;
use super::pairs::{Numbers, Pairs, verdict};
use anyhow::{Context, Result};
use lab::load::{self, Target};
use lab::{Engine, Host, Lab};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

/// `cargo xtask bench path`
pub const BENCH: Bench = Bench {
    name: "path",
    about: "throughput and latency through published ports and bridges, beside bare ones",
    rounds: 60,
    needs: &[],
    run,
};

/// How long bytes are pushed at a time.
const PUSH: Duration = Duration::from_millis(150);
/// Questions and connections at a time.
const QUESTIONS: usize = 500;
const CONNECTIONS: usize = 100;

/// Least throughput, and most latencies, as ratios to the bare path.
const THROUGHPUT: f64 = 0.95;
const REQUEST: f64 = 1.08;
const CONNECT: f64 = 1.15;

/// A way and its bare counterpart.
pub struct Way {
    name: &'static str,
    ours: (Host, SocketAddr),
    bare: (Host, SocketAddr),
    connect: Pairs,
    request: Pairs,
    throughput: Pairs,
}

impl Way {
    /// From and to, as the engine leads and bare.
    pub fn new(name: &'static str, ours: (&Host, &str), bare: (&Host, &str)) -> Result<Way> {
        let end =
            |(host, addr): (&Host, &str)| Ok::<_, anyhow::Error>((host.clone(), addr.parse().context("an address")?));
        let (connect, request, throughput) = Default::default();
        Ok(Way { name, ours: end(ours)?, bare: end(bare)?, connect, request, throughput })
    }

    /// Measures all three once, ours first or last.
    pub fn measure(&mut self, ours_first: bool) -> Result<()> {
        let ends = [&self.ours, &self.bare];
        let in_turn = |measure: &dyn Fn(&Host, SocketAddr) -> std::io::Result<f64>| -> Result<(f64, f64)> {
            let mut got = [0.0; 2];
            for at in if ours_first { [0, 1] } else { [1, 0] } {
                got[at] = measure(&ends[at].0, ends[at].1)?;
            }
            Ok((got[0], got[1]))
        };
        let median = |times: Vec<Duration>| Numbers::of_times(&times).median;
        let connect = in_turn(&|from, to| load::connects(from, to, CONNECTIONS).map(median))?;
        let request = in_turn(&|from, to| load::questions(from, to, QUESTIONS).map(median))?;
        let throughput = in_turn(&|from, to| load::throughput(from, to, PUSH))?;
        self.connect.push(connect.0, connect.1);
        self.request.push(request.0, request.1);
        self.throughput.push(throughput.0, throughput.1);
        Ok(())
    }

    /// The median ratio of connection latency and of request latency, for whom compares two states of the engine.
    pub fn latencies(&self) -> (Numbers, Numbers) {
        (self.connect.ratio(), self.request.ratio())
    }
}

/// A host that forwards without a rule, with two namespaces behind a bridge of its own.
pub struct Bare {
    /// The host.
    pub host: Host,
    /// The namespaces, at 10.99.0.2 and 10.99.0.3.
    pub behind: [Host; 2],
}

impl Bare {
    /// On the lab's segment as 192.0.2.3.
    pub fn new(lab: &Lab) -> Result<Bare> {
        let host = lab.host("bare", "192.0.2.3/24");
        host.enter(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).context("forwarding")?;
        host.ok(&["ip", "link", "add", "bare0", "up", "type", "bridge"]);
        host.ok(&["ip", "addr", "add", "10.99.0.1/16", "dev", "bare0"]);
        let mut behind = Vec::new();
        for nth in [2, 3] {
            let name = format!("bare{nth}");
            let one = lab.host_on("unused", &name, "");
            let port = format!("port{nth}");
            let pin = format!("/run/netns/{name}");
            host.ok(&["ip", "link", "add", &port, "type", "veth", "peer", "name", "inner", "netns", &pin]);
            host.ok(&["ip", "link", "set", &port, "up", "master", "bare0"]);
            one.ok(&["ip", "link", "set", "inner", "up"]);
            one.ok(&["ip", "addr", "add", &format!("10.99.0.{nth}/16"), "dev", "inner"]);
            one.ok(&["ip", "route", "add", "default", "via", "10.99.0.1"]);
            behind.push(one);
        }
        let behind = behind.try_into().ok().context("two namespaces")?;
        Ok(Bare { host, behind })
    }
}

/// A host like [`Bare`] whose one rule translates a port: the least that a published port costs where the kernel's connection
/// tracking does it. Answers it and the namespace behind it.
fn least(lab: &Lab) -> Result<(Host, Host)> {
    let host = lab.host("least", "192.0.2.4/24");
    look_at_no_frames(&host)?;
    host.enter(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).context("forwarding")?;
    host.ok(&["ip", "link", "add", "least0", "up", "type", "bridge"]);
    host.ok(&["ip", "addr", "add", "10.98.0.1/16", "dev", "least0"]);
    host.enter(|| std::fs::write("/proc/sys/net/ipv4/conf/least0/route_localnet", "1")).context("127.0.0.1")?;
    let inner = lab.host_on("unused", "least2", "");
    let pin = "/run/netns/least2";
    host.ok(&["ip", "link", "add", "port2", "type", "veth", "peer", "name", "inner", "netns", pin]);
    host.ok(&["ip", "link", "set", "port2", "up", "master", "least0"]);
    inner.ok(&["ip", "link", "set", "inner", "up"]);
    inner.ok(&["ip", "addr", "add", "10.98.0.2/16", "dev", "inner"]);
    inner.ok(&["ip", "route", "add", "default", "via", "10.98.0.1"]);
    let translate = "tcp dport 8080 dnat to 10.98.0.2:80";
    let rules = format!(
        "table ip least {{\n chain in {{ type nat hook prerouting priority -100; {translate}; }}\n chain out {{ type nat hook output \
         priority -100; {translate}; }}\n chain post {{ type nat hook postrouting priority 100; ip saddr 127.0.0.0/8 oifname least0 \
         masquerade; }}\n}}"
    );
    host.ok(&["nft", &rules]);
    Ok((host, inner))
}

/// br_netfilter, where it is loaded, takes frames within a bridge through the host's rules. Software that wants that is not
/// measured here.
fn look_at_no_frames(host: &Host) -> Result<()> {
    let switch = std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if switch.exists() {
        host.enter(|| std::fs::write(switch, "0")).context("br_netfilter")?;
    }
    Ok(())
}

/// A container that sleeps, as a place to serve from.
pub fn container(lab: &Lab, engine: &Engine, name: &str, flags: &[&str]) -> Host {
    engine.sleeper(name, flags);
    lab.container(engine, name)
}

fn run(lab: &Lab, rounds: u32) -> Result<String> {
    lab.uplink("192.0.2.1/24");
    let outside = lab.host("outside", "192.0.2.2/24");
    outside.route("10.99.0.0/16 via 192.0.2.3");
    let bare = Bare::new(lab)?;
    let (least, behind_least) = least(lab)?;
    for host in [&lab.here(), &bare.host] {
        look_at_no_frames(host)?;
    }
    let engine = lab.engine(&[]);
    engine.load_busybox();
    let web = container(lab, &engine, "web", &["-p", "8080:80"]);
    let two = container(lab, &engine, "two", &[]);
    let address = engine.ok(&["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "web"]);
    let direct = format!("{}:80", address.trim());
    let places = [&web, &bare.behind[0], &behind_least];
    let _served = places.map(|place| Target::serve(place, "0.0.0.0:80")).into_iter().collect::<Result<Vec<_>, _>>()?;
    let here = lab.here();
    let mut ways = [
        Way::new("outside → published port", (&outside, "192.0.2.1:8080"), (&outside, "10.99.0.2:80"))?,
        Way::new("host → 127.0.0.1", (&here, "127.0.0.1:8080"), (&bare.host, "10.99.0.2:80"))?,
        Way::new("container → container", (&two, &direct), (&bare.behind[1], "10.99.0.2:80"))?,
        // Not ours: what the kernel itself takes.
        Way::new("one rule: outside → port", (&outside, "192.0.2.4:8080"), (&outside, "10.99.0.2:80"))?,
        Way::new("one rule: host → 127.0.0.1", (&least, "127.0.0.1:8080"), (&bare.host, "10.99.0.2:80"))?,
    ];
    println!("{rounds} rounds of {} ways, each beside its bare counterpart …", ways.len());
    for way in &mut ways {
        way.measure(true)?;
        (way.connect, way.request, way.throughput) = Default::default();
    }
    for round in 0..rounds {
        for way in &mut ways {
            way.measure(round % 2 == 0)?;
        }
    }
    let mut report = String::new();
    writeln!(report, "# The way of a packet\n")?;
    writeln!(
        report,
        "Through the engine's bridge and rules, beside a veth pair and a bridge without a rule: {rounds} interleaved rounds, each \
         of {PUSH:?} of bytes, {QUESTIONS} questions and {CONNECTIONS} connections, one after the other. Ratios are taken round by round. \
         \"one rule\" is a host that has nothing but a rule which translates the port.\n"
    )?;
    writeln!(report, "| way | measure | berth | bare | ratio: median | p10–p90 | of the best | target | met |")?;
    writeln!(report, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")?;
    for way in &ways {
        let rows: [(&str, &Pairs, f64, bool); 3] = [
            ("throughput", &way.throughput, THROUGHPUT, true),
            ("request latency", &way.request, REQUEST, false),
            ("connect latency", &way.connect, CONNECT, false),
        ];
        for (name, pairs, target, more_is_better) in rows {
            let (ours, bare, ratio) = (pairs.ours(), pairs.other(), pairs.ratio());
            let shown = |number: f64| {
                if more_is_better { format!("{:.2} Gbit/s", number * 8e-9) } else { format!("{:.1} µs", number * 1e6) }
            };
            let best = if more_is_better { ours.max / bare.max } else { ours.min / bare.min };
            let (sign, met) =
                if more_is_better { ("≥", ratio.median >= target) } else { ("≤", ratio.median <= target) };
            writeln!(
                report,
                "| {} | {name} | {} | {} | {:.3} | {:.3}–{:.3} | {best:.3} | {sign} {target} | {} |",
                way.name,
                shown(ours.median),
                shown(bare.median),
                ratio.median,
                ratio.p10,
                ratio.p90,
                verdict(met),
            )?;
        }
    }
    Ok(report)
}
