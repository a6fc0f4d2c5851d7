//! Links on networks of the user's: another name for one container alone, and nothing else (row A11.21).

use crate::asking::{By, all, hosts, reached, world};
use lab::{Engine, Host, Lab};
use serde_json::json;
use std::time::Duration;

/// What the resolver says to a container of a name's IPv4 addresses.
#[track_caller]
fn answer(from: &Host, name: &str) -> String {
    from.dns("127.0.0.11:53", name).unwrap_or_else(|err| panic!("{name}: {err}")).to_string()
}

const NOBODY: &str = "NXDOMAIN";

fn found(addr: &str) -> String {
    format!("NOERROR {addr}")
}

/// An engine with the networks `app` and `back`, whose host asks a server that knows nothing and tells what it was asked.
fn networks(lab: &Lab) -> (Engine, lab::dns::NameServer) {
    lab.uplink("192.0.2.1/24");
    let server = lab.host("outside", "192.0.2.53/24").serve_dns("192.0.2.53:53", "");
    lab.resolv_conf("nameserver 192.0.2.53\n");
    let engine = world(lab, &[]);
    engine.ok(&["network", "create", "--subnet", "10.1.0.0/24", "app"]);
    engine.ok(&["network", "create", "--subnet", "10.2.0.0/24", "back"]);
    (engine, server)
}

#[test]
fn a_link_on_a_network_is_a_name_for_its_source_alone() {
    lab::alone(|lab| {
        let (engine, server) = networks(lab);
        let run = |by: By, name: &str, flags: &[&str]| {
            by.sleeper(&engine, name, flags);
            lab.container(&engine, name)
        };
        engine.sleeper("other", &["--net", "app", "--ip", "10.1.0.9"]);
        let other = lab.container(&engine, "other");
        for by in all() {
            engine.sleeper("db", &["--net", "app", "--ip", "10.1.0.10", "--expose", "3306", "-e", "SECRET=1"]);
            // A target of each sort: by its name and its id, one that was made and not started, one that is not there.
            engine.ok(&["create", "--name", "idle", "--net", "app", "--ip", "10.1.0.11", "busybox", "sleep", "1000"]);
            let id = engine.told("{{.Id}}", "db");
            let links =
                ["--link", "db:sql", "--link", &format!("{id}:whole"), "--link", "idle", "--link", "later:next"];
            let web = run(by, "web", &[&["--net", "app"], &links[..]].concat());
            for name in ["sql", "SQL", "sql.app", "whole", "db"] {
                assert_eq!(answer(&web, name), found("10.1.0.10"), "{name}");
            }
            assert_eq!(answer(&web, "sql AAAA"), "NOERROR");
            for name in ["idle", "next", "later"] {
                assert_eq!(answer(&web, name), NOBODY, "{name}");
            }
            assert!(by.ok(&engine, &["exec", "web", "nslookup", "sql"]).contains("Address: 10.1.0.10"));
            // Nobody else calls it so.
            assert_eq!((answer(&other, "sql"), answer(&other, "db")), (NOBODY.into(), found("10.1.0.10")));
            // And that is all: no variables, no lines, no rules; the target may be reached as anybody's neighbour.
            let env = by.ok(&engine, &["exec", "web", "env"]);
            assert!(!["SQL", "DB_", "IDLE", "NEXT", "SECRET"].iter().any(|word| env.contains(word)), "{env}");
            assert_eq!((hosts(&engine, "web", "sql"), hosts(&engine, "web", "db")), (vec![], vec![]));
            assert!(!lab.here().ok(&["nft", "list", "ruleset"]).contains("--link"));
            let inspect = |what: &str| by.ok(&engine, &["inspect", "-f", what, "web"]).trim().to_owned();
            let short = &id[..12];
            assert_eq!(
                inspect("{{json .NetworkSettings.Networks.app.Links}}"),
                format!(r#"["db:sql","{short}:whole","idle:idle","later:next"]"#)
            );
            assert!(["null", "[]"].contains(&&*inspect("{{json .HostConfig.Links}}")));
            // Targets come, go and come back.
            engine.ok(&["start", "idle"]);
            assert_eq!(answer(&web, "idle"), found("10.1.0.11"));
            engine.sleeper("later", &["--net", "app", "--ip", "10.1.0.12"]);
            assert_eq!(answer(&web, "next"), found("10.1.0.12"));
            engine.ok(&["stop", "-t", "0", "db"]);
            assert_eq!((answer(&web, "sql"), answer(&web, "whole")), (NOBODY.into(), NOBODY.into()));
            engine.ok(&["start", "db"]);
            assert_eq!(answer(&web, "sql"), found("10.1.0.10"));
            // Another one of that name is what is meant then.
            engine.ok(&["rm", "-f", "db"]);
            engine.sleeper("db", &["--net", "app", "--ip", "10.1.0.13"]);
            assert_eq!(answer(&web, "sql"), found("10.1.0.13"));
            // Its source is started anew, and the engine.
            engine.ok(&["restart", "-t", "0", "web"]);
            engine.kill9();
            engine.start_again();
            let web = lab.container(&engine, "web");
            let back = || web.dns("127.0.0.11:53", "sql").ok().map(|reply| reply.to_string());
            assert_eq!(lab::wait_for("the resolver", Duration::from_secs(5), back), found("10.1.0.13"));
            engine.ok(&["rm", "-f", "web", "db", "idle", "later"]);
        }
        assert_eq!(server.asked(), [""; 0], "of such names nobody else is asked");
    });
}

#[test]
fn links_come_with_a_place_and_go_with_it() {
    lab::alone(|lab| {
        let (engine, server) = networks(lab);
        engine.sleeper("db", &["--net", "app", "--ip", "10.1.0.10"]);
        for by in all() {
            // Across networks it is nobody's name.
            engine.sleeper("far", &["--net", "back", "--link", "db:sql"]);
            let far = lab.container(&engine, "far");
            assert_eq!(answer(&far, "sql"), NOBODY);
            // One more place, with links of its own.
            by.ok(&engine, &["network", "connect", "--link", "db:late", "--link", "db", "app", "far"]);
            assert_eq!((answer(&far, "late"), answer(&far, "late.app")), (found("10.1.0.10"), found("10.1.0.10")));
            assert_eq!(answer(&far, "sql"), NOBODY, "that one is of the network back");
            let links =
                |network: &str| engine.told(&format!("{{{{.NetworkSettings.Networks.{network}.Links}}}}"), "far");
            assert_eq!((links("app"), links("back")), ("[db:late db:db]".into(), "[db:sql]".into()));
            engine.ok(&["network", "connect", "--ip", "10.2.0.10", "back", "db"]);
            assert_eq!(answer(&far, "sql"), found("10.2.0.10"));
            assert_eq!(answer(&far, "late"), found("10.1.0.10"));
            // Without it, it is nobody's; also not elsewhere, where its target is too.
            by.ok(&engine, &["network", "disconnect", "app", "far"]);
            assert_eq!((answer(&far, "late"), answer(&far, "sql")), (NOBODY.into(), found("10.2.0.10")));
            engine.ok(&["network", "disconnect", "back", "db"]);
            assert_eq!(answer(&far, "sql"), NOBODY);
            // While it does not run.
            engine.ok(&["stop", "-t", "0", "far"]);
            by.ok(&engine, &["network", "connect", "--link", "db:late", "app", "far"]);
            engine.ok(&["start", "far"]);
            assert_eq!(answer(&lab.container(&engine, "far"), "late"), found("10.1.0.10"));
            for (link, network, code, says) in [
                ("a:b:c", "app", 125, "bad format for links: a:b:c"),
                (":b", "app", 1, "bad format for links: :b"),
                ("db:x", "bridge", 1, "links are only supported for user-defined networks"),
            ] {
                let out = by.run(&engine, &["network", "connect", "--link", link, network, "far"]);
                assert!(out.code == code && out.stderr.contains(says), "{link}: {out:?}");
            }
            engine.ok(&["rm", "-f", "far"]);
        }
        // Links of several places in one request, and an alias that two of them have.
        let places = json!({ "app": { "Links": ["db:one", "db:both"] }, "back": { "Links": ["db:two", "db:both"] } });
        let body = json!({
            "Image": "busybox", "Cmd": ["sleep", "1000"],
            "HostConfig": { "NetworkMode": "app" }, "NetworkingConfig": { "EndpointsConfig": places },
        });
        let (status, text) = engine.http("POST", "/containers/create?name=api", &body.to_string());
        assert_eq!(status, 201, "{text}");
        engine.ok(&["start", "api"]);
        let api = lab.container(&engine, "api");
        for (name, wanted) in [("one", found("10.1.0.10")), ("both", found("10.1.0.10")), ("two", NOBODY.into())] {
            assert_eq!(answer(&api, name), wanted, "{name}");
        }
        engine.ok(&["network", "connect", "--ip", "10.2.0.10", "back", "db"]);
        engine.ok(&["network", "disconnect", "app", "db"]);
        for (name, wanted) in [("one", NOBODY.into()), ("both", found("10.2.0.10")), ("two", found("10.2.0.10"))] {
            assert_eq!(answer(&api, name), wanted, "{name}");
        }
        assert_eq!(server.asked(), [""; 0]);
    });
}

/// Where a network keeps its containers apart, such a link changes nothing.
#[test]
fn a_name_opens_nothing() {
    lab::alone(|lab| {
        let engine = world(lab, &[]);
        engine.ok(&["network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "apart"]);
        engine.sleeper("db", &["--net", "apart", "--expose", "80"]);
        engine.sleeper("web", &["--net", "apart", "--link", "db:sql"]);
        let (db, web) = (lab.container(&engine, "db"), lab.container(&engine, "web"));
        let _served = db.serve_tcp("0.0.0.0:80", "db");
        let addr = engine.told("{{.NetworkSettings.Networks.apart.IPAddress}}", "db");
        assert_eq!(answer(&web, "sql"), found(&addr));
        assert_eq!(reached(&[(&web, format!("{addr}:80"))]), [false]);
        assert!(!lab.here().ok(&["nft", "list", "ruleset"]).contains("--link"));
    });
}
