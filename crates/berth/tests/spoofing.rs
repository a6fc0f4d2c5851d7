//! A container with NET_RAW and NET_ADMIN tries to be somebody else on its bridge.

use lab::{Engine, Host, Lab};

fn place(lab: &Lab, engine: &Engine, name: &str) -> (Host, [String; 3]) {
    engine.ok(&["run", "-d", "--name", name, "--cap-add", "NET_ADMIN", "busybox", "sleep", "1000"]);
    let told = |what: &str| engine.ok(&["inspect", "-f", what, name]).trim().to_owned();
    let network = |field: &str| told(&format!("{{{{range .NetworkSettings.Networks}}}}{{{{.{field}}}}}{{{{end}}}}"));
    let pid = told("{{.State.Pid}}").parse().expect("a pid is a number");
    (lab.inside_pid(pid), [network("IPAddress"), network("GlobalIPv6Address"), network("MacAddress")])
}

/// Who has an address, as somebody believes after asking anew; empty if nobody answered.
fn believed(by: &Host, link: &str, addr: &str) -> String {
    by.run(&["ip", "neigh", "flush", "dev", link]);
    let _ = by.try_ping(addr, std::time::Duration::from_millis(500));
    by.ok(&["ip", "neigh", "show", "to", addr, "dev", link])
}

#[test]
fn nobody_on_a_bridge_is_somebody_else() {
    lab::alone(|lab| {
        let engine = lab.engine(&["--ipv6"]);
        engine.load_busybox();
        let (evil, [evil4, evil6, evil_mac]) = place(lab, &engine, "evil");
        let (good, [good4, good6, good_mac]) = place(lab, &engine, "good");
        let (gate4, gate6) =
            ("172.17.0.1", lab.here().ok(&["ip", "-6", "-o", "addr", "show", "berth0", "scope", "global"]));
        let gate6 = gate6.split_whitespace().skip_while(|word| *word != "inet6").nth(1).expect("the bridge's address");
        let gate6 = gate6.split('/').next().expect("an address");
        let honest = |when: &str| {
            for (from, to) in [(&evil, [&good4, &good6]), (&good, [&evil4, &evil6])] {
                assert!(to.iter().all(|to| from.ping(to)), "{when}: {} does not reach {to:?}", from.name());
                assert!(from.ping(gate4) && from.ping(gate6), "{when}: {} does not reach the host", from.name());
            }
            assert!(believed(&good, "eth0", &evil4).contains(&evil_mac), "{when}");
            assert!(believed(&lab.here(), "berth0", &good4).contains(&good_mac), "{when}");
        };
        honest("at first");

        // Another's IPv4 and IPv6 addresses, as the source of packets and in ARP and ND. Their owners are silent meanwhile.
        good.ok(&["ip", "link", "set", "eth0", "down"]);
        for (theirs, gate, len) in [(&good4, gate4, 16), (&good6, gate6, 64)] {
            let with_len = format!("{theirs}/{len}");
            evil.enter(|| std::fs::write("/proc/sys/net/ipv6/conf/eth0/accept_dad", "0")).expect("a sysctl");
            evil.ok(&["ip", "addr", "add", &with_len, "dev", "eth0"]);
            let seen = believed(&lab.here(), "berth0", theirs);
            assert!(!seen.contains(&evil_mac), "the host believes that evil has {theirs}: {seen}");
            let host = if len == 16 { "172.17.0.1/32" } else { &format!("{gate}/128") };
            evil.ok(&["ip", "route", "add", host, "dev", "eth0", "src", theirs]);
            assert!(!evil.ping(gate), "evil speaks as {theirs}");
            evil.ok(&["ip", "route", "del", host, "dev", "eth0", "src", theirs]);
            evil.ok(&["ip", "addr", "del", &with_len, "dev", "eth0"]);
        }

        // A proxy answers for another's IPv6 address with its own one as the source (RFC 4861 §7.2.8).
        for setting in ["forwarding", "proxy_ndp"] {
            let path = format!("/proc/sys/net/ipv6/conf/eth0/{setting}");
            evil.enter(|| std::fs::write(&path, "1")).expect("a sysctl");
        }
        evil.ok(&["ip", "-6", "neigh", "add", "proxy", &good6, "dev", "eth0"]);
        let rules = || lab.here().ok(&["nft", "list", "table", "bridge", "berth"]);
        lab::wait_for("the proxy's answer to be dropped", std::time::Duration::from_secs(10), || {
            let seen = believed(&lab.here(), "berth0", &good6);
            assert!(!seen.contains(&evil_mac), "the host believes that evil has {good6}: {seen}");
            let chain = rules();
            let dropped = |line: &&str| line.contains("advertisement of") && !line.contains("packets 0 ");
            chain.lines().find(dropped).map(|_| ())
        });

        // Another's Ethernet address, and one of nobody.
        for theirs in [good_mac.as_str(), "02:00:00:00:00:99"] {
            evil.ok(&["ip", "link", "set", "eth0", "address", theirs]);
            assert!(!evil.ping(gate4), "evil speaks as {theirs}");
        }
        let chain = rules();
        for reason in ["comment \"with another's Ethernet", "ARP with another's address", "with another's IPv6"] {
            let rule = chain.lines().find(|line| line.contains(reason)).unwrap_or_default();
            assert!(!rule.is_empty() && !rule.contains("packets 0 "), "nothing met the rule: {rule}\n{chain}");
        }
    });
}
