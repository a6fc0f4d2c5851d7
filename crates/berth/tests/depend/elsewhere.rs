use crate::asking::{SOON, sleeping, world};
use lab::{Engine, Lab};
use std::time::Duration;

fn networks(lab: &Lab) -> Engine {
    let engine = world(lab, &[]);
    engine.ok(&["network", "create", "--subnet", "10.1.0.0/24", "app"]);
    engine.ok(&["network", "create", "--subnet", "10.2.0.0/24", "back"]);
    engine
}

#[track_caller]
fn becomes(engine: &Engine, want: &str) {
    let stand = || engine.ok(&["link", "ls", "--format", "{{.Network}} {{.Alias}} {{.State}}"]);
    lab::wait_for(&format!("{want:?}, and it is {:?}", stand()), SOON, || (stand() == want).then_some(()));
}

/// Whoever gets the name by then is waited for, whether it is there yet or not.
#[test]
fn a_start_waits_for_whoever_has_the_name() {
    lab::alone(|lab| {
        let engine = networks(lab);
        let refused = |words: &str| {
            let link = format!("db:sql,{words}");
            let out = engine.berth(&sleeping("run", "web", &["--net", "app", "--link", &link]));
            assert_eq!(out.code, 125, "{out:?}");
            engine.ok(&["rm", "web"]);
            out.stderr
        };
        // What is required and not waited for is there, or there is no start.
        let text = refused("required=true");
        let want =
            "its link db:sql is required, and nobody is called db on the network app; start that first, or let the";
        assert!(text.contains(want), "{text}");
        let text = refused("wait=tcp:3306,timeout=200ms");
        let want = "its link db:sql waits for tcp:3306, and after 200ms nobody is called db on the network app";
        assert!(text.contains(want), "{text}");
        // One of that name elsewhere is somebody else.
        engine.sleeper("db", &["--net", "back"]);
        let text = refused("wait=tcp:3306,timeout=200ms");
        assert!(text.contains(want), "{text}");
        engine.ok(&["rm", "-f", "db"]);
        engine.ok(&sleeping("create", "db", &["--net", "app"]));
        let text = refused("wait=exposed,timeout=200ms");
        assert!(text.contains("after 200ms db does not run (it is created)"), "{text}");
        engine.ok(&["start", "db"]);
        let text = refused("wait=exposed,timeout=200ms");
        assert!(text.contains("after 200ms db exposes no TCP port"), "{text}");
        let text = refused("wait=healthy,timeout=200ms");
        assert!(text.contains("after 200ms nothing checks the health of db"), "{text}");
        let text = refused("wait=tcp:3306,timeout=200ms");
        assert!(text.contains("port 3306 of db did not answer: refused (10.1.0."), "{text}");
        engine.ok(&["rm", "-f", "db"]);
        let link = ["--net", "app", "--link", "sql-server:sql,wait=tcp:3306"];
        let mut start = engine.spawn(&sleeping("run", "web", &link));
        lab::wait_for("a start that waits", SOON, || engine.log().contains("targets=\"sql-server\"").then_some(()));
        // By an alias of its own.
        engine.sleeper("mysql", &["--net", "app", "--network-alias", "sql-server"]);
        std::thread::sleep(Duration::from_millis(300));
        assert!(start.is_running());
        let _served = lab.container(&engine, "mysql").serve_tcp("0.0.0.0:3306", "db");
        assert_eq!(start.wait(SOON).code, 0, "{}", start.stderr());
        if lab::has_docker() {
            engine.docker_ok(&sleeping("run", "other", &["--net", "app", "--link", "sql-server:sql,wait=tcp/3306"]));
        }
    });
}

#[test]
fn names_are_watched_and_may_be_required() {
    lab::alone(|lab| {
        let engine = networks(lab);
        let serve = "while true; do nc -l -p 3306 </dev/null; done";
        let run = ["run", "-d", "--name", "db", "--net", "app", "--expose", "3306", "busybox", "sh", "-c", serve];
        engine.ok(&run);
        let links = ["--link", "db:sql,wait=exposed,required=true", "--link", "later"];
        engine.sleeper("web", &[&["--init", "--net", "app"], &links[..]].concat());
        becomes(&engine, "app sql ready\napp later target down\n");
        let out = engine.berth(&["link", "check", "web"]);
        assert_eq!((out.code, out.stdout), (1, "db as sql: ready\nlater as later: target down\n".to_owned()));
        engine.sleeper("later", &["--net", "app"]);
        becomes(&engine, "app sql ready\napp later ready\n");
        assert_eq!(engine.berth(&["link", "check", "web"]).code, 0);
        let said = engine.json("/containers/web/json")["HostConfig"]["BerthLinks"].clone();
        let want = serde_json::json!([{
            "Link": "db:sql", "Network": "app", "Wait": "exposed", "Timeout": "30s", "Required": true, "OnLoss": "stop"
        }]);
        assert_eq!(said, want);
        engine.kill9();
        engine.start_again();
        becomes(&engine, "app sql ready\napp later ready\n");
        engine.ok(&["rm", "-f", "later"]);
        becomes(&engine, "app sql ready\napp later target down\n");
        assert_eq!(engine.told("{{.State.Status}}", "web"), "running");
        engine.ok(&["rm", "-f", "db"]);
        lab::wait_for("the end of the source", SOON, || {
            (engine.told("{{.State.Status}}", "web") == "exited").then_some(())
        });
        // Another one of that name is as good.
        engine.ok(&run);
        engine.ok(&["start", "web"]);
        becomes(&engine, "app sql ready\napp later target down\n");
    });
}
