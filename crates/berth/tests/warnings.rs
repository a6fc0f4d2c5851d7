//! What others do to the host's network in our way is told of: in the log, as an event and in `info`, with what helps; and
//! limits, before they are reached.

use lab::{Engine, Host, Lab};
use serde_json::Value;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than the engine's slowest look.
const LONG: Duration = Duration::from_secs(20);

fn world(lab: &Lab, flags: &[&str]) -> (Engine, Host) {
    lab.uplink("192.0.2.1/24");
    let friend = lab.host("friend", "192.0.2.2/24");
    let engine = lab.engine(flags);
    engine.load_busybox();
    (engine, friend)
}

/// The warnings that were sent as events so far: what each is about, its words and its help.
fn events(engine: &Engine) -> Vec<(String, String, String)> {
    // The command line's times are whole seconds.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time after 1970");
    let filters = "%7B%22event%22%3A%5B%22warning%22%5D%7D";
    let path = format!("/events?since=0&until={}.{:09}&filters={filters}", now.as_secs(), now.subsec_nanos());
    let (status, lines) = engine.http("GET", &path, "");
    assert_eq!(status, 200, "{lines}");
    let of = |line: &str| {
        let event: Value = serde_json::from_str(line).expect(line);
        assert_eq!(event["Type"], "daemon", "{line}");
        let attribute = |name: &str| event["Actor"]["Attributes"][name].as_str().unwrap_or_default().to_owned();
        (attribute("about"), attribute("text"), attribute("help"))
    };
    lines.lines().map(of).collect()
}

/// What `info` warns of.
fn info(engine: &Engine) -> Vec<String> {
    let all = engine.json("/info")["Warnings"].as_array().cloned().unwrap_or_default();
    let all = all.iter().filter_map(|warning| warning.as_str().map(str::to_owned));
    // Not of limits that this machine's cgroups do not have.
    all.filter(|warning| warning.contains("what helps")).collect()
}

fn wait_for_none(engine: &Engine, what: &str) {
    lab::wait_for(what, LONG, || info(engine).is_empty().then_some(()));
}

/// A new warning about this with these words, in `info` and as an event; its help.
fn told(engine: &Engine, about: &str, words: &str) -> String {
    let (_, text, help) = lab::wait_for(&format!("a warning of {words}"), LONG, || {
        events(engine).into_iter().find(|(of, text, _)| of == about && text.contains(words))
    });
    let shown = format!("WARNING: {text}; what helps: {help}");
    assert!(info(engine).contains(&shown), "{shown} is not in {:?}", info(engine));
    assert!(engine.log().contains(&text), "{text} is not in the log");
    help
}

/// Runs a line as a user would paste it.
fn shell(line: &str) {
    let out = std::process::Command::new("sh").args(["-c", line]).output().expect("a shell");
    assert!(out.status.success(), "{line}: {out:?}");
}

/// A container with a published port, what drops its packets by somebody else's chain, and what is told of that.
fn dropped(lab: &Lab, cases: &[(&str, &str, &str)], and_then: impl FnOnce(&Engine)) {
    let (engine, friend) = world(lab, &[]);
    engine.ok(&["run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sleep", "1000"]);
    let pid = engine.ok(&["inspect", "-f", "{{.State.Pid}}", "web"]);
    let inside = lab.inside_pid(pid.trim().parse().expect("a pid is a number"));
    let (_web, _friend) = (inside.serve_tcp("0.0.0.0:80", "web"), friend.serve_tcp("0.0.0.0:7", "friend"));
    assert!(info(&engine).is_empty(), "{:?}", info(&engine));
    let passes = || {
        std::thread::scope(|scope| {
            let out = scope.spawn(|| inside.tcp("192.0.2.2:7").is_ok());
            let through = friend.tcp("192.0.2.1:8080").is_ok();
            (out.join().expect("a probe does not panic"), through)
        })
    };
    assert_eq!(passes(), (true, true));
    for (drops, place, undo) in cases {
        shell(drops);
        let help = told(&engine, "firewall", place);
        assert_eq!(passes(), (false, false), "{drops}");
        shell(&help);
        assert_eq!(passes(), (true, true), "{drops}, and then {help}");
        wait_for_none(&engine, &format!("the end of the warning after {help}"));
        // What the command iptables made, it can still show.
        if drops.starts_with("iptables ") {
            let rules = lab.here().ok(&["iptables", "-S", "FORWARD"]);
            assert!(rules.contains("-A FORWARD -i berth0 -j ACCEPT"), "{rules}");
        }
        shell(undo);
    }
    and_then(&engine);
}

#[test]
fn firewalls_of_others_that_drop_are_named_and_the_command_helps() {
    let table =
        "nft 'add table inet site; add chain inet site through { type filter hook forward priority 5; policy drop; }'";
    lab::alone(|lab| {
        let cases = [
            ("iptables -P FORWARD DROP", "table ip filter, chain FORWARD, ", "iptables -P FORWARD ACCEPT; iptables -F"),
            (table, "table inet site, chain through, ", "nft delete table inet site"),
        ];
        dropped(lab, &cases, |engine| {
            // What is there already when the engine starts is told of at once, and once.
            engine.stop();
            shell(table);
            engine.start_again();
            told(engine, "firewall", "table inet site");
            assert_eq!(events(engine).len(), 1);
        });
    });
}

#[test]
fn the_older_firewall_is_seen_too_though_it_tells_nothing() {
    lab::alone(|lab| {
        let undo = "iptables-legacy -P FORWARD ACCEPT; iptables-legacy -F";
        let case = ("iptables-legacy -P FORWARD DROP", "table ip filter, chain FORWARD of iptables-legacy, ", undo);
        dropped(lab, &[case], |_| {});
    });
}

#[test]
fn routes_and_addresses_that_come_over_a_network_are_told_of_once() {
    lab::alone(|lab| {
        // There before: networks are put beside it.
        lab.uplink_on("office", "up1", "172.17.3.1/24");
        let (engine, friend) = world(lab, &[]);
        let subnet = "{{(index .IPAM.Config 0).Subnet}}";
        assert_eq!(engine.ok(&["network", "inspect", "-f", subnet, "bridge"]).trim(), "172.18.0.0/16");
        drop(friend);
        assert!(events(&engine).is_empty(), "{:?}", events(&engine));
        lab.here().route("172.18.9.0/24 via 192.0.2.2");
        let help = told(&engine, "subnet", "route 172.18.9.0/24 of up0 overlaps 172.18.0.0/16 of network bridge");
        assert!(help.contains("--bip 172.19.0.1/16"), "{help}");
        lab.here().ok(&["ip", "addr", "add", "172.18.8.1/24", "dev", "up0"]);
        told(&engine, "subnet", "address 172.18.8.1/24 of up0 overlaps");
        // Nothing new: other routes, and one of them once more.
        for words in ["add 10.0.0.0/8 via 192.0.2.2", "replace 172.18.9.0/24 via 192.0.2.2 mtu 1300"] {
            lab.here().ok(&[&["ip", "route"], &words.split(' ').collect::<Vec<_>>()[..]].concat());
        }
        lab.here().ok(&["ip", "route", "del", "172.18.9.0/24"]);
        lab.here().ok(&["ip", "addr", "del", "172.18.8.1/24", "dev", "up0"]);
        wait_for_none(&engine, "the conflicts' end");
        assert_eq!(events(&engine).len(), 2, "{:?}", events(&engine));
        // The proposal is one that works.
        engine.stop();
        lab.here().route("172.18.9.0/24 via 192.0.2.2");
        let again = lab.engine(&["--bip", "172.19.0.1/16"]);
        assert!(info(&again).is_empty(), "{:?}", info(&again));
    });
}

#[test]
fn a_bridge_that_fills_is_told_of_and_a_full_one_takes_no_more() {
    lab::alone(|lab| {
        let file = lab.dir().join("strangers");
        let batch = |from: u32, to: u32| {
            let ports = (from..=to).map(|n| format!("link add p{n} master mybridge type veth peer name q{n}\n"));
            std::fs::write(&file, ports.collect::<String>()).expect("a file");
            lab.here().ok(&["ip", "-batch", file.to_str().expect("a text")]);
        };
        lab.here().ok(&["ip", "link", "add", "mybridge", "up", "type", "bridge"]);
        lab.here().ok(&["ip", "addr", "add", "10.77.0.1/16", "dev", "mybridge"]);
        let engine = lab.engine(&["--bridge", "mybridge"]);
        engine.load_busybox();
        engine.ok(&["run", "-d", "--name", "first", "busybox", "sleep", "1000"]);
        batch(1, 817);
        std::thread::sleep(Duration::from_millis(500));
        assert!(events(&engine).is_empty(), "{:?}", events(&engine));
        engine.ok(&["run", "-d", "--name", "second", "busybox", "sleep", "1000"]);
        told(&engine, "ports", "bridge mybridge of network bridge has 819 of the 1023 ports");
        batch(818, 1021);
        lab::wait_for("the count of all ports", PATIENCE, || info(&engine)[0].contains("has 1023 of").then_some(()));
        let full = "bridge mybridge of network bridge has all of the 1023 ports that a Linux bridge can have";
        let refused = engine.berth(&["run", "-d", "--name", "third", "busybox", "sleep", "1000"]);
        assert!(refused.code == 125 && refused.stderr.contains(full), "{refused:?}");
        assert_eq!(engine.ok(&["ps", "-a", "--filter", "name=third", "--format", "{{.Status}}"]).trim(), "Created");
        engine.ok(&["stop", "-t", "0", "second"]);
        engine.ok(&["start", "third"]);
        assert_eq!(events(&engine).len(), 1, "{:?}", events(&engine));
    });
}
