//! `berth net explain`: a dozen reasons why one place does not reach another, each beside real packets.

use lab::{Engine, Host, Lab, Output};

/// The answer with real packets beside it, which must agree.
#[track_caller]
fn asked(engine: &Engine, from: &str, to: &str) -> Output {
    let told = engine.berth(&["net", "explain", "--probe", from, to]);
    // Shown with `--nocapture`, for whoever wants to see how answers look.
    println!("$ berth net explain --probe {from} {to}\n{}{}", told.stdout, told.stderr);
    assert!(!told.stdout.contains("something else was said"), "{}", told.stdout);
    told
}

/// The answer must begin so, hold all of these, and end with this code.
#[track_caller]
fn says(engine: &Engine, from: &str, to: &str, code: i32, parts: &[&str]) {
    let told = asked(engine, from, to);
    // Lines are broken to fit a terminal.
    let text = told.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in parts {
        assert!(text.contains(part), "{from} {to}: {part:?} is missing in\n{}{}", told.stdout, told.stderr);
    }
    assert_eq!(told.code, code, "{from} {to}:\n{}{}", told.stdout, told.stderr);
}

fn run(lab: &Lab, engine: &Engine, name: &str, flags: &[&str]) -> Host {
    let words = [&["run", "-d", "--name", name][..], flags, &["busybox", "sleep", "1000"]].concat();
    engine.ok(&words);
    let pid = engine.ok(&["inspect", "-f", "{{.State.Pid}}", name]).trim().parse().expect("a pid");
    lab.inside_pid(pid)
}

#[test]
fn containers_and_each_other() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24 2001:db8::1/64");
        let engine = lab.engine(&[]);
        engine.load_busybox();
        engine.ok(&["network", "create", "app"]);
        engine.ok(&["network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "apart"]);
        engine.ok(&["network", "create", "--internal", "inner"]);
        let web = run(lab, &engine, "web", &["--network", "app"]);
        let db = run(lab, &engine, "db", &["--network", "app"]);
        // Reached, by a name that the network knows.
        let server = db.serve_tcp("[::]:80", "db");
        says(
            &engine,
            "web",
            "db:80",
            0,
            &[
                "yes: web reaches db:80",
                "finds db by the name db",
                "something listens on [::]:80",
                "answered, as was said",
            ],
        );
        says(&engine, "web", "db", 0, &["yes: web reaches db", "answers echo requests"]);
        says(&engine, "db", "app:80", 1, &["no: nothing is there", "berth port add CONTAINER 80:80"]);
        drop(server);
        // Nobody listens, or not where he is asked.
        says(
            &engine,
            "web",
            "db:80",
            1,
            &[
                "no: nothing is there to answer",
                "nothing in db listens on port 80/tcp",
                "start a program in db",
                "refused",
            ],
        );
        let server = db.serve_tcp("127.0.0.1:80", "db");
        says(
            &engine,
            "web",
            "db:80",
            1,
            &["on 127.0.0.1:80, only there", "let the program in db listen on 0.0.0.0 or ::, not on 127.0.0.1 alone"],
        );
        says(&engine, "db", "127.0.0.1:80", 0, &["yes"]);
        drop(server);
        says(&engine, "web", "db:53/udp", 1, &["nothing in db listens on port 53/udp"]);
        // Another network.
        let server = db.serve_tcp("[::]:80", "db");
        let far = run(lab, &engine, "far", &[]);
        says(
            &engine,
            "far",
            "db:80",
            1,
            &[
                "no, by design: far does not reach db:80",
                "finds db by no name: they have no network in common",
                "✗ here dropped by the rule inet berth forward: nothing else reaches a container",
                "berth network connect app far",
            ],
        );
        engine.ok(&["network", "connect", "app", "far"]);
        says(&engine, "far", "db:80", 0, &["yes", "finds db by the name db"]);
        drop(server);
        // The default bridge has no names.
        let near = run(lab, &engine, "near", &[]);
        says(&engine, "far", "near", 0, &["finds near by no name: the network in common has none"]);
        // A network that keeps its containers apart.
        run(lab, &engine, "one", &["--network", "apart"]);
        run(lab, &engine, "two", &["--network", "apart"]);
        says(
            &engine,
            "one",
            "two:80",
            1,
            &["no, by design", "keeps its containers apart", "berth network create NEW; berth network connect NEW one"],
        );
        // No way out.
        run(lab, &engine, "shut", &["--network", "inner"]);
        says(
            &engine,
            "shut",
            "outside=192.0.2.2:7",
            1,
            &["shut has no route to 192.0.2.2", "network connect bridge shut"],
        );
        // One that joined is where the other is; one with the host's network is the host; a closed one is nowhere.
        run(lab, &engine, "guest", &["--network", "container:db"]);
        let server = db.serve_tcp("[::]:80", "db");
        says(&engine, "guest", "127.0.0.1:80", 0, &["yes"]);
        says(&engine, "web", "guest:80", 0, &["yes"]);
        drop(server);
        run(lab, &engine, "open", &["--network", "host"]);
        says(&engine, "open", "db", 0, &["yes"]);
        run(lab, &engine, "closed", &["--network", "none"]);
        says(&engine, "closed", "db", 1, &["no, by design", "has no route to"]);
        says(&engine, "web", "closed:80", 1, &["is on no network", "--network"]);
        // Not there.
        engine.ok(&["stop", "-t", "0", "two"]);
        says(&engine, "web", "two:80", 1, &["two does not run", "berth start two"]);
        // What is broken is told from what is meant.
        let server = db.serve_tcp("[::]:80", "db");
        web.ok(&["ip", "link", "set", "eth0", "down"]);
        let told = engine.berth(&["net", "explain", "web", "db:80"]);
        // The engine may have put it right by now, and then says so.
        if told.code != 0 {
            assert!(told.stdout.contains("no, though it should"), "{}", told.stdout);
            assert!(told.stdout.contains("berth puts it right"), "{}", told.stdout);
        }
        lab::wait_for("the link to be up again", std::time::Duration::from_secs(30), || {
            (engine.berth(&["net", "explain", "web", "db:80"]).code == 0).then_some(())
        });
        drop(server);
        // Somebody who sends with an address that is not his.
        near.ok(&["ip", "link", "set", "eth0", "address", "02:00:00:00:00:09"]);
        let told = engine.berth(&["net", "explain", "near", "far"]);
        if told.code != 0 {
            assert!(told.stdout.contains("bridge berth"), "{}", told.stdout);
        }
        let _ = far;
    })
}

#[test]
fn outside_and_the_host() {
    lab::alone(|lab| {
        lab.uplink("192.0.2.1/24 2001:db8::1/64");
        let friend = lab.host("friend", "192.0.2.2/24 2001:db8::2/64");
        lab.here().route("default via 192.0.2.2");
        let engine = lab.engine(&[]);
        engine.load_busybox();
        engine.ok(&["network", "create", "app"]);
        let web = run(lab, &engine, "web", &["--network", "app", "-p", "8080:80", "-p", "127.0.0.1:9090:90"]);
        run(lab, &engine, "db", &["--network", "app"]);
        let _web = web.serve_tcp("[::]:80", "web");
        let _shy = web.serve_tcp("[::]:90", "web");
        // Published: found at the host's address, and really so.
        says(
            &engine,
            "outside=192.0.2.2",
            "web:80",
            0,
            &["yes", "192.0.2.1:8080/tcp", "instead", "and sees 192.0.2.2 as the client"],
        );
        assert_eq!(friend.tcp("192.0.2.1:8080").expect("the published port"), "web 192.0.2.2\n");
        says(&engine, "outside", "web:80", 0, &["yes", "203.0.113.1"]);
        says(&engine, "outside@up0", "host:8080", 0, &["yes"]);
        says(&engine, "host", "127.0.0.1:8080", 0, &["yes"]);
        says(&engine, "host", "web:80", 0, &["yes"]);
        says(&engine, "db", "host:8080", 0, &["yes"]);
        // Of the host's own IPv6 loopback, by the relay.
        says(&engine, "host", "[::1]:8080", 0, &["yes", "the engine relays it to"]);
        // Published on 127.0.0.1 alone.
        says(
            &engine,
            "outside=192.0.2.2",
            "web:90",
            1,
            &["no, by design", "nobody outside reaches what is published on 127.0.0.1"],
        );
        assert!(friend.tcp("192.0.2.1:9090").is_err());
        says(&engine, "host", "127.0.0.1:9090", 0, &["yes"]);
        // Not published.
        says(
            &engine,
            "outside",
            "db:80",
            1,
            &["no, by design", "nothing else reaches a container", "berth port add db 80:80"],
        );
        // Outwards, and with whose address.
        let _friend = friend.serve_tcp("[::]:7", "friend");
        says(
            &engine,
            "web",
            "outside=192.0.2.2:7",
            0,
            &["yes", "from 192.0.2.1 instead", "containers leave with the host's address"],
        );
        says(&engine, "web", "outside", 0, &["yes", "192.0.2.2 (ping)"]);
        // Somebody else's firewall.
        lab.here().ok(&["nft", "add table inet strict"]);
        lab.here().ok(&["nft", "add chain inet strict out { type filter hook forward priority 0; policy drop; }"]);
        says(
            &engine,
            "web",
            "outside=192.0.2.2:7",
            1,
            &[
                "no: something that is not berth's",
                "chain inet strict out, whose policy is to drop",
                "nft insert rule inet strict out",
            ],
        );
        lab.here().ok(&["nft", "add rule inet strict out tcp dport 7 accept"]);
        lab.here().ok(&["nft", "add rule inet strict out ct state established,related accept"]);
        says(&engine, "web", "outside=192.0.2.2:7", 0, &["yes"]);
        lab.here().ok(&["nft", "delete table inet strict"]);
        // A check of the way back.
        lab.here().ok(&["ip", "route", "add", "203.0.113.0/24", "dev", "lo"]);
        lab.here().ok(&["sysctl", "-qw", "net.ipv4.conf.up0.rp_filter=1"]);
        says(&engine, "outside@up0", "web:80", 0, &["yes"]);
        lab.here().ok(&["ip", "route", "del", "203.0.113.0/24", "dev", "lo"]);
    })
}

#[test]
fn words_that_cannot_be_answered_and_the_form_for_programs() {
    lab::alone(|lab| {
        let engine = lab.engine(&[]);
        engine.load_busybox();
        run(lab, &engine, "web", &[]);
        // 2 is for whatever is no answer.
        for (from, to, why) in [
            ("nobody", "web", "no container, network or other place is called nobody"),
            ("web", "nowhere.invalid:80", "nowhere.invalid is no container, network or address"),
            ("web", "web:0", "\"0\" is no port from 1 to 65535"),
            ("web", "web:80/icmp", "\"icmp\" is none of tcp, udp, sctp"),
            ("outside=far", "web", "\"far\" is no address"),
            ("web", "gateway=none-such", "network none-such not found"),
        ] {
            let told = engine.berth(&["net", "explain", from, to]);
            assert!(told.stderr.contains(why), "{from} {to}: {}{}", told.stdout, told.stderr);
            assert_eq!(told.code, 2, "{from} {to}");
        }
        says(&engine, "web", "outside", 2, &["it cannot be told", "name somebody, as outside=ADDRESS"]);
        let told = engine.berth(&["net", "explain", "--format", "yaml", "web", "host"]);
        assert_eq!((told.code, told.stderr.trim()), (2, "Error: unknown format \"yaml\": text or json"));
        // All that is known.
        let told = engine.ok(&["net", "explain", "--format", "json", "--probe", "web", "host"]);
        let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        assert_eq!(told["Verdict"], "reachable", "{told}");
        assert_eq!(told["Reachable"], true, "{told}");
        assert_eq!(told["Service"], "ping", "{told}");
        assert_eq!(told["Probe"]["Outcome"], "answered", "{told}");
        assert_eq!(told["Probe"]["Agrees"], true, "{told}");
        assert_eq!(told["Tries"][0]["Seen"]["End"], "reached", "{told}");
        assert_eq!(told["Tries"][0]["Wished"]["End"], "reached", "{told}");
        assert_eq!(told, {
            let mut same = engine.json("/berth/explain?from=web&to=host&probe=1");
            // Another process answered; its words are the same.
            same["Probe"] = told["Probe"].clone();
            same
        });
        let (status, body) = engine.http("GET", "/berth/explain?from=web", "");
        assert_eq!(status, 400, "{body}");
        assert!(body.contains("the place \\\"to\\\" is missing"), "{body}");
        engine.ok(&["stop", "-t", "0", "web"]);
        let told = engine.berth(&["net", "explain", "web", "host"]);
        assert!(told.stderr.contains("web does not run"), "{}", told.stderr);
    })
}
