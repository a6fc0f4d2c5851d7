//! How large packets may be: what is chosen by itself, what is asked for, and a narrow way out whose word does not come back.

use lab::{Engine, Host, Lab};
use std::io::{self, Read, Write};
use std::time::Duration;

fn mtu(host: &Host, link: &str) -> String {
    let said = host.ok(&["ip", "-o", "link", "show", "dev", link]);
    said.split_whitespace().skip_while(|word| *word != "mtu").nth(1).unwrap_or_default().to_owned()
}

fn container(lab: &Lab, engine: &Engine, flags: &[&str]) -> Host {
    let words = [&["run", "-d", "--name", "c1"], flags, &["busybox", "sleep", "1000"]].concat();
    engine.ok(&words);
    let pid = engine.ok(&["inspect", "-f", "{{.State.Pid}}", "c1"]);
    lab.inside_pid(pid.trim().parse().expect("a pid is a number"))
}

#[test]
fn packets_are_as_large_as_the_way_out_takes_unless_somebody_says_otherwise() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24");
        let engine = |flags: &[&str], wanted: &str| {
            let engine = lab.engine(flags);
            engine.load_busybox();
            let inside = container(lab, &engine, &[]);
            assert_eq!((mtu(&lab.here(), "berth0"), mtu(&inside, "eth0")), (wanted.to_owned(), wanted.to_owned()));
            let shown = "{{index .Options \"com.docker.network.driver.mtu\"}}";
            assert_eq!(engine.ok(&["network", "inspect", "-f", shown, "bridge"]).trim(), wanted);
            engine.ok(&["rm", "-f", "c1"]);
            engine
        };
        engine(&[], "1500").stop();
        engine(&["--mtu", "1200"], "1200").stop();
        lab.here().ok(&["ip", "link", "set", "up0", "mtu", "1400"]);
        lab.here().route("default via 192.0.2.2");
        engine(&["--mtu", "1300"], "1300").stop();
        let kept = engine(&[], "1400");
        kept.stop();
        // The way out changed while the engine was down and nobody was on the bridge.
        lab.here().ok(&["ip", "route", "replace", "default", "via", "192.0.2.2", "mtu", "1350"]);
        kept.start_again();
        let inside = container(lab, &kept, &[]);
        assert_eq!(mtu(&inside, "eth0"), "1350");
    });
}

/// Sends `amount` bytes and reads them back.
fn there_and_back(host: &Host, addr: &str, amount: usize) -> io::Result<()> {
    let mut stream = host.connect(addr)?;
    let mut writer = stream.try_clone()?;
    std::thread::scope(|scope| {
        let written = scope.spawn(move || writer.write_all(&vec![7; amount]));
        let mut back = vec![0; amount];
        let read = stream.read_exact(&mut back);
        // A writer that waits is not needed any more.
        let _ = stream.shutdown(std::net::Shutdown::Both);
        written.join().expect("writing does not panic").and(read)
    })
}

#[test]
fn tcp_passes_a_narrow_link_whose_complaints_are_lost() {
    const AMOUNT: usize = 300_000;
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24 2001:db8::1/64");
        let friend = lab.host("friend", "192.0.2.2/24 2001:db8::2/64");
        let engine = lab.engine(&["--mtu", "1500", "--ipv6"]);
        engine.load_busybox();
        let inside = container(lab, &engine, &["-p", "7:7"]);
        lab.here().ok(&["ip", "link", "set", "up0", "mtu", "1300"]);
        // Nobody learns that a packet was too large.
        let deaf = "add table inet deaf; add chain inet deaf output { type filter hook output priority 0; }; \
                    add rule inet deaf output icmp type destination-unreachable drop; \
                    add rule inet deaf output icmpv6 type packet-too-big drop";
        lab.here().ok(&["nft", deaf]);
        let (_there, _here) = (friend.serve_echo("[::]:7"), inside.serve_echo("[::]:7"));
        let all_ways = || {
            [
                ("out", there_and_back(&inside, "192.0.2.2:7", AMOUNT)),
                ("out by IPv6", there_and_back(&inside, "[2001:db8::2]:7", AMOUNT)),
                ("in", there_and_back(&friend, "192.0.2.1:7", AMOUNT)),
                ("in by IPv6", there_and_back(&friend, "[2001:db8::1]:7", AMOUNT)),
            ]
        };
        lab::wait_for("IPv6 inside", Duration::from_secs(5), || inside.connect("[2001:db8::2]:7").ok());
        for (way, done) in all_ways() {
            done.unwrap_or_else(|err| panic!("{way}: {err}"));
        }
        // Without the rule, which stays away as long as the engine is down, nothing of it would get through.
        engine.stop();
        lab.here().ok(&["nft", "flush", "chain", "inet", "berth", "opening"]);
        assert!(there_and_back(&inside, "192.0.2.2:7", AMOUNT).is_err(), "the link is not narrow, or not silent");
        engine.start_again();
        for (way, done) in all_ways() {
            done.unwrap_or_else(|err| panic!("{way}, after the engine came back: {err}"));
        }
        engine.ok(&["rm", "-f", "c1"]);
    });
}
