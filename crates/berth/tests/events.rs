//! What the engine tells of what happens, through `berth` and `docker`.

use lab::Engine;
use std::time::{Duration, SystemTime};

/// What both commands print of the past, which must be the same.
#[track_caller]
fn told(engine: &Engine, filters: &[&str], format: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    // Clients send whole seconds.
    std::thread::sleep(Duration::from_millis(1000 - u64::from(now.subsec_millis())));
    let until = (now.as_secs() + 1).to_string();
    let mut words = vec!["events", "--since", "1h", "--until", &until, "--format", format];
    for filter in filters {
        words.extend(["--filter", filter]);
    }
    let ours = engine.ok(&words);
    if lab::has_docker() {
        assert_eq!(engine.docker_ok(&words), ours, "docker {words:?}");
    }
    ours
}

#[test]
fn volumes_are_told_of_with_the_containers_that_use_them() {
    lab::alone(|lab| {
        let engine = lab.engine(&[]);
        engine.load_busybox();
        engine.ok(&["run", "--name", "c1", "-v", "named:/data", "-v", "/anon", "-v", "/tmp:/host", "busybox", "true"]);
        engine.ok(&["run", "--rm", "-v", "named:/data:ro", "busybox", "true"]);
        engine.ok(&["rm", "-v", "c1"]);
        engine.ok(&["volume", "rm", "named"]);
        let format = "{{.Action}} {{with .Actor.Attributes.destination}}{{.}} {{end}}\
                      {{with index .Actor.Attributes \"read/write\"}}{{.}} {{end}}";
        assert_eq!(
            told(&engine, &["type=volume", "volume=named"], format),
            "create \nmount /data true \nunmount \nmount /data false \nunmount \ndestroy \n"
        );
        let all = told(&engine, &["type=volume"], "{{.Scope}} {{.Type}} {{.Action}}");
        let of_two: Vec<&str> = all.lines().collect();
        assert_eq!(of_two.len(), 6 + 4, "{all}");
        assert!(of_two.iter().all(|line| line.starts_with("local volume ")), "{all}");
        assert_eq!(all.matches("destroy").count(), 2, "the anonymous one goes with its container: {all}");
        let order = told(&engine, &["type=volume", "type=container", "type=network"], "{{.Type}} {{.Action}}");
        let first: Vec<&str> = order.lines().take(12).collect();
        assert_eq!(
            first,
            [
                "volume create",
                "volume create",
                "container create",
                "container attach",
                "network connect",
                "volume mount",
                "volume mount",
                "container start",
                "container die",
                "network disconnect",
                "volume unmount",
                "volume unmount"
            ]
        );
    });
}

#[test]
fn templates_name_what_an_event_has() {
    lab::alone(|lab| {
        let engine = lab.engine(&[]);
        engine.load_busybox();
        engine.ok(&["create", "--name", "c1", "--label", "tier=front", "busybox"]);
        let format = "{{.Type}} {{.Action}} {{.Scope}} {{.Actor.Attributes.name}} {{.Actor.Attributes.tier}}";
        assert_eq!(told(&engine, &["container=c1"], format), "container create local c1 front\n");
        let times = told(&engine, &["container=c1"], "{{.Time}} {{.TimeNano}} {{.Actor.ID}}");
        let words: Vec<&str> = times.split_whitespace().collect();
        assert!(words[1].starts_with(words[0]) && words[1].len() == words[0].len() + 9, "{times}");
        assert_eq!(words[2].len(), 64, "{times}");
        engine.ok(&["rm", "c1"]);
    });
}
